//! Deliveries: the state of webhook events.
//!
//! A delivery is an internal job in an internal lane, which other routes do not list. This module only renders
//! it.

use axum::{extract::State, http::StatusCode, response::Response};
use causeway_queue::{
    Job, JobId, RawJson, Status,
    backend::{ListQuery, MAX_PAGE, Page},
    headers::HeaderValues,
    job::State as JobState,
    webhook::is_of_deliveries,
};
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use crate::{
    caller::Caller,
    error::ApiError,
    extract::Segment,
    job_view::ErrorView,
    jobs::{QueryResult, limit_of, one_of, query, respond},
    moment::moment,
    openapi::schema,
    state::AppState,
};

/// Most deliveries that one request reads to find those of one job.
const MAX_LOOKED_AT: usize = 10_000;

/// A webhook event and the state of its delivery.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Delivery)]
pub(crate) struct DeliveryView<'a> {
    id: String,
    /// Always `webhook.delivery`.
    object: &'static str,
    /// The event's id, the same in all attempts.
    event: Option<&'a str>,
    /// The event's type.
    #[serde(rename = "type")]
    kind: Option<&'a str>,
    /// The job that ended.
    job: Option<&'a str>,
    url: &'a str,
    #[schema(value_type = schema::StatusName, inline)]
    status: Status,
    attempts: u32,
    max_attempts: u32,
    #[schema(format = DateTime)]
    created_at: String,
    #[schema(format = DateTime)]
    last_attempt_at: Option<String>,
    #[schema(format = DateTime)]
    next_attempt_at: Option<String>,
    #[schema(format = DateTime)]
    finished_at: Option<String>,
    /// The time at which the delivery is given up.
    #[schema(format = DateTime)]
    expires_at: Option<String>,
    /// The receiver's latest HTTP status, once the delivery has ended.
    response_status: Option<u16>,
    errors: Vec<ErrorView<'a>>,
}

/// A page of deliveries, newest first.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = DeliveryPage)]
pub(crate) struct DeliveryPage<'a> {
    /// Always `list`.
    object: &'static str,
    data: Vec<DeliveryView<'a>>,
    first_id: Option<String>,
    last_id: Option<String>,
    has_more: bool,
}

impl<'a> From<&'a Job> for DeliveryView<'a> {
    fn from(job: &'a Job) -> Self {
        let label = |name: &str| job.spec.metadata.get(name).map(String::as_str);
        let mut view = Self {
            id: job.id.to_string(),
            object: "webhook.delivery",
            event: job.spec.headers.get("webhook-id").and_then(HeaderValues::first),
            kind: label("type"),
            job: label("job"),
            url: &job.spec.url,
            status: job.status(),
            attempts: job.attempts,
            max_attempts: job.max_attempts,
            created_at: moment(job.created_at),
            last_attempt_at: job.started_at.map(moment),
            next_attempt_at: None,
            finished_at: None,
            expires_at: job.deadline.map(moment),
            response_status: None,
            errors: job.errors.iter().map(|failed| ErrorView::from(&failed.error)).collect(),
        };
        match &job.state {
            JobState::Queued { .. } | JobState::Running { .. } => {}
            JobState::Scheduled { until, .. } => view.next_attempt_at = Some(moment(*until)),
            JobState::Ended { at, output, .. } => {
                view.finished_at = Some(moment(*at));
                let response = output.as_ref().and_then(|output| output.response.as_ref());
                view.response_status = response.map(|response| response.status_code);
                let last = output.as_ref().and_then(|output| output.error.as_ref());
                view.errors.extend(last.map(ErrorView::from));
            }
        }
        view
    }
}

#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(crate) struct DeliveryQuery {
    /// Deliveries of the event that this job has ended.
    job: Option<String>,
    /// Deliveries of this status.
    #[param(value_type = Option<schema::StatusName>, inline)]
    status: Option<String>,
    /// The number of deliveries; 20 by default.
    #[param(value_type = Option<schema::PageSize>, inline)]
    limit: Option<String>,
    /// The id after which to go on.
    after: Option<String>,
}

/// Lists deliveries to webhooks, newest first.
///
/// With `job`, it searches the latest 10,000 deliveries from `after` on.
#[utoipa::path(get, path = "/v1/webhooks/deliveries", tag = "webhooks", operation_id = "listDeliveries", params(DeliveryQuery),
    responses((status = 200, description = "A page of deliveries", body = DeliveryPage<'_>), (status = 404)))]
pub(crate) async fn list(
    State(state): State<AppState>,
    caller: Caller,
    parameters: QueryResult<DeliveryQuery>,
) -> Result<Response, ApiError> {
    let DeliveryQuery { job, status, limit, after } = query(parameters)?;
    let limit = limit_of(limit.as_deref())?;
    let status = status.map(|text| one_of("status", &text, &Status::ALL)).transpose()?;
    let after = after.map(|text| delivery_id(&text)).transpose()?;
    let mut filter = ListQuery { status, limit, after, ..ListQuery::default() };
    let page = match &job {
        None => state.queue.deliveries(&caller.tenant, &filter).await?,
        Some(job) => {
            // The store has no index by job. Large pages keep the number of reads low.
            filter.limit = MAX_PAGE;
            of_job(&state, &caller, filter, (job, limit)).await?
        }
    };
    let id = |job: Option<&Job>| job.map(|job| job.id.to_string());
    let view = DeliveryPage {
        object: "list",
        first_id: id(page.jobs.first()),
        last_id: page.next.as_ref().map(ToString::to_string).or_else(|| id(page.jobs.last())),
        has_more: page.next.is_some(),
        data: page.jobs.iter().map(DeliveryView::from).collect(),
    };
    Ok(respond(StatusCode::OK, &RawJson::of(&view).unwrap_or_default()))
}

/// Returns the first `limit` deliveries of one job.
async fn of_job(
    state: &AppState,
    caller: &Caller,
    mut filter: ListQuery,
    (job, limit): (&str, usize),
) -> Result<Page, ApiError> {
    let mut found = Page::default();
    for _ in 0..MAX_LOOKED_AT / MAX_PAGE {
        let page = state.queue.deliveries(&caller.tenant, &filter).await?;
        filter.after.clone_from(&page.next);
        let is_of_it =
            |delivery: &Job| delivery.spec.metadata.get("job").is_some_and(|of| of == job);
        found.jobs.extend(page.jobs.into_iter().filter(is_of_it));
        // The cursor is the last returned delivery, not the last one that was read.
        if found.jobs.len() > limit {
            found.jobs.truncate(limit);
            found.next = found.jobs.last().map(|job| job.id.clone());
            break;
        }
        found.next = page.next;
        if found.next.is_none() {
            break;
        }
    }
    Ok(found)
}

/// Retries a delivery.
///
/// A delivery that failed, was cancelled or expired gets all its attempts again.
#[utoipa::path(post, path = "/v1/webhooks/deliveries/{id}/retry", tag = "webhooks", operation_id = "retryDelivery",
    params(("id" = String, Path, description = "The delivery's id")),
    responses((status = 202, description = "The delivery, which waits again", body = DeliveryView<'_>), (status = 400)))]
pub(crate) async fn retry(
    State(state): State<AppState>,
    caller: Caller,
    Segment(id): Segment,
) -> Result<Response, ApiError> {
    let key = delivery_id(&id)?;
    let job =
        state.queue.retry(&caller.tenant, &key).await?.ok_or_else(|| no_such_delivery(&id))?;
    let view = RawJson::of(&DeliveryView::from(&job)).unwrap_or_default();
    Ok(respond(StatusCode::ACCEPTED, &view))
}

fn delivery_id(text: &str) -> Result<JobId, ApiError> {
    let id: Option<JobId> = text.parse().ok();
    id.filter(|id| is_of_deliveries(&id.shard().lane)).ok_or_else(|| no_such_delivery(text))
}

fn no_such_delivery(id: &str) -> ApiError {
    let id: String = id.chars().take(100).collect();
    let message =
        format!("you have no delivery {id:?}; it never existed, or its retention is over");
    ApiError::not_found("delivery_not_found", message)
}
