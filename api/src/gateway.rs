//! SDK calls: requests in the wire formats of OpenAI and Anthropic. Each one becomes a job that its caller waits
//! for.
//!
//! The body goes to the upstream unchanged, and the upstream's answer returns unchanged. A call is pending until
//! its client leaves, at most for `api.hold`; the client chooses its own time-out. A client that leaves cancels its
//! job, unless it may retry (see [`retry`]), has an idempotency key, or sent `"store": true`. When this process
//! stops, its pending calls get an error that SDKs retry, and the retry attaches to the job.

mod answer;
mod dialect;
pub(crate) mod generate;
mod incoming;
mod pending_call;
mod request;
pub(crate) mod responses;
mod retry;
mod stream;

use axum::{
    extract::State,
    response::{IntoResponse, Response},
};
use causeway_queue::limits::Allowance;

use self::{
    dialect::Dialect,
    incoming::Incoming,
    pending_call::PendingCall,
    request::{CallRequest, ReplyMode, RequestOptions},
    responses::{ResponseOptions, events::Renderer},
};
use crate::{
    access,
    error::ApiError,
    openapi::{
        answers::{CallAnswer, CallHeaders, SDKS},
        schema::{self, of},
    },
    simulated,
    state::AppState,
    submit::Peek,
};

/// The description of each of these operations in the OpenAPI document.
const ABOUT: &str = "The body goes to the upstream as it is, and its answer comes back as it is: \
                     only what is described here is read. A caller that goes away cancels the job, \
                     unless it has an idempotency key; an SDK that has timed out has time to retry.";

schema::types! {
    /// The members of the body of a call that are read.
    CallBody: schema::all_of([of::<Peek>(), of::<RequestOptions>()]), Peek, RequestOptions;
    /// The members of the body of a call for a response that are read.
    ResponseBody: schema::all_of([of::<Peek>(), of::<RequestOptions>(), of::<ResponseOptions>()]),
        Peek, RequestOptions, ResponseOptions;
}

/// Answers a chat in OpenAI's format.
#[utoipa::path(post, path = "/v1/chat/completions", tag = SDKS, operation_id = "createChatCompletion",
    description = ABOUT, params(CallHeaders), responses(CallAnswer),
    request_body(content = inline(CallBody), example = json!({"model": "default", "max_tokens": 60,
        "messages": [{"role": "user", "content": "Name three rivers"}]})))]
pub(crate) async fn openai(
    State(state): State<AppState>,
    incoming: Incoming,
) -> Result<Response, ApiError> {
    answer(&state, incoming, Dialect::OpenAi).await
}

/// Completes a text in OpenAI's format.
#[utoipa::path(post, path = "/v1/completions", tag = SDKS, operation_id = "createCompletion",
    description = ABOUT, params(CallHeaders), responses(CallAnswer),
    request_body(content = inline(CallBody),
        example = json!({"model": "default", "prompt": "Three rivers:", "max_tokens": 20})))]
pub(crate) async fn complete(state: State<AppState>, call: Incoming) -> Result<Response, ApiError> {
    openai(state, call).await
}

/// Embeds texts in OpenAI's format.
#[utoipa::path(post, path = "/v1/embeddings", tag = SDKS, operation_id = "createEmbedding",
    description = ABOUT, params(CallHeaders), responses(CallAnswer),
    request_body(content = inline(CallBody),
        example = json!({"model": "default", "input": ["a river", "a lake"]})))]
pub(crate) async fn embed(state: State<AppState>, call: Incoming) -> Result<Response, ApiError> {
    openai(state, call).await
}

/// Creates a response in OpenAI's format.
#[utoipa::path(post, path = "/v1/responses", tag = SDKS, operation_id = "createResponse",
    description = ABOUT, params(CallHeaders), responses(CallAnswer, (status = 404)),
    request_body(content = inline(ResponseBody),
        example = json!({"model": "default", "input": "Name three rivers", "background": true})))]
pub(crate) async fn responses(
    State(state): State<AppState>,
    incoming: Incoming,
) -> Result<Response, ApiError> {
    answer(&state, incoming, Dialect::Responses).await
}

/// Answers a message in Anthropic's format.
#[utoipa::path(post, path = "/v1/messages", tag = SDKS, operation_id = "createMessage",
    description = ABOUT, params(CallHeaders), responses(CallAnswer, (status = 403), (status = 404)),
    request_body(content = inline(CallBody), example = json!({"model": "default", "max_tokens": 60,
        "messages": [{"role": "user", "content": "Name three rivers"}]})))]
pub(crate) async fn anthropic(
    State(state): State<AppState>,
    incoming: Result<Incoming, ApiError>,
) -> Response {
    let dialect = Dialect::Anthropic;
    let answered = match incoming {
        Ok(incoming) => answer(&state, incoming, dialect).await,
        Err(error) => Err(error),
    };
    answered.unwrap_or_else(|error| dialect.shape(error).into_response())
}

async fn answer(
    state: &AppState,
    incoming: Incoming,
    dialect: Dialect,
) -> Result<Response, ApiError> {
    let mut call = CallRequest::read(state, &incoming)?;
    let Incoming { caller, body, charge, .. } = incoming;
    let adapted = match dialect {
        Dialect::Responses => responses::adapt(state, &caller, &mut call).await?,
        Dialect::OpenAi | Dialect::Anthropic => responses::Adapted::default(),
    };
    let is_background = adapted.is_background;
    // Only tenants with a rate pay the read of the store.
    let allowance = if caller.is_rated {
        state.queue.allowance(&caller.tenant, call.model()).await?
    } else {
        Allowance::default()
    };
    let streams = call.reply == ReplyMode::Stream;
    // The id is drafted before the store is asked, so a lost answer can still be matched to its job.
    let drafted = call.job.id.clone();
    let mut pending = PendingCall::submit(state, caller.tenant, call, dialect).await?;
    // The job is stored. A pending call must not occupy the budget for bodies while it waits.
    drop((body, charge));
    let id = pending.id().clone();
    access::of_job(&id);
    // Any other id belongs to an earlier attempt, which has attached its input.
    if id == drafted && adapted.keeps_input() {
        // A task of its own: a client that leaves now must not take the input along.
        let (task_state, id) = (state.clone(), id.clone());
        let attached = async move { adapted.attach(&task_state, &id).await };
        drop(state.background_tasks.spawn(attached).await);
    }
    let answered = match (streams, is_background) {
        // A background stream starts at once: its first event carries the id, so the client may leave.
        (true, true) => {
            pending.start_answer();
            Ok(stream::open(pending, Renderer::after(None)))
        }
        // In the foreground, an early failure still gets its own HTTP status.
        (true, false) => stream::respond(pending).await,
        (false, _) => pending.answer().await,
    };
    let mut response = answered.unwrap_or_else(|error| dialect.shape(error).into_response());
    request::add_headers(response.headers_mut(), &id, allowance);
    if state.settings.simulated_lanes.contains(&id.shard().lane) {
        simulated::mark(response.headers_mut());
    }
    Ok(response)
}
