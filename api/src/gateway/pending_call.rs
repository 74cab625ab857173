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
    dialect::Dialect,
    request::{CallRequest, ConversationTurn, KEEP_ALIVE, ReplyMode},
    retry::ExpectedRetry,
};
use crate::{error::ApiError, state::AppState};

/// A call with a job that is accepted or about to be. Dropping it early leaves the job to a retry, or cancels it.
pub(super) struct PendingCall {
    pub(super) state: AppState,
    pub(super) tenant: TenantId,
    pub(super) dialect: Dialect,
    /// The end of the hold time. A stream that has sent a part of its answer may continue beyond it.
    pub(super) until: Instant,
    /// The interval of keep-alive comments in a silent stream.
    pub(super) keep_alive: Duration,
    pub(super) subscription: Subscription,
    pub(super) reply: ReplyMode,
    /// True if the job continues after its caller has left for good.
    pub(super) outlives_caller: bool,
    pub(super) retry: ExpectedRetry,
    id: JobId,
    /// True if nothing remains to be done for the caller.
    is_over: bool,
}

/// The source of the job's end or events.
pub(super) enum Subscription {
    /// Registered before the job was submitted, so it misses no end.
    Waiter(Waiter),
    Follower(Box<Follower>),
    /// The job existed before this call.
    Existing(Box<Job>),
    Taken,
}

impl Drop for PendingCall {
    fn drop(&mut self) {
        if self.is_over {
            return;
        }
        let (state, tenant, id) = (self.state.clone(), self.tenant.clone(), self.id.clone());
        let (retry, outlives_caller) =
            (std::mem::replace(&mut self.retry, ExpectedRetry::Never), self.outlives_caller);
        let leave = async move {
            if let Err(error) = retry.after(&state, &tenant, &id, outlives_caller).await {
                tracing::info!(job.id = %id, %error, "cannot cancel the job of a client that left");
            }
        };
        // A destructor cannot await, and the process must not stop before this task has ended.
        self.state.background_tasks.spawn(leave.in_current_span());
    }
}

impl PendingCall {
    /// Submits the job, or attaches to that of an earlier attempt.
    pub(super) async fn submit(
        state: &AppState,
        tenant: TenantId,
        call: CallRequest,
        dialect: Dialect,
    ) -> Result<Self, ApiError> {
        let CallRequest { job, reply, keep_alive, outlives_caller, retry, retries, turn } = call;
        let queue = &state.queue;
        // Subscribed before the job is submitted, so no event is missed.
        let subscription = if reply == ReplyMode::Stream {
            Subscription::Follower(Box::new(queue.follow_new(&job.id)))
        } else {
            Subscription::Waiter(queue.waiter(&tenant, &job.id))
        };
        // Built before the job is stored: the client may leave, or the store's answer may be lost, at any time
        // after.
        let mut pending = Self {
            tenant,
            dialect,
            keep_alive,
            subscription,
            reply,
            retry,
            state: state.clone(),
            until: Instant::now() + state.settings.hold,
            outlives_caller: outlives_caller || reply == ReplyMode::JobReference,
            id: job.id.clone(),
            is_over: false,
        };
        if let Some(call) = retries
            && pending.attach_to_orphan(&call).await?
        {
            return Ok(pending);
        }
        pending.accept(job, turn).await?;
        Ok(pending)
    }

    /// Takes over an orphan of an equal `call`. False if there is none that can still answer.
    async fn attach_to_orphan(&mut self, call: &CallKey) -> Result<bool, ApiError> {
        let drafted = self.id.clone();
        // Taking is atomic: of several equal retries, each gets another orphan.
        while let Some(orphan) = self.state.queue.take_orphan(drafted.shard(), call).await? {
            self.id = orphan;
            // A job that was cancelled because its client seemed gone is no answer for the retry.
            if let Some(job) = self.job().await?.filter(|job| !has_no_answer(job)) {
                self.subscription = Subscription::Existing(Box::new(job));
                return Ok(true);
            }
        }
        // No orphan fits, so the call submits the job that it drafted.
        self.id = drafted;
        Ok(false)
    }

    /// Submits the job, or attaches to the one with the same idempotency key.
    async fn accept(
        &mut self,
        job: NewJob,
        turn: Option<ConversationTurn>,
    ) -> Result<(), ApiError> {
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
        self.subscription = Subscription::Existing(Box::new(found));
        Ok(())
    }

    /// Returns a call that attaches to an existing job, which continues without it.
    pub(super) fn attached(state: &AppState, tenant: TenantId, job: Job, dialect: Dialect) -> Self {
        Self {
            state: state.clone(),
            tenant,
            dialect,
            until: Instant::now() + state.settings.hold,
            keep_alive: KEEP_ALIVE,
            id: job.id.clone(),
            subscription: Subscription::Existing(Box::new(job)),
            reply: ReplyMode::Stream,
            // The job belongs to another call, which decides about its cancellation.
            is_over: true,
            outlives_caller: true,
            retry: ExpectedRetry::Never,
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
    pub(super) fn start_answer(&mut self) {
        self.retry = ExpectedRetry::Never;
    }

    /// True if the client is expected to retry, and would find the job.
    pub(super) fn is_retried(&self) -> bool {
        !self.is_over && matches!(self.retry, ExpectedRetry::Counted(..))
    }

    /// Returns the follower of all events from the first one on.
    pub(super) fn follower(&mut self) -> Follower {
        match std::mem::replace(&mut self.subscription, Subscription::Taken) {
            Subscription::Follower(follower) => *follower,
            // An existing job may already have events, which the log replays.
            Subscription::Existing(job) => self.state.queue.follow(&job, 0),
            Subscription::Waiter(_) | Subscription::Taken => self.state.queue.follow_new(&self.id),
        }
    }

    /// Returns the current job; waits while the store restarts.
    pub(super) async fn job(&self) -> Result<Option<Job>, Error> {
        self.state.read_job(&self.tenant, &self.id).await
    }
}

/// True if the job was cancelled or is being cancelled, or ended otherwise without its upstream.
fn has_no_answer(job: &Job) -> bool {
    matches!(job.status(), Status::Cancelled | Status::Expired)
        || matches!(job.state, JobState::Running { cancelling: true })
}
