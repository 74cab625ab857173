//! Calls of upstreams, and the trait that every upstream implements.

use std::fmt;

use async_trait::async_trait;
use bytes::Bytes;
use causeway_queue::{TenantId, headers::Headers};

use super::{memory::Share, target::CallTarget};
use crate::failure::Failure;

/// The header that marks simulated answers; its value is `true`.
pub const SIMULATED: &str = "x-causeway-simulated";

/// The part of an id that marks a simulated answer.
pub(super) const SIMULATED_ID: &str = "-simulated-";

/// One request to an upstream.
#[derive(Debug, Clone)]
pub struct Call {
    /// The unique id of this request: job and epoch of the lease, e.g. `job_…-2`.
    pub id: String,
    /// The tenant of the job.
    pub tenant: TenantId,
    /// The endpoint, e.g. `/v1/chat/completions`; for a delivery the receiver's URL.
    pub url: String,
    /// The JSON body.
    pub body: Bytes,
    /// Additional headers.
    pub headers: Headers,
    /// True if the client requests a stream of events.
    pub stream: bool,
    /// Largest answer in bytes.
    pub max_bytes: usize,
    /// The call's share of the memory for answers.
    pub memory: Share,
}

/// A complete answer. If it was streamed, its body is empty.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer {
    /// The HTTP status, 200 to 399.
    pub status_code: u16,
    /// The body; empty if the answer was streamed.
    pub body: Bytes,
}

/// One event of a stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StreamEvent<'a> {
    /// Its `event` field; empty for most streams.
    pub name: &'a str,
    /// Its `data` lines, joined by line feeds.
    pub data: &'a str,
}

impl<'a> StreamEvent<'a> {
    /// Returns an event without a name.
    #[must_use]
    pub fn unnamed(data: &'a str) -> Self {
        Self { name: "", data }
    }
}

/// The receiver of a stream's events, in order.
pub trait Sink: Send {
    /// Accepts one event. Returns `Break` after the last one (`[DONE]`).
    ///
    /// # Errors
    /// If the event reports a failure of the upstream, or if the whole answer is too large.
    fn event(&mut self, event: StreamEvent<'_>) -> Result<std::ops::ControlFlow<()>, Failure>;

    /// Marks the answer as simulated.
    fn simulated(&mut self) {}

    /// True if the events so far form a complete answer: then a broken connection does no harm.
    fn is_complete(&self) -> bool {
        false
    }

    /// Returns the number of bytes that are kept until the end of the stream.
    fn held(&self) -> usize {
        0
    }
}

/// A service that answers calls. Dropping the future of a call closes its connection.
#[async_trait]
pub trait Upstream: fmt::Debug + Send + Sync {
    /// Makes one call. Events of a stream go to `sink` as they arrive.
    ///
    /// # Errors
    /// If the upstream gives no complete answer; the failure is the reason.
    async fn call(&self, call: Call, sink: &mut dyn Sink) -> Result<Answer, Failure>;

    /// Returns the target of a call to `url`, for messages; `None` if the call does not leave the process.
    fn target(&self, _url: &str) -> Option<CallTarget> {
        None
    }
}
