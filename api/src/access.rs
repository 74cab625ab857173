//! What the log says of each request: one line when it is answered, and its names in every line that it causes.
//!
//! The query is left out: it may hold what a client keeps secret.

use std::{
    pin::Pin,
    sync::{Arc, OnceLock},
    task::{Context, Poll},
    time::Duration,
};

use axum::{
    body::{Body, HttpBody},
    http::{HeaderValue, Method, StatusCode},
    response::Response,
};
use bytes::Bytes;
use causeway_queue::{JobId, TenantId};
use http_body::{Frame, SizeHint};
use tracing::{
    Span,
    field::{Empty, display},
};

/// Routes that a machine asks every few seconds: their lines are for `debug`.
const PROBES: [&str; 4] = ["/bridge/health", "/healthz", "/metrics", "/readyz"];

/// The span of a request. It has the highest level, so that no filter of messages takes the names away.
pub(crate) fn span(id: &HeaderValue) -> Span {
    let request_id = id.to_str().unwrap_or_default();
    tracing::error_span!("request", request_id, tenant.id = Empty, job.id = Empty)
}

/// Names the tenant of the current request.
pub(crate) fn of_tenant(tenant: &TenantId) {
    Span::current().record("tenant.id", display(tenant));
}

/// The job that a request is about, once it is known: also for what answers when the handler is dropped.
#[derive(Debug, Clone, Default)]
pub(crate) struct JobOfRequest(Arc<OnceLock<JobId>>);

tokio::task_local! {
    static CURRENT: JobOfRequest;
}

impl JobOfRequest {
    /// Notes the job that is named while `handling` runs.
    pub(crate) async fn within<F: Future>(&self, handling: F) -> F::Output {
        CURRENT.scope(self.clone(), handling).await
    }

    /// Returns the job, if one is named.
    pub(crate) fn id(&self) -> Option<&JobId> {
        self.0.get()
    }
}

/// Names the job that the current request is about.
pub(crate) fn of_job(id: &JobId) {
    Span::current().record("job.id", display(id));
    // A WebSocket's job belongs to no request, and the first job of a request is its own.
    drop(CURRENT.try_with(|current| current.0.set(id.clone())));
}

/// Logs an answered request. Of a stream the time is that until it began.
pub(crate) fn log(method: &Method, path: &str, status: StatusCode, took: Duration) {
    let (status, ms) = (status.as_u16(), u64::try_from(took.as_millis()).unwrap_or(u64::MAX));
    if PROBES.contains(&path) {
        tracing::debug!(%method, path, status, ms, "answered");
    } else {
        tracing::info!(%method, path, status, ms, "answered");
    }
}

/// Lets the rest of an answer that comes in pieces belong to the span of its request.
pub(crate) fn within(span: Span, response: Response) -> Response {
    if response.body().size_hint().exact().is_some() {
        return response;
    }
    response.map(|body| Body::new(InSpan { body, span }))
}

/// A body whose pieces are made within a span.
struct InSpan {
    body: Body,
    span: Span,
}

impl HttpBody for InSpan {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        let Self { body, span } = self.get_mut();
        let _inside = span.enter();
        Pin::new(body).poll_frame(context)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

impl Drop for InSpan {
    /// A client that leaves is noticed by the end of its body.
    fn drop(&mut self) {
        let _inside = self.span.enter();
        drop(std::mem::take(&mut self.body));
    }
}
