//! Upstreams answer calls: OpenAI-compatible servers, the simulation, and receivers of webhook events.

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
mod proxy;
mod responses;
pub(crate) mod retry_after;
pub(crate) mod shape;
pub mod simulated;
mod sniff;
pub mod sse;
mod target;
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
    direct::{ForwardFailure, ForwardedAnswer},
    memory::{AnswerMemory, Share},
    openai::OpenAi,
    proxy::{InvalidProxy, InvalidVariable, Proxy, ProxyVariables},
    responses::WithResponses,
    target::CallTarget,
    tls::{InvalidTls, TlsFiles},
};

/// The header that marks simulated answers; its value is `true`.
pub const SIMULATED: &str = "x-causeway-simulated";

/// The part of an id that marks a simulated answer.
const SIMULATED_ID: &str = "-simulated-";

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

/// The reason why a call has no complete answer.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Failure {
    /// No connection: refused, no route, unknown name, or a TLS error.
    #[error("no connection: {0}")]
    Connect(String),
    /// No connection within the time-out.
    #[error("no connection in time")]
    ConnectTimeout,
    /// Connected, but no answer within the time-out.
    #[error("no answer began within {} s", .0.as_secs_f64())]
    FirstByteTimeout(Duration),
    /// The answer stalled while the connection was open.
    #[error("the answer fell silent for {} s", .0.as_secs_f64())]
    Stalled(Duration),
    /// The whole call exceeded its time-out.
    #[error("the call took longer than {} s", .0.as_secs_f64())]
    TotalTimeout(Duration),
    /// The connection broke, or the answer is incomplete.
    #[error("the answer broke off: {0}")]
    Cut(String),
    /// The answer is larger than allowed.
    #[error("the answer is larger than {0} bytes")]
    TooLarge(usize),
    /// The stream has more choices, tool calls or parts than the limit.
    #[error("the stream has more than {0} choices, tool calls or parts")]
    TooMany(usize),
    /// The stream carried an error.
    #[error("the stream carried an error")]
    InStream(RawJson),
    /// The request was not sent.
    #[error("not sent: {0}")]
    Unsendable(String),
    /// The answer is an error, by its status or by its body.
    #[error("the answer is an error, {}", .0.status_code)]
    Refused(Box<ErrorResponse>),
    /// The status is below 400, but the body is not an answer of the endpoint.
    #[error("no answer: {what}")]
    NoAnswer {
        /// The status; `None` if the peer does not speak HTTP.
        status_code: Option<u16>,
        /// The content that came instead.
        what: NoAnswer,
    },
    /// The delivery was not sent: its receiver has no free capacity now.
    #[error("deferred for {} s", .0.as_secs_f64())]
    Deferred(Duration),
    /// This worker lacks a resource for the call, e.g. a file descriptor.
    #[error("this worker lacks a resource: {0}")]
    Exhausted(String),
}

/// The content that came instead of an answer.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NoAnswer {
    /// A redirect, with its target if known. Redirects are not followed.
    #[error("a redirect to {}", .0.as_deref().unwrap_or("an unknown place"))]
    Redirect(Option<String>),
    /// An empty body.
    #[error("no body")]
    Empty,
    /// A web page, with its title.
    #[error("a web page{}", .0.as_deref().map(|title| format!(": {title}")).unwrap_or_default())]
    WebPage(Option<String>),
    /// An unknown content coding.
    #[error("the content coding {0:?}, which is not understood")]
    Coding(String),
    /// A body that is not JSON, or JSON of another shape.
    #[error("{0}")]
    Unreadable(String),
    /// A stream with events that do not form an answer of the endpoint.
    #[error("a stream whose events make {0}")]
    Stream(String),
    /// A whole answer to a request for a stream.
    #[error("a whole answer instead of the requested stream")]
    Whole,
}

/// An answer that is an error.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ErrorResponse {
    /// The status: 400 to 599, or 200 if only the body is an error; for webhook receivers also 100 to 399.
    pub status_code: u16,
    /// The delay before the next call, if a header names one.
    pub retry_after: Option<Duration>,
    /// True if another attempt makes sense, false if not; from the header `x-should-retry`.
    pub should_retry: Option<bool>,
    /// The error's `code`; without one, its `type`.
    pub code: Option<String>,
    /// The body or its beginning; text that is not JSON as a JSON string.
    pub body: RawJson,
}

/// A secret, which `Debug` does not show.
#[derive(Clone, PartialEq, Eq)]
pub struct UpstreamSecret(String);

impl UpstreamSecret {
    /// Wraps `text`.
    #[must_use]
    pub fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }

    pub(crate) fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for UpstreamSecret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(…)")
    }
}
