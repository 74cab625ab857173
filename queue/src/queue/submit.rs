//! Acceptance of jobs, which may go to several shards.

use std::collections::HashMap;

use super::Queue;
use crate::{
    error::{Error, Scope},
    id::{Shard, TenantId},
    job::{Accepted, NewJob},
    limits::{check_bound, drain_ms},
};

/// The jobs of each shard, with their places in the call.
type ByShard = HashMap<Shard, Vec<(usize, NewJob)>>;

impl Queue {
    /// Accepts jobs; answers in their order. Atomic per shard, and one tenant's jobs of one lane
    /// are in one shard. Where there are several, keys and the room of tenants are looked at in all of
    /// them before anything is accepted; room that is taken meanwhile may still leave a part accepted.
    ///
    /// # Errors
    /// [`Error::Full`], [`Error::IdempotencyKeyReused`], [`Error::Unavailable`]; of the shard that
    /// failed, nothing was accepted.
    pub async fn submit(&self, jobs: Vec<NewJob>) -> Result<Vec<Accepted>, Error> {
        let mut by_shard = ByShard::new();
        let mut answers = Vec::new();
        self.bring_conversations(&jobs).await?;
        let mut known = self.accepted_elsewhere(&jobs).await?;
        for (place, job) in jobs.into_iter().enumerate() {
            match known.remove(&place) {
                Some(id) => answers.push((place, Accepted::Replayed(id))),
                None => by_shard.entry(job.id.shard().clone()).or_default().push((place, job)),
            }
        }
        if by_shard.len() > 1 {
            self.check_all(&by_shard).await?;
        }
        for (shard, jobs) in by_shard {
            let (places, jobs): (Vec<usize>, Vec<NewJob>) = jobs.into_iter().unzip();
            let accepted = self.backend.enqueue(&shard, jobs).await?;
            answers.extend(places.into_iter().zip(accepted));
        }
        answers.sort_unstable_by_key(|(place, _)| *place);
        Ok(answers.into_iter().map(|(_, accepted)| accepted).collect())
    }

    /// Refuses all where one shard would refuse its part.
    async fn check_all(&self, by_shard: &ByShard) -> Result<(), Error> {
        for (shard, jobs) in by_shard {
            let jobs: Vec<&NewJob> = jobs.iter().map(|(_, job)| job).collect();
            let known = self.backend.accepted(shard, &jobs).await?;
            let new = jobs.iter().zip(known).filter(|(_, known)| known.is_none());
            let mut by_tenant: HashMap<&TenantId, u64> = HashMap::new();
            for (job, _) in new {
                *by_tenant.entry(&job.tenant).or_default() += 1;
            }
            for (tenant, new) in by_tenant {
                let stats = self.backend.stats(shard, Some(tenant)).await?;
                let limit = stats.limits.and_then(|limits| limits.max_queued);
                let room_in_ms = |excess| drain_ms(excess, stats.drain_per_s);
                check_bound(Scope::Tenant, limit, (stats.queued, new), room_in_ms)?;
            }
        }
        Ok(())
    }
}
