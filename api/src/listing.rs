//! `GET /v1/jobs`, and operations on all listed jobs.

use axum::{extract::State, http::StatusCode, response::Response};
use causeway_queue::{
    Class, Error, SessionKey, Status, TenantId, backend::ListQuery, clock::Millis,
};
use jiff::Timestamp;
use serde::Deserialize;

use crate::{
    auth::Caller,
    error::ApiError,
    job_view,
    jobs::{QueryResult, limit_of, one_of, query, respond},
    state::AppState,
};

/// The query of a list, unchecked.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct JobQuery {
    status: Option<String>,
    class: Option<String>,
    session: Option<String>,
    since: Option<String>,
    model: Option<String>,
    error_code: Option<String>,
    tenant: Option<String>,
    limit: Option<String>,
    after: Option<String>,
}

/// Handles `GET /v1/jobs`.
pub(crate) async fn list(
    State(state): State<AppState>,
    caller: Caller,
    parameters: QueryResult<JobQuery>,
) -> Result<Response, ApiError> {
    let (tenant, filter) = query(parameters)?.read(&caller)?;
    let page = state.queue.list(&tenant, &filter).await?;
    Ok(respond(StatusCode::OK, &job_view::page(&page.jobs, page.next.as_ref())))
}

impl JobQuery {
    /// Checks the query; returns the owner of the jobs and the filter.
    fn read(self, caller: &Caller) -> Result<(TenantId, ListQuery), ApiError> {
        let tenant = owner(self.tenant.as_deref(), caller)?;
        let filter = ListQuery {
            status: self.status.map(|text| one_of("status", &text, &Status::ALL)).transpose()?,
            class: self.class.map(|text| one_of("class", &text, &Class::ALL)).transpose()?,
            session: match self.session {
                None => None,
                Some(text) => Some(
                    SessionKey::new(&text)
                        .map_err(|error| ApiError::invalid_param("session", error.to_string()))?,
                ),
            },
            since: self.since.map(|text| moment(&text)).transpose()?,
            model: self.model,
            error_code: self.error_code,
            limit: limit_of(self.limit.as_deref())?,
            after: match self.after {
                None => None,
                Some(text) => Some(text.parse().map_err(|_| {
                    let message = format!("after must be the id of a job; it is {text:?}");
                    ApiError::invalid_param("after", message)
                })?),
            },
        };
        Ok((tenant, filter))
    }
}

/// Returns the owner of the listed jobs. Only administrators may name another tenant than their own.
fn owner(name: Option<&str>, caller: &Caller) -> Result<TenantId, ApiError> {
    let Some(name) = name else { return Ok(caller.tenant.clone()) };
    let tenant = TenantId::new(name)
        .map_err(|error| ApiError::invalid_param("tenant", error.to_string()))?;
    if tenant == caller.tenant || caller.acts_for_all() {
        Ok(tenant)
    } else {
        Err(ApiError::forbidden(&caller.tenant))
    }
}

fn moment(text: &str) -> Result<Millis, ApiError> {
    let ms = text.parse::<Timestamp>().ok().and_then(|at| u64::try_from(at.as_millisecond()).ok());
    ms.map(Millis).ok_or_else(|| {
        let shown: String = text.chars().take(100).collect();
        let message =
            format!("since must be an RFC 3339 time, e.g. 2026-01-31T12:00:00Z; it is {shown:?}");
        ApiError::invalid_param("since", message)
    })
}

/// Handles `POST /v1/jobs/retry`: retries one page of the jobs that `GET /v1/jobs` lists for the same query. It
/// starts with the oldest one, so the jobs of a session keep their order. `status` must be `failed`, `cancelled` or
/// `expired`.
pub(crate) async fn retry(
    State(state): State<AppState>,
    caller: Caller,
    parameters: QueryResult<JobQuery>,
) -> Result<Response, ApiError> {
    let (tenant, filter) = query(parameters)?.read(&caller)?;
    // Without a status, the call would silently skip most of its page.
    if !filter.status.is_some_and(Status::is_retryable) {
        let message = "status must name the jobs to retry: failed, cancelled or expired";
        return Err(ApiError::invalid_param("status", message));
    }
    let page = state.queue.list(&tenant, &filter).await?;
    let (mut jobs, mut is_full) = (Vec::with_capacity(page.jobs.len()), false);
    // Pages have the newest job first; retries need the oldest first.
    for listed in page.jobs.iter().rev() {
        match state.queue.retry(&tenant, &listed.id).await {
            Ok(job) => jobs.extend(job),
            // Another caller has retried it meanwhile.
            Err(Error::NotRetryable { .. }) => {}
            // The lane is full. The jobs retried so far stay in it, and the same query continues with the others.
            Err(Error::Full { .. }) if !jobs.is_empty() => {
                is_full = true;
                break;
            }
            Err(error) => return Err(error.into()),
        }
    }
    jobs.reverse();
    let last = jobs.last().map(|job| job.id.clone()).filter(|_| is_full);
    let next = last.as_ref().or(page.next.as_ref());
    Ok(respond(StatusCode::ACCEPTED, &job_view::page(&jobs, next)))
}
