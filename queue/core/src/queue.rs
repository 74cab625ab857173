//! The queue as the API and the worker see it: jobs in lanes over one backend.

mod fleet;
mod lanes;
mod limits;
mod list;
mod resharding;
mod submit;
mod turn;

use std::{
    collections::{HashMap, HashSet},
    sync::{Arc, RwLock},
    time::Duration,
};

use bytes::Bytes;
use tokio::{sync::Mutex, time::Instant};

use crate::{
    backend::{
        Administration, Backend, DirectoryStore, Orphans, Outbox, Transitions, Views,
        WorkerRegistry,
    },
    error::Error,
    fair::Estimate,
    id::{JobId, LaneName, Layout, SessionKey, Shard, TenantId},
    job::{Job, NewJob, Spec},
    lane::Lane,
    limits::{LaneLimits, Rate, TenantLimits, Throttle},
    news::Switchboard,
    session::Conversation,
    state::Class,
    webhook::shard_of_deliveries,
    workers::RegisteredWorker,
};

/// The queue. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Queue {
    pub(crate) backend: Arc<dyn Backend>,
    lanes: Arc<[Lane]>,
    /// The layouts that this process does not use, by the latest [discovery](Self::discover).
    former: Arc<RwLock<Vec<Layout>>>,
    limits: Arc<RwLock<Option<LatestLimits>>>,
    /// Held while limits are set: one change after another.
    setting_limits: Arc<Mutex<()>>,
    fleet: Arc<Mutex<Option<Fleet>>>,
}

/// The latest view of the registry; `None` if the store did not answer.
#[derive(Debug)]
struct Fleet {
    read_at: Instant,
    workers: Option<Arc<[RegisteredWorker]>>,
}

/// The limits that were set last by this process.
#[derive(Debug, Clone, Default)]
struct LatestLimits {
    lanes: HashMap<LaneName, LaneLimits>,
    tenants: Arc<[(TenantId, TenantLimits)]>,
    /// The shards in which they are set.
    set_in: HashSet<Shard>,
}

impl Queue {
    /// Returns a queue with these lanes over `backend`; without any, there is one named `default`.
    #[must_use]
    pub fn new(backend: Arc<dyn Backend>, lanes: Vec<Lane>) -> Self {
        let lanes =
            if lanes.is_empty() { vec![Lane::named(LaneName::default_lane())] } else { lanes };
        let (former, limits, setting_limits, fleet) = Default::default();
        Self { backend, lanes: lanes.into(), former, limits, setting_limits, fleet }
    }

    /// Returns the transitions of jobs.
    #[must_use]
    pub fn transitions(&self) -> &dyn Transitions {
        self.backend.as_ref()
    }

    /// Returns the reads of one shard.
    #[must_use]
    pub fn views(&self) -> &dyn Views {
        self.backend.as_ref()
    }

    /// Returns the administration of the store.
    #[must_use]
    pub fn administration(&self) -> &dyn Administration {
        self.backend.as_ref()
    }

    /// Returns the outboxes.
    #[must_use]
    pub fn outbox(&self) -> &dyn Outbox {
        self.backend.as_ref()
    }

    /// Returns the orphans.
    #[must_use]
    pub fn orphans(&self) -> &dyn Orphans {
        self.backend.as_ref()
    }

    /// Returns the registry of workers.
    #[must_use]
    pub fn registry(&self) -> &dyn WorkerRegistry {
        self.backend.as_ref()
    }

    /// Returns the directory of tenants.
    #[must_use]
    pub fn directory(&self) -> &dyn DirectoryStore {
        self.backend.as_ref()
    }

    /// Returns the switchboard that receives the news of all shards.
    #[must_use]
    pub fn news(&self) -> &Arc<Switchboard> {
        self.backend.news()
    }

    /// Returns the shard with the data that belong to a tenant and to no job: rate buckets, and the conversations
    /// that let one job run at a time.
    fn home_shard(&self, tenant: &TenantId) -> Shard {
        Shard::of(&self.lanes[0].name, self.lanes[0].shards, tenant)
    }

    /// Returns a new job for the lane that serves its model: class standard, 5 attempts, without session, delay,
    /// deadline and idempotency key. `completion` is the most tokens that the body permits for the answer.
    #[must_use]
    pub fn draft(
        &self,
        tenant: TenantId,
        spec: Spec,
        body: Bytes,
        completion: Option<u64>,
    ) -> NewJob {
        let lane = self.lane_of(spec.model.as_deref());
        NewJob {
            id: JobId::new(Shard::of(&lane.name, lane.shards, &tenant)),
            tenant,
            class: Class::Standard,
            session: None,
            cost: Estimate::of_body(body.len(), completion),
            spec,
            body,
            delay: Duration::ZERO,
            deadline: None,
            max_attempts: 5,
            idempotency: None,
            keeps_events: false,
        }
    }

    /// Returns a new webhook delivery of `tenant`: like a [`draft`](Self::draft), but in the lane of deliveries, and
    /// with the same cost as every other delivery.
    #[must_use]
    pub fn draft_delivery(&self, tenant: TenantId, spec: Spec, body: Bytes) -> NewJob {
        let id = JobId::new(shard_of_deliveries());
        let cost = Estimate { prompt: 1, completion: Some(0) };
        NewJob { id, cost, ..self.draft(tenant, spec, body, None) }
    }

    /// Returns a job of `tenant`; `None` if the tenant has no such job.
    ///
    /// # Errors
    /// If the store does not answer.
    pub async fn job(&self, tenant: &TenantId, id: &JobId) -> Result<Option<Job>, Error> {
        let found = self.backend.get(id.shard(), std::slice::from_ref(id)).await?;
        let mut job = found.into_iter().flatten().next().filter(|job| job.tenant == *tenant);
        self.add_workers(job.iter_mut()).await;
        Ok(job)
    }

    /// Returns the jobs with these ids, of any tenant, in their order; `None` for an id without a job.
    ///
    /// # Errors
    /// If the store does not answer.
    pub async fn jobs(&self, ids: &[JobId]) -> Result<Vec<Option<Job>>, Error> {
        let mut found: HashMap<&JobId, Job> = HashMap::new();
        let mut by_shard: HashMap<&Shard, Vec<JobId>> = HashMap::new();
        for id in ids {
            by_shard.entry(id.shard()).or_default().push(id.clone());
        }
        let mut jobs = Vec::new();
        for (shard, ids) in by_shard {
            jobs.extend(self.backend.get(shard, &ids).await?.into_iter().flatten());
        }
        self.add_workers(jobs.iter_mut()).await;
        for job in jobs {
            if let Some(id) = ids.iter().find(|id| **id == job.id) {
                found.insert(id, job);
            }
        }
        Ok(ids.iter().map(|id| found.remove(id)).collect())
    }

    /// Returns the body of a job as it was submitted; `None` if the job has succeeded or does not exist.
    ///
    /// # Errors
    /// If the store does not answer.
    pub async fn body(&self, id: &JobId) -> Result<Option<Bytes>, Error> {
        self.backend.body(id).await
    }

    /// Cancels a job of `tenant` and returns it as it is then; `None` if there is no such job. A running job ends when
    /// its worker has closed the call.
    ///
    /// # Errors
    /// If the store does not answer.
    pub async fn cancel(&self, tenant: &TenantId, id: &JobId) -> Result<Option<Job>, Error> {
        if self.backend.cancel(tenant, id).await? { self.job(tenant, id).await } else { Ok(None) }
    }

    /// Retries an ended job of `tenant`, and returns it; `None` if there is no such job.
    ///
    /// # Errors
    /// [`Error::NotRetryable`] if it succeeded or has not ended; or if the store does not answer.
    pub async fn retry(&self, tenant: &TenantId, id: &JobId) -> Result<Option<Job>, Error> {
        if self.backend.retry(tenant, id).await? { self.job(tenant, id).await } else { Ok(None) }
    }

    /// Deletes an ended job of `tenant` and all its data. `false`: there is no such job, or it has not ended.
    ///
    /// # Errors
    /// If the store does not answer.
    pub async fn delete(&self, tenant: &TenantId, id: &JobId) -> Result<bool, Error> {
        self.backend.delete(tenant, id).await
    }

    /// Takes one token from a tenant's bucket `name`.
    ///
    /// # Errors
    /// If the store does not answer.
    pub async fn throttle(
        &self,
        tenant: &TenantId,
        name: &str,
        rate: Rate,
    ) -> Result<Throttle, Error> {
        self.backend.throttle(&self.home_shard(tenant), tenant, name, rate).await
    }

    /// Returns the tenant's remembered conversations, the most recent first.
    ///
    /// # Errors
    /// If the store does not answer.
    pub async fn conversations(&self, tenant: &TenantId) -> Result<Vec<Conversation>, Error> {
        let (mut all, mut sessions) = (Vec::new(), HashSet::new());
        for shard in self.shards_of(tenant) {
            let mut found = self.backend.conversations(&shard, tenant).await?;
            // One that has moved is still where it was.
            found.retain(|one| sessions.insert(one.session.clone()));
            all.extend(found);
        }
        all.sort_by_key(|conversation| std::cmp::Reverse(conversation.expires_at));
        Ok(all)
    }

    /// Returns one remembered conversation; if models of several lanes had a part in it, that of its latest message.
    ///
    /// # Errors
    /// If the store does not answer.
    pub async fn conversation(
        &self,
        tenant: &TenantId,
        session: &SessionKey,
    ) -> Result<Option<Conversation>, Error> {
        let mut latest: Option<Conversation> = None;
        for shard in self.shards_of(tenant) {
            let found = self.backend.conversation(&shard, tenant, session).await?;
            // Of two that expire together, e.g. one that has moved, the first is that of the home shard.
            let is_later = |found: &Conversation| {
                latest.as_ref().is_none_or(|latest| found.expires_at > latest.expires_at)
            };
            if let Some(found) = found.filter(is_later) {
                latest = Some(found);
            }
        }
        Ok(latest)
    }

    /// Deletes a conversation; `false` if there was none.
    ///
    /// # Errors
    /// If the store does not answer.
    pub async fn forget(&self, tenant: &TenantId, session: &SessionKey) -> Result<bool, Error> {
        let mut forgotten = false;
        for shard in self.shards_of(tenant) {
            forgotten |= self.backend.forget(&shard, tenant, session).await?;
        }
        Ok(forgotten)
    }
}
