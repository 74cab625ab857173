//! Pages in browsers: which may call (CORS), and which may change nothing.
//!
//! With tenants every call needs a key that a page of another origin does not have, so pages of all origins may
//! call, without cookies. Without tenants the browser's user is everybody: a page of another origin is refused
//! unless a setting names its origin. The setting replaces the default in both cases.

use std::time::Duration;

use axum::{
    extract::{Request, State},
    http::{HeaderMap, HeaderName, HeaderValue, Method, header},
    middleware::Next,
    response::{IntoResponse as _, Response},
};
use tower_http::cors::{AllowHeaders, AllowMethods, AllowOrigin, Any, CorsLayer};

use crate::{error::ApiError, state::AppState};

/// How long a browser remembers a preflight: the most that Chromium accepts.
const REMEMBERED: Duration = Duration::from_secs(7200);

/// Says from where a browser's request comes, relative to its target (W3C Fetch Metadata).
const FETCH_SITE: HeaderName = HeaderName::from_static("sec-fetch-site");

/// Answers preflights, which carry no key, and marks all answers for the pages that may read them.
pub(crate) fn cors(state: &AppState) -> CorsLayer {
    let state = state.clone();
    CorsLayer::new()
        .allow_origin(AllowOrigin::predicate(move |origin, _| {
            is_named(&state, origin) || (is_default(&state) && !state.tenants.are_open())
        }))
        .allow_methods(AllowMethods::mirror_request())
        .allow_headers(AllowHeaders::mirror_request())
        .expose_headers(Any)
        .max_age(REMEMBERED)
}

fn is_default(state: &AppState) -> bool {
    state.settings.cors_origins.is_empty()
}

/// True if the setting names `origin`, or all.
fn is_named(state: &AppState, origin: &HeaderValue) -> bool {
    let named = state.settings.cors_origins.iter();
    named.into_iter().any(|name| name == "*" || name.as_bytes() == origin.as_bytes())
}

/// True if the request comes from a page of another origin that may not act on a server without tenants.
/// Browsers send `Origin` with every request of another origin that can change something.
pub(crate) fn is_foreign(state: &AppState, headers: &HeaderMap) -> bool {
    let Some(origin) = headers.get(header::ORIGIN) else {
        return headers.get(FETCH_SITE).is_some_and(|site| site == "cross-site");
    };
    let host = headers.get(header::HOST).and_then(|host| host.to_str().ok());
    let site = origin.to_str().ok().and_then(|origin| origin.split_once("://"));
    let is_own = site.is_some_and(|(_, site)| Some(site) == host);
    !is_own && !is_named(state, origin)
}

/// Refuses requests of foreign pages that would change something, where no key is needed.
pub(crate) async fn refuse_foreign(
    State(state): State<AppState>,
    request: Request,
    next: Next,
) -> Response {
    let changes = !matches!(*request.method(), Method::GET | Method::HEAD | Method::OPTIONS);
    if changes && state.tenants.are_open() && is_foreign(&state, request.headers()) {
        return ApiError::foreign_page().in_shape_of(request.uri().path()).into_response();
    }
    next.run(request).await
}
