//! Authentication of requests. A stream or WebSocket that a key opened ends when the key is revoked or expires.

use std::{
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use axum::{
    body::Body,
    extract::{FromRequestParts, Request, State},
    http::request::Parts,
    middleware::Next,
    response::{IntoResponse, Response},
};
use bytes::Bytes;
use causeway_queue::JobId;
use http_body::{Body as _, Frame};

use crate::{
    access::{self, JobOfRequest},
    audit,
    caller::{Admin, Caller, presented},
    error::ApiError,
    origin,
    serve::connection::Connection,
    state::AppState,
};

/// Authenticates the caller of a request, and ends its answer when the key is revoked.
pub(crate) async fn authenticate(
    State(state): State<AppState>,
    request: Request,
    next: Next,
) -> Response {
    let allowed = origin::refuse_foreign(&state, &request)
        .and_then(|()| authenticate_request(&state, &request));
    let response = match allowed {
        Ok(caller) => while_valid(&state, caller, request, next).await,
        Err(error) => error.in_shape_of(request.uri().path()).into_response(),
    };
    state.outage.watch(&response);
    response
}

/// Runs a request of `caller` for as long as its key is valid.
async fn while_valid(
    state: &AppState,
    caller: Caller,
    mut request: Request,
    next: Next,
) -> Response {
    access::of_tenant(&caller.tenant);
    request.extensions_mut().insert(caller.clone());
    // Exception: a change of tenants may revoke the caller's own key, and its answer must still arrive.
    if caller.key_sha256.is_none() || request.uri().path().starts_with("/v1/tenants") {
        return next.run(request).await;
    }
    let path = request.uri().path().to_owned();
    let mut revoked = Box::pin(state.tenants.clone().revoked(caller));
    let job = JobOfRequest::default();
    let response = tokio::select! {
        // A finished response is preferred to a simultaneous revocation: its job may already be accepted.
        biased;
        response = job.within(next.run(request)) => response,
        () = &mut revoked => return no_longer_valid(job.id(), &path),
    };
    // Only a body of unknown length outlives this function and must still be watched.
    let is_stream = response.body().size_hint().exact().is_none();
    if is_stream { response.map(|body| Body::new(Revocable { body, revoked })) } else { response }
}

/// Returns the answer to a request after the revocation of its key. It names the job if one was accepted.
fn no_longer_valid(job: Option<&JobId>, path: &str) -> Response {
    let error = ApiError::unauthorized("this API key is no longer valid");
    let error = match job {
        Some(job) => error.about(job),
        None => error,
    };
    error.in_shape_of(path).into_response()
}

/// Authenticates the caller of `request`, and reserves a place for its connection.
fn authenticate_request(state: &AppState, request: &Request) -> Result<Caller, ApiError> {
    let connection = request.extensions().get::<Arc<Connection>>();
    let caller = state.tenants.caller(request.headers()).inspect_err(|_| {
        // A request without any key is no sign of an attack, so it is not counted.
        if presented(request.headers()).is_some() {
            audit::reject(state, connection.map(|connection| connection.peer));
        }
    })?;
    if let Some(connection) = connection {
        let placed = connection.reserve_place(&caller.tenant, caller.key_sha256.is_some());
        placed.map_err(ApiError::too_many_connections)?;
    }
    Ok(caller)
}

/// A stream that fails when its key is revoked. A regular end would look like a complete answer.
struct Revocable<F> {
    body: Body,
    revoked: Pin<Box<F>>,
}

impl<F: Future<Output = ()>> http_body::Body for Revocable<F> {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        if self.revoked.as_mut().poll(cx).is_ready() {
            return Poll::Ready(Some(Err(axum::Error::new("the key is no longer valid"))));
        }
        Pin::new(&mut self.body).poll_frame(cx)
    }
}

impl FromRequestParts<AppState> for Caller {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, _: &AppState) -> Result<Self, ApiError> {
        let caller = parts.extensions.get::<Self>().cloned();
        caller.ok_or_else(|| ApiError::unauthorized("this route has no authentication"))
    }
}

impl FromRequestParts<AppState> for Admin {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, state: &AppState) -> Result<Self, ApiError> {
        let caller = Caller::from_request_parts(parts, state).await?;
        if caller.admin { Ok(Self(caller)) } else { Err(ApiError::forbidden(&caller.tenant)) }
    }
}
