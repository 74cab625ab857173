//! `/v1/conversations`: responses that continue each other under one id.
//!
//! A conversation exists from its creation until it is deleted or expires, and has at most one running turn.
//! Conversations with ids of another form belong to the upstream.

mod record;

use std::collections::BTreeMap;

use axum::{
    Json,
    extract::{Query, State, rejection::QueryRejection},
    response::Response,
};
use causeway_queue::{JobId, RawJson, TenantId};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use uuid::Uuid;

use self::record::{ConversationRecord, OURS, StoredConversation};
pub(super) use self::record::{Reference, remove_turn};
use super::{
    history::{self, PriorContext},
    listing::{self, ItemsQuery},
};
use crate::{
    caller::Caller,
    direct,
    error::ApiError,
    extract::{JsonBytes, MaybeJson, Segment, parse},
    gateway::request::ConversationTurn,
    openapi::{answers::SDKS, schema},
    state::AppState,
    submit,
};

/// Most items of a new conversation, as in OpenAI's API.
const MAX_ITEMS: usize = 20;

/// Most bytes of these items. They are part of the record, which each turn reads and writes.
const MAX_ITEM_BYTES: usize = 64 << 10;

/// Returns the items before the response `job` of a conversation, and its turn.
pub(super) async fn start_turn(
    state: &AppState,
    tenant: &TenantId,
    id: &str,
    job: &JobId,
) -> Result<(PriorContext, ConversationTurn), ApiError> {
    let conversation = StoredConversation::find(state, tenant, id).await?;
    let before = conversation.before(state, tenant).await?;
    let turn = conversation.turn(state, &before, job);
    Ok((PriorContext::Items(before.items), turn))
}

/// A new conversation.
#[derive(Debug, Default, Deserialize, ToSchema)]
pub(crate) struct ConversationRequest {
    /// Its first items: at most 20, with 64 KiB in total. Further ones belong into the input of the first response.
    #[serde(default)]
    #[schema(value_type = Option<Vec<Object>>, max_items = 20)]
    items: Option<Vec<RawJson>>,
    /// Labels: at most 16, with names of 64 and values of 512 characters.
    #[serde(default)]
    #[schema(schema_with = schema::metadata)]
    metadata: Option<BTreeMap<String, String>>,
}

/// The labels that replace those of a conversation.
#[derive(Debug, Deserialize, ToSchema)]
pub(crate) struct ConversationUpdate {
    /// Labels: at most 16, with names of 64 and values of 512 characters.
    #[schema(schema_with = schema::metadata)]
    metadata: Option<BTreeMap<String, String>>,
}

/// A conversation.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Conversation)]
pub(crate) struct ConversationView {
    /// Seconds since 1970.
    created_at: u64,
    id: String,
    #[schema(value_type = Object)]
    metadata: BTreeMap<String, String>,
    /// Always `conversation`.
    object: &'static str,
}

impl ConversationView {
    fn of(id: String, record: ConversationRecord) -> Json<Self> {
        let ConversationRecord { created_at, metadata, .. } = record;
        Json(Self { created_at, id, metadata, object: "conversation" })
    }
}

/// Creates a conversation: each of its responses continues the earlier ones.
///
/// It counts as one of the tenant's calls that pass the queue.
#[utoipa::path(post, path = "/v1/conversations", tag = SDKS, operation_id = "createConversation",
    request_body(content = Option<ConversationRequest>,
        example = json!({"items": [{"role": "user", "content": "I am Ann"}], "metadata": {"order": "17"}})),
    responses((status = 200, description = "The conversation", body = ConversationView)))]
pub(crate) async fn create(
    State(state): State<AppState>,
    caller: Caller,
    MaybeJson(body): MaybeJson,
) -> Result<Json<ConversationView>, ApiError> {
    let request: ConversationRequest =
        if body.is_empty() { ConversationRequest::default() } else { parse(&body)? };
    let metadata = request.metadata.unwrap_or_default();
    submit::check_metadata(&metadata)?;
    let items = first_items(&state, &caller.tenant, request.items.unwrap_or_default()).await?;
    direct::call::check_rate(&state, &caller, None).await?;
    let created_at = record::now().0 / 1000;
    let record = ConversationRecord { created_at, metadata, items, base: None, turn: None };
    let id = format!("{OURS}{}", Uuid::now_v7().simple());
    let change = record::change(&state, None, &record);
    state.queue.change_profile(&caller.tenant, &record::session(&id)?, &change).await?;
    Ok(ConversationView::of(id, record))
}

/// Checks the first items of a conversation, and resolves references among them.
async fn first_items(
    state: &AppState,
    tenant: &TenantId,
    items: Vec<RawJson>,
) -> Result<Vec<RawJson>, ApiError> {
    if let Some(place) = items.iter().position(|item| !item.as_str().starts_with('{')) {
        let message = format!("items[{place}] must be an object: an item of an input");
        return Err(ApiError::invalid_param("items", message));
    }
    let count = items.len();
    let (items, _) = history::resolve_references(state, tenant, items).await?;
    let bytes: usize = items.iter().map(|item| item.as_str().len()).sum();
    if count > MAX_ITEMS || bytes > MAX_ITEM_BYTES {
        let message = format!(
            "items may be {MAX_ITEMS} with {MAX_ITEM_BYTES} bytes; there are {count} with {bytes} bytes: send \
             further ones as the input of the first response"
        );
        return Err(ApiError::invalid_param("items", message));
    }
    Ok(items)
}

/// Returns a conversation.
#[utoipa::path(get, path = "/v1/conversations/{id}", tag = SDKS, operation_id = "getConversation",
    params(("id" = String, Path, description = "The id of the conversation")),
    responses((status = 200, description = "The conversation", body = ConversationView)))]
pub(crate) async fn retrieve(
    State(state): State<AppState>,
    caller: Caller,
    Segment(id): Segment,
) -> Result<Json<ConversationView>, ApiError> {
    let found = StoredConversation::find(&state, &caller.tenant, &id).await?;
    Ok(ConversationView::of(id, found.record))
}

/// Replaces the labels of a conversation.
#[utoipa::path(post, path = "/v1/conversations/{id}", tag = SDKS, operation_id = "updateConversation",
    params(("id" = String, Path, description = "The id of the conversation")),
    request_body(content = ConversationUpdate, example = json!({"metadata": {"order": "18"}})),
    responses((status = 200, description = "The conversation", body = ConversationView)))]
pub(crate) async fn update(
    State(state): State<AppState>,
    caller: Caller,
    Segment(id): Segment,
    JsonBytes(body): JsonBytes,
) -> Result<Json<ConversationView>, ApiError> {
    let metadata = parse::<ConversationUpdate>(&body)?.metadata.unwrap_or_default();
    submit::check_metadata(&metadata)?;
    let found = StoredConversation::find(&state, &caller.tenant, &id).await?;
    let record = ConversationRecord { metadata, ..found.record.clone() };
    found.replace(&state, &caller.tenant, &record).await?;
    Ok(ConversationView::of(id, record))
}

/// Lists all items of a conversation.
#[utoipa::path(get, path = "/v1/conversations/{id}/items", tag = SDKS, operation_id = "listItems",
    params(("id" = String, Path, description = "The id of the conversation"), ItemsQuery),
    responses((status = 200, description = "The items", body = Object)))]
pub(crate) async fn list(
    State(state): State<AppState>,
    caller: Caller,
    Segment(id): Segment,
    page: Result<Query<ItemsQuery>, QueryRejection>,
) -> Result<Response, ApiError> {
    let page = listing::page(page)?;
    let found = StoredConversation::find(&state, &caller.tenant, &id).await?;
    let before = found.before(&state, &caller.tenant).await?;
    // The generated ids contain the position of an item, which does not change while the conversation grows.
    let name = id.replacen("conv_", "", 1);
    listing::list(&before.items, &name, &page)
}

/// Confirms that the conversation was deleted. Its responses remain.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct DeletedConversation {
    /// Always true.
    deleted: bool,
    id: String,
    /// Always `conversation.deleted`.
    object: &'static str,
}

/// Deletes a conversation; its responses stay.
#[utoipa::path(delete, path = "/v1/conversations/{id}", tag = SDKS, operation_id = "deleteConversation",
    params(("id" = String, Path, description = "The id of the conversation")),
    responses((status = 200, description = "The conversation is deleted", body = DeletedConversation)))]
pub(crate) async fn delete(
    State(state): State<AppState>,
    caller: Caller,
    Segment(id): Segment,
) -> Result<Json<DeletedConversation>, ApiError> {
    StoredConversation::find(&state, &caller.tenant, &id).await?;
    state.queue.forget(&caller.tenant, &record::session(&id)?).await?;
    Ok(Json(DeletedConversation { deleted: true, id, object: "conversation.deleted" }))
}
