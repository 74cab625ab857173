//! `/v1/responses`: OpenAI's responses, in the foreground and in the background.
//!
//! A response is a job, and its id names the job: `resp_…` for `job_…`. What the upstream calls it
//! stays in the store, for a later request that continues it. An upstream that does not speak
//! responses is called by the worker in the words of chat.

pub(super) mod events;
pub(super) mod object;

use std::{collections::BTreeMap, time::Duration};

use axum::{
    Json,
    extract::{Query, State},
    http::HeaderMap,
    response::{IntoResponse, Response},
};
use bytes::Bytes;
use causeway_queue::{Job, JobId, RawJson, TenantId, job::State as JobState, json::RawObject};
use serde::Deserialize;
use utoipa::ToSchema;

use self::{events::Renderer, object::object};
use super::{
    Dialect,
    hold::Held,
    request::{Asked, Reply},
    stream,
};
use crate::{
    access,
    auth::Caller,
    error::ApiError,
    extract::{Segment, parse},
    jobs::name_job,
    openapi::schema,
    simulated,
    state::AppState,
    submit, webhook,
};

/// Where responses are made.
pub(super) const URL: &str = "/v1/responses";

/// How long a cancel waits for the worker to let go.
const CANCEL_WAIT: Duration = Duration::from_secs(5);

/// What is read of the body, beside what every door reads.
#[derive(Debug, Deserialize, ToSchema)]
#[schema(as = ResponseRequest)]
pub(crate) struct Wishes {
    /// Whether to answer at once with the response as it is then, and go on without its caller.
    #[serde(default)]
    background: Option<bool>,
    /// Labels: at most 16, with names of 64 and values of 512 characters.
    #[serde(default)]
    #[schema(schema_with = schema::metadata)]
    metadata: Option<BTreeMap<String, String>>,
    /// The response that this one continues, where its upstream keeps responses.
    #[serde(default)]
    previous_response_id: Option<String>,
}

/// Makes of a call what the queue has to know of a response; whether it is one in the background.
pub(super) async fn adapt(
    state: &AppState,
    caller: &Caller,
    asked: &mut Asked,
) -> Result<bool, ApiError> {
    let wishes: Wishes = parse(&asked.job.body)?;
    let mut body: BTreeMap<String, RawJson> = parse(&asked.job.body)?;
    let metadata = wishes.metadata.unwrap_or_default();
    submit::check_metadata(&metadata)?;
    asked.job.spec.metadata = metadata;
    asked.job.spec.api = RawJson::of(&object::echo(&body)).ok();
    if let Some(id) = &wishes.previous_response_id {
        let known = upstreams_name(state, &caller.tenant, id).await?;
        body.insert("previous_response_id".to_owned(), RawJson::string(&known));
    }
    body.remove("background");
    body.remove("background_options");
    let is_background = wishes.background == Some(true);
    if is_background {
        // It is always streamed to the store, so that whoever comes late sees it grow.
        body.insert("stream".to_owned(), RawJson::of(&true).unwrap_or_default());
        asked.job.spec.stream = true;
        asked.job.keeps_events = true;
        asked.stays = true;
        let id = object::id(&asked.job.id);
        asked.job.spec.webhook = webhook::of_response(&state.settings, caller, id)?;
        if asked.reply == Reply::Whole {
            asked.reply = Reply::Place;
        }
    }
    asked.job.body = serde_json::to_vec(&body).map_or_else(|_| asked.job.body.clone(), Bytes::from);
    Ok(is_background)
}

/// By which name its upstream knows the response `id`.
async fn upstreams_name(state: &AppState, tenant: &TenantId, id: &str) -> Result<String, ApiError> {
    let refused = |message: String| ApiError::invalid_param("previous_response_id", message);
    let job = find(state, tenant, id).await?;
    let JobState::Ended { output, .. } = &job.state else {
        return Err(refused(format!("response {id} has not ended; wait for it")));
    };
    let answer = output.as_ref().and_then(|output| output.response.as_ref());
    let name = answer.and_then(|answer| RawObject::parse(answer.body.as_str()).ok()?.text("id"));
    name.filter(|name| name.starts_with("resp")).ok_or_else(|| {
        refused(format!(
            "the upstream of response {id} keeps no responses; send the whole conversation as `input`"
        ))
    })
}

/// The tenant's response `id`.
async fn find(state: &AppState, tenant: &TenantId, id: &str) -> Result<Job, ApiError> {
    let unknown = || {
        let id: String = id.chars().take(100).collect();
        let message =
            format!("you have no response {id:?}; it never was, or its retention is over");
        ApiError::not_found("response_not_found", message)
    };
    let key: Option<JobId> =
        id.strip_prefix("resp_").and_then(|id| format!("job_{id}").parse().ok());
    let key = key.ok_or_else(unknown)?;
    access::of_job(&key);
    let job = state.queue.job(tenant, &key).await?;
    job.filter(|job| job.spec.url == URL).ok_or_else(unknown)
}

/// How a response is read.
#[derive(Debug, Deserialize)]
pub(crate) struct Reading {
    #[serde(default)]
    stream: bool,
    #[serde(default)]
    starting_after: Option<u64>,
}

/// `GET /v1/responses/{id}`: as it is now, or its events from the first one on or after that one.
pub(crate) async fn retrieve(
    State(state): State<AppState>,
    caller: Caller,
    Segment(id): Segment,
    reading: Result<Query<Reading>, axum::extract::rejection::QueryRejection>,
) -> Result<Response, ApiError> {
    let Query(reading) = reading.map_err(|rejection| {
        let message = format!(
            "stream must be true or false, and starting_after the number of an event: {}",
            rejection.body_text()
        );
        ApiError::invalid("invalid_query", message)
    })?;
    let job = find(&state, &caller.tenant, &id).await?;
    if !reading.stream {
        return Ok(respond_with(&job));
    }
    let mut marks = HeaderMap::new();
    name_job(&mut marks, &job.id);
    simulated::mark_events(&mut marks, &state, &job);
    let held = Held::attached(&state, caller.tenant, job, Dialect::Responses);
    let mut response = stream::open(held, Renderer::after(reading.starting_after));
    response.headers_mut().extend(marks);
    Ok(response)
}

/// The response as it is now, with the name of its job and whether it is simulated.
fn respond_with(job: &Job) -> Response {
    let mut response = Json(object(job)).into_response();
    name_job(response.headers_mut(), &job.id);
    simulated::mark_job(response.headers_mut(), job);
    response
}

/// `POST /v1/responses/{id}/cancel`: answers with the response, again and again.
pub(crate) async fn cancel(
    State(state): State<AppState>,
    caller: Caller,
    Segment(id): Segment,
) -> Result<Response, ApiError> {
    let job = find(&state, &caller.tenant, &id).await?;
    state.queue.cancel(&caller.tenant, &job.id).await?;
    let ended = state.queue.wait(&caller.tenant, &job.id, CANCEL_WAIT);
    let job = state.unless_stopped(ended, &caller.tenant, &job.id).await?;
    let gone = || ApiError::gone(format!("response {id} is gone"));
    Ok(respond_with(&job.ok_or_else(gone)?))
}
