//! Rules for browser pages: origins that may call (CORS), origins that may change nothing, and valid host names.
//!
//! With tenants, every call needs a key that a page of another origin does not have. Pages of all origins may
//! therefore call, without cookies. Without tenants, no key protects the user of the browser: a page of another
//! origin is refused unless a setting names its origin. The setting replaces the default in both cases.

use std::{net::IpAddr, time::Duration};

use axum::{
    extract::Request,
    http::{HeaderMap, HeaderName, HeaderValue, Method, header},
};
use tower_http::cors::{AllowHeaders, AllowMethods, AllowOrigin, Any, CorsLayer};

use crate::{error::ApiError, state::AppState};

/// The lifetime of a preflight in the browser's cache: the most that Chromium accepts.
const PREFLIGHT_TTL: Duration = Duration::from_secs(7200);

/// The header with the relation between the origin of a page and the target (W3C Fetch Metadata).
const FETCH_SITE: HeaderName = HeaderName::from_static("sec-fetch-site");

/// The name of loopback. Browsers resolve names below it to loopback as well.
const LOOPBACK: &str = "localhost";

/// Refuses a request for the host of another server, if no key is needed. A page whose name resolves to loopback
/// could read everything otherwise (DNS rebinding).
///
/// # Errors
/// `unknown_host`, which names the setting.
pub(crate) fn check_host(state: &AppState, host: &str) -> Result<(), ApiError> {
    let Some(named) = &state.settings.hosts else { return Ok(()) };
    // A trailing dot is the absolute form of the same name.
    let name = without_port(host).trim_end_matches('.').to_ascii_lowercase();
    let is_loopback = name == LOOPBACK
        || name.strip_suffix(LOOPBACK).is_some_and(|rest| rest.ends_with('.'))
        || name.parse::<IpAddr>().is_ok_and(|address| address.is_loopback());
    let is_named = named.iter().any(|known| known == "*" || known.eq_ignore_ascii_case(&name));
    // HTTP/1.0 requires no host. Browsers always send one.
    if name.is_empty() || is_loopback || is_named || !state.tenants.are_open() {
        return Ok(());
    }
    Err(ApiError::unknown_host(&name))
}

fn without_port(host: &str) -> &str {
    match host.strip_prefix('[') {
        Some(bracketed) => bracketed.split(']').next().unwrap_or_default(),
        None => host.split(':').next().unwrap_or_default(),
    }
}

/// Returns the layer that answers preflights, which carry no key, and adds CORS headers to answers.
pub(crate) fn cors(state: &AppState) -> CorsLayer {
    let state = state.clone();
    CorsLayer::new()
        .allow_origin(AllowOrigin::predicate(move |origin, _| {
            is_named(&state, origin) || (is_default(&state) && !state.tenants.are_open())
        }))
        .allow_methods(AllowMethods::mirror_request())
        .allow_headers(AllowHeaders::mirror_request())
        .expose_headers(Any)
        .max_age(PREFLIGHT_TTL)
}

fn is_default(state: &AppState) -> bool {
    state.settings.cors_origins.is_empty()
}

/// True if the setting names `origin` or `*`.
fn is_named(state: &AppState, origin: &HeaderValue) -> bool {
    let named = state.settings.cors_origins.iter();
    named.into_iter().any(|name| name == "*" || name.as_bytes() == origin.as_bytes())
}

/// True if the request comes from a page of another origin that may not change anything on a server without
/// tenants. Browsers send `Origin` with every cross-origin request that can change something.
pub(crate) fn is_foreign(state: &AppState, headers: &HeaderMap) -> bool {
    // Browsers omit the origin of some reads, but mark cross-site ones by this header.
    let Some(origin) = headers.get(header::ORIGIN) else {
        return headers.get(FETCH_SITE).is_some_and(|site| site == "cross-site");
    };
    let host = headers.get(header::HOST).and_then(|host| host.to_str().ok());
    let site = origin.to_str().ok().and_then(|origin| origin.split_once("://"));
    let is_own = site.is_some_and(|(_, site)| Some(site) == host);
    !is_own && !is_named(state, origin)
}

/// Refuses a request of a foreign page that would change something, if no key is needed.
///
/// # Errors
/// `foreign_origin`, which names the setting.
pub(crate) fn refuse_foreign(state: &AppState, request: &Request) -> Result<(), ApiError> {
    // Reads are safe: without CORS headers, a foreign page cannot see their answers.
    let changes = !matches!(*request.method(), Method::GET | Method::HEAD | Method::OPTIONS);
    if changes && state.tenants.are_open() && is_foreign(state, request.headers()) {
        return Err(ApiError::foreign_page());
    }
    Ok(())
}
