//! Conversations.

use std::fmt;

use async_trait::async_trait;

use crate::{
    error::Error,
    id::{SessionKey, Shard, TenantId},
    session::{Conversation, ProfileChange},
};

/// The remembered conversations of sessions.
#[async_trait]
pub trait Conversations: fmt::Debug + Send + Sync {
    /// Returns the tenant's remembered conversations.
    async fn conversations(
        &self,
        shard: &Shard,
        tenant: &TenantId,
    ) -> Result<Vec<Conversation>, Error>;

    /// Returns one remembered conversation.
    async fn conversation(
        &self,
        shard: &Shard,
        tenant: &TenantId,
        session: &SessionKey,
    ) -> Result<Option<Conversation>, Error>;

    /// Changes the profile of a conversation, or creates the conversation. `false`: its profile is not the known
    /// one, and nothing was changed. Of changes that know the same profile one is made.
    async fn change_profile(
        &self,
        shard: &Shard,
        tenant: &TenantId,
        session: &SessionKey,
        change: &ProfileChange,
    ) -> Result<bool, Error>;

    /// Imports a conversation from another shard, unless its session has one here.
    async fn import_conversation(
        &self,
        shard: &Shard,
        tenant: &TenantId,
        conversation: &Conversation,
    ) -> Result<(), Error>;

    /// Deletes a conversation; `false` if there was none.
    async fn forget(
        &self,
        shard: &Shard,
        tenant: &TenantId,
        session: &SessionKey,
    ) -> Result<bool, Error>;
}
