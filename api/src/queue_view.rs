//! The queue in numbers, and the models that are served.

use axum::{
    Json,
    extract::{Path, State},
    response::{IntoResponse, Response},
};
use bytes::Bytes;
use causeway_queue::{LaneName, TenantId};
use serde::Deserialize;
use serde_json::{Value, json};

use crate::{
    auth::{Admin, Caller},
    error::ApiError,
    extract::parse,
    state::AppState,
};

/// `GET /v1/queue`: the calling tenant's part of each lane.
pub(crate) async fn queue(
    State(state): State<AppState>,
    caller: Caller,
) -> Result<Response, ApiError> {
    let mut lanes: Vec<Value> = Vec::new();
    for lane in state.queue.lanes() {
        lanes.push(lane_view(&state, &lane.name, Some(&caller.tenant)).await?);
    }
    Ok(Json(json!({ "object": "queue", "tenant": caller.tenant, "lanes": lanes })).into_response())
}

/// `GET /v1/lanes`: every lane, over all tenants.
pub(crate) async fn lanes(State(state): State<AppState>, _: Admin) -> Result<Response, ApiError> {
    let mut data: Vec<Value> = Vec::new();
    for lane in state.queue.lanes() {
        data.push(lane_view(&state, &lane.name, None).await?);
    }
    Ok(Json(json!({ "object": "list", "data": data })).into_response())
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct Whose {
    tenant: Option<TenantId>,
}

/// `POST /v1/lanes/{lane}/pause`: nothing more begins in the lane, or for one tenant in it.
pub(crate) async fn pause(
    state: State<AppState>,
    _: Admin,
    lane: Path<String>,
    bytes: Bytes,
) -> Result<Response, ApiError> {
    set_paused(state, lane, &bytes, true).await
}

/// `POST /v1/lanes/{lane}/resume`.
pub(crate) async fn resume(
    state: State<AppState>,
    _: Admin,
    lane: Path<String>,
    bytes: Bytes,
) -> Result<Response, ApiError> {
    set_paused(state, lane, &bytes, false).await
}

async fn set_paused(
    State(state): State<AppState>,
    Path(name): Path<String>,
    bytes: &Bytes,
    paused: bool,
) -> Result<Response, ApiError> {
    let lanes = state.queue.lanes();
    let lane = lanes.iter().map(|lane| &lane.name).find(|lane| lane.as_str() == name);
    let lane = lane.ok_or_else(|| {
        let known: Vec<&str> = lanes.iter().map(|lane| lane.name.as_str()).collect();
        let name: String = name.chars().take(100).collect();
        let message = format!("there is no lane {name:?}; there is {}", known.join(", "));
        ApiError::not_found("lane_not_found", message)
    })?;
    let whose: Whose = if bytes.is_empty() { Whose::default() } else { parse(bytes)? };
    state.queue.pause(lane, whose.tenant.as_ref(), paused).await?;
    Ok(Json(lane_view(&state, lane, whose.tenant.as_ref()).await?).into_response())
}

async fn lane_view(
    state: &AppState,
    lane: &LaneName,
    tenant: Option<&TenantId>,
) -> Result<Value, ApiError> {
    let stats = state.queue.stats(lane, tenant).await?;
    Ok(json!({
        "lane": lane,
        "queued": stats.queued,
        "scheduled": stats.scheduled,
        "running": stats.running,
        "dead": stats.dead,
        "oldest_wait_ms": stats.oldest_wait_ms,
        "drain_per_s": stats.drain_per_s,
        "paused": stats.paused,
        "limits": state.queue.limits_of(lane),
    }))
}

/// `GET /v1/models`.
pub(crate) async fn models(State(state): State<AppState>) -> Response {
    let model = |model: &crate::settings::Model| {
        json!({
            "id": model.id, "object": "model", "created": 0, "owned_by": model.owned_by,
        })
    };
    let data: Vec<Value> = state.settings.models.iter().map(model).collect();
    Json(json!({ "object": "list", "data": data })).into_response()
}
