//! The stored record of a conversation, and its turns.
//!
//! The record names the response of the latest turn, and the response that this turn continues. Only a succeeded
//! response is part of the conversation: its input contains all earlier items. A turn whose response failed, was
//! cancelled or deleted, or was never accepted, therefore leaves the conversation unchanged.

use std::{collections::BTreeMap, time::Duration};

use causeway_queue::{
    Error, Job, JobId, RawJson, SessionKey, Status, TenantId, clock::Millis, session::ProfileChange,
};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::{
    error::ApiError,
    gateway::{request::ConversationTurn, responses::history},
    state::AppState,
};

/// A reference to a conversation: its id, alone or in an object.
#[derive(Debug, Clone, Deserialize)]
#[serde(untagged, expecting = "expected the id of a conversation, or an object with its id")]
pub(crate) enum Reference {
    Id(String),
    Object { id: String },
}

impl Reference {
    /// Returns the id if the conversation is ours.
    pub(crate) fn ours(&self) -> Option<&str> {
        let (Self::Id(id) | Self::Object { id }) = self;
        Some(id.as_str()).filter(|id| id.starts_with(OURS))
    }
}

/// The prefix of the ids of our conversations.
pub(super) const OURS: &str = "conv_causeway_";

/// The time during which a response that is named by the record, but not in the store, may still be on its way
/// there: six times the store's time-out.
const ACCEPT_TIME: Duration = Duration::from_secs(30);

/// The stored data of a conversation, besides its responses.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct ConversationRecord {
    /// Seconds since 1970.
    pub(super) created_at: u64,
    pub(super) metadata: BTreeMap<String, String>,
    /// The items before the first response; empty once a response is the base.
    pub(super) items: Vec<RawJson>,
    /// The response that the latest turn continues.
    pub(super) base: Option<JobId>,
    /// The response of the latest turn.
    pub(super) turn: Option<JobId>,
}

/// A conversation that was read from the store.
#[derive(Debug)]
pub(super) struct StoredConversation {
    id: String,
    session: SessionKey,
    profile: RawJson,
    pub(super) record: ConversationRecord,
}

/// The items before the next turn.
#[derive(Debug)]
pub(super) struct EarlierItems {
    pub(super) items: Vec<RawJson>,
    /// The response that contains these items; `None` before the first one.
    base: Option<JobId>,
    /// True if the latest turn is still running.
    is_locked: bool,
}

/// The state of a response in the store.
enum ResponseState {
    /// It succeeded with these items: its input and its output.
    Whole(Vec<RawJson>),
    Running,
    /// The response or its input is missing.
    Incomplete,
    /// It ended without an answer.
    Unanswered,
}

/// Returns the error for a conversation that does not exist.
fn unknown(id: &str) -> ApiError {
    let id: String = id.chars().take(100).collect();
    let message = format!(
        "Conversation with id '{id}' not found. It never existed, was deleted or has expired; create one with \
         POST /v1/conversations"
    );
    ApiError::not_found("conversation_not_found", message)
}

/// Returns the session key of a conversation id.
pub(super) fn session(id: &str) -> Result<SessionKey, ApiError> {
    let ours = Some(id).filter(|id| id.starts_with(OURS));
    ours.and_then(|id| SessionKey::new(id).ok()).ok_or_else(|| unknown(id))
}

/// Returns the time of the clock that [names](JobId::named_at) jobs.
pub(super) fn now() -> Millis {
    // Job ids are UUIDs of version 7, so their clock is compared with itself.
    let time = Uuid::now_v7().get_timestamp().map(|time| time.to_unix());
    let (seconds, nanos) = time.unwrap_or_default();
    Millis(seconds * 1000 + u64::from(nanos) / 1_000_000)
}

/// Returns the change from the `known` profile to `record`.
pub(super) fn change(
    state: &AppState,
    known: Option<RawJson>,
    record: &ConversationRecord,
) -> ProfileChange {
    let profile = RawJson::of(record).unwrap_or_default();
    ProfileChange { known, profile, ttl: state.settings.conversation_memory }
}

impl StoredConversation {
    /// Reads the tenant's conversation `id`.
    pub(super) async fn find(
        state: &AppState,
        tenant: &TenantId,
        id: &str,
    ) -> Result<Self, ApiError> {
        let session = session(id)?;
        let profile = state.queue.profile(tenant, &session).await?;
        let profile = profile.ok_or_else(|| unknown(id))?;
        // A session of the chat bridge may have the same name, but its profile is another one.
        let record = profile.read().map_err(|_| unknown(id))?;
        Ok(Self { id: id.to_owned(), session, profile, record })
    }

    /// Returns the items before a turn that is submitted now.
    pub(super) async fn before(
        &self,
        state: &AppState,
        tenant: &TenantId,
    ) -> Result<EarlierItems, ApiError> {
        let ConversationRecord { items, base, turn, .. } = &self.record;
        let is_locked = match turn {
            None => false,
            Some(turn) => match response_state(state, tenant, turn).await? {
                ResponseState::Whole(items) => {
                    // The latest turn succeeded, so it becomes the base.
                    return Ok(EarlierItems { items, base: Some(turn.clone()), is_locked: false });
                }
                ResponseState::Running => true,
                ResponseState::Incomplete => turn.named_at().after(ACCEPT_TIME) > now(),
                // The turn failed and counts for nothing: the next one continues the base.
                ResponseState::Unanswered => false,
            },
        };
        let items = match base {
            None => items.clone(),
            Some(base) => match response_state(state, tenant, base).await? {
                ResponseState::Whole(items) => items,
                ResponseState::Running | ResponseState::Incomplete | ResponseState::Unanswered
                    if is_locked =>
                {
                    Vec::new()
                }
                // Both responses were deleted, and the items with them.
                ResponseState::Running | ResponseState::Incomplete | ResponseState::Unanswered => {
                    return Err(unknown(&self.id));
                }
            },
        };
        Ok(EarlierItems { items, base: base.clone(), is_locked })
    }

    /// Returns the turn of the response `job`.
    pub(super) fn turn(
        self,
        state: &AppState,
        before: &EarlierItems,
        job: &JobId,
    ) -> ConversationTurn {
        let base = before.base.clone();
        // The base contains the first items; the record stays small.
        let items = if base.is_some() { Vec::new() } else { self.record.items };
        let record = ConversationRecord { items, base, turn: Some(job.clone()), ..self.record };
        let change = (!before.is_locked).then(|| change(state, Some(self.profile), &record));
        ConversationTurn { session: self.session, change }
    }

    /// Replaces the record.
    pub(super) async fn replace(
        self,
        state: &AppState,
        tenant: &TenantId,
        record: &ConversationRecord,
    ) -> Result<(), ApiError> {
        let change = change(state, Some(self.profile), record);
        if state.queue.change_profile(tenant, &self.session, &change).await? {
            Ok(())
        } else {
            Err(Error::ConversationLocked.into())
        }
    }
}

/// Reads a response of a conversation.
async fn response_state(
    state: &AppState,
    tenant: &TenantId,
    id: &JobId,
) -> Result<ResponseState, ApiError> {
    let Some(job) = state.queue.job(tenant, id).await? else {
        return Ok(ResponseState::Incomplete);
    };
    match job.status() {
        Status::Queued | Status::Scheduled | Status::Running => Ok(ResponseState::Running),
        Status::Failed | Status::Cancelled | Status::Expired => Ok(ResponseState::Unanswered),
        Status::Succeeded => {
            let Some(mut items) = history::input(state, id).await? else {
                return Ok(ResponseState::Incomplete);
            };
            items.extend(history::output(&job));
            Ok(ResponseState::Whole(items))
        }
    }
}

/// Removes the turn of a deleted response from its conversation, which would count as locked for [`ACCEPT_TIME`]
/// otherwise.
pub(crate) async fn remove_turn(
    state: &AppState,
    tenant: &TenantId,
    deleted: &Job,
) -> Result<(), ApiError> {
    #[derive(Deserialize)]
    struct Echo {
        conversation: Reference,
    }
    let echo: Option<Echo> = deleted.spec.api.as_ref().and_then(|api| api.read().ok());
    let Some(id) = echo.as_ref().and_then(|echo| echo.conversation.ours()) else { return Ok(()) };
    let conversation = StoredConversation::find(state, tenant, id).await?;
    // Later turns have replaced it, so nothing is locked.
    if conversation.record.turn.as_ref() != Some(&deleted.id) {
        return Ok(());
    }
    let record = ConversationRecord { turn: None, ..conversation.record.clone() };
    conversation.replace(state, tenant, &record).await
}
