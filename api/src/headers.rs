//! Headers of every answer: what browsers may do with it, and what keeps proxies from holding back an event stream.

use axum::http::{HeaderMap, HeaderName, HeaderValue, header};

/// nginx and what is built on it buffer an answer unless this says no.
const BUFFERING: HeaderName = HeaderName::from_static("x-accel-buffering");

/// What a page may load: its own files, and no other page may frame it. Swagger UI sets styles by script.
const PAGE_POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self' 'unsafe-inline'; \
                           img-src 'self' data:; connect-src 'self'; base-uri 'none'; \
                           form-action 'none'; frame-ancestors 'none'";

/// The policy of an answer that is no page: a browser that shows it runs nothing of it.
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
        // Answers hold prompts and what models say.
        let policy = HeaderValue::from_static("no-store");
        headers.entry(header::CACHE_CONTROL).or_insert(policy);
    }
}

fn is_of_kind(headers: &HeaderMap, kind: &str) -> bool {
    let found = headers.get(header::CONTENT_TYPE).map(HeaderValue::as_bytes);
    found.is_some_and(|found| found.starts_with(kind.as_bytes()))
}
