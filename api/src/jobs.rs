//! Jobs: show, list, cancel, retry, and their results.

use std::time::Duration;

use axum::{
    extract::{Query, State},
    http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
};
use causeway_queue::{
    Class, Error, Job, JobId, RawJson, SessionKey, Status,
    backend::{ListQuery, MAX_PAGE},
    job::State as JobState,
};
use serde::Deserialize;

use crate::{
    auth::Caller,
    error::{ApiError, X_CAUSEWAY_JOB_ID},
    extract::{Segment, seconds},
    job_view, simulated,
    state::AppState,
};

/// How many jobs a page has unless the client says.
const PAGE: usize = 20;

const UPSTREAM_STATUS: HeaderName = HeaderName::from_static("x-upstream-status");

/// An answer of JSON that is written already.
pub(crate) fn respond(status: StatusCode, body: &RawJson) -> Response {
    let kind = [(header::CONTENT_TYPE, "application/json")];
    (status, kind, body.as_str().to_owned()).into_response()
}

/// An answer about one job: the job itself, its name and whether its answer is simulated.
pub(crate) fn respond_with(status: StatusCode, job: &Job) -> Response {
    let mut response = respond(status, &job_view::json(job));
    name_job(response.headers_mut(), &job.id);
    simulated::mark_job(response.headers_mut(), job);
    response
}

/// Says in an answer which job it is about.
pub(crate) fn name_job(headers: &mut HeaderMap, id: &JobId) {
    if let Ok(id) = HeaderValue::from_str(&id.to_string()) {
        headers.insert(X_CAUSEWAY_JOB_ID, id);
    }
}

/// The job that a path names.
pub(crate) fn job_id(text: &str) -> Result<JobId, ApiError> {
    text.parse().map_err(|_| no_such_job(text))
}

pub(crate) fn no_such_job(id: &str) -> ApiError {
    let id: String = id.chars().take(100).collect();
    let message = format!("you have no job {id:?}; it never was, or its retention is over");
    ApiError::not_found("job_not_found", message)
}

/// Reads the parameters of a query, and refuses those that are not known.
pub(crate) fn query<T: serde::de::DeserializeOwned>(found: Asked<T>) -> Result<T, ApiError> {
    found.map(|Query(query)| query).map_err(|rejection| {
        let message = format!("the query does not fit: {}", rejection.body_text());
        ApiError::invalid("invalid_query", message)
    })
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Wait {
    wait: Option<String>,
}

/// The parameters of a query, as far as they could be read.
pub(crate) type Asked<T> = Result<Query<T>, axum::extract::rejection::QueryRejection>;

/// `GET /v1/jobs/{id}`, at once or when it has ended.
pub(crate) async fn show(
    State(state): State<AppState>,
    caller: Caller,
    Segment(id): Segment,
    asked: Asked<Wait>,
) -> Result<Response, ApiError> {
    let wait = query(asked)?.wait;
    let wait = wait.map(|text| seconds("wait", &text, state.settings.max_wait)).transpose()?;
    let key = job_id(&id)?;
    let ended = state.queue.wait(&caller.tenant, &key, wait.unwrap_or(Duration::ZERO));
    let job = state.unless_stopped(ended, &caller.tenant, &key).await?;
    let job = job.ok_or_else(|| no_such_job(&id))?;
    Ok(respond_with(StatusCode::OK, &job))
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Listing {
    status: Option<String>,
    class: Option<String>,
    session: Option<String>,
    limit: Option<String>,
    after: Option<String>,
}

/// `GET /v1/jobs`.
pub(crate) async fn list(
    State(state): State<AppState>,
    caller: Caller,
    asked: Asked<Listing>,
) -> Result<Response, ApiError> {
    let asked = query(asked)?;
    let wanted = asked.read()?;
    let page = state.queue.list(&caller.tenant, &wanted).await?;
    Ok(respond(StatusCode::OK, &job_view::page(&page.jobs, page.has_more)))
}

impl Listing {
    fn read(self) -> Result<ListQuery, ApiError> {
        let limit = limit_of(self.limit.as_deref())?;
        Ok(ListQuery {
            status: self.status.map(|text| one_of("status", &text, &Status::ALL)).transpose()?,
            class: self.class.map(|text| one_of("class", &text, &Class::ALL)).transpose()?,
            session: match self.session {
                None => None,
                Some(text) => Some(
                    SessionKey::new(&text)
                        .map_err(|error| ApiError::invalid_param("session", error.to_string()))?,
                ),
            },
            limit,
            after: match self.after {
                None => None,
                Some(text) => Some(text.parse().map_err(|_| {
                    let message = format!("after must be the id of a job; it is {text:?}");
                    ApiError::invalid_param("after", message)
                })?),
            },
        })
    }
}

/// How many entries a page is to have at most.
pub(crate) fn limit_of(asked: Option<&str>) -> Result<usize, ApiError> {
    let Some(text) = asked else { return Ok(PAGE) };
    let limit = text.parse().ok().filter(|limit| (1..=MAX_PAGE).contains(limit));
    limit.ok_or_else(|| {
        let message = format!("limit must be 1 to {MAX_PAGE}; it is {text:?}");
        ApiError::invalid_param("limit", message)
    })
}

/// `POST /v1/jobs/retry`: puts back a page of what `GET /v1/jobs` would list under the same query,
/// from its oldest job on, so that those of a session stand in line as they did before.
/// `status` must be `failed`, `cancelled` or `expired`.
pub(crate) async fn retry_many(
    State(state): State<AppState>,
    caller: Caller,
    asked: Asked<Listing>,
) -> Result<Response, ApiError> {
    let wanted = query(asked)?.read()?;
    if !wanted.status.is_some_and(Status::is_retryable) {
        let message = "status must say which jobs to put back: failed, cancelled or expired";
        return Err(ApiError::invalid_param("status", message));
    }
    let page = state.queue.list(&caller.tenant, &wanted).await?;
    let mut has_more = page.has_more;
    let mut jobs = Vec::with_capacity(page.jobs.len());
    for listed in page.jobs.iter().rev() {
        match state.queue.retry(&caller.tenant, &listed.id).await {
            Ok(job) => jobs.extend(job),
            // Somebody else was faster.
            Err(Error::NotRetryable { .. }) => {}
            // Full: those that were put back stay, and the same query asks for the rest.
            Err(Error::Full { .. }) if !jobs.is_empty() => {
                has_more = true;
                break;
            }
            Err(error) => return Err(error.into()),
        }
    }
    jobs.reverse();
    Ok(respond(StatusCode::ACCEPTED, &job_view::page(&jobs, has_more)))
}

/// The value whose name is `text`.
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

/// `POST /v1/jobs/{id}/cancel`: again and again with the same answer.
pub(crate) async fn cancel(
    State(state): State<AppState>,
    caller: Caller,
    Segment(id): Segment,
) -> Result<Response, ApiError> {
    let job = state.queue.cancel(&caller.tenant, &job_id(&id)?).await?;
    let job = job.ok_or_else(|| no_such_job(&id))?;
    Ok(respond_with(StatusCode::OK, &job))
}

/// `POST /v1/jobs/{id}/retry`.
pub(crate) async fn retry(
    State(state): State<AppState>,
    caller: Caller,
    Segment(id): Segment,
) -> Result<Response, ApiError> {
    let job = state.queue.retry(&caller.tenant, &job_id(&id)?).await?;
    let job = job.ok_or_else(|| no_such_job(&id))?;
    Ok(respond_with(StatusCode::ACCEPTED, &job))
}

/// `GET /v1/jobs/{id}/result`: what the upstream answered, as it answered. 202 with the job while
/// it has not ended, 409's place is taken by 410: a job that was cancelled or expired has no result.
pub(crate) async fn result(
    State(state): State<AppState>,
    caller: Caller,
    Segment(id): Segment,
) -> Result<Response, ApiError> {
    let job = state.queue.job(&caller.tenant, &job_id(&id)?).await?;
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
        .filter(|_| *status != Status::Expired)
    {
        Some(error) => ApiError::upstream(error.code == "upstream_timeout", &error.message),
        None => ApiError::no_result(format!("job {id} was {status}: it has no result")),
    };
    Err(error.about(&job.id))
}
