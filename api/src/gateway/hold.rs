//! A pending call: its job is accepted, and its caller waits for the answer.
//!
//! A caller that leaves cancels its job: at once if it does not retry, else once the time for its retry is over.
//! Jobs with an idempotency key, stored jobs and background jobs continue.

use causeway_queue::{
    Accepted, Error, Job, JobId, NewJob, Status, TenantId,
    job::State as JobState,
    orphan::CallKey,
    reader::{Follower, Waiter},
};
use tokio::time::{Duration, Instant};

use tracing::Instrument as _;

use super::{
    Dialect,
    request::{Asked, Reply},
    responses::conversation::Turn,
    retry::Retry,
};
use crate::{error::ApiError, state::AppState};

/// The interval of keep-alive comments in a silent stream, unless its client has a shorter time-out.
pub(super) const ALIVE: Duration = Duration::from_secs(10);

/// A call whose job is accepted or about to be. Dropping it early leaves the job to a retry, or cancels it.
pub(super) struct Held {
    pub(super) state: AppState,
    pub(super) tenant: TenantId,
    pub(super) dialect: Dialect,
    /// The end of the hold time. A stream that has sent a part of its answer may continue beyond it.
    pub(super) until: Instant,
    /// The interval of keep-alive comments in a silent stream.
    pub(super) alive: Duration,
    pub(super) ear: Ear,
    pub(super) reply: Reply,
    /// True if the job continues after its caller has left for good.
    pub(super) stays: bool,
    pub(super) retry: Retry,
    id: JobId,
    /// True if nothing remains to be done for the caller.
    is_over: bool,
}

/// The source of the job's end or events.
pub(super) enum Ear {
    /// Registered before the job was submitted, so it misses no end.
    Waiter(Waiter),
    Follower(Box<Follower>),
    /// The job existed before this call.
    Late(Box<Job>),
    Taken,
}

impl Drop for Held {
    fn drop(&mut self) {
        if self.is_over {
            return;
        }
        let (state, tenant, id) = (self.state.clone(), self.tenant.clone(), self.id.clone());
        let (retry, stays) = (std::mem::replace(&mut self.retry, Retry::Never), self.stays);
        let leave = async move {
            if let Err(error) = retry.after(&state, &tenant, &id, stays).await {
                tracing::info!(job.id = %id, %error, "cannot cancel the job of a client that left");
            }
        };
        self.state.errands.spawn(leave.in_current_span());
    }
}

impl Held {
    /// Submits the job, or attaches to that of an earlier attempt.
    pub(super) async fn submit(
        state: &AppState,
        tenant: TenantId,
        asked: Asked,
        dialect: Dialect,
    ) -> Result<Self, ApiError> {
        let Asked { job, reply, alive, stays, retry, retries, turn } = asked;
        let queue = &state.queue;
        let ear = if reply == Reply::Stream {
            Ear::Follower(Box::new(queue.follow_new(&job.id)))
        } else {
            Ear::Waiter(queue.waiter(&tenant, &job.id))
        };
        let (id, until) = (job.id.clone(), Instant::now() + state.settings.hold);
        let (state, stays) = (state.clone(), stays || reply == Reply::Place);
        // Built before the job is stored: the client may leave, or the store's answer may be lost, at any time
        // after.
        let is_over = false;
        let mut held =
            Self { state, tenant, dialect, until, alive, ear, reply, stays, retry, id, is_over };
        if let Some(call) = retries
            && held.adopt(&call).await?
        {
            return Ok(held);
        }
        held.accept(job, turn).await?;
        Ok(held)
    }

    /// Takes over an orphan of an equal `call`. False if there is none that can still answer.
    async fn adopt(&mut self, call: &CallKey) -> Result<bool, ApiError> {
        let drafted = self.id.clone();
        while let Some(orphan) = self.state.queue.take_orphan(drafted.shard(), call).await? {
            self.id = orphan;
            // A job that was cancelled because its client seemed gone is no answer for the retry.
            if let Some(job) = self.job().await?.filter(|job| !has_no_answer(job)) {
                self.ear = Ear::Late(Box::new(job));
                return Ok(true);
            }
        }
        self.id = drafted;
        Ok(false)
    }

    /// Submits the job, or attaches to the one with the same idempotency key.
    async fn accept(&mut self, job: NewJob, turn: Option<Turn>) -> Result<(), ApiError> {
        let queue = &self.state.queue;
        let accepted = match turn {
            None => queue.submit(vec![job]).await.map(|mut accepted| accepted.remove(0)),
            Some(turn) => queue.submit_turn(job, &turn.session, turn.change).await,
        };
        let accepted = match accepted {
            Ok(accepted) => accepted,
            Err(error) => {
                // After `Unavailable` the job may be stored nevertheless, so the drop guard stays armed.
                if !matches!(error, Error::Unavailable(_)) {
                    self.release();
                }
                return Err(error.into());
            }
        };
        let Accepted::Replayed(known) = accepted else { return Ok(()) };
        self.id = known;
        // An attached job may have further callers, which this process does not know.
        self.release();
        let found = self.job().await.map_err(|error| ApiError::from(error).about(&self.id))?;
        let message = format!("job {} was accepted earlier, and its result has expired", self.id);
        let found = found.ok_or_else(|| ApiError::gone(message).about(&self.id))?;
        self.ear = Ear::Late(Box::new(found));
        Ok(())
    }

    /// Returns a call that attaches to an existing job, which continues without it.
    pub(super) fn attached(state: &AppState, tenant: TenantId, job: Job, dialect: Dialect) -> Self {
        Self {
            state: state.clone(),
            tenant,
            dialect,
            until: Instant::now() + state.settings.hold,
            alive: ALIVE,
            id: job.id.clone(),
            ear: Ear::Late(Box::new(job)),
            reply: Reply::Stream,
            is_over: true,
            stays: true,
            retry: Retry::Never,
        }
    }

    /// Returns the id of the job.
    pub(super) fn id(&self) -> &JobId {
        &self.id
    }

    /// Disarms the drop guard: the call is over, or its job continues without it.
    pub(super) fn release(&mut self) {
        self.is_over = true;
    }

    /// Marks the start of the answer: from now on the client does not retry.
    pub(super) fn begin(&mut self) {
        self.retry = Retry::Never;
    }

    /// True if the client is expected to retry, and would find the job.
    pub(super) fn is_retried(&self) -> bool {
        !self.is_over && matches!(self.retry, Retry::Counted(..))
    }

    /// Returns the follower of all events from the first one on.
    pub(super) fn follower(&mut self) -> Follower {
        match std::mem::replace(&mut self.ear, Ear::Taken) {
            Ear::Follower(follower) => *follower,
            Ear::Late(job) => self.state.queue.follow(&job, 0),
            Ear::Waiter(_) | Ear::Taken => self.state.queue.follow_new(&self.id),
        }
    }

    /// Returns the current job; waits while the store restarts.
    pub(super) async fn job(&self) -> Result<Option<Job>, Error> {
        self.state.look(&self.tenant, &self.id).await
    }
}

/// True if the job was cancelled or is being cancelled, or ended otherwise without its upstream.
fn has_no_answer(job: &Job) -> bool {
    matches!(job.status(), Status::Cancelled | Status::Expired)
        || matches!(job.state, JobState::Running { cancelling: true })
}
