//! A call while it is held: its job is accepted, its caller waits.
//!
//! A caller that goes away cancels its job: at once where it does not retry, and otherwise when it has not retried in
//! time. A call with an idempotency key is to be found again by that key: its job goes on, and so
//! does one that is stored, or that its caller left on purpose.

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

/// How often a silent stream says that it lives, unless its client waits less.
pub(super) const ALIVE: Duration = Duration::from_secs(10);

/// A call whose job is accepted, or about to be. Dropped before its end, it leaves the job to its caller's retry,
/// or cancels it.
pub(super) struct Held {
    pub(super) state: AppState,
    pub(super) tenant: TenantId,
    pub(super) dialect: Dialect,
    /// When a call of which nothing was answered ends.
    pub(super) until: Instant,
    /// How often a silent stream says that it lives.
    pub(super) alive: Duration,
    pub(super) ear: Ear,
    pub(super) reply: Reply,
    /// Whether the job goes on when its caller goes away for good.
    pub(super) stays: bool,
    pub(super) retry: Retry,
    id: JobId,
    /// Whether nothing is left to do for the caller.
    is_over: bool,
}

/// How its end is heard of.
pub(super) enum Ear {
    /// Since before the job was there.
    Waiter(Waiter),
    Follower(Box<Follower>),
    /// The job was made before.
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
    /// Accepts the job, or finds the one of an earlier attempt.
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
        // Made before the job is: a client may leave, and an answer of the store be lost, at any time.
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

    /// Takes an orphan of the equal `call` over. False: there is none that can still answer.
    async fn adopt(&mut self, call: &CallKey) -> Result<bool, ApiError> {
        let drafted = self.id.clone();
        while let Some(orphan) = self.state.queue.take_orphan(drafted.shard(), call).await? {
            self.id = orphan;
            // A job that was cancelled, as its client seemed gone, is no answer to one that retries.
            if let Some(job) = self.job().await?.filter(|job| !has_no_answer(job)) {
                self.ear = Ear::Late(Box::new(job));
                return Ok(true);
            }
        }
        self.id = drafted;
        Ok(false)
    }

    /// Accepts the job, or finds the one that has its idempotency key.
    async fn accept(&mut self, job: NewJob, turn: Option<Turn>) -> Result<(), ApiError> {
        let queue = &self.state.queue;
        let accepted = match turn {
            None => queue.submit(vec![job]).await.map(|mut accepted| accepted.remove(0)),
            Some(turn) => queue.submit_turn(job, &turn.session, turn.change).await,
        };
        let accepted = match accepted {
            Ok(accepted) => accepted,
            Err(error) => {
                // Where the store gave no answer the job may be there all the same.
                if !matches!(error, Error::Unavailable(_)) {
                    self.release();
                }
                return Err(error.into());
            }
        };
        let Accepted::Replayed(known) = accepted else { return Ok(()) };
        self.id = known;
        // It may have other callers, of which nothing is known here.
        self.release();
        let found = self.job().await.map_err(|error| ApiError::from(error).about(&self.id))?;
        let message = format!("job {} was accepted before; its result is gone", self.id);
        let found = found.ok_or_else(|| ApiError::gone(message).about(&self.id))?;
        self.ear = Ear::Late(Box::new(found));
        Ok(())
    }

    /// A call that comes to a job which is there and goes on without it.
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

    /// The job.
    pub(super) fn id(&self) -> &JobId {
        &self.id
    }

    /// The call is over, or its job shall go on without it.
    pub(super) fn release(&mut self) {
        self.is_over = true;
    }

    /// The answer begins: its client will not ask for it again.
    pub(super) fn begin(&mut self) {
        self.retry = Retry::Never;
    }

    /// True if the client retries as far as is known, and finds the job then.
    pub(super) fn is_retried(&self) -> bool {
        !self.is_over && matches!(self.retry, Retry::Counted(..))
    }

    /// Whoever reads the events from the first one on.
    pub(super) fn follower(&mut self) -> Follower {
        match std::mem::replace(&mut self.ear, Ear::Taken) {
            Ear::Follower(follower) => *follower,
            Ear::Late(job) => self.state.queue.follow(&job, 0),
            Ear::Waiter(_) | Ear::Taken => self.state.queue.follow_new(&self.id),
        }
    }

    /// The job as it is now; a restart of the store is waited for.
    pub(super) async fn job(&self) -> Result<Option<Job>, Error> {
        self.state.look(&self.tenant, &self.id).await
    }
}

/// True if the job was ended, or is being ended, without its upstream.
fn has_no_answer(job: &Job) -> bool {
    matches!(job.status(), Status::Cancelled | Status::Expired)
        || matches!(job.state, JobState::Running { cancelling: true })
}
