//! The checks that each request passes between its connection and the routes.

use std::{convert::Infallible, sync::Arc};

use axum::{
    Router,
    body::Body,
    extract::Request,
    http::{
        HeaderValue, Method, StatusCode, Uri, Version, header,
        uri::{Authority, PathAndQuery},
    },
    response::{IntoResponse as _, Response},
};
use http_body::Body as _;
use hyper::body::Incoming;
use tower::ServiceExt as _;

use super::{
    connection::Connection,
    tracked_body::{Busy, TrackedBody},
};
use crate::{
    budget::{BudgetCharge, Payer, SMALL},
    error::ApiError,
    origin,
    state::AppState,
};

/// The routes behind the common checks.
#[derive(Debug, Clone)]
pub(super) struct Service {
    state: AppState,
    routes: Router,
}

impl Service {
    pub(super) fn new(state: AppState) -> Self {
        let routes = crate::router(state.clone());
        Self { state, routes }
    }

    /// Answers a request of `connection`.
    pub(super) async fn answer(
        self,
        connection: Arc<Connection>,
        request: hyper::Request<Incoming>,
    ) -> Result<Response<TrackedBody>, Infallible> {
        let mut busy = Busy::new(&connection);
        let mut request = request.map(Body::new);
        let has_body = !request.body().is_end_stream();
        tidy(&mut request);
        let path = request.uri().path().to_owned();
        let mut response = match self.check(&request) {
            Err(refusal) => refusal.in_shape_of(&path).into_response(),
            Ok(()) => {
                // Handlers need the connection for the caller's address, its place and its body.
                request.extensions_mut().insert(Arc::clone(&connection));
                let Ok(response) = self.routes.oneshot(request).await;
                response
            }
        };
        let is_error = response.status().is_client_error() || response.status().is_server_error();
        if has_body && is_error {
            // The handler may not have read the body, so the client may still be sending it.
            connection.body_refused();
        }
        let charge = match charge(&self.state, &connection, &response) {
            Ok(charge) => charge,
            Err(refusal) => {
                response = refusal.in_shape_of(&path).into_response();
                None
            }
        };
        if self.state.draining.is_cancelled() {
            let close = HeaderValue::from_static("close");
            response.headers_mut().entry(header::CONNECTION).or_insert(close);
        }
        // A WebSocket is busy until it closes, although its answer is complete.
        if response.status() == StatusCode::SWITCHING_PROTOCOLS {
            busy.keep();
        }
        Ok(response.map(|body| TrackedBody::new(body, busy, charge)))
    }

    /// Refuses requests that a proxy may parse differently (request smuggling), and unknown hosts.
    fn check(&self, request: &Request) -> Result<(), ApiError> {
        let headers = request.headers();
        let codings = headers.get_all(header::TRANSFER_ENCODING);
        if codings.iter().any(|coding| !coding.as_bytes().eq_ignore_ascii_case(b"chunked")) {
            let message = "the only transfer encoding that is read is `chunked`";
            return Err(ApiError::invalid("unsupported_transfer_encoding", message)
                .with_status(StatusCode::NOT_IMPLEMENTED));
        }
        let mut hosts = headers.get_all(header::HOST).iter();
        let host = hosts.next();
        if hosts.next().is_some() || (host.is_none() && request.version() == Version::HTTP_11) {
            let message = "a request needs the header `Host`, once";
            return Err(ApiError::invalid("invalid_host", message));
        }
        let host = host.and_then(|host| host.to_str().ok()).unwrap_or_default();
        let host = request.uri().authority().map_or(host, Authority::as_str);
        origin::check_host(&self.state, host)
    }
}

/// Charges the bytes of an answer of known length.
fn charge(
    state: &AppState,
    connection: &Connection,
    response: &Response,
) -> Result<Option<BudgetCharge>, ApiError> {
    let length = response.body().size_hint().exact().and_then(|bytes| usize::try_from(bytes).ok());
    // Small answers are limited by the number of connections.
    let Some(bytes) = length.filter(|bytes| *bytes > SMALL) else { return Ok(None) };
    let Some(tenant) = connection.tenant() else { return Ok(None) };
    let payer = Payer { tenant, shares: !state.tenants.are_open() };
    let charge = state.answers.take(&payer, bytes);
    charge.map(Some).map_err(|limit| ApiError::too_many_bytes(limit, "unread answers"))
}

/// Merges repeated slashes and removes a trailing one, which clients produce when they join base URL and path.
fn tidy(request: &mut Request) {
    let path = request.uri().path();
    if !path.contains("//") && (path.len() == 1 || !path.ends_with('/')) {
        return;
    }
    let names: Vec<&str> = path.split('/').filter(|name| !name.is_empty()).collect();
    // Exception: the links of this page are relative to its own path, and its route redirects.
    if names == ["docs"] && request.method() == Method::GET {
        return;
    }
    let query = request.uri().query().map(|query| format!("?{query}")).unwrap_or_default();
    let Ok(tidied) = PathAndQuery::try_from(format!("/{}{query}", names.join("/"))) else { return };
    let mut parts = request.uri().clone().into_parts();
    parts.path_and_query = Some(tidied);
    if let Ok(uri) = Uri::from_parts(parts) {
        *request.uri_mut() = uri;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tidied(uri: &str) -> String {
        let mut request = Request::get(uri).body(Body::empty()).unwrap();
        tidy(&mut request);
        request.uri().to_string()
    }

    #[test]
    fn needless_slashes_are_dropped() {
        assert_eq!(tidied("/v1/chat/completions/"), "/v1/chat/completions");
        assert_eq!(tidied("//v1//jobs/?limit=2"), "/v1/jobs?limit=2");
        assert_eq!(tidied("/v1/jobs?a=b//c/"), "/v1/jobs?a=b//c/");
        assert_eq!(tidied("//"), "/");
        assert_eq!(tidied("/"), "/");
        assert_eq!(tidied("/docs/"), "/docs/");
    }
}
