//! The queue as the API and the worker see it: lanes over one backend.

use std::{
    collections::HashMap,
    sync::{Arc, PoisonError, RwLock},
    time::Duration,
};

use bytes::Bytes;

use crate::{
    backend::{Backend, ListQuery, Page, Stats},
    error::Error,
    fair::Estimate,
    id::{JobId, LaneName, SessionKey, Shard, TenantId},
    job::{Accepted, Job, NewJob, Spec},
    limits::{Allowance, LaneLimits, Rate, TenantLimits, Throttle},
    reader::{Follower, Waiter},
    session::Conversation,
    state::Class,
    webhook::is_of_deliveries,
};

/// One lane: which models it serves and within which bounds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Lane {
    /// Its name.
    pub name: LaneName,
    /// The models that are routed to it; the first lane also serves every other model.
    pub models: Vec<String>,
    /// How many shards it has, from 1.
    pub shards: u16,
}

impl Lane {
    /// A lane of one shard that serves every model.
    #[must_use]
    pub fn named(name: LaneName) -> Self {
        Self { name, models: Vec::new(), shards: 1 }
    }
}

/// The queue. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Queue {
    backend: Arc<dyn Backend>,
    lanes: Arc<[Lane]>,
    limits: Arc<RwLock<HashMap<LaneName, LaneLimits>>>,
    former: Arc<RwLock<Vec<Shard>>>,
}

impl Queue {
    /// A queue with these lanes over `backend`; without any, there is one named `default`.
    #[must_use]
    pub fn new(backend: Arc<dyn Backend>, lanes: Vec<Lane>) -> Self {
        let lanes =
            if lanes.is_empty() { vec![Lane::named(LaneName::default_lane())] } else { lanes };
        Self { backend, lanes: lanes.into(), limits: Arc::default(), former: Arc::default() }
    }

    /// The store itself: for workers, and for what concerns one shard.
    #[must_use]
    pub fn backend(&self) -> &Arc<dyn Backend> {
        &self.backend
    }

    /// The lanes, in the order of the configuration.
    #[must_use]
    pub fn lanes(&self) -> &[Lane] {
        &self.lanes
    }

    /// The lane that serves `model`: the one that names it, else the first.
    #[must_use]
    pub fn lane_of(&self, model: Option<&str>) -> &Lane {
        let named =
            |lane: &&Lane| model.is_some_and(|model| lane.models.iter().any(|m| m == model));
        self.lanes.iter().find(named).unwrap_or(&self.lanes[0])
    }

    /// Every shard that may hold something: those of the lanes, and those that an earlier
    /// configuration used, as the last [`survey`](Self::survey) found them.
    #[must_use]
    pub fn known_shards(&self) -> Vec<Shard> {
        let mut shards = self.shards();
        let former = self.former.read().unwrap_or_else(PoisonError::into_inner);
        shards.extend(former.iter().cloned());
        shards
    }

    /// Looks for shards of an earlier configuration, and answers with those of them that hold jobs
    /// which have not ended. To be called at the start and every minute: a lane whose number of
    /// shards changed goes on with what lies in the former ones.
    ///
    /// # Errors
    /// When the store does not answer.
    pub async fn survey(&self) -> Result<Vec<Shard>, Error> {
        let used = self.shards();
        let mut former = self.backend.known_shards(&used).await?;
        former.retain(|shard| !used.contains(shard));
        former.sort();
        self.former.write().unwrap_or_else(PoisonError::into_inner).clone_from(&former);
        let mut busy = Vec::new();
        for shard in former {
            let stats = self.backend.stats(&shard, None).await?;
            if stats.queued + stats.running > 0 {
                busy.push(shard);
            }
        }
        Ok(busy)
    }

    /// Every shard of every lane.
    #[must_use]
    pub fn shards(&self) -> Vec<Shard> {
        let of_lane = |lane: &Lane| {
            let name = lane.name.clone();
            (0..lane.shards.max(1)).map(move |index| Shard { lane: name.clone(), index })
        };
        self.lanes.iter().flat_map(of_lane).collect()
    }

    /// The shards that may hold something of `tenant`: one of each lane, and former ones; deliveries
    /// lie apart.
    fn shards_of(&self, tenant: &TenantId) -> impl Iterator<Item = Shard> {
        let now = self.lanes.iter().map(|lane| Shard::of(&lane.name, lane.shards, tenant));
        let all = now.chain(self.known_shards().split_off(self.shards().len()));
        all.filter(|shard| !is_of_deliveries(&shard.lane))
    }

    /// The shard of a tenant's deliveries.
    fn shard_of_deliveries(tenant: &TenantId) -> Shard {
        Shard::of(&LaneName::webhooks(), 1, tenant)
    }

    /// The shard of the first lane that holds what belongs to a tenant rather than to a job:
    /// conversations and rate buckets.
    fn home(&self, tenant: &TenantId) -> Shard {
        Shard::of(&self.lanes[0].name, self.lanes[0].shards, tenant)
    }

    /// A job for the lane that serves its model: class standard, without session, delay, deadline
    /// or idempotency, 5 attempts. `completion` is the most tokens that the body allows the answer.
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

    /// A delivery of `tenant`, in the lane that is reserved for them: like a [`draft`](Self::draft),
    /// and of the same cost as every other.
    #[must_use]
    pub fn draft_delivery(&self, tenant: TenantId, spec: Spec, body: Bytes) -> NewJob {
        let id = JobId::new(Self::shard_of_deliveries(&tenant));
        let cost = Estimate { prompt: 1, completion: Some(0) };
        NewJob { id, cost, ..self.draft(tenant, spec, body, None) }
    }

    /// Accepts jobs; answers in their order. Atomic per shard, and one tenant's jobs of one lane
    /// are in one shard.
    ///
    /// # Errors
    /// [`Error::Full`], [`Error::IdempotencyKeyReused`], [`Error::Unavailable`]; of the shard that
    /// failed, nothing was accepted.
    pub async fn submit(&self, jobs: Vec<NewJob>) -> Result<Vec<Accepted>, Error> {
        let mut by_shard: HashMap<Shard, Vec<(usize, NewJob)>> = HashMap::new();
        for (place, job) in jobs.into_iter().enumerate() {
            by_shard.entry(job.id.shard().clone()).or_default().push((place, job));
        }
        let mut answers = Vec::new();
        for (shard, jobs) in by_shard {
            let (places, jobs): (Vec<usize>, Vec<NewJob>) = jobs.into_iter().unzip();
            let accepted = self.backend.enqueue(&shard, jobs).await?;
            answers.extend(places.into_iter().zip(accepted));
        }
        answers.sort_unstable_by_key(|(place, _)| *place);
        Ok(answers.into_iter().map(|(_, accepted)| accepted).collect())
    }

    /// A job of `tenant`; `None` when the tenant has no such job.
    ///
    /// # Errors
    /// When the store does not answer.
    pub async fn job(&self, tenant: &TenantId, id: &JobId) -> Result<Option<Job>, Error> {
        let found = self.backend.get(id.shard(), std::slice::from_ref(id)).await?;
        Ok(found.into_iter().flatten().next().filter(|job| job.tenant == *tenant))
    }

    /// Jobs by name, in order and whosever they are.
    ///
    /// # Errors
    /// When the store does not answer.
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
        for job in jobs {
            if let Some(id) = ids.iter().find(|id| **id == job.id) {
                found.insert(id, job);
            }
        }
        Ok(ids.iter().map(|id| found.remove(id)).collect())
    }

    /// Waits until a job of `tenant` has ended, at most `at_most`, and answers with the job as it
    /// is then; `None` when the tenant has no such job. Holds no thread and no connection.
    ///
    /// # Errors
    /// When the store does not answer.
    pub async fn wait(
        &self,
        tenant: &TenantId,
        id: &JobId,
        at_most: Duration,
    ) -> Result<Option<Job>, Error> {
        let waiter = self.waiter(tenant, id);
        match self.job(tenant, id).await? {
            Some(job) if !job.status().is_terminal() && !at_most.is_zero() => {
                waiter.wait(at_most).await
            }
            job => Ok(job),
        }
    }

    /// Listens for the end of a job from now on. Made before the job is submitted, it spares the
    /// look at the store with which every [`wait`](Self::wait) begins.
    #[must_use]
    pub fn waiter(&self, tenant: &TenantId, id: &JobId) -> Waiter {
        let listener = self.backend.news().listen(id);
        Waiter { listener, queue: self.clone(), tenant: tenant.clone(), id: id.clone() }
    }

    /// Follows the events of a job that was just read, from number `from` on. A job whose events
    /// are not kept has three, each told when it is known: 0 that it was queued, 1 that its latest
    /// attempt was started, 2 its end.
    #[must_use]
    pub fn follow(&self, job: &Job, from: u64) -> Follower {
        Follower::new(self, job, from)
    }

    /// Follows the events of a job that is about to be submitted, and keeps them.
    #[must_use]
    pub fn follow_new(&self, id: &JobId) -> Follower {
        Follower::of_new(self, id)
    }

    /// Ends a job of `tenant`; answers with the job as it is then, `None` when there is no such
    /// job. A running job ends as soon as its worker has let go of the upstream.
    ///
    /// # Errors
    /// When the store does not answer.
    pub async fn cancel(&self, tenant: &TenantId, id: &JobId) -> Result<Option<Job>, Error> {
        if self.backend.cancel(tenant, id).await? { self.job(tenant, id).await } else { Ok(None) }
    }

    /// Puts an ended job of `tenant` back; `None` when there is no such job.
    ///
    /// # Errors
    /// [`Error::NotRetryable`] when it has not ended or succeeded; when the store does not answer.
    pub async fn retry(&self, tenant: &TenantId, id: &JobId) -> Result<Option<Job>, Error> {
        if self.backend.retry(tenant, id).await? { self.job(tenant, id).await } else { Ok(None) }
    }

    /// A tenant's deliveries, newest first.
    ///
    /// # Errors
    /// When the store does not answer.
    pub async fn deliveries(&self, tenant: &TenantId, query: &ListQuery) -> Result<Page, Error> {
        self.backend.list(&Self::shard_of_deliveries(tenant), tenant, query).await
    }

    /// A tenant's jobs over all lanes, newest first, without its deliveries.
    ///
    /// # Errors
    /// When the store does not answer.
    pub async fn list(&self, tenant: &TenantId, query: &ListQuery) -> Result<Page, Error> {
        let mut page = Page::default();
        for shard in self.shards_of(tenant) {
            let part = self.backend.list(&shard, tenant, query).await?;
            page.has_more |= part.has_more;
            page.jobs.extend(part.jobs);
        }
        page.jobs.sort_by(|a, b| b.created_at.cmp(&a.created_at).then_with(|| b.id.cmp(&a.id)));
        page.has_more |= page.jobs.len() > query.limit;
        page.jobs.truncate(query.limit);
        Ok(page)
    }

    /// Sets the bounds of lanes (those that are not named have none) over all their shards, and of
    /// these tenants in each shard; takes effect on everything that waits. Of deliveries, a tenant's
    /// weight is all that counts.
    ///
    /// # Errors
    /// When the store does not answer.
    pub async fn set_limits(
        &self,
        lanes: HashMap<LaneName, LaneLimits>,
        tenants: &[(TenantId, TenantLimits)],
    ) -> Result<(), Error> {
        let weight =
            |limits: &TenantLimits| TenantLimits { weight: limits.weight, ..Default::default() };
        let weights: Vec<_> =
            tenants.iter().map(|(id, limits)| (id.clone(), weight(limits))).collect();
        for shard in self.known_shards() {
            let whole = lanes.get(&shard.lane).cloned().unwrap_or_default();
            let lane = self.lanes.iter().find(|lane| lane.name == shard.lane);
            let shards = lane.map_or(1, |lane| lane.shards).max(1);
            let part = whole.part(shard.index % shards, shards);
            let tenants = if is_of_deliveries(&shard.lane) { &weights } else { tenants };
            self.backend.set_limits(&shard, &part, tenants).await?;
        }
        *self.limits.write().unwrap_or_else(PoisonError::into_inner) = lanes;
        Ok(())
    }

    /// The bounds of a lane, as they were last set here.
    #[must_use]
    pub fn limits_of(&self, lane: &LaneName) -> LaneLimits {
        let limits = self.limits.read().unwrap_or_else(PoisonError::into_inner);
        limits.get(lane).cloned().unwrap_or_default()
    }

    /// Pauses or resumes the claims of a lane, or of one tenant in it. What runs goes on.
    ///
    /// # Errors
    /// When the store does not answer.
    pub async fn pause(
        &self,
        lane: &LaneName,
        tenant: Option<&TenantId>,
        paused: bool,
    ) -> Result<(), Error> {
        for shard in self.known_shards().iter().filter(|shard| shard.lane == *lane) {
            self.backend.pause(shard, tenant, paused).await?;
        }
        Ok(())
    }

    /// A lane in numbers, over all its shards, for one tenant or for all.
    ///
    /// # Errors
    /// When the store does not answer.
    pub async fn stats(&self, lane: &LaneName, tenant: Option<&TenantId>) -> Result<Stats, Error> {
        let mut sum = Stats::default();
        for shard in self.known_shards().iter().filter(|shard| shard.lane == *lane) {
            sum.add(&self.backend.stats(shard, tenant).await?);
        }
        Ok(sum)
    }

    /// What `tenant` has left of its rates in the lane of `model`.
    ///
    /// # Errors
    /// When the store does not answer.
    pub async fn allowance(
        &self,
        tenant: &TenantId,
        model: Option<&str>,
    ) -> Result<Allowance, Error> {
        let lane = self.lane_of(model);
        let shard = Shard::of(&lane.name, lane.shards, tenant);
        Ok(self.backend.stats(&shard, Some(tenant)).await?.allowance)
    }

    /// Takes one from a tenant's bucket `name`.
    ///
    /// # Errors
    /// When the store does not answer.
    pub async fn throttle(
        &self,
        tenant: &TenantId,
        name: &str,
        rate: Rate,
    ) -> Result<Throttle, Error> {
        self.backend.throttle(&self.home(tenant), tenant, name, rate).await
    }

    /// The tenant's remembered conversations, the most recent first.
    ///
    /// # Errors
    /// When the store does not answer.
    pub async fn conversations(&self, tenant: &TenantId) -> Result<Vec<Conversation>, Error> {
        let mut all = Vec::new();
        for shard in self.shards_of(tenant) {
            all.extend(self.backend.conversations(&shard, tenant).await?);
        }
        all.sort_by_key(|conversation| std::cmp::Reverse(conversation.expires_at));
        Ok(all)
    }

    /// One remembered conversation.
    ///
    /// # Errors
    /// When the store does not answer.
    pub async fn conversation(
        &self,
        tenant: &TenantId,
        session: &SessionKey,
    ) -> Result<Option<Conversation>, Error> {
        for shard in self.shards_of(tenant) {
            if let Some(found) = self.backend.conversation(&shard, tenant, session).await? {
                return Ok(Some(found));
            }
        }
        Ok(None)
    }

    /// Forgets a conversation; `false` when there was none.
    ///
    /// # Errors
    /// When the store does not answer.
    pub async fn forget(&self, tenant: &TenantId, session: &SessionKey) -> Result<bool, Error> {
        let mut forgotten = false;
        for shard in self.shards_of(tenant) {
            forgotten |= self.backend.forget(&shard, tenant, session).await?;
        }
        Ok(forgotten)
    }
}
