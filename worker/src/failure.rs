//! The failures of calls.

use std::time::Duration;

use causeway_queue::RawJson;

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
