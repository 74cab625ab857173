//! Direct calls: token counts, moderations, audio and images, which go to the upstream without the queue.
//!
//! Their bodies and answers may be files, so none of such a call is stored. The API process sends the body to
//! the upstream of the model's lane and streams the answer back. Direct calls use no slot of the lane and are
//! not retried. Each process limits how many run at once. A tenant with a request rate has a second allowance
//! of the same size for them.

pub(crate) mod call;
pub(crate) mod routes;

use std::{fmt, sync::Arc, time::Duration};

use axum::{body::Bytes, http::HeaderValue};
use causeway_queue::{LaneName, RawJson, headers::Headers};
use futures_util::{future::BoxFuture, stream::BoxStream};

/// Most concurrent direct calls of one API process. With tenants, each makes at most half of them.
pub(crate) const MAX_CALLS: usize = 32;

/// A call as the upstream receives it.
#[derive(Debug)]
pub struct DirectCall {
    /// The endpoint, e.g. `/v1/moderations`.
    pub path: String,
    /// Its content type, with the boundary of a multipart body.
    pub content_type: HeaderValue,
    /// Further headers.
    pub headers: Headers,
    /// The body, unchanged.
    pub body: Bytes,
}

/// A successful answer of the upstream, as a stream.
pub struct DirectAnswer {
    /// The HTTP status, 200 to 299.
    pub status_code: u16,
    /// The type of the body.
    pub content_type: Option<HeaderValue>,
    /// The body. An error in it closes the connection to the client.
    pub body: BoxStream<'static, Result<Bytes, std::io::Error>>,
}

impl fmt::Debug for DirectAnswer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let status_code = self.status_code;
        f.debug_struct("DirectAnswer").field("status_code", &status_code).finish_non_exhaustive()
    }
}

/// The reason why a call has no successful answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum DirectFailure {
    /// The upstream answered with an error.
    Refused {
        /// The HTTP status, 400 to 599.
        status_code: u16,
        /// The delay before the next call, if the upstream sent one.
        retry_after: Option<Duration>,
        /// The body or its beginning. Text that is not JSON becomes a JSON string.
        body: RawJson,
    },
    /// The upstream gave no answer.
    NoAnswer {
        /// The cause, as text for people.
        message: String,
        /// True if the call timed out.
        is_timeout: bool,
    },
}

/// The result of a call.
pub type DirectResult = Result<DirectAnswer, DirectFailure>;

/// The sender of direct calls. It limits the duration of each call itself.
#[derive(Clone)]
pub struct DirectSource(Arc<SendCall>);

type SendCall = dyn Fn(&LaneName, DirectCall) -> Option<BoxFuture<'static, DirectResult>>
    + std::marker::Send
    + Sync;

impl DirectSource {
    /// Wraps `send`, which returns `None` for a lane with an upstream that this process cannot call.
    pub fn new(
        send: impl Fn(&LaneName, DirectCall) -> Option<BoxFuture<'static, DirectResult>>
        + std::marker::Send
        + Sync
        + 'static,
    ) -> Self {
        Self(Arc::new(send))
    }

    fn send(&self, lane: &LaneName, call: DirectCall) -> Option<BoxFuture<'static, DirectResult>> {
        (self.0)(lane, call)
    }
}

impl fmt::Debug for DirectSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("DirectSource(…)")
    }
}
