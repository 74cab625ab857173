//! Headers of every answer: content security policies for browsers, and the request to proxies not to buffer
//! streams.

use axum::http::{HeaderMap, HeaderName, HeaderValue, header};

/// The header by which nginx and its derivatives do not buffer an answer.
const BUFFERING: HeaderName = HeaderName::from_static("x-accel-buffering");

/// The policy of pages: only our own files, and no framing. Swagger UI sets styles by script.
const PAGE_POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self' 'unsafe-inline'; \
                           img-src 'self' data:; connect-src 'self'; base-uri 'none'; \
                           form-action 'none'; frame-ancestors 'none'";

/// The policy of all other answers: a browser that renders one runs nothing of it.
const DATA_POLICY: &str = "default-src 'none'; frame-ancestors 'none'";

/// Adds the headers.
pub(crate) fn add(headers: &mut HeaderMap) {
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    let policy = if is_of_kind(headers, "text/html") { PAGE_POLICY } else { DATA_POLICY };
    headers.insert(header::CONTENT_SECURITY_POLICY, HeaderValue::from_static(policy));
    if is_of_kind(headers, "text/event-stream") {
        headers.insert(BUFFERING, HeaderValue::from_static("no"));
        let policy = HeaderValue::from_static("no-cache, no-transform");
        headers.insert(header::CACHE_CONTROL, policy);
    } else {
        // Answers contain prompts and the output of models.
        let policy = HeaderValue::from_static("no-store");
        headers.entry(header::CACHE_CONTROL).or_insert(policy);
    }
}

fn is_of_kind(headers: &HeaderMap, kind: &str) -> bool {
    let found = headers.get(header::CONTENT_TYPE).map(HeaderValue::as_bytes);
    found.is_some_and(|found| found.starts_with(kind.as_bytes()))
}
