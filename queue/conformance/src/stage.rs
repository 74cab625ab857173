//! The environment in which a promise is tested.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;

use causeway_queue::{
    Backend, Fault, JobId, Lane, LaneName, Lease, NewJob, Outcome, Queue, SessionKey, Shard, Spec,
    TenantId,
    clock::ManualClock,
    job::{AttemptError, Job, Output, Response, State, Usage},
    json::RawJson,
    lease::{ClaimRequest, Settled, Step},
    state::Status,
    waiting::WaitingFor,
    workers::{WorkerId, WorkerReport},
};

/// The duration of a lease on a stage.
pub const LEASE: Duration = Duration::from_secs(15);

/// A fresh store, and the clock that it uses.
#[derive(Debug, Clone)]
pub struct Stage {
    /// The queue over the store: one lane, one shard.
    pub queue: Queue,
    /// The store.
    pub backend: Arc<dyn Backend>,
    /// The store's clock.
    pub clock: Arc<ManualClock>,
    /// The only shard.
    pub shard: Shard,
}

impl Stage {
    /// Returns a stage over `backend`, which uses `clock`.
    #[must_use]
    pub fn new(backend: Arc<dyn Backend>, clock: Arc<ManualClock>) -> Self {
        Self::in_lane(backend, clock, LaneName::default_lane())
    }

    /// Returns a stage in a lane of that name, which nothing else uses.
    #[must_use]
    pub fn in_lane(backend: Arc<dyn Backend>, clock: Arc<ManualClock>, lane: LaneName) -> Self {
        let shard = Shard { lane: lane.clone(), index: 0 };
        let queue = Queue::new(Arc::clone(&backend), vec![Lane::named(lane)]);
        Self { queue, backend, clock, shard }
    }

    /// Returns the store.
    #[must_use]
    pub fn store(&self) -> &dyn Backend {
        self.backend.as_ref()
    }

    /// Returns a new job of `tenant`, not yet accepted.
    #[must_use]
    pub fn job(&self, tenant: &str) -> NewJob {
        let spec = Spec { url: "/v1/chat/completions".to_owned(), ..Spec::default() };
        self.queue.draft(tenant_id(tenant), spec, Bytes::from_static(b"{\"n\":1}"), Some(10))
    }

    /// Returns a new job of `tenant` in the session `session`.
    #[must_use]
    pub fn in_session(&self, tenant: &str, session: &str) -> NewJob {
        NewJob { session: Some(session_key(session)), ..self.job(tenant) }
    }

    /// Submits `job` and returns its id.
    pub async fn accept(&self, job: NewJob) -> JobId {
        let accepted = self.queue.submit(vec![job]).await.expect("the job is accepted");
        accepted[0].id().clone()
    }

    /// Starts at most `max` attempts.
    pub async fn claim(&self, max: usize) -> Vec<Lease> {
        self.step(Vec::new(), max).await.leases
    }

    /// Starts one attempt; panics if there is no job.
    pub async fn claim_one(&self) -> Lease {
        self.claim(1).await.pop().expect("a job can be claimed")
    }

    /// Settles attempts and starts at most `max` new ones.
    pub async fn step(&self, mut settlements: Vec<causeway_queue::Settlement>, max: usize) -> Step {
        let claim = ClaimRequest { max, lease: LEASE };
        self.store().step(&self.shard, &mut settlements, claim).await.expect("the store answers")
    }

    /// Settles an attempt, and returns the result.
    pub async fn settle(&self, lease: Lease, outcome: Outcome) -> Settled {
        self.step(vec![lease.settle(outcome, None)], 0).await.settled[0]
    }

    /// Settles an attempt as successful.
    pub async fn succeed(&self, lease: Lease) -> Settled {
        self.settle(lease, succeeded()).await
    }

    /// Returns the job as it is now.
    pub async fn see(&self, id: &JobId) -> Job {
        let found = self.store().get(&self.shard, std::slice::from_ref(id)).await;
        let found = found.expect("the store answers").pop().flatten();
        found.expect("the job is there")
    }

    /// Returns the status of the job.
    pub async fn status(&self, id: &JobId) -> Status {
        self.see(id).await.status()
    }

    /// Returns the reason why a waiting job does not run.
    pub async fn waiting_for(&self, id: &JobId) -> WaitingFor {
        match self.see(id).await.state {
            State::Queued { waiting_for, .. } | State::Scheduled { waiting_for, .. } => waiting_for,
            state @ (State::Running { .. } | State::Ended { .. }) => panic!("{state:?}"),
        }
    }

    /// Returns the name of the reason why a waiting job does not run.
    pub async fn reason(&self, id: &JobId) -> &'static str {
        self.waiting_for(id).await.as_str()
    }

    /// Registers a worker that serves the lane.
    pub async fn start_worker(&self) -> WorkerId {
        let id = WorkerId::random();
        let lanes = vec![self.shard.lane.clone()];
        let report = WorkerReport { lanes, ..WorkerReport::default() };
        assert!(self.store().beat_worker(&id, &report).await.expect("the store answers"));
        id
    }

    /// Advances the clock.
    pub fn pass(&self, time: Duration) {
        self.clock.advance(time);
    }

    /// Ends expired leases.
    pub async fn reap(&self) -> causeway_queue::backend::Reaped {
        self.store().reap(&self.shard).await.expect("the store answers")
    }

    /// Asserts that `reconcile` has nothing to repair.
    pub async fn assert_sound(&self) {
        let repairs = self.store().reconcile(&self.shard).await.expect("the store answers");
        assert_eq!(repairs.total(), 0, "{repairs:?}");
    }
}

/// Returns the tenant of that name.
#[must_use]
pub fn tenant_id(name: &str) -> TenantId {
    TenantId::new(name).expect("a tenant's name")
}

/// Returns the session of that name.
#[must_use]
pub fn session_key(name: &str) -> SessionKey {
    SessionKey::new(name).expect("a session's name")
}

/// Returns a successful outcome.
#[must_use]
pub fn succeeded() -> Outcome {
    let response = Response { status_code: 200, body: RawJson::string("fine") };
    let usage = Some(Usage { prompt_tokens: 2, completion_tokens: 10 });
    Outcome::Succeeded {
        output: Output { response: Some(response), usage, ..Output::default() },
        turn: None,
    }
}

/// Returns an error, for outcomes that need one.
#[must_use]
pub fn error(attempt: u32) -> AttemptError {
    AttemptError {
        attempt,
        code: "upstream_error".to_owned(),
        message: "the upstream answered 500".to_owned(),
        status_code: Some(500),
    }
}

/// Returns an outcome that is retried after `delay`.
#[must_use]
pub fn retry_after(delay: Duration, attempt: u32) -> Outcome {
    Outcome::Retry { delay, error: error(attempt) }
}

/// Returns an outcome that the store charges to the job or to its lane.
#[must_use]
pub fn faulted(fault: Fault, delay: Duration, attempt: u32) -> Outcome {
    let output = Output { error: Some(error(attempt)), ..Output::default() };
    Outcome::Faulted { fault, delay, unit: 0.5, output, error: error(attempt) }
}

/// The outcome of an attempt that is handed back at once.
pub const RELEASED: Outcome = Outcome::Released { delay: Duration::ZERO };

/// Returns a failed outcome.
#[must_use]
pub fn failed(attempt: u32) -> Outcome {
    Outcome::Failed { output: Output { error: Some(error(attempt)), ..Output::default() } }
}
