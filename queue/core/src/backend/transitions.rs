//! Transitions of jobs.

use std::{fmt, pin::Pin, time::Duration};

use async_trait::async_trait;
use bytes::Bytes;
use serde::Serialize;

use crate::{
    error::Error,
    event::EventKind,
    id::{IdempotencyKey, JobId, Shard, TenantId},
    job::{Accepted, NewJob},
    json::RawJson,
    lease::{ClaimRequest, Extended, LeaseKey, Settlement, Step},
};

/// The transitions of jobs in one shard.
#[async_trait]
pub trait Transitions: fmt::Debug + Send + Sync {
    /// Accepts all of `jobs` or none, and returns the results in their order. All must belong to `shard`. If the
    /// future is dropped early, the jobs may or may not have been accepted.
    async fn enqueue(&self, shard: &Shard, jobs: Vec<NewJob>) -> Result<Vec<Accepted>, Error>;

    /// Returns the jobs that this shard accepted before under the idempotency keys of `jobs`, in their order.
    /// [`Error::IdempotencyKeyReused`] if a key was used for another request.
    async fn accepted(&self, shard: &Shard, jobs: &[&NewJob]) -> Result<Vec<Option<JobId>>, Error>;

    /// Lets idempotency keys of `shard` expire `ttl` from now. A missing key is not restored.
    async fn expire_keys(
        &self,
        shard: &Shard,
        keys: &[(TenantId, IdempotencyKey)],
        ttl: Duration,
    ) -> Result<(), Error>;

    /// Settles attempts and starts new ones, in this order, in one round trip. Before the claim, it promotes due jobs
    /// and parked flows. The store removes each settlement from `settlements` as it accepts it; after an error the
    /// caller sends the rest again.
    async fn step(
        &self,
        shard: &Shard,
        settlements: &mut Vec<Settlement>,
        claim: ClaimRequest,
    ) -> Result<Step, Error>;

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

    /// Waits until work may be visible in `shard`, at most `at_most`. A wake-up that arrives before the call is not
    /// lost.
    async fn wait_for_work(&self, shard: &Shard, at_most: Duration) -> Result<(), Error>;

    /// Extends leases, which then expire `lease` from now. Returns the lost and the cancelled ones.
    async fn extend_leases(
        &self,
        shard: &Shard,
        leases: &[LeaseKey],
        lease: Duration,
    ) -> Result<Extended, Error>;

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

    /// Appends to the event logs of running jobs. Returns the leases that are no longer held; nothing is appended for
    /// those.
    async fn emit(&self, shard: &Shard, emissions: Vec<Emission>) -> Result<Vec<LeaseKey>, Error>;

    /// Recounts derived data and repairs differences; every reported repair is a bug. Deletes expired data, also
    /// outbox entries that were not delivered within the retention.
    async fn reconcile(&self, shard: &Shard) -> Result<Repairs, Error>;
}

/// Runs [`Transitions::claim_when_woken`] in two round trips.
pub async fn wait_then_claim(
    backend: &(impl Transitions + ?Sized),
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
