//! The HTTP surface, as one table.

use axum::{
    Router,
    extract::{DefaultBodyLimit, Request},
    http::{HeaderValue, StatusCode, header},
    middleware,
    response::{IntoResponse, Response},
    routing::{MethodRouter, get, post},
};

use crate::{
    auth, bridge, error::ApiError, events, gateway, health, jobs, queue_view, request_id,
    state::AppState, submit, ws,
};

/// What is served, for the message of a route that is not.
const SERVED: &str = "/v1/chat/completions, /v1/completions, /v1/embeddings, /v1/messages, \
                      /v1/responses, /v1/responses/{id}, /v1/responses/{id}/cancel, /v1/jobs, \
                      /v1/jobs/{id}, /v1/jobs/{id}/events, /v1/jobs/{id}/result, \
                      /v1/jobs/{id}/cancel, /v1/jobs/{id}/retry, /v1/jobs/retry, /v1/queue, \
                      /v1/lanes, /v1/lanes/{lane}/pause, /v1/lanes/{lane}/resume, /v1/models, \
                      /bridge/chat, /bridge/sessions, /bridge/sessions/{user_id}, /bridge/rooms, \
                      /bridge/health, /healthz, /readyz and /metrics";

/// The routes over `state`.
pub fn router(state: AppState) -> Router {
    let allow = |methods: MethodRouter<AppState>, allowed: &'static str| {
        methods.fallback(move |request| std::future::ready(refuse_method(&request, allowed)))
    };
    let tenants = Router::new()
        .route("/v1/jobs", allow(post(submit::submit).get(jobs::list), "GET, HEAD, POST"))
        .route("/v1/jobs/{id}", allow(get(jobs::show), "GET, HEAD"))
        .route("/v1/jobs/{id}/events", allow(get(events::events), "GET, HEAD"))
        .route("/v1/jobs/{id}/result", allow(get(jobs::result), "GET, HEAD"))
        .route("/v1/jobs/{id}/cancel", allow(post(jobs::cancel), "POST"))
        .route("/v1/jobs/{id}/retry", allow(post(jobs::retry), "POST"))
        .route("/v1/jobs/retry", allow(post(jobs::retry_many), "POST"))
        .route("/v1/lanes", allow(get(queue_view::lanes), "GET, HEAD"))
        .route("/v1/lanes/{lane}/pause", allow(post(queue_view::pause), "POST"))
        .route("/v1/lanes/{lane}/resume", allow(post(queue_view::resume), "POST"))
        .route("/v1/ws", allow(get(ws::connect), "GET, HEAD"))
        .route("/v1/queue", allow(get(queue_view::queue), "GET, HEAD"))
        .route("/v1/chat/completions", allow(post(gateway::openai), "POST"))
        .route("/v1/completions", allow(post(gateway::openai), "POST"))
        .route("/v1/embeddings", allow(post(gateway::openai), "POST"))
        .route("/v1/messages", allow(post(gateway::anthropic), "POST"))
        .route("/v1/responses", allow(post(gateway::responses), "POST"))
        .route("/v1/responses/{id}", allow(get(gateway::responses::retrieve), "GET, HEAD"))
        .route("/v1/responses/{id}/cancel", allow(post(gateway::responses::cancel), "POST"))
        .route("/v1/models", allow(get(queue_view::models), "GET, HEAD"))
        .route("/bridge/chat", allow(post(bridge::chat), "POST"))
        .route("/bridge/sessions", allow(get(bridge::sessions), "GET, HEAD"))
        .route(
            "/bridge/sessions/{user_id}",
            allow(get(bridge::session).delete(bridge::forget), "DELETE, GET, HEAD"),
        )
        .route("/bridge/rooms", allow(get(bridge::rooms), "GET, HEAD"))
        .layer(middleware::from_fn_with_state(state.clone(), auth::authenticate));
    let probes = Router::new()
        .route("/bridge/health", allow(get(health::bridge), "GET, HEAD"))
        .route("/healthz", allow(get(health::alive), "GET, HEAD"))
        .route("/readyz", allow(get(health::ready), "GET, HEAD"))
        .route("/metrics", allow(get(health::metrics), "GET, HEAD"));
    let limit = DefaultBodyLimit::max(state.settings.max_body_bytes);
    tenants
        .merge(probes)
        .fallback(unknown_route)
        .layer(limit)
        .layer(middleware::from_fn(request_id::name_and_count))
        .with_state(state)
}

async fn unknown_route(request: Request) -> ApiError {
    let path = request.uri().path();
    let message = format!("there is no route {path}; served are {SERVED}");
    ApiError::not_found("unknown_route", message).in_shape_of(path)
}

fn refuse_method(request: &Request, allowed: &'static str) -> Response {
    let message = format!(
        "{} is not possible on {}; possible: {allowed}",
        request.method(),
        request.uri().path()
    );
    ApiError::invalid("method_not_allowed", message)
        .with_status(StatusCode::METHOD_NOT_ALLOWED)
        .with_header(header::ALLOW, HeaderValue::from_static(allowed))
        .in_shape_of(request.uri().path())
        .into_response()
}
