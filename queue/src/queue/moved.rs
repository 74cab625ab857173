//! What tenants have where they were at home before their lane was spread otherwise.

use std::collections::{BTreeMap, HashMap};

use super::Queue;
use crate::{
    error::Error,
    id::{JobId, SessionKey, Shard, TenantId},
    job::NewJob,
    orphan::CallKey,
};

impl Queue {
    /// Which of `jobs`, by their places, were accepted before under the same idempotency key, while their
    /// tenants were at home elsewhere.
    pub(super) async fn accepted_elsewhere(
        &self,
        jobs: &[NewJob],
    ) -> Result<HashMap<usize, JobId>, Error> {
        let mut former = BTreeMap::new();
        for (place, job) in jobs.iter().enumerate().filter(|(_, job)| job.idempotency.is_some()) {
            for shard in self.former_homes(job.id.shard(), &job.tenant) {
                former.entry(shard).or_insert_with(Vec::new).push((place, job));
            }
        }
        self.accepted_in(former).await
    }

    /// Takes an orphan of `call`, whose jobs go to the shard `home`; or, where there is none, one that was put while
    /// its tenant was at home elsewhere.
    ///
    /// # Errors
    /// When the store does not answer.
    pub async fn take_orphan(&self, home: &Shard, call: &CallKey) -> Result<Option<JobId>, Error> {
        let mut found = self.backend.take_orphan(home, call).await?;
        for shard in self.former_homes(home, &call.tenant) {
            if found.is_none() {
                found = self.backend.take_orphan(&shard, call).await?;
            }
        }
        Ok(found)
    }

    /// What was accepted in these shards under the keys of the jobs that are asked for there.
    async fn accepted_in(
        &self,
        asked: BTreeMap<Shard, Vec<(usize, &NewJob)>>,
    ) -> Result<HashMap<usize, JobId>, Error> {
        let mut known = HashMap::new();
        for (shard, asked) in asked {
            let (places, jobs): (Vec<usize>, Vec<&NewJob>) = asked.into_iter().unzip();
            let found = self.backend.accepted(&shard, &jobs).await?;
            let found = places.into_iter().zip(found);
            known.extend(found.filter_map(|(place, id)| Some((place, id?))));
        }
        Ok(known)
    }

    /// Brings the conversations that `jobs` go on with to where their tenants are at home now. They stay
    /// where they were too, for messages that still wait there.
    pub(super) async fn bring_conversations(&self, jobs: &[NewJob]) -> Result<(), Error> {
        for job in jobs.iter().filter(|job| job.spec.memory.is_some()) {
            let Some(session) = &job.session else { continue };
            self.bring_conversation(job.id.shard(), &job.tenant, session).await?;
        }
        Ok(())
    }

    /// Brings a conversation to `home` from where its tenant was at home before.
    pub(super) async fn bring_conversation(
        &self,
        home: &Shard,
        tenant: &TenantId,
        session: &SessionKey,
    ) -> Result<(), Error> {
        for shard in self.former_homes(home, tenant) {
            if self.backend.conversation(home, tenant, session).await?.is_some() {
                break;
            }
            if let Some(found) = self.backend.conversation(&shard, tenant, session).await? {
                self.backend.adopt(home, tenant, &found).await?;
            }
        }
        Ok(())
    }

    /// The job that was accepted before under the idempotency key of `job`.
    pub(super) async fn accepted_before(&self, job: &NewJob) -> Result<Option<JobId>, Error> {
        let mut known = self.accepted_elsewhere(std::slice::from_ref(job)).await?;
        let here = self.backend.accepted(job.id.shard(), &[job]).await?;
        Ok(known.remove(&0).or(here.into_iter().flatten().next()))
    }
}
