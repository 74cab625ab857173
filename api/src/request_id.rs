//! The header `x-request-id` of every answer: the caller's own id if it is usable. Anthropic's SDKs, recognised by
//! `anthropic-version`, read it as `request-id`.

use axum::{
    extract::{MatchedPath, Request},
    http::{HeaderName, HeaderValue},
    middleware::Next,
    response::Response,
};
use tokio::time::Instant;
use tracing::Instrument as _;
use uuid::Uuid;

use crate::{access, headers};

const X_REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
const REQUEST_ID: HeaderName = HeaderName::from_static("request-id");

/// Longest id that is accepted from a caller, in bytes.
const MAX_BYTES: usize = 128;

/// Names the request, adds the headers of every answer, counts it by route and status, and logs it.
pub(crate) async fn name_and_count(request: Request, next: Next) -> Response {
    let given = request.headers().get(X_REQUEST_ID).filter(|id| is_usable(id)).cloned();
    let id = given.unwrap_or_else(new_id);
    let is_anthropic = request.headers().contains_key("anthropic-version");
    // The route, not the path: metrics need labels of limited number.
    let route = request.extensions().get::<MatchedPath>().map(MatchedPath::as_str);
    let route = route.unwrap_or("unknown").to_owned();
    let (method, path) = (request.method().clone(), request.uri().path().to_owned());
    let span = access::span(&id);
    let start = Instant::now();
    let mut response = next.run(request).instrument(span.clone()).await;
    headers::add(response.headers_mut());
    let (status, took) = (response.status(), start.elapsed());
    span.in_scope(|| access::log(&method, &path, status, took));
    if is_anthropic {
        response.headers_mut().insert(REQUEST_ID, id.clone());
    }
    response.headers_mut().insert(X_REQUEST_ID, id);
    let status = status.as_u16().to_string();
    metrics::counter!("causeway_http_requests_total", "route" => route.clone(), "status" => status)
        .increment(1);
    metrics::histogram!("causeway_http_request_seconds", "route" => route)
        .record(took.as_secs_f64());
    access::within(span, response)
}

fn new_id() -> HeaderValue {
    let id = format!("req_{}", Uuid::now_v7().simple());
    HeaderValue::from_str(&id).unwrap_or_else(|_| HeaderValue::from_static("req_"))
}

fn is_usable(id: &HeaderValue) -> bool {
    let bytes = id.as_bytes();
    (1..=MAX_BYTES).contains(&bytes.len())
        && bytes.iter().all(|byte| byte.is_ascii_alphanumeric() || b"._-".contains(byte))
}
