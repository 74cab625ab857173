//! The trait behind which the two engines stand, and what it speaks of.

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
    job::{Accepted, AttemptError, Job, NewJob},
    json::RawJson,
    lease::{Beat, ClaimRequest, LeaseKey, Settlement, Step},
    limits::{Allowance, LaneLimits, Rate, TenantLimits, Throttle},
    news::Switchboard,
    orphan::CallKey,
    session::{Conversation, ProfileChange},
    state::{Class, Status},
    waiting::WaitingFor,
    webhook::End,
    workers::{RegisteredWorker, WorkerId, WorkerReport},
};

/// One store. Every operation is one atomic transition of one shard; each is described by what it
/// promises, and the module `conformance` checks the promises on every backend.
#[async_trait]
pub trait Backend: fmt::Debug + Send + Sync {
    /// Accepts all of `jobs` or none; answers in their order. All must belong to `shard`. Who goes away
    /// before the answer leaves open which of both it was.
    async fn enqueue(&self, shard: &Shard, jobs: Vec<NewJob>) -> Result<Vec<Accepted>, Error>;

    /// Ends attempts and begins new ones, in this order, in one round trip. Due jobs and parked
    /// flows are promoted first. The settlements are taken out as the store takes them: what is
    /// left after an error is to be sent again.
    async fn step(
        &self,
        shard: &Shard,
        settlements: &mut Vec<Settlement>,
        claim: ClaimRequest,
    ) -> Result<Step, Error>;

    /// Extends leases to `lease` from now.
    async fn beat(
        &self,
        shard: &Shard,
        leases: &[LeaseKey],
        lease: Duration,
    ) -> Result<Beat, Error>;

    /// Takes expired leases back: a stall each, and the job runs again or, out of stalls, fails.
    async fn reap(&self, shard: &Shard) -> Result<Reaped, Error>;

    /// Ends a job of `tenant`: at once while it waits, by its worker while it runs; one that has
    /// ended stays as it is. `false`: the tenant has no such job.
    async fn cancel(&self, tenant: &TenantId, id: &JobId) -> Result<bool, Error>;

    /// Puts an ended job of `tenant` back, with all its attempts. `false`: the tenant has no such
    /// job. [`Error::NotRetryable`] unless it failed, was cancelled or expired.
    async fn retry(&self, tenant: &TenantId, id: &JobId) -> Result<bool, Error>;

    /// Deletes an ended job of `tenant`, with all that is kept of it. `false`: the tenant has no such job, or it
    /// has not ended.
    async fn delete(&self, tenant: &TenantId, id: &JobId) -> Result<bool, Error>;

    /// Attaches bytes of the API to a job, of which the engine knows nothing; once, and kept at least as long as
    /// the job.
    async fn attach(&self, id: &JobId, bytes: Bytes) -> Result<(), Error>;

    /// The bytes that were attached to a job; `None` if none were, or the job is gone.
    async fn attached(&self, id: &JobId) -> Result<Option<Bytes>, Error>;

    /// Recounts what is derivable and repairs what differs; all that it reports is a bug. Forgets what
    /// is over: ends too that nobody has handed on within the retention.
    async fn reconcile(&self, shard: &Shard) -> Result<Repairs, Error>;

    /// Appends to the event logs of running jobs. Answers which leases are no longer held; nothing
    /// is appended for those.
    async fn emit(&self, shard: &Shard, emissions: Vec<Emission>) -> Result<Vec<LeaseKey>, Error>;

    /// The jobs of these names, in order; `None` for what does not exist.
    async fn get(&self, shard: &Shard, ids: &[JobId]) -> Result<Vec<Option<Job>>, Error>;

    /// The body of a job, as it was submitted; `None` when there is no such job, or it has succeeded: only a
    /// job that may run again keeps its body.
    async fn body(&self, id: &JobId) -> Result<Option<Bytes>, Error>;

    /// A tenant's jobs in this shard, the one that was accepted last first. Looks at [`MAX_LOOKED_AT`] at most.
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

    /// What was accepted in this shard before under the idempotency keys of `jobs`, in their order.
    /// [`Error::IdempotencyKeyReused`] when one was for another request.
    async fn accepted(&self, shard: &Shard, jobs: &[&NewJob]) -> Result<Vec<Option<JobId>>, Error>;

    /// The shard in numbers, for one tenant or for all.
    async fn stats(&self, shard: &Shard, tenant: Option<&TenantId>) -> Result<Stats, Error>;

    /// How many jobs are ready, by class, most urgent first. While tenants come, a few may be counted twice.
    async fn ready(&self, shard: &Shard) -> Result<[u64; 3], Error>;

    /// The kept events of a job from number `from` on; empty when none are kept.
    async fn events(&self, id: &JobId, from: u64) -> Result<Vec<Event>, Error>;

    /// Waits until work may be visible in `shard`, at most `at_most`. A wake-up that comes before
    /// the call is not lost.
    async fn wait_for_work(&self, shard: &Shard, at_most: Duration) -> Result<(), Error>;

    /// Waits as [`wait_for_work`](Self::wait_for_work) does, or until `stop` ends, and then begins
    /// attempts as [`step`](Self::step) does; where the store can, in one round trip. To be awaited to
    /// its end: attempts that it begins would otherwise be held by nobody until their leases run out.
    async fn claim_when_woken(
        &self,
        shard: &Shard,
        at_most: Duration,
        claim: ClaimRequest,
        stop: Pin<&mut (dyn Future<Output = ()> + Send)>,
    ) -> Result<Step, Error> {
        wait_then_claim(self, shard, at_most, claim, stop).await
    }

    /// Sets the bounds of the shard's lane (this shard's part) and of tenants; takes effect on
    /// everything that waits.
    async fn set_limits(
        &self,
        shard: &Shard,
        lane: &LaneLimits,
        tenants: &[(TenantId, TenantLimits)],
    ) -> Result<(), Error>;

    /// Whether the bounds of this shard were ever set: a store that lost its data has none.
    async fn has_limits(&self, shard: &Shard) -> Result<bool, Error>;

    /// Pauses or resumes the claims of a whole shard (`None`) or of one tenant in it.
    async fn pause(
        &self,
        shard: &Shard,
        tenant: Option<&TenantId>,
        paused: bool,
    ) -> Result<(), Error>;

    /// Begins nothing in the shard for so long: an upstream asked its lane to wait, by an attempt in
    /// another shard. One in this shard says so when it is settled.
    async fn stop(&self, shard: &Shard, delay: Duration) -> Result<(), Error>;

    /// What is paused: the whole shard (`None`), or a tenant in it.
    async fn paused(&self, shard: &Shard) -> Result<Vec<Option<TenantId>>, Error>;

    /// Takes one from the bucket `name` of a tenant.
    async fn throttle(
        &self,
        shard: &Shard,
        tenant: &TenantId,
        name: &str,
        rate: Rate,
    ) -> Result<Throttle, Error>;

    /// Keeps `job` as an orphan of `call` for `ttl`; to do so again changes nothing but the time.
    async fn put_orphan(&self, call: &CallKey, job: &JobId, ttl: Duration) -> Result<(), Error>;

    /// Takes the orphan of `call` in this shard that would be forgotten first. Each is taken once. Its job may
    /// never have been accepted.
    async fn take_orphan(&self, shard: &Shard, call: &CallKey) -> Result<Option<JobId>, Error>;

    /// Removes an orphan; `false` when it was taken, or is forgotten.
    async fn remove_orphan(&self, call: &CallKey, job: &JobId) -> Result<bool, Error>;

    /// The tenant's remembered conversations.
    async fn conversations(
        &self,
        shard: &Shard,
        tenant: &TenantId,
    ) -> Result<Vec<Conversation>, Error>;

    /// One remembered conversation.
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

    /// Forgets a conversation; `false` when there was none.
    async fn forget(
        &self,
        shard: &Shard,
        tenant: &TenantId,
        session: &SessionKey,
    ) -> Result<bool, Error>;

    /// Returns the ends of jobs with a webhook that are to be handed on now, at most `most` (1 to
    /// [`MAX_OUTBOX_PAGE`](crate::webhook::MAX_OUTBOX_PAGE)), by time. Where there are more, half of them are the
    /// oldest and half the newest: a new end does not wait behind a backlog. What cannot be read is left out.
    async fn outbox(&self, shard: &Shard, most: usize) -> Result<Vec<End>, Error>;

    /// Takes ends that were handed on out of the outbox; one that is not there any more was taken out
    /// by somebody else.
    async fn take_out(&self, shard: &Shard, ends: &[End]) -> Result<(), Error>;

    /// Writes the entry of a worker process into the registry, which belongs to no shard. `false`: the registry has
    /// [`MAX_WORKERS`](crate::workers::MAX_WORKERS) entries, and takes no new one.
    async fn beat_worker(&self, id: &WorkerId, report: &WorkerReport) -> Result<bool, Error>;

    /// Removes the entry of a worker process that has stopped.
    async fn remove_worker(&self, id: &WorkerId) -> Result<(), Error>;

    /// The entries of the registry, in the order of their ids, without those that were silent for
    /// [`FORGET_AFTER`](crate::workers::FORGET_AFTER).
    async fn workers(&self) -> Result<Vec<RegisteredWorker>, Error>;

    /// Has ends wait in the outbox for `delay`. An end that is not there any more stays away.
    async fn postpone(&self, shard: &Shard, ends: &[End], delay: Duration) -> Result<(), Error>;

    /// Has idempotency keys of `shard` live for `ttl` from now. A key that is not there stays away.
    async fn expire_keys(
        &self,
        shard: &Shard,
        keys: &[(TenantId, IdempotencyKey)],
        ttl: Duration,
    ) -> Result<(), Error>;

    /// Returns the directory, `None` if its version is `known`.
    async fn directory(&self, known: u64) -> Result<Option<Directory>, Error>;

    /// Replaces the directory by `new`; `false` if its version is not `known` any more.
    async fn set_directory(&self, known: u64, new: &Directory) -> Result<bool, Error>;

    /// Where the news of all shards arrive.
    fn news(&self) -> &Arc<Switchboard>;

    /// Whether the store answers.
    async fn ping(&self) -> Result<(), Error>;

    /// What the store is, for people: e.g. `embedded, in memory`. Without secrets.
    fn describe(&self) -> String;
}

/// [`Backend::claim_when_woken`] in two round trips.
pub(crate) async fn wait_then_claim(
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

/// More of a running job's output.
#[derive(Debug, Clone)]
pub struct Emission {
    /// The attempt that it comes from.
    pub lease: LeaseKey,
    /// Its number among the emissions of the attempt, from 1.
    pub number: u32,
    /// Whether it may have been appended before: the store gave no answer then. If so, it is not
    /// appended again.
    pub repeated: bool,
    /// What kind of event: `Delta` or `Reset`.
    pub kind: EventKind,
    /// The event's data.
    pub data: RawJson,
}

/// What a reap did.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Reaped {
    /// Jobs that will run again.
    pub requeued: Vec<JobId>,
    /// Jobs that ended: they lost too many workers, or a cancel was under way.
    pub ended: Vec<JobId>,
}

/// What a reconcile had to repair. All zero, unless there is a bug.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct Repairs {
    /// Tenants whose count of running jobs differed from their leases.
    pub running: u64,
    /// Flows whose count of ready jobs differed; the embedded engine has no such count.
    pub queued: u64,
    /// Flows that were servable and not offered, or offered and not servable.
    pub flows: u64,
}

impl Repairs {
    /// How many there were in all.
    #[must_use]
    pub fn total(&self) -> u64 {
        self.running + self.queued + self.flows
    }
}

/// Which jobs to list.
#[derive(Debug, Clone, Default)]
pub struct ListQuery {
    /// Only jobs that are there.
    pub status: Option<Status>,
    /// Only jobs of this class.
    pub class: Option<Class>,
    /// Only jobs of this session.
    pub session: Option<SessionKey>,
    /// Only jobs that were accepted at this moment or later.
    pub since: Option<Millis>,
    /// Only jobs of this model.
    pub model: Option<String>,
    /// Only jobs that ended with this error code.
    pub error_code: Option<String>,
    /// How many at most, 1 to [`MAX_PAGE`].
    pub limit: usize,
    /// Only jobs older than this one.
    pub after: Option<JobId>,
}

/// Most jobs on one page of a list.
pub const MAX_PAGE: usize = 1000;

/// Most jobs of a shard that are looked at for one page. Where few of them are asked for, the page is short, or
/// empty, and says where the next one goes on. So a filter that finds nothing keeps a store busy for
/// milliseconds, however many jobs there are.
pub const MAX_LOOKED_AT: usize = 2000;

/// A page of a list.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Page {
    /// The jobs, newest first.
    pub jobs: Vec<Job>,
    /// The job after which the next page goes on, which need not be one of these; `None` at the end.
    pub next: Option<JobId>,
}

/// A lane whose upstream fails: see [`crate::health`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Down {
    /// Since when.
    pub since: Millis,
    /// When the next job probes the upstream; in the past while one does.
    pub probe_at: Millis,
    /// The latest error.
    pub error: Option<AttemptError>,
}

/// A shard, or one tenant's part of it, in numbers.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Stats {
    /// Jobs that wait: for a worker, for their session, or for a time.
    pub queued: u64,
    /// Jobs that run.
    pub running: u64,
    /// Of the waiting ones, those that wait for a time.
    pub scheduled: u64,
    /// Failed jobs in the list of the dead, of all tenants; `None` when asked for one tenant.
    pub dead: Option<u64>,
    /// How long the oldest job has waited whose turn is to come, in milliseconds: of one tenant even where
    /// a cap, a rate or a pause keeps it waiting; over all tenants the oldest that a worker could take now,
    /// and only the 1,000 flows that come next are looked at.
    pub oldest_wait_ms: u64,
    /// Jobs that ended per second while others waited: a mean of windows of 2 s, each halving the weight of
    /// those before it.
    pub drain_per_s: f64,
    /// Whether claims are paused.
    pub paused: bool,
    /// The outage of the lane's upstream, if any.
    pub down: Option<Down>,
    /// Why a ready job would not start now, of the tenant, or of one without limits.
    pub waiting_for: WaitingFor,
    /// Jobs of all tenants that wait in the shard, and how many may.
    pub shard_queued: u64,
    /// See [`shard_queued`](Self::shard_queued).
    pub shard_max_queued: u64,
    /// In how long a job of class standard should begin that the tenant would submit now, its answer as
    /// long as most, in milliseconds; `None` while nothing was measured, and when asked for all.
    pub estimated_wait_ms: Option<u64>,
    /// The tenant's bounds; `None` when asked for all.
    pub limits: Option<TenantLimits>,
    /// What the tenant has left of its rates; of no meaning when asked for all.
    pub allowance: Allowance,
}

impl Stats {
    /// Adds what another shard counts. What is the tenant's in its own shard stays.
    pub(crate) fn add(&mut self, other: &Self) {
        self.queued += other.queued;
        self.running += other.running;
        self.scheduled += other.scheduled;
        self.dead = self.dead.map(|dead| dead + other.dead.unwrap_or(0)).or(other.dead);
        self.oldest_wait_ms = self.oldest_wait_ms.max(other.oldest_wait_ms);
        self.drain_per_s += other.drain_per_s;
        self.paused |= other.paused;
        self.down = self.down.take().or_else(|| other.down.clone());
        let is_of_all = self.limits.is_none();
        if is_of_all && other.waiting_for.precedence() < self.waiting_for.precedence() {
            self.waiting_for = other.waiting_for.clone();
        }
        self.allowance.requests = self.allowance.requests.or(other.allowance.requests);
        self.allowance.tokens = self.allowance.tokens.or(other.allowance.tokens);
    }
}
