//! `/v1/responses`: OpenAI's responses, in the foreground and in the background.
//!
//! A response is a job, and its id names the job: `resp_…` for `job_…`. The id that the upstream gave it is stored
//! for requests that continue it. For an upstream without responses the worker translates the request to a chat.

pub(crate) mod conversation;
pub(super) mod events;
mod find;
mod history;
pub(crate) mod listing;
pub(super) mod object;

use std::{collections::BTreeMap, time::Duration};

use axum::{
    Json,
    extract::{Query, State},
    http::{HeaderMap, StatusCode},
    response::{IntoResponse, Response},
};
use bytes::Bytes;
use causeway_queue::{Job, JobId, RawJson, TenantId, fair::Estimate};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use utoipa::{IntoParams, ToSchema};

use self::{
    conversation::Reference, events::Renderer, find::find, history::PriorContext, object::object,
};
use super::{
    dialect::Dialect,
    pending_call::PendingCall,
    request::{CallRequest, ConversationTurn, ReplyMode},
    stream,
};
use crate::{
    caller::Caller,
    error::ApiError,
    events::Seq,
    extract::{Segment, parse, query_mismatch},
    jobs::name_job,
    openapi::{
        answers::{Answered, SDKS},
        schema,
    },
    simulated,
    state::AppState,
    submit, webhook,
};

/// The time that a cancel waits for the worker to end the job.
const CANCEL_WAIT: Duration = Duration::from_secs(5);

/// The members of a response's body that Causeway reads besides those of every call.
#[derive(Debug, Deserialize, ToSchema)]
#[schema(as = ResponseRequest)]
pub(crate) struct ResponseOptions {
    /// True if the request returns at once, and the job continues without its caller.
    #[serde(default)]
    background: Option<bool>,
    /// Labels: at most 16, with names of 64 and values of 512 characters.
    #[serde(default)]
    #[schema(schema_with = schema::metadata)]
    metadata: Option<BTreeMap<String, String>>,
    /// The response that this one continues.
    #[serde(default)]
    previous_response_id: Option<String>,
    /// The conversation that this response is part of, by its id.
    #[serde(default)]
    #[schema(value_type = Option<String>)]
    conversation: Option<Reference>,
    /// If false, the input is not stored, so no later response can continue this one.
    #[serde(default)]
    #[schema(ignore)]
    store: Option<Value>,
}

/// The response-specific data of a call, besides its job.
#[derive(Debug, Default)]
pub(super) struct Adapted {
    pub(super) is_background: bool,
    /// All items of the input, if they are stored.
    input: Option<Bytes>,
}

impl Adapted {
    /// True if there is an input to attach.
    pub(super) const fn keeps_input(&self) -> bool {
        self.input.is_some()
    }

    /// Attaches the input to the job `id`. The response is created even if the store is full.
    pub(super) async fn attach(self, state: &AppState, id: &JobId) {
        let Some(input) = self.input else { return };
        if let Err(error) = state.queue.transitions().attach(id, input).await {
            tracing::warn!(
                job.id = %id, %error,
                "cannot store the input of a response; no request can continue it"
            );
        }
    }
}

/// Adapts a call to a job that is a response.
pub(super) async fn adapt(
    state: &AppState,
    caller: &Caller,
    call: &mut CallRequest,
) -> Result<Adapted, ApiError> {
    let options: ResponseOptions = parse(&call.job.body)?;
    let mut body: BTreeMap<String, RawJson> = parse(&call.job.body)?;
    let metadata = options.metadata.unwrap_or_default();
    submit::check_metadata(&metadata)?;
    call.job.spec.metadata = metadata;
    // Echoed before the request is completed: clients must see their own members.
    call.job.spec.api = RawJson::of(&object::echo(&body)).ok();
    let named = (options.previous_response_id.as_deref(), options.conversation.as_ref());
    let (earlier, turn) = earlier(state, &caller.tenant, named, &call.job.id).await?;
    match &earlier {
        Some(PriorContext::Upstreams(name)) => {
            body.insert("previous_response_id".to_owned(), RawJson::string(name));
        }
        Some(PriorContext::Items(_)) | None => drop(body.remove("previous_response_id")),
    }
    if turn.is_some() {
        // The upstream does not know our conversations.
        body.remove("conversation");
    }
    let input = history::complete(state, &caller.tenant, &mut body, earlier).await?;
    // The queue runs it in the background; the upstream must answer in the foreground.
    body.remove("background");
    body.remove("background_options");
    let is_background = options.background == Some(true);
    if is_background {
        run_in_background(state, caller, call, &mut body)?;
    }
    // Writing a map of parsed JSON cannot fail; the fallback avoids a panic.
    let body = serde_json::to_vec(&body).map_or_else(|_| call.job.body.clone(), Bytes::from);
    check_size(state, &body)?;
    // The cost includes the earlier items, which the upstream reads again.
    call.job.cost.prompt = Estimate::of_body(body.len(), None).prompt;
    call.job.body = body;
    // A conversation needs the input of each of its responses.
    let is_kept = turn.is_some() || options.store != Some(Value::Bool(false));
    call.turn = turn;
    Ok(Adapted { is_background, input: Some(input).filter(|_| is_kept) })
}

/// Lets the job of a response continue without its caller.
fn run_in_background(
    state: &AppState,
    caller: &Caller,
    call: &mut CallRequest,
    body: &mut BTreeMap<String, RawJson>,
) -> Result<(), ApiError> {
    // The job is always streamed into the store, so a client that attaches later sees the answer grow.
    body.insert("stream".to_owned(), RawJson::of(&true).unwrap_or_default());
    call.job.spec.stream = true;
    call.job.keeps_events = true;
    call.outlives_caller = true;
    let id = object::id(&call.job.id);
    call.job.spec.webhook = webhook::of_response(&state.settings, caller, id)?;
    if call.reply == ReplyMode::Complete {
        call.reply = ReplyMode::JobReference;
    }
    Ok(())
}

/// Returns the items before the request of the response `job`, and its turn in a conversation of ours.
async fn earlier(
    state: &AppState,
    tenant: &TenantId,
    named: (Option<&str>, Option<&Reference>),
    job: &JobId,
) -> Result<(Option<PriorContext>, Option<ConversationTurn>), ApiError> {
    match named {
        (None, None) => Ok((None, None)),
        (Some(id), None) => Ok((Some(history::earlier(state, tenant, id).await?), None)),
        (None, Some(reference)) => {
            // Conversations of the upstream pass through.
            let Some(id) = reference.ours() else { return Ok((None, None)) };
            let (earlier, turn) = conversation::start_turn(state, tenant, id, job).await?;
            Ok((Some(earlier), Some(turn)))
        }
        (Some(_), Some(_)) => {
            let message = "send either previous_response_id or conversation, not both";
            Err(ApiError::invalid_param("conversation", message))
        }
    }
}

/// Refuses a request that exceeds the size limit together with the conversation before it.
fn check_size(state: &AppState, body: &Bytes) -> Result<(), ApiError> {
    let most = state.settings.max_body_bytes;
    if body.len() <= most {
        return Ok(());
    }
    let message = format!(
        "the request and the conversation before it have {} bytes, and the limit is {most} \
         (`api.max_body_bytes`); start a new conversation",
        body.len()
    );
    Err(ApiError::invalid("body_too_large", message).with_status(StatusCode::PAYLOAD_TOO_LARGE))
}

/// The query of a read.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub(crate) struct ResponseQuery {
    /// True to answer with its events.
    #[serde(default)]
    stream: bool,
    /// The number of the last event known.
    #[serde(default)]
    #[param(value_type = Option<Seq>, inline)]
    starting_after: Option<u64>,
}

/// Returns the response as it is now, or its events.
#[utoipa::path(get, path = "/v1/responses/{id}", tag = SDKS, operation_id = "getResponse",
    params(("id" = String, Path, description = "The response's id"), ResponseQuery),
    responses(Answered, (status = 410)))]
pub(crate) async fn retrieve(
    State(state): State<AppState>,
    caller: Caller,
    Segment(id): Segment,
    reading: Result<Query<ResponseQuery>, axum::extract::rejection::QueryRejection>,
) -> Result<Response, ApiError> {
    let Query(reading) = reading.map_err(|rejection| {
        query_mismatch(&rejection)
            .with_hint("stream is true or false, and starting_after the number of an event")
    })?;
    let job = find(&state, &caller.tenant, &id).await?;
    if !reading.stream {
        return Ok(respond_with(&job));
    }
    // The headers are computed first, because the call takes the job.
    let mut marks = HeaderMap::new();
    name_job(&mut marks, &job.id);
    simulated::mark_events(&mut marks, &state, &job);
    let pending = PendingCall::attached(&state, caller.tenant, job, Dialect::Responses);
    let mut response = stream::open(pending, Renderer::after(reading.starting_after));
    response.headers_mut().extend(marks);
    Ok(response)
}

/// Answers with the response, the id of its job and the mark of a simulation.
fn respond_with(job: &Job) -> Response {
    let mut response = Json(object(job)).into_response();
    name_job(response.headers_mut(), &job.id);
    simulated::mark_job(response.headers_mut(), job);
    response
}

/// Confirms that the response was deleted.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct DeletedResponse {
    /// Always true.
    deleted: bool,
    id: String,
    /// Always `response`.
    object: &'static str,
}

/// Deletes a response; one that runs is cancelled.
#[utoipa::path(delete, path = "/v1/responses/{id}", tag = SDKS, operation_id = "deleteResponse",
    params(("id" = String, Path, description = "The response's id")),
    responses((status = 200, description = "The response is deleted", body = DeletedResponse), (status = 400), (status = 410)))]
pub(crate) async fn delete(
    State(state): State<AppState>,
    caller: Caller,
    Segment(id): Segment,
) -> Result<Json<DeletedResponse>, ApiError> {
    let job = find(&state, &caller.tenant, &id).await?;
    // Only ended jobs can be deleted.
    if !job.status().is_terminal() {
        state.queue.cancel(&caller.tenant, &job.id).await?;
        let ended = state.queue.wait(&caller.tenant, &job.id, CANCEL_WAIT);
        state.unless_stopped(ended, &caller.tenant, &job.id).await?;
    }
    if !state.queue.delete(&caller.tenant, &job.id).await? {
        let message = format!("response {id} is being cancelled; delete it again in a second");
        return Err(ApiError::invalid("not_ended", message));
    }
    if let Err(error) = conversation::remove_turn(&state, &caller.tenant, &job).await {
        tracing::debug!(
            job.id = %job.id, ?error,
            "cannot remove the turn of a deleted response; its conversation stays locked for a while"
        );
    }
    Ok(Json(DeletedResponse { deleted: true, id, object: "response" }))
}

/// Cancels a response.
#[utoipa::path(post, path = "/v1/responses/{id}/cancel", tag = SDKS, operation_id = "cancelResponse",
    params(("id" = String, Path, description = "The response's id")),
    responses(Answered, (status = 410)))]
pub(crate) async fn cancel(
    State(state): State<AppState>,
    caller: Caller,
    Segment(id): Segment,
) -> Result<Response, ApiError> {
    let job = find(&state, &caller.tenant, &id).await?;
    state.queue.cancel(&caller.tenant, &job.id).await?;
    let ended = state.queue.wait(&caller.tenant, &job.id, CANCEL_WAIT);
    let job = state.unless_stopped(ended, &caller.tenant, &job.id).await?;
    let gone = || ApiError::gone(format!("response {id} no longer exists"));
    Ok(respond_with(&job.ok_or_else(gone)?))
}
