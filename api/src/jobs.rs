//! Handlers for single jobs: show, cancel, retry and result.

use std::time::Duration;

use axum::{
    extract::{Query, State},
    http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
};
use causeway_queue::{
    Job, JobId, RawJson, Status, TenantId, backend::MAX_PAGE, job::State as JobState,
};
use serde::Deserialize;
use utoipa::IntoParams;

use crate::{
    access,
    caller::Caller,
    error::{ApiError, X_CAUSEWAY_JOB_ID},
    extract::{Segment, query_mismatch, seconds},
    job_view::{self, JobView},
    openapi::{answers::Passed, schema::Included},
    simulated,
    state::AppState,
};

/// The default number of entries on a page.
const PAGE: usize = 20;

const UPSTREAM_STATUS: HeaderName = HeaderName::from_static("x-upstream-status");

/// Answers with JSON text.
pub(crate) fn respond(status: StatusCode, body: &RawJson) -> Response {
    let kind = [(header::CONTENT_TYPE, "application/json")];
    (status, kind, body.as_str().to_owned()).into_response()
}

/// Answers with a job, its id in a header, and the mark of a simulation.
pub(crate) fn respond_with(status: StatusCode, job: &Job) -> Response {
    respond_as(status, job, &job_view::json(job))
}

/// Answers with `shown`, a representation of `job`.
fn respond_as(status: StatusCode, job: &Job, shown: &RawJson) -> Response {
    let mut response = respond(status, shown);
    name_job(response.headers_mut(), &job.id);
    simulated::mark_job(response.headers_mut(), job);
    response
}

/// Adds the header with the job's id to an answer.
pub(crate) fn name_job(headers: &mut HeaderMap, id: &JobId) {
    if let Ok(id) = HeaderValue::from_str(&id.to_string()) {
        headers.insert(X_CAUSEWAY_JOB_ID, id);
    }
}

/// Parses a job id of a path. From here on, log lines of the request contain it.
pub(crate) fn job_id(text: &str) -> Result<JobId, ApiError> {
    let id: JobId = text.parse().map_err(|_| no_such_job(text))?;
    access::of_job(&id);
    Ok(id)
}

pub(crate) fn no_such_job(id: &str) -> ApiError {
    let id: String = id.chars().take(100).collect();
    let message = format!("you have no job {id:?}; it never existed, or its retention is over");
    ApiError::not_found("job_not_found", message)
}

/// Parses the parameters of a query, and refuses unknown ones.
pub(crate) fn query<T: serde::de::DeserializeOwned>(found: QueryResult<T>) -> Result<T, ApiError> {
    found.map(|Query(query)| query).map_err(|rejection| query_mismatch(&rejection))
}

#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(crate) struct Shown {
    /// The number of seconds to wait for the end.
    #[param(value_type = Option<f64>)]
    wait: Option<String>,
    /// `request` adds the request as it was submitted, with its body until the job has succeeded.
    #[param(value_type = Option<Included>, inline)]
    include: Option<String>,
}

/// Returns the tenant for which `caller` acts on a job: its own, or the job's owner if it is an administrator.
pub(crate) async fn owner(
    state: &AppState,
    caller: &Caller,
    id: &JobId,
) -> Result<TenantId, ApiError> {
    if !caller.acts_for_all() {
        return Ok(caller.tenant.clone());
    }
    // Administrators may act on jobs of any tenant, but the queue checks the owner.
    let job = state.queue.jobs(std::slice::from_ref(id)).await?.pop().flatten();
    // An unknown job leads to the same 404 under any tenant.
    Ok(job.map_or_else(|| caller.tenant.clone(), |job| job.tenant))
}

/// The parameters of a query, or the error of their parser.
pub(crate) type QueryResult<T> = Result<Query<T>, axum::extract::rejection::QueryRejection>;

/// Returns the job, at once or when it has ended.
#[utoipa::path(get, path = "/v1/jobs/{id}", tag = "jobs", operation_id = "showJob",
    params(("id" = String, Path, description = "The job's id"), Shown),
    responses((status = 200, description = "The job", body = inline(job_view::ShownView<'_>))))]
pub(crate) async fn show(
    State(state): State<AppState>,
    caller: Caller,
    Segment(id): Segment,
    parameters: QueryResult<Shown>,
) -> Result<Response, ApiError> {
    let Shown { wait, include } = query(parameters)?;
    let wait = wait.map(|text| seconds("wait", &text, state.settings.max_wait)).transpose()?;
    let include = include.map(|text| one_of("include", &text, &["request"])).transpose()?;
    let key = job_id(&id)?;
    let tenant = owner(&state, &caller, &key).await?;
    let ended = state.queue.wait(&tenant, &key, wait.unwrap_or(Duration::ZERO));
    let job = state.unless_handed_over(ended, &tenant, &key).await?;
    let job = job.ok_or_else(|| no_such_job(&id))?;
    let shown = match include {
        // The body is stored apart and may be large, so it is read only on request.
        Some(_) => job_view::json_with_request(&job, state.queue.body(&key).await?),
        None => job_view::json(&job),
    };
    Ok(respond_as(StatusCode::OK, &job, &shown))
}

/// Parses the maximum number of entries on a page.
pub(crate) fn limit_of(text: Option<&str>) -> Result<usize, ApiError> {
    let Some(text) = text else { return Ok(PAGE) };
    let limit = text.parse().ok().filter(|limit| (1..=MAX_PAGE).contains(limit));
    limit.ok_or_else(|| {
        let message = format!("limit must be 1 to {MAX_PAGE}; it is {text:?}");
        ApiError::invalid_param("limit", message)
    })
}

/// Returns the value with the name `text`.
pub(crate) fn one_of<T: Copy + ToString>(
    param: &str,
    text: &str,
    all: &[T],
) -> Result<T, ApiError> {
    let found = all.iter().copied().find(|value| value.to_string() == text);
    found.ok_or_else(|| {
        let names: Vec<String> = all.iter().map(ToString::to_string).collect();
        let message = format!("{param} must be one of {}; it is {text:?}", names.join(", "));
        ApiError::invalid_param(param, message)
    })
}

/// Cancels a job that waits or runs; further calls change nothing.
#[utoipa::path(post, path = "/v1/jobs/{id}/cancel", tag = "jobs", operation_id = "cancelJob",
    params(("id" = String, Path, description = "The job's id")),
    responses((status = 200, description = "The job as it is then", body = JobView<'_>)))]
pub(crate) async fn cancel(
    State(state): State<AppState>,
    caller: Caller,
    Segment(id): Segment,
) -> Result<Response, ApiError> {
    let key = job_id(&id)?;
    let job = state.queue.cancel(&owner(&state, &caller, &key).await?, &key).await?;
    let job = job.ok_or_else(|| no_such_job(&id))?;
    Ok(respond_with(StatusCode::OK, &job))
}

/// Retries a failed, cancelled or expired job.
#[utoipa::path(post, path = "/v1/jobs/{id}/retry", tag = "jobs", operation_id = "retryJob",
    params(("id" = String, Path, description = "The job's id")),
    responses((status = 202, description = "The job as it is then", body = JobView<'_>), (status = 400)))]
pub(crate) async fn retry(
    State(state): State<AppState>,
    caller: Caller,
    Segment(id): Segment,
) -> Result<Response, ApiError> {
    let key = job_id(&id)?;
    let job = state.queue.retry(&owner(&state, &caller, &key).await?, &key).await?;
    let job = job.ok_or_else(|| no_such_job(&id))?;
    Ok(respond_with(StatusCode::ACCEPTED, &job))
}

/// Returns the upstream's own status and body.
#[utoipa::path(get, path = "/v1/jobs/{id}/result", tag = "jobs", operation_id = "jobResult",
    params(("id" = String, Path, description = "The job's id")),
    responses(Passed, (status = 202, description = "The job has not ended", body = JobView<'_>),
        (status = 410)))]
pub(crate) async fn result(
    State(state): State<AppState>,
    caller: Caller,
    Segment(id): Segment,
) -> Result<Response, ApiError> {
    let key = job_id(&id)?;
    let job = state.queue.job(&owner(&state, &caller, &key).await?, &key).await?;
    let job = job.ok_or_else(|| no_such_job(&id))?;
    let JobState::Ended { status, output, .. } = &job.state else {
        return Ok(respond_with(StatusCode::ACCEPTED, &job));
    };
    let output = output.as_ref();
    if let Some(response) = output.and_then(|output| output.response.as_ref()) {
        let status = StatusCode::from_u16(response.status_code).unwrap_or(StatusCode::BAD_GATEWAY);
        let mut answer = respond(status, &response.body);
        answer.headers_mut().insert(UPSTREAM_STATUS, HeaderValue::from(response.status_code));
        name_job(answer.headers_mut(), &job.id);
        simulated::mark_output(answer.headers_mut(), output);
        return Ok(answer);
    }
    let error = match output
        .and_then(|output| output.error.as_ref())
        // The output of an expired job names an outage, which is not its result.
        .filter(|_| *status != Status::Expired)
    {
        Some(error) => ApiError::upstream(error.code == "upstream_timeout", &error.message),
        None => ApiError::no_result(format!("job {id} was {status}: it has no result")),
    };
    Err(error.about(&job.id))
}
