//! The access log: one line for each answered request, and the names of request, tenant and job in every line
//! that it causes.
//!
//! The query string is left out, since it may contain secrets of the client.

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

/// Routes that machines poll every few seconds: their lines have the level `debug`.
const PROBES: [&str; 4] = ["/bridge/health", "/healthz", "/metrics", "/readyz"];

/// Returns the span of a request. It has the highest level, so no level filter removes its fields from other
/// lines.
pub(crate) fn span(id: &HeaderValue) -> Span {
    let request_id = id.to_str().unwrap_or_default();
    // Tenant and job are recorded later, but tracing needs all fields at the creation of the span.
    tracing::error_span!("request", request_id, tenant.id = Empty, job.id = Empty)
}

/// Names the tenant of the current request.
pub(crate) fn of_tenant(tenant: &TenantId) {
    Span::current().record("tenant.id", display(tenant));
}

/// The job that a request is about, once it is known. It is shared with the code that answers after the handler
/// was dropped.
#[derive(Debug, Clone, Default)]
pub(crate) struct JobOfRequest(Arc<OnceLock<JobId>>);

tokio::task_local! {
    static CURRENT: JobOfRequest;
}

impl JobOfRequest {
    /// Records the job that is named while `handling` runs.
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
    // The first job wins: later ones are those of a WebSocket, which belong to no request.
    drop(CURRENT.try_with(|current| current.0.set(id.clone())));
}

/// Logs an answered request. The duration of a stream ends at its first byte.
pub(crate) fn log(method: &Method, path: &str, status: StatusCode, took: Duration) {
    let (status, ms) = (status.as_u16(), u64::try_from(took.as_millis()).unwrap_or(u64::MAX));
    if PROBES.contains(&path) {
        tracing::debug!(%method, path, status, ms, "answered");
    } else {
        tracing::info!(%method, path, status, ms, "answered");
    }
}

/// Attaches the body of an answer, if it is sent in pieces, to the span of its request.
pub(crate) fn within(span: Span, response: Response) -> Response {
    // A body of known length is already complete, so producing it logs nothing.
    if response.body().size_hint().exact().is_some() {
        return response;
    }
    response.map(|body| Body::new(InSpan { body, span }))
}

/// A body that produces its frames within a span.
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
    /// Entering the span here attributes the cleanup of a client that left to its request.
    fn drop(&mut self) {
        let _inside = self.span.enter();
        drop(std::mem::take(&mut self.body));
    }
}
