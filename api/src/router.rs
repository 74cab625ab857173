//! The HTTP surface, as one table.

use axum::{
    Router,
    extract::Request,
    http::{HeaderValue, StatusCode, header},
    middleware,
    response::{IntoResponse, Redirect, Response},
    routing::{MethodRouter, delete, get, patch, post},
};

use crate::{
    auth, bridge, deliveries, direct, docs,
    error::ApiError,
    events,
    gateway::{self, responses::conversation},
    health, jobs, lanes, listing, models, openapi, origin, request_id, root, similar,
    state::AppState,
    submit,
    tenants::routes,
    workers, ws,
};

/// How much is shown of a path that is not served, in characters.
const MAX_SHOWN: usize = 100;

/// Routes, each with the methods that it allows.
#[derive(Default)]
struct Table {
    router: Router<AppState>,
    served: Vec<(&'static str, &'static str)>,
}

impl Table {
    fn route(self, path: &'static str, methods: Methods) -> Self {
        self.route_as(path, path, methods)
    }

    /// Adds a route whose `pattern` matches more than an OpenAPI path can express, e.g. names with slashes.
    fn route_as(mut self, path: &'static str, pattern: &str, methods: Methods) -> Self {
        self.served.push((path, methods.1));
        Self { router: self.router.route(pattern, methods.0), ..self }
    }
}

/// What a route does by method, and the names of the methods.
type Methods = (MethodRouter<AppState>, &'static str);

fn allow(methods: MethodRouter<AppState>, allowed: &'static str) -> Methods {
    let refuse = move |request| std::future::ready(refuse_method(&request, allowed));
    (methods.fallback(refuse), allowed)
}

/// What those may ask who may call.
fn for_callers() -> Table {
    Table::default()
        .route("/v1/jobs", allow(post(submit::submit).get(listing::list), "GET, HEAD, POST"))
        .route("/v1/jobs/{id}", allow(get(jobs::show), "GET, HEAD"))
        .route("/v1/jobs/{id}/events", allow(get(events::events), "GET, HEAD"))
        .route("/v1/jobs/{id}/result", allow(get(jobs::result), "GET, HEAD"))
        .route("/v1/jobs/{id}/cancel", allow(post(jobs::cancel), "POST"))
        .route("/v1/jobs/{id}/retry", allow(post(jobs::retry), "POST"))
        .route("/v1/jobs/retry", allow(post(listing::retry), "POST"))
        .route("/v1/lanes", allow(get(lanes::lanes), "GET, HEAD"))
        .route("/v1/lanes/{lane}/pause", allow(post(lanes::pause), "POST"))
        .route("/v1/lanes/{lane}/resume", allow(post(lanes::resume), "POST"))
        .route("/v1/workers", allow(get(workers::list), "GET, HEAD"))
        .route("/v1/tenants", allow(get(routes::list).post(routes::add), "GET, HEAD, POST"))
        .route(
            "/v1/tenants/{id}",
            allow(patch(routes::limit).delete(routes::revoke), "DELETE, PATCH"),
        )
        .route("/v1/tenants/{id}/keys", allow(post(routes::rotate), "POST"))
        .route("/v1/tenants/{id}/keys/{key}", allow(delete(routes::revoke_key), "DELETE"))
        .route("/v1/ws", allow(get(ws::connect), "GET, HEAD"))
        .route("/v1/webhooks/deliveries", allow(get(deliveries::list), "GET, HEAD"))
        .route("/v1/webhooks/deliveries/{id}/retry", allow(post(deliveries::retry), "POST"))
        .route("/v1/queue", allow(get(lanes::queue), "GET, HEAD"))
        .route("/v1/chat/completions", allow(post(gateway::openai), "POST"))
        .route("/v1/completions", allow(post(gateway::openai), "POST"))
        .route("/v1/embeddings", allow(post(gateway::openai), "POST"))
        .route("/v1/messages", allow(post(gateway::anthropic), "POST"))
        .route("/v1/messages/count_tokens", allow(post(direct::call::call), "POST"))
        .route("/v1/moderations", allow(post(direct::call::call), "POST"))
        .route("/v1/audio/speech", allow(post(direct::call::call), "POST"))
        .route("/v1/audio/transcriptions", allow(post(direct::call::call), "POST"))
        .route("/v1/audio/translations", allow(post(direct::call::call), "POST"))
        .route("/v1/images/generations", allow(post(direct::call::call), "POST"))
        .route("/v1/images/edits", allow(post(direct::call::call), "POST"))
        .route("/v1/images/variations", allow(post(direct::call::call), "POST"))
        .route("/v1/responses", allow(post(gateway::responses), "POST"))
        .route(
            "/v1/responses/{id}",
            allow(
                get(gateway::responses::retrieve).delete(gateway::responses::delete),
                "DELETE, GET, HEAD",
            ),
        )
        .route(
            "/v1/responses/{id}/input_items",
            allow(get(gateway::responses::input_items), "GET, HEAD"),
        )
        .route("/v1/responses/{id}/cancel", allow(post(gateway::responses::cancel), "POST"))
        .route("/v1/conversations", allow(post(conversation::create), "POST"))
        .route(
            "/v1/conversations/{id}",
            allow(
                get(conversation::retrieve).post(conversation::update).delete(conversation::delete),
                "DELETE, GET, HEAD, POST",
            ),
        )
        .route("/v1/conversations/{id}/items", allow(get(conversation::list), "GET, HEAD"))
        .route("/v1/models", allow(get(models::list), "GET, HEAD"))
        .route_as("/v1/models/{id}", "/v1/models/{*id}", allow(get(models::show), "GET, HEAD"))
        .route("/api/v1/generate", allow(post(gateway::generate::generate), "POST"))
        .route("/bridge/chat", allow(post(bridge::chat), "POST"))
        .route("/bridge/sessions", allow(get(bridge::sessions), "GET, HEAD"))
        .route(
            "/bridge/sessions/{user_id}",
            allow(get(bridge::session).delete(bridge::forget), "DELETE, GET, HEAD"),
        )
        .route("/bridge/rooms", allow(get(bridge::rooms), "GET, HEAD"))
}

/// What everybody may ask.
fn for_everybody() -> Table {
    Table::default()
        .route("/", allow(get(root::page), "GET, HEAD"))
        .route("/bridge/health", allow(get(health::bridge), "GET, HEAD"))
        .route("/healthz", allow(get(health::alive), "GET, HEAD"))
        .route("/readyz", allow(get(health::ready), "GET, HEAD"))
        .route("/metrics", allow(get(health::metrics), "GET, HEAD"))
        .route("/openapi.json", allow(get(openapi::document), "GET, HEAD"))
        .route("/docs", allow(get(docs::page), "GET, HEAD"))
        .route("/docs/{file}", allow(get(docs::file), "GET, HEAD"))
}

/// Every path that is served, with the methods that it allows.
pub(crate) fn served() -> Vec<(&'static str, &'static str)> {
    [for_callers().served, for_everybody().served].concat()
}

/// The routes over `state`.
pub fn router(state: AppState) -> Router {
    let authenticate = middleware::from_fn_with_state(state.clone(), auth::authenticate);
    for_callers()
        .router
        .layer(authenticate)
        .merge(for_everybody().router)
        // Its links are relative to the page.
        .route("/docs/", get(async || Redirect::permanent("../docs")))
        .fallback(unknown_route)
        .layer(origin::cors(&state))
        .layer(middleware::from_fn(request_id::name_and_count))
        .with_state(state)
}

async fn unknown_route(request: Request) -> ApiError {
    let asked = request.uri().path();
    let likely = similar::routes(asked, served().into_iter().map(|(path, _)| path));
    let likely = match likely.as_slice() {
        [] => String::new(),
        routes => format!("did you mean {}? ", routes.join(" or ")),
    };
    let shown: String = asked.chars().take(MAX_SHOWN).collect();
    let message = format!(
        "there is no route {shown}; {likely}GET /openapi.json and /docs describe all routes"
    );
    ApiError::not_found("unknown_route", message).in_shape_of(asked)
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
