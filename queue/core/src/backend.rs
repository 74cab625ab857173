//! The trait that both engines implement, and its types.

use std::{fmt, pin::Pin, sync::Arc, time::Duration};

use async_trait::async_trait;
use bytes::Bytes;
use serde::Serialize;

use crate::{
    clock::Millis,
    directory::Directory,
    error::Error,
    event::{Event, EventKind},
    id::{IdempotencyKey, JobId, Layout, SessionKey, Shard, TenantId},
    job::{Accepted, Job, NewJob},
    json::RawJson,
    lease::{Beat, ClaimRequest, LeaseKey, Settlement, Step},
    limits::{Allowance, LaneLimits, Rate, TenantLimits, Throttle},
    news::Switchboard,
    orphan::CallKey,
    session::{Conversation, ProfileChange},
    state::{Class, Status},
    waiting::{Down, WaitingFor},
    webhook::End,
    workers::{RegisteredWorker, WorkerId, WorkerReport},
};

/// One store. Every operation is one atomic transition of one shard. The documentation of an operation is its
/// promise; the module `conformance` checks the promises on every backend.
#[async_trait]
pub trait Backend: fmt::Debug + Send + Sync {
    /// Accepts all of `jobs` or none, and returns the results in their order. All must belong to `shard`. If the
    /// future is dropped early, the jobs may or may not have been accepted.
    async fn enqueue(&self, shard: &Shard, jobs: Vec<NewJob>) -> Result<Vec<Accepted>, Error>;

    /// Settles attempts and starts new ones, in this order, in one round trip. Before the claim, it promotes due jobs
    /// and parked flows. The store removes each settlement from `settlements` as it accepts it; after an error the
    /// caller sends the rest again.
    async fn step(
        &self,
        shard: &Shard,
        settlements: &mut Vec<Settlement>,
        claim: ClaimRequest,
    ) -> Result<Step, Error>;

    /// Extends leases, which then expire `lease` from now. Returns the lost and the cancelled ones.
    async fn beat(
        &self,
        shard: &Shard,
        leases: &[LeaseKey],
        lease: Duration,
    ) -> Result<Beat, Error>;

    /// Ends expired leases. Each adds a stall to its job, which is requeued, or fails at `max_stalls`.
    async fn reap(&self, shard: &Shard) -> Result<Reaped, Error>;

    /// Cancels a job of `tenant`. A waiting job ends at once; a running one is ended by its worker; an ended one
    /// stays as it is. `false`: the tenant has no such job.
    async fn cancel(&self, tenant: &TenantId, id: &JobId) -> Result<bool, Error>;

    /// Retries an ended job of `tenant`, with all its attempts. `false`: the tenant has no such job.
    /// [`Error::NotRetryable`] unless it failed, was cancelled or expired.
    async fn retry(&self, tenant: &TenantId, id: &JobId) -> Result<bool, Error>;

    /// Deletes an ended job of `tenant` and all its data. `false`: the tenant has no such job, or it has not ended.
    async fn delete(&self, tenant: &TenantId, id: &JobId) -> Result<bool, Error>;

    /// Attaches opaque bytes of the API to a job. They are written once and kept at least as long as the job.
    async fn attach(&self, id: &JobId, bytes: Bytes) -> Result<(), Error>;

    /// Returns the bytes that were attached to a job; `None` if there are none, or the job is gone.
    async fn attached(&self, id: &JobId) -> Result<Option<Bytes>, Error>;

    /// Recounts derived data and repairs differences; every reported repair is a bug. Deletes expired data, also
    /// outbox entries that were not delivered within the retention.
    async fn reconcile(&self, shard: &Shard) -> Result<Repairs, Error>;

    /// Appends to the event logs of running jobs. Returns the leases that are no longer held; nothing is appended for
    /// those.
    async fn emit(&self, shard: &Shard, emissions: Vec<Emission>) -> Result<Vec<LeaseKey>, Error>;

    /// Returns the jobs with these ids, in order; `None` for one that does not exist.
    async fn get(&self, shard: &Shard, ids: &[JobId]) -> Result<Vec<Option<Job>>, Error>;

    /// Returns the body of a job as it was submitted; `None` if the job does not exist or has succeeded. Only a job
    /// that may run again keeps its body.
    async fn body(&self, id: &JobId) -> Result<Option<Bytes>, Error>;

    /// Lists a tenant's jobs in this shard, latest acceptance first. Reads at most [`MAX_LOOKED_AT`] jobs.
    async fn list(
        &self,
        shard: &Shard,
        tenant: &TenantId,
        query: &ListQuery,
    ) -> Result<Page, Error>;

    /// The layouts that are [remembered](Self::remember_layouts).
    async fn layouts(&self) -> Result<Vec<Layout>, Error>;

    /// Remembers that these layouts are in use now, and forgets those that were not used for one retention and
    /// [`LAYOUT_GRACE`](crate::policy::LAYOUT_GRACE).
    async fn remember_layouts(&self, used: &[Layout]) -> Result<(), Error>;

    /// Returns the jobs that this shard accepted before under the idempotency keys of `jobs`, in their order.
    /// [`Error::IdempotencyKeyReused`] if a key was used for another request.
    async fn accepted(&self, shard: &Shard, jobs: &[&NewJob]) -> Result<Vec<Option<JobId>>, Error>;

    /// Returns the counts of the shard, for one tenant or for all.
    async fn stats(&self, shard: &Shard, tenant: Option<&TenantId>) -> Result<Stats, Error>;

    /// Returns the number of ready jobs by class, most urgent first. While new tenants arrive, a few jobs may be
    /// counted twice.
    async fn ready(&self, shard: &Shard) -> Result<[u64; 3], Error>;

    /// Returns the kept events of a job from number `from` on; empty if none are kept.
    async fn events(&self, id: &JobId, from: u64) -> Result<Vec<Event>, Error>;

    /// Waits until work may be visible in `shard`, at most `at_most`. A wake-up that arrives before the call is not
    /// lost.
    async fn wait_for_work(&self, shard: &Shard, at_most: Duration) -> Result<(), Error>;

    /// Waits as [`wait_for_work`](Self::wait_for_work) does, or until `stop` completes, and then claims jobs as
    /// [`step`](Self::step) does; in one round trip where the store can. The caller must await it to the end:
    /// attempts that a dropped call has started stay leased, without a worker, until their leases expire.
    async fn claim_when_woken(
        &self,
        shard: &Shard,
        at_most: Duration,
        claim: ClaimRequest,
        stop: Pin<&mut (dyn Future<Output = ()> + Send)>,
    ) -> Result<Step, Error> {
        wait_then_claim(self, shard, at_most, claim, stop).await
    }

    /// Sets the limits of the lane (the share of this shard) and of tenants. They apply to waiting jobs too.
    async fn set_limits(
        &self,
        shard: &Shard,
        lane: &LaneLimits,
        tenants: &[(TenantId, TenantLimits)],
    ) -> Result<(), Error>;

    /// Returns true if the limits of this shard were ever set. A store that lost its data has none.
    async fn has_limits(&self, shard: &Shard) -> Result<bool, Error>;

    /// Pauses or resumes the claims of a whole shard (`None`) or of one tenant in it.
    async fn pause(
        &self,
        shard: &Shard,
        tenant: Option<&TenantId>,
        paused: bool,
    ) -> Result<(), Error>;

    /// Starts no attempt in the shard for `delay`, because the upstream refused an attempt in another shard. For an
    /// attempt in this shard, the settlement has the same effect.
    async fn stop(&self, shard: &Shard, delay: Duration) -> Result<(), Error>;

    /// Returns the pauses: the whole shard (`None`), or a tenant in it.
    async fn paused(&self, shard: &Shard) -> Result<Vec<Option<TenantId>>, Error>;

    /// Takes one token from the bucket `name` of a tenant.
    async fn throttle(
        &self,
        shard: &Shard,
        tenant: &TenantId,
        name: &str,
        rate: Rate,
    ) -> Result<Throttle, Error>;

    /// Keeps `job` as an orphan of `call` for `ttl`. A second call only changes the time.
    async fn put_orphan(&self, call: &CallKey, job: &JobId, ttl: Duration) -> Result<(), Error>;

    /// Takes the orphan of `call` in this shard that expires first. Each is taken once. Its job may never have been
    /// accepted.
    async fn take_orphan(&self, shard: &Shard, call: &CallKey) -> Result<Option<JobId>, Error>;

    /// Removes an orphan; `false` if it was taken or has expired.
    async fn remove_orphan(&self, call: &CallKey, job: &JobId) -> Result<bool, Error>;

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

    /// Returns the outbox entries that are due, at most `most` (1 to
    /// [`MAX_OUTBOX_PAGE`](crate::webhook::MAX_OUTBOX_PAGE)), by time. If there are more, half of the page are the
    /// oldest and half the newest, so that a new entry does not wait behind a backlog. Unreadable entries are left
    /// out.
    async fn outbox(&self, shard: &Shard, most: usize) -> Result<Vec<End>, Error>;

    /// Acknowledges outbox entries after their deliveries were accepted. An entry that is missing was acknowledged by
    /// another caller.
    async fn take_out(&self, shard: &Shard, ends: &[End]) -> Result<(), Error>;

    /// Writes the entry of a worker process into the registry, which belongs to no shard. `false`: the registry has
    /// [`MAX_WORKERS`](crate::workers::MAX_WORKERS) entries and accepts no new one.
    async fn beat_worker(&self, id: &WorkerId, report: &WorkerReport) -> Result<bool, Error>;

    /// Removes the entry of a worker process that has stopped.
    async fn remove_worker(&self, id: &WorkerId) -> Result<(), Error>;

    /// Returns the entries of the registry in the order of their ids, without those that were silent for
    /// [`FORGET_AFTER`](crate::workers::FORGET_AFTER).
    async fn workers(&self) -> Result<Vec<RegisteredWorker>, Error>;

    /// Delays outbox entries by `delay`. An entry that was acknowledged is not restored.
    async fn postpone(&self, shard: &Shard, ends: &[End], delay: Duration) -> Result<(), Error>;

    /// Lets idempotency keys of `shard` expire `ttl` from now. A missing key is not restored.
    async fn expire_keys(
        &self,
        shard: &Shard,
        keys: &[(TenantId, IdempotencyKey)],
        ttl: Duration,
    ) -> Result<(), Error>;

    /// Returns the directory; `None` if its version is `known`.
    async fn directory(&self, known: u64) -> Result<Option<Directory>, Error>;

    /// Replaces the directory by `new`; `false` if its version is no longer `known`.
    async fn set_directory(&self, known: u64, new: &Directory) -> Result<bool, Error>;

    /// Returns the switchboard that receives the news of all shards.
    fn news(&self) -> &Arc<Switchboard>;

    /// Checks that the store answers.
    async fn ping(&self) -> Result<(), Error>;

    /// Describes the store for people, e.g. `embedded, in memory`. Without secrets.
    fn describe(&self) -> String;
}

/// Runs [`Backend::claim_when_woken`] in two round trips.
pub async fn wait_then_claim(
    backend: &(impl Backend + ?Sized),
    shard: &Shard,
    at_most: Duration,
    claim: ClaimRequest,
    stop: Pin<&mut (dyn Future<Output = ()> + Send)>,
) -> Result<Step, Error> {
    tokio::select! {
        waited = backend.wait_for_work(shard, at_most) => waited?,
        () = stop => return Ok(Step::default()),
    }
    backend.step(shard, &mut Vec::new(), claim).await
}

/// One piece of a running job's output.
#[derive(Debug, Clone)]
pub struct Emission {
    /// The attempt that emitted it.
    pub lease: LeaseKey,
    /// The number among the emissions of the attempt, from 1.
    pub number: u32,
    /// True if it may have been appended before, because the store did not answer then. The store then appends it
    /// only if it is missing.
    pub repeated: bool,
    /// The kind of the event: `Delta` or `Reset`.
    pub kind: EventKind,
    /// The event's data.
    pub data: RawJson,
}

/// The jobs of the leases that a reap ended.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Reaped {
    /// Jobs that run again.
    pub requeued: Vec<JobId>,
    /// Jobs that ended: too many workers were lost, or the job was cancelled before.
    pub ended: Vec<JobId>,
}

/// The repairs of a reconcile. All zero, unless there is a bug.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct Repairs {
    /// Tenants with a count of running jobs that differed from their leases.
    pub running: u64,
    /// Flows with a wrong count of ready jobs; the embedded engine has no such count.
    pub queued: u64,
    /// Flows that were servable and not offered, or offered and not servable.
    pub flows: u64,
}

impl Repairs {
    /// Returns the sum of all repairs.
    #[must_use]
    pub fn total(&self) -> u64 {
        self.running + self.queued + self.flows
    }
}

/// The filters of a list. A job must match all that are set.
#[derive(Debug, Clone, Default)]
pub struct ListQuery {
    /// The status of the job.
    pub status: Option<Status>,
    /// The class of the job.
    pub class: Option<Class>,
    /// The session of the job.
    pub session: Option<SessionKey>,
    /// The earliest time of acceptance.
    pub since: Option<Millis>,
    /// The model of the job.
    pub model: Option<String>,
    /// The error code with which the job ended.
    pub error_code: Option<String>,
    /// The most jobs on the page, 1 to [`MAX_PAGE`].
    pub limit: usize,
    /// The cursor: only jobs older than this one.
    pub after: Option<JobId>,
}

/// The most jobs on one page of a list.
pub const MAX_PAGE: usize = 1000;

/// The most jobs of a shard that are read for one page. If few of them match, the page is short or empty and has a
/// cursor. So a filter that matches nothing costs a store milliseconds, whatever the number of jobs.
pub const MAX_LOOKED_AT: usize = 2000;

/// A page of a list.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Page {
    /// The jobs, newest first.
    pub jobs: Vec<Job>,
    /// The cursor of the next page, which may be a job that is not on this page; `None` at the end.
    pub next: Option<JobId>,
}

/// The counts of a shard, or of one tenant in it.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Stats {
    /// Waiting jobs: for a worker, for their session, or for a time.
    pub queued: u64,
    /// Running jobs.
    pub running: u64,
    /// Of the waiting jobs, those that wait for a time.
    pub scheduled: u64,
    /// Failed jobs in the list of the dead, of all tenants; `None` for one tenant.
    pub dead: Option<u64>,
    /// The wait so far of the oldest ready job, in milliseconds. For one tenant, this includes jobs that a cap, a
    /// rate or a pause holds; for all tenants, only jobs that a worker can claim now, and only the first 1,000 flows
    /// are read.
    pub oldest_wait_ms: u64,
    /// Jobs that ended per second while others waited: a mean of windows of 2 s, each of which halves the weight of
    /// the earlier ones.
    pub drain_per_s: f64,
    /// True if claims are paused.
    pub paused: bool,
    /// The outage of the lane's upstream, if any.
    pub down: Option<Down>,
    /// The reason why a ready job of the tenant would not start now; without a tenant, that of a tenant without
    /// limits.
    pub waiting_for: WaitingFor,
    /// Jobs of all tenants that wait in the shard; at most [`shard_max_queued`](Self::shard_max_queued).
    pub shard_queued: u64,
    /// The limit of [`shard_queued`](Self::shard_queued).
    pub shard_max_queued: u64,
    /// The estimated wait, in milliseconds, of a new standard job of average length of the tenant; `None` while the
    /// drain rate is unknown, and for all tenants.
    pub estimated_wait_ms: Option<u64>,
    /// The tenant's limits; `None` for all tenants.
    pub limits: Option<TenantLimits>,
    /// The remaining rates of the tenant; meaningless for all tenants.
    pub allowance: Allowance,
}

impl Stats {
    /// Adds the counts of another shard. Values of the tenant's own shard stay.
    pub fn add(&mut self, other: &Self) {
        self.queued += other.queued;
        self.running += other.running;
        self.scheduled += other.scheduled;
        // Only the counts for all tenants have a list of the dead; keep `None` for one tenant.
        self.dead = self.dead.map(|dead| dead + other.dead.unwrap_or(0)).or(other.dead);
        self.oldest_wait_ms = self.oldest_wait_ms.max(other.oldest_wait_ms);
        self.drain_per_s += other.drain_per_s;
        self.paused |= other.paused;
        // One outage is enough to report; the first shard's stands for the lane.
        self.down = self.down.take().or_else(|| other.down.clone());
        let is_of_all = self.limits.is_none();
        // A tenant waits in its own shard only; for all tenants the reason that binds first is reported.
        if is_of_all && other.waiting_for.precedence() < self.waiting_for.precedence() {
            self.waiting_for = other.waiting_for.clone();
        }
        self.allowance.requests = self.allowance.requests.or(other.allowance.requests);
        self.allowance.tokens = self.allowance.tokens.or(other.allowance.tokens);
    }
}
