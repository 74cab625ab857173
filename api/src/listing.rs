//! `GET /v1/jobs`, and operations on all listed jobs.

use axum::{extract::State, http::StatusCode, response::Response};
use causeway_queue::{
    Class, Error, SessionKey, Status, TenantId, backend::ListQuery, clock::Millis,
};
use jiff::Timestamp;
use serde::Deserialize;
use utoipa::IntoParams;

use crate::{
    caller::Caller,
    error::ApiError,
    job_view::{self, PageView},
    jobs::{QueryResult, limit_of, one_of, query, respond},
    openapi::schema,
    state::AppState,
};

/// The query of a list, unchecked.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(crate) struct JobQuery {
    #[param(ignore)]
    status: Option<String>,
    /// Jobs of this class.
    #[param(value_type = Option<schema::ClassName>, inline)]
    class: Option<String>,
    /// Jobs of this session.
    #[param(value_type = Option<schema::Key>, inline)]
    session: Option<String>,
    /// Jobs that were accepted at this moment or later.
    #[param(value_type = Option<schema::Moment>, inline)]
    since: Option<String>,
    /// Jobs of this model.
    model: Option<String>,
    /// Jobs that ended with this `error.code`.
    error_code: Option<String>,
    /// Jobs of this tenant; of another one for administrators.
    #[param(value_type = Option<schema::TenantName>, inline)]
    tenant: Option<String>,
    /// The number of jobs; 20 by default.
    #[param(value_type = Option<schema::PageSize>, inline)]
    limit: Option<String>,
    /// The id after which to go on.
    after: Option<String>,
}

/// Lists jobs, newest first.
#[utoipa::path(get, path = "/v1/jobs", tag = "jobs", operation_id = "listJobs",
    params(("status" = inline(Option<schema::StatusName>), Query, description = "Jobs of this status"), JobQuery),
    responses((status = 200, description = "A page of jobs", body = PageView<'_>), (status = 403)))]
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

/// Retries a page of failed, cancelled or expired jobs.
///
/// The oldest job of the page goes first, so jobs of a session keep their order; pages are newest first, so over several
/// of them they keep it only if the last page goes first. If the queue becomes full, the answer has the jobs that were
/// retried, `has_more` is true, and the same call retries the rest.
#[utoipa::path(post, path = "/v1/jobs/retry", tag = "jobs", operation_id = "retryJobs",
    params(("status" = inline(schema::RetryableStatus), Query, description = "The status of the jobs to retry"), JobQuery),
    responses((status = 202, description = "The jobs that were retried", body = PageView<'_>), (status = 403)))]
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
