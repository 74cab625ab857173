//! The served models: those of the configuration, or else those that the upstream lists, cached for a minute.

use std::{sync::Arc, time::Duration};

use axum::{
    Json,
    extract::State,
    response::{IntoResponse, Response},
};
use serde::Serialize;
use serde_json::{Map, Value};
use tokio::time::Instant;
use utoipa::ToSchema;

use crate::{
    error::ApiError,
    extract::Segment,
    model_cache::{Model, ModelsSource},
    openapi::answers::SDKS,
    state::AppState,
};

/// The age at which a list of models is fetched again.
const FRESH: Duration = Duration::from_secs(60);

/// The delay between a failed fetch and the next one.
const RETRY: Duration = Duration::from_secs(5);

/// Longest part of an unknown model name that an error repeats, in characters.
const MAX_NAME: usize = 200;

/// The served models.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = ModelList)]
pub(crate) struct ModelList {
    data: Vec<ModelView>,
    /// Always `list`.
    object: &'static str,
}

/// A model, with all fields that its upstream lists.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Model)]
pub(crate) struct ModelView {
    /// Seconds since 1970; 0 if the upstream does not list it.
    created: u64,
    id: String,
    /// Always `model`.
    object: &'static str,
    /// The lane, the owner that the upstream names, or `causeway-simulated`.
    owned_by: String,
    #[serde(flatten)]
    #[schema(ignore)]
    more: Map<String, Value>,
}

impl From<&Model> for ModelView {
    fn from(model: &Model) -> Self {
        let mut more = model.fields.clone();
        let created = more.remove("created").and_then(|created| created.as_u64()).unwrap_or(0);
        // These would be written twice by the flattened map.
        for own in ["id", "object", "owned_by"] {
            more.remove(own);
        }
        let (id, owned_by) = (model.id.clone(), model.owned_by.clone());
        Self { created, id, object: "model", owned_by, more }
    }
}

/// Lists the models that are served.
#[utoipa::path(get, path = "/v1/models", tag = SDKS, operation_id = "listModels",
    responses((status = 200, description = "The models", body = ModelList)))]
pub(crate) async fn list(State(state): State<AppState>) -> Response {
    let data = served(&state).await.iter().map(ModelView::from).collect();
    Json(ModelList { data, object: "list" }).into_response()
}

/// Returns a model; its name may have slashes.
///
/// An API process that knows no upstream and no configured models answers with any name: a call for that model is
/// accepted as well.
#[utoipa::path(get, path = "/v1/models/{*id}", tag = SDKS, operation_id = "getModel",
    params(("id" = String, Path, description = "The model's name")),
    responses((status = 200, description = "The model", body = ModelView)))]
pub(crate) async fn show(
    State(state): State<AppState>,
    Segment(id): Segment,
) -> Result<Json<ModelView>, ApiError> {
    let models = served(&state).await;
    let found = models.iter().find(|model| model.id == id).map(ModelView::from);
    // Some clients check the model before their first call.
    if found.is_none() && state.settings.serves_any_model {
        return Ok(Json(unlisted(&state, id)));
    }
    found.map(Json).ok_or_else(|| {
        let name: String = id.chars().take(MAX_NAME).collect();
        let message =
            format!("the model `{name}` does not exist; GET /v1/models lists those that do");
        ApiError::not_found("model_not_found", message)
    })
}

/// Returns an entry for an unknown model. A call with this name would be accepted, so the entry must not be a 404.
fn unlisted(state: &AppState, id: String) -> ModelView {
    let owned_by = state.queue.lane_of(Some(&id)).name.to_string();
    ModelView { created: 0, id, object: "model", owned_by, more: Map::new() }
}

/// Returns the current models. One request fetches the list, and concurrent requests wait for it. If the fetch
/// fails, the latest list stays valid; before the first fetch, the configured models are.
async fn served(state: &AppState) -> Arc<[Model]> {
    let configured = || state.settings.models.as_slice().into();
    let Some(ModelsSource(ask)) = &state.settings.models_source else { return configured() };
    // The lock is held during the fetch, so concurrent requests share one.
    let mut cached = state.models.0.lock().await;
    if let Some((_, models)) = cached.as_ref().filter(|(until, _)| Instant::now() < *until) {
        return Arc::clone(models);
    }
    let (models, valid) = match (ask().await, cached.as_ref()) {
        (Some(models), _) => (models.into(), FRESH),
        // A stale list is better than none while the upstreams are down.
        (None, Some((_, stale))) => (Arc::clone(stale), RETRY),
        (None, None) => (configured(), RETRY),
    };
    *cached = Some((Instant::now() + valid, Arc::clone(&models)));
    models
}
