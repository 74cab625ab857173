//! `/v1/conversations`: responses that continue each other under one name.
//!
//! A conversation is a session: its responses run in order. The session remembers the latest response, whose input
//! and output are the items of the conversation. Conversations with other names than ours are the upstream's own.

use axum::{
    Json,
    extract::{Query, State, rejection::QueryRejection},
    http::StatusCode,
    response::Response,
};
use causeway_queue::{JobId, NewJob, RawJson, SessionKey, Status, TenantId, session::Memory};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use utoipa::ToSchema;
use uuid::Uuid;

use super::{
    history::{self, Earlier},
    listing::{self, Page},
};
use crate::{
    auth::Caller,
    error::ApiError,
    extract::{MaybeJson, Segment, parse},
    jobs::respond,
    state::AppState,
};

/// The beginning of the names of our conversations.
const OURS: &str = "conv_causeway_";

/// A reference to a conversation: its id, alone or in an object.
#[derive(Debug, Clone, Deserialize)]
#[serde(untagged)]
pub(super) enum Reference {
    Id(String),
    Object { id: String },
}

impl Reference {
    /// The id, if the conversation is ours.
    pub(super) fn ours(&self) -> Option<&str> {
        let (Self::Id(id) | Self::Object { id }) = self;
        Some(id.as_str()).filter(|id| id.starts_with(OURS))
    }
}

/// What a session remembers of its conversation.
#[derive(Debug, Serialize, Deserialize)]
struct Latest {
    /// The latest response.
    response: JobId,
}

fn session(id: &str) -> Result<SessionKey, ApiError> {
    SessionKey::new(id).map_err(|_| unknown(id))
}

fn unknown(id: &str) -> ApiError {
    let id: String = id.chars().take(100).collect();
    let message = format!("you have no conversation {id:?}; it never was, or it is forgotten");
    ApiError::not_found("conversation_not_found", message)
}

/// Returns the latest response of a conversation; `None` before the first one.
async fn latest(state: &AppState, tenant: &TenantId, id: &str) -> Result<Option<JobId>, ApiError> {
    let known = state.queue.conversation(tenant, &session(id)?).await?;
    let latest: Option<Latest> = known.and_then(|known| known.profile.read().ok());
    Ok(latest.map(|latest| latest.response))
}

/// Returns what stands before a request of a conversation.
pub(super) async fn earlier(
    state: &AppState,
    tenant: &TenantId,
    id: &str,
) -> Result<Earlier, ApiError> {
    let Some(response) = latest(state, tenant, id).await? else {
        return Ok(Earlier::Items(Vec::new()));
    };
    let job = state.queue.job(tenant, &response).await?.ok_or_else(|| unknown(id))?;
    match job.status() {
        Status::Succeeded | Status::Failed | Status::Cancelled | Status::Expired => {}
        Status::Queued | Status::Scheduled | Status::Running => {
            let message = format!("a response of conversation {id} is under way; wait for its end");
            return Err(
                ApiError::invalid_param("conversation", message).with_code("conversation_locked")
            );
        }
    }
    items(state, tenant, &response).await.map(Earlier::Items)
}

/// Returns the items of a conversation up to and including `response`. A response without an answer has its input
/// only.
async fn items(
    state: &AppState,
    tenant: &TenantId,
    response: &JobId,
) -> Result<Vec<String>, ApiError> {
    let mut items = history::input(state, response).await?.unwrap_or_default();
    let job = state.queue.job(tenant, response).await?;
    items.extend(job.as_ref().map(history::output).unwrap_or_default());
    Ok(items)
}

/// Makes `job` the latest response of a conversation.
pub(super) fn join(state: &AppState, id: &str, job: &mut NewJob) -> Result<(), ApiError> {
    job.session = Some(session(id)?);
    let latest = Latest { response: job.id.clone() };
    let profile = RawJson::of(&latest).unwrap_or_default();
    // The worker keeps no turns: these are texts, and a conversation has items.
    let ttl_s = state.settings.bridge.memory.as_secs();
    job.spec.memory = Some(Memory { turns: 0, ttl_s, profile });
    Ok(())
}

/// A conversation as it is made.
#[derive(Debug, Deserialize, ToSchema)]
pub(crate) struct ConversationRequest {
    /// Must be empty: send the first items as the input of the first response.
    #[serde(default)]
    #[schema(value_type = Option<Vec<String>>, max_items = 0)]
    items: Option<Vec<Box<RawValue>>>,
}

/// A conversation.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = ConversationCreated)]
pub(crate) struct ConversationView {
    /// Seconds since 1970.
    created_at: u64,
    id: String,
    /// Always empty: labels are kept with responses.
    #[schema(value_type = Object)]
    metadata: std::collections::BTreeMap<String, String>,
    /// Always `conversation`.
    object: &'static str,
}

/// `POST /v1/conversations`: a name; the store knows of it with the first response.
pub(crate) async fn create(
    _: Caller,
    MaybeJson(body): MaybeJson,
) -> Result<Json<ConversationView>, ApiError> {
    let request: Option<ConversationRequest> =
        if body.is_empty() { None } else { Some(parse(&body)?) };
    let items = request.and_then(|request| request.items).unwrap_or_default();
    if !items.is_empty() {
        let message = "items must be empty; send them as the input of the first response";
        return Err(ApiError::invalid_param("items", message));
    }
    let name = Uuid::now_v7();
    let created_at = name.get_timestamp().map_or(0, |time| time.to_unix().0);
    let (id, metadata) = (format!("{OURS}{}", name.simple()), Default::default());
    Ok(Json(ConversationView { created_at, id, metadata, object: "conversation" }))
}

/// `GET /v1/conversations/{id}/items`.
pub(crate) async fn list(
    State(state): State<AppState>,
    caller: Caller,
    Segment(id): Segment,
    page: Result<Query<Page>, QueryRejection>,
) -> Result<Response, ApiError> {
    let page = listing::page(page)?;
    let response = latest(&state, &caller.tenant, &id).await?.ok_or_else(|| unknown(&id))?;
    let items = items(&state, &caller.tenant, &response).await?;
    listing::list(&items, &listing::name(&response), &page)
        .map(|list| respond(StatusCode::OK, &list))
}

/// The conversation is forgotten; its responses stay.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct DeletedConversation {
    /// Always true.
    deleted: bool,
    id: String,
    /// Always `conversation.deleted`.
    object: &'static str,
}

/// `DELETE /v1/conversations/{id}`.
pub(crate) async fn delete(
    State(state): State<AppState>,
    caller: Caller,
    Segment(id): Segment,
) -> Result<Json<DeletedConversation>, ApiError> {
    latest(&state, &caller.tenant, &id).await?.ok_or_else(|| unknown(&id))?;
    state.queue.forget(&caller.tenant, &session(&id)?).await?;
    Ok(Json(DeletedConversation { deleted: true, id, object: "conversation.deleted" }))
}
