//! The store as the implementation of the backend.

use std::{sync::Arc, time::Duration};

use async_trait::async_trait;
use bytes::Bytes;
use causeway_queue::{
    backend::{
        Administration, Backend, Conversations, DirectoryStore, Emission, ListQuery, Orphans,
        Outbox, Page, Reaped, Repairs, Stats, Transitions, Views, WorkerRegistry,
    },
    directory::Directory,
    error::Error,
    event::Event,
    id::{IdempotencyKey, JobId, Layout, SessionKey, Shard, TenantId},
    job::{Accepted, Job, NewJob},
    lease::{ClaimRequest, Extended, LeaseKey, Settlement, Step},
    limits::{LaneLimits, Rate, TenantLimits, Throttle},
    news::Switchboard,
    orphan::CallKey,
    policy::{LAYOUT_GRACE, MAX_CLAIM},
    session::{Conversation, ProfileChange},
    webhook::{End, MAX_OUTBOX_PAGE},
    workers::{RegisteredWorker, WorkerId, WorkerReport},
};

use super::{CROWDED, Embedded, lock};
use crate::engine::Engine;

#[async_trait]
impl Transitions for Embedded {
    async fn enqueue(&self, shard: &Shard, jobs: Vec<NewJob>) -> Result<Vec<Accepted>, Error> {
        self.transition(shard, |engine, now| engine.enqueue(jobs, now))
    }

    async fn accepted(&self, shard: &Shard, jobs: &[&NewJob]) -> Result<Vec<Option<JobId>>, Error> {
        self.look(shard, |engine, now| jobs.iter().map(|job| engine.accepted(job, now)).collect())
    }

    async fn expire_keys(
        &self,
        shard: &Shard,
        keys: &[(TenantId, IdempotencyKey)],
        ttl: Duration,
    ) -> Result<(), Error> {
        self.transition_of(&self.peek(shard), |engine, now| {
            engine.expire_keys(keys, now.after(ttl));
        });
        Ok(())
    }

    async fn step(
        &self,
        shard: &Shard,
        settlements: &mut Vec<Settlement>,
        claim: ClaimRequest,
    ) -> Result<Step, Error> {
        // The same bound as in Redis: both engines must give the same answers.
        let claim = ClaimRequest { max: claim.max.min(MAX_CLAIM), ..claim };
        let settlements = std::mem::take(settlements);
        Ok(self.transition(shard, |engine, now| engine.step(settlements, claim, now)))
    }

    async fn wait_for_work(&self, shard: &Shard, at_most: Duration) -> Result<(), Error> {
        let cell = self.cell(shard);
        // The time-out is one of the two regular ends of the wait.
        drop(tokio::time::timeout(at_most, cell.work.notified()).await);
        Ok(())
    }

    async fn extend_leases(
        &self,
        shard: &Shard,
        leases: &[LeaseKey],
        lease: Duration,
    ) -> Result<Extended, Error> {
        Ok(self.transition(shard, |engine, now| engine.extend_leases(leases, lease, now)))
    }

    async fn reap(&self, shard: &Shard) -> Result<Reaped, Error> {
        Ok(self.transition(shard, Engine::reap))
    }

    async fn cancel(&self, tenant: &TenantId, id: &JobId) -> Result<bool, Error> {
        let cell = self.peek(id.shard());
        Ok(self.transition_of(&cell, |engine, now| engine.cancel(tenant, id, now)))
    }

    async fn retry(&self, tenant: &TenantId, id: &JobId) -> Result<bool, Error> {
        self.transition_of(&self.peek(id.shard()), |engine, now| engine.retry(tenant, id, now))
    }

    async fn delete(&self, tenant: &TenantId, id: &JobId) -> Result<bool, Error> {
        let cell = self.peek(id.shard());
        Ok(self.transition_of(&cell, |engine, _| engine.delete(tenant, id)))
    }

    async fn attach(&self, id: &JobId, bytes: Bytes) -> Result<(), Error> {
        self.transition_of(&self.peek(id.shard()), |engine, _| engine.attach(id, bytes));
        Ok(())
    }

    async fn emit(&self, shard: &Shard, emissions: Vec<Emission>) -> Result<Vec<LeaseKey>, Error> {
        Ok(self.transition(shard, |engine, _| {
            let emit = |one: Emission| {
                let lease = one.lease.clone();
                engine.emit(one).err().map(|()| lease)
            };
            emissions.into_iter().filter_map(emit).collect()
        }))
    }

    async fn reconcile(&self, shard: &Shard) -> Result<Repairs, Error> {
        Ok(self.transition(shard, Engine::reconcile))
    }
}

#[async_trait]
impl Views for Embedded {
    async fn get(&self, shard: &Shard, ids: &[JobId]) -> Result<Vec<Option<Job>>, Error> {
        Ok(self.look(shard, |engine, now| ids.iter().map(|id| engine.view(id, now)).collect()))
    }

    async fn body(&self, id: &JobId) -> Result<Option<Bytes>, Error> {
        Ok(self.look(id.shard(), |engine, now| engine.body(id, now)))
    }

    async fn attached(&self, id: &JobId) -> Result<Option<Bytes>, Error> {
        Ok(self.look(id.shard(), |engine, now| engine.attached(id, now)))
    }

    async fn events(&self, id: &JobId, from: u64) -> Result<Vec<Event>, Error> {
        Ok(self.look(id.shard(), |engine, now| engine.events(id, from, now)))
    }

    async fn list(
        &self,
        shard: &Shard,
        tenant: &TenantId,
        query: &ListQuery,
    ) -> Result<Page, Error> {
        self.look(shard, |engine, now| engine.list(tenant, query, now))
    }

    async fn stats(&self, shard: &Shard, tenant: Option<&TenantId>) -> Result<Stats, Error> {
        Ok(self.look(shard, |engine, now| engine.stats(tenant, now)))
    }

    async fn ready(&self, shard: &Shard) -> Result<[u64; 3], Error> {
        Ok(self.look(shard, |engine, _| engine.ready()))
    }
}

#[async_trait]
impl Administration for Embedded {
    async fn set_limits(
        &self,
        shard: &Shard,
        lane: &LaneLimits,
        tenants: &[(TenantId, TenantLimits)],
    ) -> Result<(), Error> {
        self.transition(shard, |engine, now| engine.set_limits(lane.clone(), tenants, now));
        Ok(())
    }

    async fn has_limits(&self, _shard: &Shard) -> Result<bool, Error> {
        // The store and the process that set its limits live and end together.
        Ok(true)
    }

    async fn pause(
        &self,
        shard: &Shard,
        tenant: Option<&TenantId>,
        paused: bool,
    ) -> Result<(), Error> {
        self.transition(shard, |engine, now| engine.pause(tenant, paused, now));
        Ok(())
    }

    async fn paused(&self, shard: &Shard) -> Result<Vec<Option<TenantId>>, Error> {
        Ok(self.look(shard, |engine, _| engine.flows.paused()))
    }

    async fn stop(&self, shard: &Shard, delay: Duration) -> Result<(), Error> {
        self.transition(shard, |engine, now| engine.flows.lane.stop(now.after(delay)));
        Ok(())
    }

    async fn throttle(
        &self,
        shard: &Shard,
        tenant: &TenantId,
        name: &str,
        rate: Rate,
    ) -> Result<Throttle, Error> {
        let cell = self.cell(shard);
        let now = self.clock.now();
        let mut buckets = lock(&cell.buckets);
        // A full bucket equals a missing one. The threshold doubles, so that the scan costs O(1) per call on average.
        if buckets.tats.len() >= buckets.crowded {
            #[expect(clippy::cast_precision_loss, reason = "milliseconds lie below 2^53")]
            buckets.tats.retain(|_, tat| *tat > now.0 as f64);
            buckets.crowded = 2 * buckets.tats.len() + CROWDED;
        }
        let tat = buckets.tats.entry((tenant.clone(), name.to_owned())).or_default();
        let (next, answer) = rate.take(*tat, now);
        *tat = next;
        Ok(answer)
    }

    async fn layouts(&self) -> Result<Vec<Layout>, Error> {
        Ok(lock(&self.layouts).keys().cloned().collect())
    }

    async fn remember_layouts(&self, used: &[Layout]) -> Result<(), Error> {
        let now = self.clock.now();
        let kept_for = self.policy.retention.saturating_add(LAYOUT_GRACE);
        let mut layouts = lock(&self.layouts);
        layouts.extend(used.iter().map(|layout| (layout.clone(), now)));
        layouts.retain(|_, used_at| now.since(*used_at) < kept_for);
        Ok(())
    }

    async fn ping(&self) -> Result<(), Error> {
        Ok(())
    }

    fn describe(&self) -> String {
        "embedded, in memory: jobs are lost when this process ends".to_owned()
    }
}

#[async_trait]
impl Conversations for Embedded {
    async fn conversations(
        &self,
        shard: &Shard,
        tenant: &TenantId,
    ) -> Result<Vec<Conversation>, Error> {
        Ok(self.look(shard, |engine, now| engine.sessions.conversations(tenant, now)))
    }

    async fn conversation(
        &self,
        shard: &Shard,
        tenant: &TenantId,
        session: &SessionKey,
    ) -> Result<Option<Conversation>, Error> {
        Ok(self.look(shard, |engine, now| engine.sessions.conversation(tenant, session, now)))
    }

    async fn change_profile(
        &self,
        shard: &Shard,
        tenant: &TenantId,
        session: &SessionKey,
        change: &ProfileChange,
    ) -> Result<bool, Error> {
        let key = (tenant.clone(), session.clone());
        Ok(self.transition(shard, |engine, now| engine.sessions.change_profile(key, change, now)))
    }

    async fn import_conversation(
        &self,
        shard: &Shard,
        tenant: &TenantId,
        conversation: &Conversation,
    ) -> Result<(), Error> {
        self.transition(shard, |engine, now| engine.sessions.import(tenant, conversation, now));
        Ok(())
    }

    async fn forget(
        &self,
        shard: &Shard,
        tenant: &TenantId,
        session: &SessionKey,
    ) -> Result<bool, Error> {
        Ok(self.transition(shard, |engine, now| engine.sessions.forget(tenant, session, now)))
    }
}

#[async_trait]
impl Outbox for Embedded {
    async fn outbox(&self, shard: &Shard, most: usize) -> Result<Vec<End>, Error> {
        let most = most.clamp(1, MAX_OUTBOX_PAGE);
        Ok(self.look(shard, |engine, now| engine.outbox(most, now)))
    }

    async fn take_out(&self, shard: &Shard, ends: &[End]) -> Result<(), Error> {
        self.transition_of(&self.peek(shard), |engine, _| engine.take_out(ends));
        Ok(())
    }

    async fn postpone(&self, shard: &Shard, ends: &[End], delay: Duration) -> Result<(), Error> {
        self.transition_of(&self.peek(shard), |engine, now| {
            engine.postpone(ends, now.after(delay));
        });
        Ok(())
    }
}

#[async_trait]
impl Orphans for Embedded {
    async fn put_orphan(&self, call: &CallKey, job: &JobId, ttl: Duration) -> Result<(), Error> {
        lock(&self.cell(job.shard()).orphans).put(call, job, ttl, self.clock.now());
        Ok(())
    }

    async fn take_orphan(&self, shard: &Shard, call: &CallKey) -> Result<Option<JobId>, Error> {
        Ok(lock(&self.peek(shard).orphans).take(call, self.clock.now()))
    }

    async fn remove_orphan(&self, call: &CallKey, job: &JobId) -> Result<bool, Error> {
        Ok(lock(&self.peek(job.shard()).orphans).remove(call, job))
    }
}

#[async_trait]
impl WorkerRegistry for Embedded {
    async fn beat_worker(&self, id: &WorkerId, report: &WorkerReport) -> Result<bool, Error> {
        Ok(lock(&self.workers).beat(id, report, self.clock.now()))
    }

    async fn remove_worker(&self, id: &WorkerId) -> Result<(), Error> {
        lock(&self.workers).remove(id);
        Ok(())
    }

    async fn workers(&self) -> Result<Vec<RegisteredWorker>, Error> {
        Ok(lock(&self.workers).list(self.clock.now()))
    }
}

#[async_trait]
impl DirectoryStore for Embedded {
    async fn directory(&self, known: u64) -> Result<Option<Directory>, Error> {
        let directory = lock(&self.directory);
        Ok((directory.version != known).then(|| directory.clone()))
    }

    async fn set_directory(&self, known: u64, new: &Directory) -> Result<bool, Error> {
        let mut directory = lock(&self.directory);
        let is_known = directory.version == known;
        // Compare and swap: a writer that read an older version must read again.
        if is_known {
            *directory = new.clone();
        }
        Ok(is_known)
    }
}

impl Backend for Embedded {
    fn news(&self) -> &Arc<Switchboard> {
        &self.news
    }
}
