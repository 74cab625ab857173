//! Acceptance of jobs, which may go to several shards.

use std::collections::{BTreeMap, HashMap};

use super::Queue;
use crate::{
    clock::millis,
    error::{Error, Scope},
    id::{JobId, Shard, TenantId},
    job::{Accepted, NewJob},
    limits::{check_bound, drain_ms},
};

/// The jobs of each shard, with their indexes in the call.
type ByShard = BTreeMap<Shard, Vec<(usize, NewJob)>>;

impl Queue {
    /// Accepts jobs, and returns the results in their order. The call is atomic per shard; one tenant's jobs of one
    /// lane are in one shard. With several shards, keys and room are checked in all of them before anything is
    /// accepted. If a shard still refuses its jobs, because its room was taken meanwhile, the jobs that other shards
    /// have accepted are cancelled. Jobs with an idempotency key are not cancelled: a repeated call returns them.
    ///
    /// # Errors
    /// [`Error::Full`], [`Error::IdempotencyKeyReused`], [`Error::Unavailable`]; of the shard that
    /// failed, nothing was accepted.
    pub async fn submit(&self, jobs: Vec<NewJob>) -> Result<Vec<Accepted>, Error> {
        let mut by_shard = ByShard::new();
        let mut answers = Vec::new();
        self.import_conversations(&jobs).await?;
        let mut known = self.lookup_accepted(&jobs).await?;
        for (place, mut job) in jobs.into_iter().enumerate() {
            job.spec.deadline_ms = job.deadline.map(millis);
            let spanning = job.idempotency.as_ref().filter(|one| one.spans_job);
            job.spec.idempotency_key = spanning.map(|one| one.key.clone());
            match known.remove(&place) {
                Some(id) => answers.push((place, Accepted::Replayed(id))),
                None => by_shard.entry(job.id.shard().clone()).or_default().push((place, job)),
            }
        }
        let several = by_shard.len() > 1;
        if several {
            self.check_all(&by_shard).await?;
        }
        let mut to_cancel = Vec::new();
        for (shard, jobs) in by_shard {
            let (places, jobs): (Vec<usize>, Vec<NewJob>) = jobs.into_iter().unzip();
            // A repeated call returns the keyed jobs, so only the others are cancelled.
            let unkeyed = jobs.iter().filter(|job| several && job.idempotency.is_none());
            let its: Vec<_> = unkeyed.map(|job| (job.tenant.clone(), job.id.clone())).collect();
            match self.backend.enqueue(&shard, jobs).await {
                Ok(accepted) => answers.extend(places.into_iter().zip(accepted)),
                Err(error) => {
                    self.cancel_all(&to_cancel).await;
                    return Err(error);
                }
            }
            to_cancel.extend(its);
        }
        answers.sort_unstable_by_key(|(place, _)| *place);
        Ok(answers.into_iter().map(|(_, accepted)| accepted).collect())
    }

    /// Cancels jobs of a refused call.
    async fn cancel_all(&self, jobs: &[(TenantId, JobId)]) {
        for (tenant, id) in jobs {
            if let Err(error) = self.backend.cancel(tenant, id).await {
                tracing::warn!(%id, "cannot cancel a job of a refused call, so it will run: {error}");
            }
        }
    }

    /// Refuses the call if a shard would refuse its jobs.
    async fn check_all(&self, by_shard: &ByShard) -> Result<(), Error> {
        for (shard, jobs) in by_shard {
            let jobs: Vec<&NewJob> = jobs.iter().map(|(_, job)| job).collect();
            // A job that was accepted before needs no room.
            let known = self.backend.accepted(shard, &jobs).await?;
            let new = jobs.iter().zip(known).filter(|(_, known)| known.is_none());
            let mut by_tenant: HashMap<&TenantId, u64> = HashMap::new();
            for (job, _) in new {
                *by_tenant.entry(&job.tenant).or_default() += 1;
            }
            let total: u64 = by_tenant.values().sum();
            for (tenant, new) in by_tenant {
                let stats = self.backend.stats(shard, Some(tenant)).await?;
                let room_in_ms = |excess| drain_ms(excess, stats.drain_per_s);
                let limit = stats.limits.and_then(|limits| limits.max_queued);
                check_bound(Scope::Tenant, limit, (stats.queued, new), room_in_ms)?;
                let of_shard = (stats.shard_queued, total);
                check_bound(Scope::Lane, Some(stats.shard_max_queued), of_shard, room_in_ms)?;
            }
        }
        Ok(())
    }
}
