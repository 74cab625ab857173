//! Headers of every event stream, which keep proxies from holding it back or changing it.

use axum::{
    extract::Request,
    http::{HeaderName, HeaderValue, header},
    middleware::Next,
    response::Response,
};

/// nginx and what is built on it buffer an answer unless this says no.
const BUFFERING: HeaderName = HeaderName::from_static("x-accel-buffering");

/// Marks an answer that is an event stream.
pub(crate) async fn mark(request: Request, next: Next) -> Response {
    let mut response = next.run(request).await;
    let headers = response.headers_mut();
    let kind = headers.get(header::CONTENT_TYPE).map(HeaderValue::as_bytes);
    if kind.is_some_and(|kind| kind.starts_with(b"text/event-stream")) {
        headers.insert(BUFFERING, HeaderValue::from_static("no"));
        let policy = HeaderValue::from_static("no-cache, no-transform");
        headers.insert(header::CACHE_CONTROL, policy);
    }
    response
}
