//! The HTTP surface, as one table. Each handler names its path, its method and its part of the OpenAPI document.

use std::{future::ready, sync::LazyLock};

use axum::{
    Router,
    extract::{Request, State},
    http::{HeaderValue, StatusCode, header},
    middleware,
    response::{IntoResponse, Redirect, Response},
    routing::get,
};
use utoipa::openapi::{OpenApi, PathItem, Paths};
use utoipa_axum::{
    router::{OpenApiRouter, UtoipaMethodRouter},
    routes,
};

use crate::{
    auth, bridge, deliveries,
    direct::routes as direct,
    docs,
    error::ApiError,
    events,
    gateway::{
        self, generate,
        responses::{self, conversation, listing as items},
    },
    health, jobs, lanes, listing, models, openapi, origin, request_id, root,
    settings::Settings,
    similar,
    state::AppState,
    submit,
    tenants::routes as tenants,
    workers, ws,
};

/// The longest part of an unknown path that an error quotes, in characters.
const MAX_SHOWN: usize = 100;

/// Every path that is served.
pub(crate) static PATHS: LazyLock<Vec<String>> =
    LazyLock::new(|| described(&Settings::default()).paths.paths.into_keys().collect());

/// The routes for callers with a key.
fn for_callers() -> OpenApiRouter<AppState> {
    table(vec![
        routes!(submit::submit, listing::list),
        routes!(jobs::show),
        routes!(events::events),
        routes!(jobs::result),
        routes!(jobs::cancel),
        routes!(jobs::retry),
        routes!(listing::retry),
        routes!(gateway::openai),
        routes!(gateway::complete),
        routes!(gateway::embed),
        routes!(gateway::anthropic),
        routes!(models::list),
        routes!(models::show),
        routes!(ws::connect),
        routes!(direct::count_tokens),
        routes!(direct::moderations),
        routes!(direct::speech),
        routes!(direct::transcriptions),
        routes!(direct::translations),
        routes!(direct::image_generations),
        routes!(direct::image_edits),
        routes!(direct::image_variations),
        routes!(gateway::responses),
        routes!(responses::retrieve, responses::delete),
        routes!(items::input_items),
        routes!(responses::cancel),
        routes!(conversation::create),
        routes!(conversation::retrieve, conversation::update, conversation::delete),
        routes!(conversation::list),
        routes!(deliveries::list),
        routes!(deliveries::retry),
        routes!(tenants::list, tenants::add),
        routes!(tenants::limit, tenants::revoke),
        routes!(tenants::rotate),
        routes!(tenants::revoke_key),
        routes!(lanes::queue),
        routes!(lanes::lanes),
        routes!(workers::list),
        routes!(lanes::pause),
        routes!(lanes::resume),
        routes!(bridge::chat),
        routes!(generate::generate),
        routes!(bridge::sessions),
        routes!(bridge::session, bridge::forget),
        routes!(bridge::rooms),
    ])
}

/// The routes that need no key.
fn public() -> OpenApiRouter<AppState> {
    table(vec![
        routes!(health::bridge),
        routes!(root::page),
        routes!(health::alive),
        routes!(health::ready),
        routes!(health::metrics),
        routes!(document),
        routes!(docs::page),
        routes!(docs::file),
    ])
}

fn table(routes: Vec<UtoipaMethodRouter<AppState>>) -> OpenApiRouter<AppState> {
    routes.into_iter().map(refuse_others).fold(OpenApiRouter::default(), OpenApiRouter::routes)
}

/// Adds the refusal of all other methods to a path, with the list of those that it allows.
fn refuse_others(
    (schemas, paths, methods): UtoipaMethodRouter<AppState>,
) -> UtoipaMethodRouter<AppState> {
    let none = HeaderValue::from_static("");
    let allowed = HeaderValue::from_str(&allowed(&paths)).unwrap_or(none);
    let refuse = move |request: Request| ready(refuse_method(&request, allowed.clone()));
    (schemas, paths, methods.fallback(refuse))
}

fn allowed(paths: &Paths) -> String {
    let of_item = |item: &PathItem| {
        let methods = [
            ("DELETE", item.delete.is_some()),
            ("GET, HEAD", item.get.is_some()),
            ("PATCH", item.patch.is_some()),
            ("POST", item.post.is_some()),
        ];
        methods.into_iter().filter_map(|(name, is_allowed)| is_allowed.then_some(name))
    };
    let names: Vec<&str> = paths.paths.values().flat_map(of_item).collect();
    names.join(", ")
}

/// The routes over `state`.
pub fn router(state: AppState) -> Router {
    let authenticate = middleware::from_fn_with_state(state.clone(), auth::authenticate);
    Router::from(for_callers())
        .layer(authenticate)
        .merge(Router::from(public()))
        // Its links are relative to the page.
        .route("/docs/", get(async || Redirect::permanent("../docs")))
        .fallback(unknown_route)
        .layer(origin::cors(&state))
        .layer(middleware::from_fn(request_id::name_and_count))
        .with_state(state)
}

/// The description of every route of a server with tenants.
pub(crate) fn described(settings: &Settings) -> OpenApi {
    openapi::describe(for_callers().into_openapi(), public().into_openapi(), settings)
}

/// Returns this document.
#[utoipa::path(get, path = "/openapi.json", tag = "process", operation_id = "openapi",
    responses((status = 200, description = "OpenAPI 3.1", body = Object)))]
async fn document(State(state): State<AppState>) -> Response {
    let made = || openapi::documents(described(&state.settings));
    let [closed, open] = state.documents.get_or_init(made);
    let document = if state.tenants.are_open() { open } else { closed };
    ([(header::CONTENT_TYPE, "application/json")], document.clone()).into_response()
}

async fn unknown_route(request: Request) -> ApiError {
    let asked = request.uri().path();
    let likely = similar::routes(asked, PATHS.iter().map(String::as_str));
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

fn refuse_method(request: &Request, allowed: HeaderValue) -> Response {
    let (method, path) = (request.method(), request.uri().path());
    let names = allowed.to_str().unwrap_or_default();
    let message = format!("{method} is not possible on {path}; possible: {names}");
    ApiError::invalid("method_not_allowed", message)
        .with_status(StatusCode::METHOD_NOT_ALLOWED)
        .with_header(header::ALLOW, allowed)
        .in_shape_of(path)
        .into_response()
}
