//! Calls that go to the upstream past the queue: counting tokens, moderations, audio and images.
//!
//! Their bodies and answers may be files, which no job holds: nothing of such a call is in the store. The API
//! process sends the body to the upstream of the model's lane, and passes the answer on as it comes. These calls
//! take no turn and no slot of the lane, and are not retried. Each process limits how many run at once, and a
//! tenant with a rate may make as many a minute as it may submit jobs to the lane.

pub(crate) mod call;

use std::{fmt, sync::Arc, time::Duration};

use axum::{body::Bytes, http::HeaderValue};
use causeway_queue::{LaneName, RawJson, headers::Headers};
use futures_util::{future::BoxFuture, stream::BoxStream};

/// Most direct calls at once in one API process. Where there are tenants, one makes at most half of them.
pub(crate) const MAX_CALLS: usize = 32;

/// A call as the upstream receives it.
#[derive(Debug)]
pub struct DirectCall {
    /// The endpoint, e.g. `/v1/moderations`.
    pub path: String,
    /// The type of the body, with the boundary of a multipart one.
    pub content_type: HeaderValue,
    /// Further headers.
    pub headers: Headers,
    /// The body, as it came.
    pub body: Bytes,
}

/// A good answer of the upstream, on its way.
pub struct DirectAnswer {
    /// The HTTP status, 200 to 299.
    pub status_code: u16,
    /// The type of the body.
    pub content_type: Option<HeaderValue>,
    /// The body. An error breaks the connection to the client off.
    pub body: BoxStream<'static, Result<Bytes, std::io::Error>>,
}

impl fmt::Debug for DirectAnswer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let status_code = self.status_code;
        f.debug_struct("DirectAnswer").field("status_code", &status_code).finish_non_exhaustive()
    }
}

/// The reason for which there is no good answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum DirectFailure {
    /// The upstream answered with an error.
    Refused {
        /// The HTTP status, 400 to 599.
        status_code: u16,
        /// The delay before the next call, if the upstream names one.
        retry_after: Option<Duration>,
        /// The body, or its beginning; a text that is not JSON as a JSON string.
        body: RawJson,
    },
    /// The upstream gave no answer.
    NoAnswer {
        /// What went wrong, for a person.
        message: String,
        /// True if the time was over.
        is_timeout: bool,
    },
}

/// The result of a call.
pub type DirectResult = Result<DirectAnswer, DirectFailure>;

/// Sends calls to the upstreams of lanes. The source itself bounds the time that a call takes.
#[derive(Clone)]
pub struct DirectSource(Arc<Send>);

type Send = dyn Fn(&LaneName, DirectCall) -> Option<BoxFuture<'static, DirectResult>>
    + std::marker::Send
    + Sync;

impl DirectSource {
    /// Wraps `send`, which returns `None` for a lane whose upstream this process cannot call.
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

/// Two sources are equal if one is a clone of the other.
impl PartialEq for DirectSource {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }
}

impl Eq for DirectSource {}
