//! The queue in numbers, and the models that are served.

use axum::{
    Json,
    extract::State,
    response::{IntoResponse, Response},
};
use causeway_queue::Shard;
use serde_json::{Value, json};

use crate::{auth::Caller, error::ApiError, state::AppState};

/// `GET /v1/queue`: the calling tenant's part of each lane.
pub(crate) async fn queue(
    State(state): State<AppState>,
    caller: Caller,
) -> Result<Response, ApiError> {
    let mut lanes: Vec<Value> = Vec::new();
    for lane in state.queue.lanes() {
        let shard = Shard::of(&lane.name, lane.shards, &caller.tenant);
        let stats = state.queue.backend().stats(&shard, Some(&caller.tenant)).await?;
        lanes.push(json!({
            "lane": lane.name,
            "queued": stats.queued,
            "scheduled": stats.scheduled,
            "running": stats.running,
            "oldest_wait_ms": stats.oldest_wait_ms,
            "drain_per_s": stats.drain_per_s,
            "paused": stats.paused,
            "limits": lane.limits,
        }));
    }
    Ok(Json(json!({ "object": "queue", "tenant": caller.tenant, "lanes": lanes })).into_response())
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
