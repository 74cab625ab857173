//! Probes and metrics.

use std::time::Duration;

use axum::{
    Json,
    extract::State,
    http::{StatusCode, header},
    response::{IntoResponse, Response},
};
use causeway_queue::{LaneName, webhook::is_of_deliveries};
use serde::Serialize;
use utoipa::ToSchema;

use crate::{
    error::ApiError,
    state::AppState,
    workers::{WorkerSummary, summarize},
};

/// Longest time that the store may take to answer a probe.
const PROBE_TIMEOUT: Duration = Duration::from_secs(1);

/// The report of a healthy process.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct HealthReport {
    /// The bridge's model.
    #[serde(skip_serializing_if = "Option::is_none")]
    model: Option<String>,
    /// Always `ok`.
    status: &'static str,
    /// Names the lanes that accept jobs without a live worker.
    #[serde(skip_serializing_if = "Option::is_none")]
    warning: Option<String>,
    /// Number of live workers.
    #[serde(skip_serializing_if = "Option::is_none")]
    workers: Option<usize>,
}

impl HealthReport {
    const fn new() -> Self {
        Self { model: None, status: "ok", warning: None, workers: None }
    }

    /// Adds the workers of these lanes; nothing if the registry does not answer in time.
    async fn with_workers(self, state: &AppState, lanes: &[&LaneName]) -> Self {
        match tokio::time::timeout(PROBE_TIMEOUT, summarize(state, lanes)).await {
            Ok(Ok(WorkerSummary { live, warning })) => {
                Self { workers: Some(live), warning, ..self }
            }
            Ok(Err(_)) | Err(_) => self,
        }
    }
}

/// Answers if the process is up.
#[utoipa::path(get, path = "/healthz", tag = "process", operation_id = "alive",
    responses((status = 200, description = "The process is up", body = HealthReport)))]
pub(crate) async fn alive() -> Response {
    Json(HealthReport::new()).into_response()
}

/// Checks that the store answers and the worker of this process runs.
///
/// A process without any worker is ready: it accepts jobs. The body says so.
#[utoipa::path(get, path = "/readyz", tag = "process", operation_id = "ready",
    responses((status = 200, description = "The process is ready; `warning` names lanes that no worker serves", body = HealthReport),
        (status = 503)))]
pub(crate) async fn ready(State(state): State<AppState>) -> Response {
    // Checked first, so load balancers stop sending requests as early as possible.
    if state.draining.is_cancelled() {
        return ApiError::accepts_no_more().into_response();
    }
    if !answers(&state).await {
        return ApiError::unavailable().into_response();
    }
    if !(state.is_alive)() {
        let message = "the worker in this process is stuck; restart the process";
        return ApiError::invalid("worker_stuck", message)
            .with_status(StatusCode::SERVICE_UNAVAILABLE)
            .into_response();
    }
    let lanes = state.queue.lanes().iter().map(|lane| &lane.name);
    let lanes: Vec<&LaneName> = lanes.filter(|lane| !is_of_deliveries(lane)).collect();
    // The address of the store is left out, because this route needs no key.
    Json(HealthReport::new().with_workers(&state, &lanes).await).into_response()
}

async fn answers(state: &AppState) -> bool {
    let ping = state.queue.administration().ping();
    matches!(tokio::time::timeout(PROBE_TIMEOUT, ping).await, Ok(Ok(())))
}

/// Checks that the bridge can answer.
#[utoipa::path(get, path = "/bridge/health", tag = "bridge", operation_id = "bridgeHealth",
    responses((status = 200, description = "The bridge can answer", body = HealthReport), (status = 503)))]
pub(crate) async fn bridge(State(state): State<AppState>) -> Response {
    if answers(&state).await {
        let model = Some(state.settings.bridge.model.clone());
        let lane = &state.queue.lane_of(model.as_deref()).name;
        let well = HealthReport { model, ..HealthReport::new() };
        Json(well.with_workers(&state, &[lane]).await).into_response()
    } else {
        ApiError::unavailable().into_response()
    }
}

/// Returns all metrics in Prometheus's text format.
#[utoipa::path(get, path = "/metrics", tag = "process", operation_id = "metrics",
    responses((status = 200, description = "All metrics", content_type = "text/plain")))]
pub(crate) async fn metrics(State(state): State<AppState>) -> Response {
    // A slow store costs only the depth of the queue; all other metrics are in memory.
    drop(tokio::time::timeout(PROBE_TIMEOUT, state.gauges.measure(&state.queue)).await);
    let kind = [(header::CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8")];
    (kind, (state.metrics)()).into_response()
}
