//! What answers: an OpenAI-compatible server, or the simulation.

mod address;
mod answer;
mod body;
mod check;
mod client;
mod coding;
mod direct;
pub(crate) mod error_body;
mod mask;
mod memory;
mod openai;
mod place;
mod proxy;
mod responses;
pub(crate) mod retry_after;
pub(crate) mod shape;
pub mod simulated;
mod sniff;
pub mod sse;
mod tls;
pub mod webhook;

use std::{fmt, time::Duration};

use async_trait::async_trait;
use bytes::Bytes;
use causeway_queue::{RawJson, TenantId, headers::Headers};

pub use self::{
    address::{Address, InvalidAddress},
    check::{CheckResult, ListedModel},
    client::{InvalidUpstream, UpstreamClient, UpstreamSettings},
    direct::{Passed, Unpassed},
    memory::{Memory, Share},
    openai::OpenAi,
    place::Place,
    proxy::{InvalidProxy, InvalidVariable, Proxy, ProxyVariables},
    responses::WithResponses,
    tls::{InvalidTls, TlsFiles},
};

/// The header of simulated answers; its value is `true`.
pub const SIMULATED: &str = "x-causeway-simulated";

/// The mark of a simulated answer in its id.
const SIMULATED_ID: &str = "-simulated-";

/// One request to an upstream.
#[derive(Debug, Clone)]
pub struct Call {
    /// The unique name of this request: job and epoch of the lease, e.g. `job_…-2`.
    pub id: String,
    /// Whose call it is.
    pub tenant: TenantId,
    /// Which endpoint, e.g. `/v1/chat/completions`; of a delivery the receiver's URL.
    pub url: String,
    /// The JSON to send.
    pub body: Bytes,
    /// Further headers.
    pub headers: Headers,
    /// Whether the answer is a stream of events.
    pub stream: bool,
    /// Largest answer, in bytes.
    pub max_bytes: usize,
    /// The call's share of the memory for answers.
    pub memory: Share,
}

/// A complete answer: of a call that does not stream the body, of one that does nothing more.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer {
    /// The HTTP status, 200 to 399.
    pub status_code: u16,
    /// The body; empty when the answer was streamed.
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
    /// An event without a name.
    #[must_use]
    pub fn unnamed(data: &'a str) -> Self {
        Self { name: "", data }
    }
}

/// The receiver of a stream's events, in order.
pub trait Sink: Send {
    /// Takes one event. `Break`: the stream has said all (`[DONE]`).
    ///
    /// # Errors
    /// When the event reports that the upstream failed, or the whole is too large.
    fn event(&mut self, event: StreamEvent<'_>) -> Result<std::ops::ControlFlow<()>, Failure>;

    /// Learns that a simulation answers.
    fn simulated(&mut self) {}

    /// True if the events so far are a complete answer, so that it does not matter how the
    /// connection ends.
    fn is_complete(&self) -> bool {
        false
    }

    /// How many bytes of the stream it keeps until the stream's end.
    fn held(&self) -> usize {
        0
    }
}

/// What answers calls. Dropping the future of a call ends it: its connection is closed.
#[async_trait]
pub trait Upstream: fmt::Debug + Send + Sync {
    /// Makes one call. Events of a stream go to `sink` as they come.
    ///
    /// # Errors
    /// Whatever kept the upstream from a complete answer.
    async fn call(&self, call: Call, sink: &mut dyn Sink) -> Result<Answer, Failure>;

    /// Where a call to `url` goes, for messages; `None` where it leaves no process.
    fn place(&self, _url: &str) -> Option<Place> {
        None
    }
}

/// Why there is no complete answer.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Failure {
    /// No connection: refused, not routed, no such name, no TLS.
    #[error("no connection: {0}")]
    Connect(String),
    /// No connection in time.
    #[error("no connection in time")]
    ConnectTimeout,
    /// Connected, but no answer in time.
    #[error("no answer began within {} s", .0.as_secs_f64())]
    FirstByteTimeout(Duration),
    /// The answer stopped coming, with the connection open.
    #[error("the answer fell silent for {} s", .0.as_secs_f64())]
    Stalled(Duration),
    /// The whole call took too long.
    #[error("the call took longer than {} s", .0.as_secs_f64())]
    TotalTimeout(Duration),
    /// The connection broke, or the answer ended before its end.
    #[error("the answer broke off: {0}")]
    Cut(String),
    /// The answer is larger than allowed.
    #[error("the answer is larger than {0} bytes")]
    TooLarge(usize),
    /// A stream has more choices, tool calls or parts than are put together.
    #[error("the stream has more than {0} choices, tool calls or parts")]
    TooMany(usize),
    /// A stream carried an error.
    #[error("the stream carried an error")]
    InStream(RawJson),
    /// It was not sent at all.
    #[error("not sent: {0}")]
    Unsendable(String),
    /// The answer is an error: by its status, or by its body.
    #[error("the answer is an error, {}", .0.status_code)]
    Refused(Box<Refusal>),
    /// A status below 400, and a body that is no answer of the endpoint.
    #[error("no answer: {what}")]
    NoAnswer {
        /// The status; `None` where there was no HTTP.
        status_code: Option<u16>,
        /// What came instead.
        what: NoAnswer,
    },
    /// It was not sent: its receiver has no room for it now.
    #[error("deferred for {} s", .0.as_secs_f64())]
    Deferred(Duration),
    /// This worker lacks a resource for the call, e.g. a file descriptor.
    #[error("this worker lacks a resource: {0}")]
    Exhausted(String),
}

/// What came instead of an answer.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NoAnswer {
    /// A redirect, to this place as far as it is known. Redirects are not followed.
    #[error("a redirect to {}", .0.as_deref().unwrap_or("an unknown place"))]
    Redirect(Option<String>),
    /// Nothing.
    #[error("no body")]
    Empty,
    /// A web page with this title.
    #[error("a web page{}", .0.as_deref().map(|title| format!(": {title}")).unwrap_or_default())]
    WebPage(Option<String>),
    /// A content coding that is not understood.
    #[error("the content coding {0:?}, which is not understood")]
    Coding(String),
    /// A body that is not JSON, or JSON of another shape.
    #[error("{0}")]
    Unreadable(String),
    /// A stream whose events together are no answer of the endpoint.
    #[error("a stream whose events make {0}")]
    Stream(String),
    /// A whole answer, where the request asked for a stream.
    #[error("a whole answer, where a stream was asked for")]
    Whole,
}

/// An answer that is an error.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Refusal {
    /// The status: 400 to 599, or 200 where only the body is an error; of a receiver of events also 100 to 399.
    pub status_code: u16,
    /// After which time to call again, if a header says so.
    pub retry_after: Option<Duration>,
    /// Whether another attempt makes sense, if the header `x-should-retry` says so.
    pub should_retry: Option<bool>,
    /// The error's `code` or, without one, its `type`.
    pub code: Option<String>,
    /// The body, or its beginning; a text that is not JSON as a JSON string.
    pub body: RawJson,
}

/// A secret that `Debug` does not show.
#[derive(Clone, PartialEq, Eq)]
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
