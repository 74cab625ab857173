//! Reads.

use std::fmt;

use async_trait::async_trait;
use bytes::Bytes;

use crate::{
    clock::Millis,
    error::Error,
    event::Event,
    id::{JobId, SessionKey, Shard, TenantId},
    job::Job,
    limits::{Allowance, TenantLimits},
    state::{Class, Status},
    waiting::{Down, WaitingFor},
};

/// Reads of jobs and counts.
#[async_trait]
pub trait Views: fmt::Debug + Send + Sync {
    /// Returns the jobs with these ids, in order; `None` for one that does not exist.
    async fn get(&self, shard: &Shard, ids: &[JobId]) -> Result<Vec<Option<Job>>, Error>;

    /// Returns the body of a job as it was submitted; `None` if the job does not exist or has succeeded. Only a job
    /// that may run again keeps its body.
    async fn body(&self, id: &JobId) -> Result<Option<Bytes>, Error>;

    /// Returns the bytes that were attached to a job; `None` if there are none, or the job is gone.
    async fn attached(&self, id: &JobId) -> Result<Option<Bytes>, Error>;

    /// Returns the kept events of a job from number `from` on; empty if none are kept.
    async fn events(&self, id: &JobId, from: u64) -> Result<Vec<Event>, Error>;

    /// Lists a tenant's jobs in this shard, latest acceptance first. Reads at most [`MAX_LOOKED_AT`] jobs.
    async fn list(
        &self,
        shard: &Shard,
        tenant: &TenantId,
        query: &ListQuery,
    ) -> Result<Page, Error>;

    /// Returns the counts of the shard, for one tenant or for all.
    async fn stats(&self, shard: &Shard, tenant: Option<&TenantId>) -> Result<Stats, Error>;

    /// Returns the number of ready jobs by class, most urgent first. While new tenants arrive, a few jobs may be
    /// counted twice.
    async fn ready(&self, shard: &Shard) -> Result<[u64; 3], Error>;
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
