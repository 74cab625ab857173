//! The registered worker processes.

use axum::{
    Json,
    extract::State,
    response::{IntoResponse, Response},
};
use causeway_queue::{
    LaneName,
    workers::{RegisteredWorker, WorkerStatus},
};
use serde::Serialize;
use utoipa::ToSchema;

use crate::{caller::Admin, error::ApiError, moment::moment, openapi::schema, state::AppState};

/// All worker processes.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = WorkerList)]
pub(crate) struct WorkerList {
    data: Vec<WorkerView>,
    /// Always `list`.
    object: &'static str,
}

/// A worker process. A lost one is listed for 10 minutes, with its last report.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Worker)]
struct WorkerView {
    /// Unique for each run of the process.
    id: String,
    /// Always `worker`.
    object: &'static str,
    /// `worker_name` of its configuration, or host and process id.
    name: String,
    /// `live`: claims jobs. `draining`: is stopping, and finishes its running jobs. `lost`: has not reported for
    /// more than 6 s.
    #[schema(schema_with = schema::worker_status)]
    status: &'static str,
    version: String,
    /// The lanes that it serves.
    #[schema(value_type = Vec<String>)]
    lanes: Vec<LaneName>,
    /// Most concurrent calls.
    concurrency: u64,
    /// Number of running calls.
    running: u64,
    /// Number of running webhook deliveries, which are not counted as calls.
    deliveries: u64,
    /// The time of its last report. It reports every 2 s.
    #[schema(format = DateTime)]
    last_beat_at: String,
    /// Time since its last report.
    silent_for_ms: u64,
}

impl From<RegisteredWorker> for WorkerView {
    fn from(worker: RegisteredWorker) -> Self {
        let status = worker.status().as_str();
        let RegisteredWorker { id, beat_at, silent_for, report } = worker;
        Self {
            id: id.to_string(),
            object: "worker",
            name: report.name,
            status,
            version: report.version,
            lanes: report.lanes,
            concurrency: report.concurrency,
            running: report.running,
            deliveries: report.deliveries,
            last_beat_at: moment(beat_at),
            silent_for_ms: u64::try_from(silent_for.as_millis()).unwrap_or(u64::MAX),
        }
    }
}

/// Lists all worker processes, for administrators.
#[utoipa::path(get, path = "/v1/workers", tag = "lanes", operation_id = "listWorkers",
    responses((status = 200, description = "Each worker, in the order of their start", body = WorkerList),
        (status = 403)))]
pub(crate) async fn list(State(state): State<AppState>, _: Admin) -> Result<Response, ApiError> {
    let data = state.queue.workers().await?.into_iter().map(WorkerView::from).collect();
    Ok(Json(WorkerList { data, object: "list" }).into_response())
}

/// The summary of workers for probes.
#[derive(Debug)]
pub(crate) struct WorkerSummary {
    /// Number of live workers.
    pub(crate) live: usize,
    /// Names the lanes without a live worker; `None` if there are none.
    pub(crate) warning: Option<String>,
}

/// Counts the live workers; `lanes` are those that need one.
///
/// # Errors
/// If the store does not answer.
pub(crate) async fn summarize(
    state: &AppState,
    lanes: &[&LaneName],
) -> Result<WorkerSummary, ApiError> {
    let workers = state.queue.workers().await?;
    let live = workers.iter().filter(|worker| worker.status() == WorkerStatus::Live).count();
    let is_unserved = |lane: &&&LaneName| !workers.iter().any(|worker| worker.serves(lane));
    let unserved: Vec<&str> = lanes.iter().filter(is_unserved).map(|lane| lane.as_str()).collect();
    let warning = (!unserved.is_empty()).then(|| {
        let lanes = unserved.join(", ");
        format!(
            "no live worker serves {lanes}: jobs are accepted and wait; start `causeway worker`"
        )
    });
    Ok(WorkerSummary { live, warning })
}
