//! Turns of a conversation that lets one job run at a time, whatever the job's lane.
//!
//! The conversation is a profile in the tenant's home shard, and the profile names the job of its latest turn. A turn
//! is taken by a change of the profile, before its job is accepted: of two callers that have read the same profile
//! one takes the turn. A process that dies between the two leaves a profile that names a job which never was.

use super::Queue;
use crate::{
    error::Error,
    id::{SessionKey, TenantId},
    job::{Accepted, NewJob},
    json::RawJson,
    session::ProfileChange,
};

impl Queue {
    /// Returns the profile of a conversation in the tenant's home shard; `None` if there is no such conversation.
    ///
    /// # Errors
    /// If the store does not answer.
    pub async fn profile(
        &self,
        tenant: &TenantId,
        session: &SessionKey,
    ) -> Result<Option<RawJson>, Error> {
        let home = self.home_shard(tenant);
        self.import_conversation(&home, tenant, session).await?;
        let found = self.backend.conversation(&home, tenant, session).await?;
        Ok(found.map(|found| found.profile))
    }

    /// Changes the [profile](Self::profile) of a conversation, or creates the conversation. `false`: its profile is
    /// not the known one, and nothing was changed.
    ///
    /// # Errors
    /// If the store does not answer.
    pub async fn change_profile(
        &self,
        tenant: &TenantId,
        session: &SessionKey,
        change: &ProfileChange,
    ) -> Result<bool, Error> {
        self.backend.change_profile(&self.home_shard(tenant), tenant, session, change).await
    }

    /// Changes the profile of a conversation and accepts `job` as its turn, or returns the job that has the
    /// idempotency key of `job`. `None` as the change: the conversation is known to be locked. A job that is refused
    /// gives the profile back.
    ///
    /// # Errors
    /// [`Error::ConversationLocked`] unless the profile is the known one; else as [`submit`](Self::submit).
    pub async fn submit_turn(
        &self,
        job: NewJob,
        session: &SessionKey,
        change: Option<ProfileChange>,
    ) -> Result<Accepted, Error> {
        if let Some(known) = self.accepted_before(&job).await? {
            return Ok(Accepted::Replayed(known));
        }
        let change = change.ok_or(Error::ConversationLocked)?;
        let (tenant, id) = (job.tenant.clone(), job.id.clone());
        if !self.change_profile(&tenant, session, &change).await? {
            return Err(Error::ConversationLocked);
        }
        let accepted = self.submit(vec![job]).await.map(|mut accepted| accepted.remove(0));
        let is_refused = match &accepted {
            Ok(Accepted::New(_)) => false,
            Ok(Accepted::Replayed(_)) => true,
            // The job may be there all the same.
            Err(Error::Unavailable(_)) => false,
            Err(_) => true,
        };
        if let Some(known) = change.known.filter(|_| is_refused) {
            let known_now = Some(change.profile);
            let back = ProfileChange { known: known_now, profile: known, ttl: change.ttl };
            if let Err(error) = self.change_profile(&tenant, session, &back).await {
                tracing::warn!(job.id = %id, %error, "cannot give back the turn of a job that was refused");
            }
        }
        accepted
    }
}
