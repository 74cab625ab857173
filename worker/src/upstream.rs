//! What answers: an OpenAI-compatible server, or the simulation.

mod openai;
mod responses;
pub mod simulated;
pub mod sse;
pub mod webhook;

use std::{collections::BTreeMap, fmt, time::Duration};

use async_trait::async_trait;
use bytes::Bytes;
use causeway_queue::{RawJson, TenantId};

pub use self::{
    openai::{InvalidUpstream, OpenAi},
    responses::WithResponses,
};

/// One request to an upstream.
#[derive(Debug, Clone)]
pub struct Call {
    /// Whose call it is.
    pub tenant: TenantId,
    /// Which endpoint, e.g. `/v1/chat/completions`; of a delivery the receiver's URL.
    pub url: String,
    /// The JSON to send.
    pub body: Bytes,
    /// Further headers, names in lower case.
    pub headers: BTreeMap<String, String>,
    /// Whether the answer is a stream of events.
    pub stream: bool,
    /// Largest answer, in bytes.
    pub max_bytes: usize,
}

/// A complete answer: of a call that does not stream the body, of one that does nothing more.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer {
    /// The HTTP status, 200 to 399.
    pub status_code: u16,
    /// The body; empty when the answer was streamed.
    pub body: Bytes,
}

/// Where a stream's events go, one `data` each, in order.
pub trait Sink: Send {
    /// Takes one event's data. `Break`: the stream has said all (`[DONE]`).
    ///
    /// # Errors
    /// When the data says that the upstream failed, or the whole is too large.
    fn event(&mut self, data: &str) -> Result<std::ops::ControlFlow<()>, Failure>;
}

/// What answers calls. Dropping the future of a call ends it: its connection is closed.
#[async_trait]
pub trait Upstream: fmt::Debug + Send + Sync {
    /// Makes one call. Events of a stream go to `sink` as they come.
    ///
    /// # Errors
    /// Whatever kept the upstream from a complete answer.
    async fn call(&self, call: Call, sink: &mut dyn Sink) -> Result<Answer, Failure>;
}

/// Why there is no complete answer.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Failure {
    /// No connection.
    #[error("the upstream cannot be reached: {0}")]
    Connect(String),
    /// No connection in time.
    #[error("the upstream did not accept a connection in time")]
    ConnectTimeout,
    /// Connected, but no answer in time.
    #[error("the upstream did not begin to answer within {} s", .0.as_secs_f64())]
    FirstByteTimeout(Duration),
    /// The answer stopped coming, with the connection open.
    #[error("the upstream fell silent for {} s in the middle of its answer", .0.as_secs_f64())]
    Stalled(Duration),
    /// The whole call took too long.
    #[error("the call took longer than {} s", .0.as_secs_f64())]
    TotalTimeout(Duration),
    /// The connection broke, or the stream ended without its end.
    #[error("the upstream's answer broke off: {0}")]
    Cut(String),
    /// The answer is larger than allowed.
    #[error("the upstream's answer is larger than {0} bytes")]
    TooLarge(usize),
    /// A stream carried an error.
    #[error("the upstream reported an error in its stream")]
    InStream(RawJson),
    /// It was not sent at all.
    #[error("it was not sent: {0}")]
    Unsendable(String),
    /// The upstream answered with an error status.
    #[error("the upstream answered {}", .0.status_code)]
    Refused(Box<Refusal>),
}

/// An answer with an error status.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    /// The status, 400 to 599; of a receiver of events also 100 to 399.
    pub status_code: u16,
    /// When to come again, if the upstream said so.
    pub retry_after: Option<Duration>,
    /// The error's `code` or, without one, its `type`.
    pub code: Option<String>,
    /// The body; a text that is not JSON as a JSON string.
    pub body: RawJson,
}

/// A secret that `Debug` does not show.
#[derive(Clone)]
pub struct Secret(String);

impl Secret {
    /// Wraps `text`.
    #[must_use]
    pub fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }

    pub(crate) fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(…)")
    }
}
