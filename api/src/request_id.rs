//! `x-request-id` on every answer: the caller's own where it sent a usable one. Anthropic's SDKs, known
//! by `anthropic-version`, read it as `request-id`.

use axum::{
    extract::{MatchedPath, Request},
    http::{HeaderName, HeaderValue},
    middleware::Next,
    response::Response,
};
use tokio::time::Instant;
use uuid::Uuid;

const X_REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
const REQUEST_ID: HeaderName = HeaderName::from_static("request-id");

/// Longest id that is taken from a caller, in bytes.
const MAX_BYTES: usize = 128;

/// Names the request, and counts it by route and status.
pub(crate) async fn name_and_count(request: Request, next: Next) -> Response {
    let given = request.headers().get(X_REQUEST_ID).filter(|id| is_usable(id)).cloned();
    let is_anthropic = request.headers().contains_key("anthropic-version");
    let route = request.extensions().get::<MatchedPath>().map(MatchedPath::as_str);
    let route = route.unwrap_or("unknown").to_owned();
    let began = Instant::now();
    let mut response = next.run(request).await;
    let id =
        given.or_else(|| HeaderValue::from_str(&format!("req_{}", Uuid::now_v7().simple())).ok());
    if let Some(id) = id {
        if is_anthropic {
            response.headers_mut().insert(REQUEST_ID, id.clone());
        }
        response.headers_mut().insert(X_REQUEST_ID, id);
    }
    let status = response.status().as_u16().to_string();
    metrics::counter!("causeway_http_requests_total", "route" => route.clone(), "status" => status)
        .increment(1);
    metrics::histogram!("causeway_http_request_seconds", "route" => route)
        .record(began.elapsed().as_secs_f64());
    response
}

fn is_usable(id: &HeaderValue) -> bool {
    let bytes = id.as_bytes();
    (1..=MAX_BYTES).contains(&bytes.len())
        && bytes.iter().all(|byte| byte.is_ascii_alphanumeric() || b"._-".contains(byte))
}
