//! Lanes and their depth.

use axum::{
    Json,
    extract::State,
    response::{IntoResponse, Response},
};
use causeway_queue::{
    LaneName, TenantId, WaitingFor,
    backend::Stats,
    limits::{LaneLimits, TenantLimits},
    waiting::Down,
};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::{
    audit,
    caller::{Admin, Caller},
    error::ApiError,
    extract::{MaybeJson, Segment, parse},
    moment::moment,
    openapi::schema,
    state::AppState,
    waiting_view::WaitingView,
};

/// Most tenants that the error about an unknown tenant lists.
const MAX_NAMED: usize = 20;

/// The calling tenant's part of each lane.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Queue)]
pub(crate) struct QueueView {
    lanes: Vec<LaneView>,
    /// Always `queue`.
    object: &'static str,
    #[schema(value_type = String)]
    tenant: TenantId,
}

/// All lanes.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = LaneList)]
pub(crate) struct LaneList {
    data: Vec<LaneView>,
    /// Always `list`.
    object: &'static str,
}

/// The state of a lane.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Lane)]
pub(crate) struct LaneView {
    /// Failed jobs in the dead letter list; null for a single tenant.
    dead: Option<u64>,
    /// Jobs that ended per second while others waited, averaged over some seconds. The value remains while none
    /// ends.
    drain_per_s: f64,
    /// The estimated wait of a new job of class standard of the tenant. Null without a recent measurement, in a
    /// pause, without a live worker, and for all tenants together.
    estimated_wait_ms: Option<u64>,
    #[schema(value_type = String)]
    lane: LaneName,
    /// The limits of the lane, for all tenants together.
    #[schema(schema_with = schema::lane_limits)]
    limits: LaneLimits,
    /// The age of the oldest waiting job. For a single tenant, jobs that a limit or a pause blocks are included;
    /// for all tenants together, only jobs count that a worker could take now.
    oldest_wait_ms: u64,
    paused: bool,
    /// The outage of the lane's upstream, during which no job starts except probes.
    upstream_down: Option<DownView>,
    /// Number of waiting jobs.
    queued: u64,
    /// Number of running jobs.
    running: u64,
    /// Number of the waiting jobs that wait for a time.
    scheduled: u64,
    /// The tenant's limits in the lane; null for all tenants together.
    #[schema(schema_with = schema::tenant_limits)]
    tenant_limits: Option<TenantLimits>,
    /// The reason why ready jobs wait: those of the tenant, or of a tenant without limits. Null if no job waits and
    /// nothing blocks one.
    #[schema(schema_with = schema::waiting_for)]
    waiting_for: Option<&'static str>,
    /// Details of that reason.
    waiting_details: Option<WaitingView>,
    /// Number of live workers of the lane; null if the registry does not answer.
    workers: Option<usize>,
}

/// The outage of an upstream. One job at a time probes it.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = UpstreamDown)]
struct DownView {
    #[schema(format = DateTime)]
    since: String,
    /// The time of the next probe; in the past while one is running.
    #[schema(format = DateTime)]
    probe_at: String,
    /// The upstream's latest error.
    message: Option<String>,
}

impl From<Down> for DownView {
    fn from(down: Down) -> Self {
        let message = down.error.map(|error| error.message);
        Self { since: moment(down.since), probe_at: moment(down.probe_at), message }
    }
}

/// Returns the calling tenant's part of the queue, in numbers.
#[utoipa::path(get, path = "/v1/queue", tag = "lanes", operation_id = "showQueue",
    responses((status = 200, description = "Each lane", body = QueueView)))]
pub(crate) async fn queue(
    State(state): State<AppState>,
    caller: Caller,
) -> Result<Response, ApiError> {
    let mut lanes = Vec::new();
    for lane in state.queue.lanes() {
        lanes.push(lane_view(&state, &lane.name, Some(&caller.tenant)).await?);
    }
    let tenant = caller.tenant;
    Ok(Json(QueueView { lanes, object: "queue", tenant }).into_response())
}

/// Lists all lanes over all tenants, for administrators.
#[utoipa::path(get, path = "/v1/lanes", tag = "lanes", operation_id = "listLanes",
    responses((status = 200, description = "Each lane", body = LaneList), (status = 403)))]
pub(crate) async fn lanes(State(state): State<AppState>, _: Admin) -> Result<Response, ApiError> {
    let mut data = Vec::new();
    for lane in state.queue.lanes() {
        data.push(lane_view(&state, &lane.name, None).await?);
    }
    Ok(Json(LaneList { data, object: "list" }).into_response())
}

/// The tenant to pause or resume; all tenants if absent.
#[derive(Debug, Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct PauseRequest {
    #[serde(default)]
    #[schema(schema_with = schema::optional_tenant)]
    tenant: Option<TenantId>,
}

/// Pauses a lane: no further job starts.
#[utoipa::path(post, path = "/v1/lanes/{lane}/pause", tag = "lanes", operation_id = "pauseLane",
    params(("lane" = String, Path, description = "The lane's name")),
    request_body(content = Option<PauseRequest>, example = json!({})),
    responses((status = 200, description = "The lane as it is then", body = LaneView), (status = 403)))]
pub(crate) async fn pause(
    state: State<AppState>,
    admin: Admin,
    lane: Segment,
    bytes: MaybeJson,
) -> Result<Response, ApiError> {
    set_paused(state, &admin, lane, &bytes, true).await
}

/// Resumes a lane.
#[utoipa::path(post, path = "/v1/lanes/{lane}/resume", tag = "lanes", operation_id = "resumeLane",
    params(("lane" = String, Path, description = "The lane's name")),
    request_body(content = Option<PauseRequest>, example = json!({})),
    responses((status = 200, description = "The lane as it is then", body = LaneView), (status = 403)))]
pub(crate) async fn resume(
    state: State<AppState>,
    admin: Admin,
    lane: Segment,
    bytes: MaybeJson,
) -> Result<Response, ApiError> {
    set_paused(state, &admin, lane, &bytes, false).await
}

async fn set_paused(
    State(state): State<AppState>,
    Admin(caller): &Admin,
    Segment(name): Segment,
    MaybeJson(bytes): &MaybeJson,
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
    let request: PauseRequest =
        if bytes.is_empty() { PauseRequest::default() } else { parse(bytes)? };
    if let Some(tenant) = &request.tenant {
        check_tenant(&state, tenant).await?;
    }
    state.queue.pause(lane, request.tenant.as_ref(), paused).await?;
    let of_tenant = request.tenant.as_ref().map(|tenant| format!(" for {tenant}"));
    let action = if paused { "pause" } else { "resume" };
    audit::act(caller, action, &format!("lane {lane}{}", of_tenant.unwrap_or_default()));
    Ok(Json(lane_view(&state, lane, request.tenant.as_ref()).await?).into_response())
}

/// Refuses an unknown tenant without jobs. A revoked tenant may still have jobs.
async fn check_tenant(state: &AppState, tenant: &TenantId) -> Result<(), ApiError> {
    let known = state.tenants.ids();
    // The cheap check first; the other one reads each lane.
    if known.contains(tenant) {
        return Ok(());
    }
    for lane in state.queue.lanes() {
        let stats = state.queue.stats(&lane.name, Some(tenant)).await?;
        if stats.queued + stats.running > 0 {
            return Ok(());
        }
    }
    // The caller is an administrator, so the list discloses nothing.
    let named: Vec<&str> = known.iter().take(MAX_NAMED).map(TenantId::as_str).collect();
    let more = if known.len() > MAX_NAMED { ", …" } else { "" };
    let message = format!("there is no tenant {tenant}; there is {}{more}", named.join(", "));
    Err(ApiError::not_found("tenant_not_found", message))
}

async fn lane_view(
    state: &AppState,
    lane: &LaneName,
    tenant: Option<&TenantId>,
) -> Result<LaneView, ApiError> {
    let stats = state.queue.stats(lane, tenant).await?;
    let workers = state.queue.workers_of(lane).await;
    let waiting_for = waiting_for(&stats);
    Ok(LaneView {
        dead: stats.dead,
        drain_per_s: stats.drain_per_s,
        estimated_wait_ms: stats.estimated_wait_ms,
        lane: lane.clone(),
        limits: state.queue.limits_of(lane),
        oldest_wait_ms: stats.oldest_wait_ms,
        paused: stats.paused,
        upstream_down: stats.down.map(DownView::from),
        queued: stats.queued,
        running: stats.running,
        scheduled: stats.scheduled,
        tenant_limits: stats.limits,
        waiting_for: waiting_for.as_ref().map(WaitingFor::as_str),
        waiting_details: waiting_for.and_then(|reason| WaitingView::of(&reason, None)),
        workers,
    })
}

/// Returns the reason why ready jobs wait; `None` if no job waits and nothing blocks one.
fn waiting_for(stats: &Stats) -> Option<WaitingFor> {
    // `queued` includes the scheduled jobs, so equality means that no job is ready.
    let is_idle = stats.queued == stats.scheduled && stats.waiting_for == WaitingFor::Turn;
    (!is_idle).then(|| stats.waiting_for.clone())
}
