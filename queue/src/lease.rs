//! The lease: a worker's ticket for one attempt, and what may be done with it.
//!
//! Only a [`Lease`] can be settled, and settling consumes it. The store accepts a settlement only
//! while this very lease (job and epoch) is still held, so a worker that was given up for dead can
//! neither finish a job nor keep it.

use std::{fmt, time::Duration};

use bytes::Bytes;

use crate::{
    clock::{Millis, SystemClock},
    fair::MOST_TOKENS,
    health::Fault,
    id::{JobId, SessionKey, TenantId},
    job::{AttemptError, Output, Spec, Usage},
    session::Turn,
    state::Class,
};

/// What names a lease: a job, its flow, and the attempt's epoch.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct LeaseKey {
    /// The job.
    pub job: JobId,
    /// Grows with every attempt of the job.
    pub epoch: u32,
    /// The class half of the job's flow.
    pub class: Class,
    /// The tenant half of the job's flow.
    pub tenant: TenantId,
}

/// One attempt at a job.
#[derive(Debug)]
pub struct Lease {
    /// Its name.
    pub key: LeaseKey,
    /// The job's session.
    pub session: Option<SessionKey>,
    /// What the job asks.
    pub spec: Spec,
    /// The JSON to send upstream.
    pub body: Bytes,
    /// Which attempt this is, from 1.
    pub attempt: u32,
    /// How many attempts the job may spend.
    pub max_attempts: u32,
    /// Whether earlier attempts passed output on, or may have.
    pub keeps_events: bool,
    /// By when the job must have ended.
    pub deadline: Option<Millis>,
    /// When the job was accepted.
    pub created_at: Millis,
    /// When this attempt was claimed, by the store's clock.
    pub claimed_at: Millis,
    /// What the session's conversation remembers, oldest first.
    pub turns: Vec<Turn>,
    /// See [`Receipt`].
    pub(crate) receipt: Receipt,
}

/// What a store hands out with a lease and wants back with its settlement, so that it need not look
/// it up, and a clock that goes as the store's: of no meaning to anybody else, and `None` where the
/// store needs nothing.
#[derive(Clone, Default)]
pub(crate) struct Receipt(pub(crate) Option<(Bytes, SystemClock)>);

impl fmt::Debug for Receipt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Receipt(…)")
    }
}

/// How an attempt ended.
#[derive(Debug, Clone, PartialEq)]
pub enum Outcome {
    /// With an answer.
    Succeeded {
        /// The answer.
        output: Output,
        /// What the session's conversation shall remember of it.
        turn: Option<Turn>,
    },
    /// Without an answer, and another attempt would not help or is not allowed.
    Failed {
        /// Why, and what the upstream said.
        output: Output,
    },
    /// Without an answer; try again.
    Retry {
        /// After how long.
        delay: Duration,
        /// Why.
        error: AttemptError,
    },
    /// Without an answer, for a reason that says something about the upstream, or may do so: the store decides
    /// whether the job or its lane is charged, see [`crate::health`].
    Faulted {
        /// What happened.
        fault: Fault,
        /// How long until the next attempt, if the job is charged or the lane stays open.
        delay: Duration,
        /// A random number in [0, 1): the random part of a cool-down.
        unit: f64,
        /// What the job ends with, if it is charged and this was its last attempt.
        output: Output,
        /// Why.
        error: AttemptError,
    },
    /// The worker gives the job back untried: it shuts down, or another worker or a later time suits the job
    /// better. Spends no attempt.
    Released {
        /// For how long the job then waits at least; zero for a place among the ready jobs.
        delay: Duration,
    },
    /// Its owner asked for its end.
    Cancelled,
    /// Its deadline passed.
    Expired,
}

/// The end of one attempt, to be handed to [`step`](crate::Backend::step).
#[derive(Debug)]
pub struct Settlement {
    /// Whose end.
    pub key: LeaseKey,
    /// How many turns the conversation keeps and for how long, from the job's spec.
    pub(crate) memory: Option<(u32, Duration)>,
    pub(crate) has_webhook: bool,
    /// How.
    pub outcome: Outcome,
    /// What it used, as far as is known; `None` keeps the estimate.
    pub usage: Option<Usage>,
    /// The job's model, of an attempt that was faulted.
    pub model: Option<String>,
    pub(crate) receipt: Receipt,
}

impl Lease {
    /// Ends the attempt. `usage` is what it used, as far as is known; of each count at most
    /// [`MOST_TOKENS`].
    #[must_use]
    pub fn settle(self, outcome: Outcome, usage: Option<Usage>) -> Settlement {
        let memory = self.spec.memory.as_ref().map(|memory| (memory.turns, memory.ttl()));
        let has_webhook = self.spec.webhook.is_some();
        let usage = usage.map(|usage| Usage {
            prompt_tokens: usage.prompt_tokens.min(MOST_TOKENS),
            completion_tokens: usage.completion_tokens.min(MOST_TOKENS),
        });
        let is_faulted = matches!(outcome, Outcome::Faulted { .. });
        let model = self.spec.model.filter(|_| is_faulted);
        let (key, receipt) = (self.key, self.receipt);
        Settlement { key, memory, has_webhook, outcome, usage, model, receipt }
    }
}

impl Settlement {
    /// Whether its job has a webhook, so that its end, if this is it, is to be told.
    #[must_use]
    pub fn has_webhook(&self) -> bool {
        self.has_webhook
    }

    /// A job whose owner asked for its end while it ran does not run again.
    pub(crate) fn unless_cancelled(mut self, cancelling: bool) -> Self {
        let again = match self.outcome {
            Outcome::Retry { .. } | Outcome::Faulted { .. } | Outcome::Released { .. } => true,
            Outcome::Succeeded { .. }
            | Outcome::Failed { .. }
            | Outcome::Cancelled
            | Outcome::Expired => false,
        };
        if cancelling && again {
            self.outcome = Outcome::Cancelled;
        }
        self
    }
}

/// What a settlement came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Settled {
    /// It is recorded.
    Done,
    /// It is recorded, and the whole lane waits, as its upstream asked for.
    LaneWaits,
    /// It is recorded, and the job has failed: the failure was charged to it, and no attempt is left.
    Failed,
    /// It is recorded, and the lane cools down: its upstream fails.
    LaneDown,
    /// It is recorded, and the lane is open again.
    LaneUp,
    /// The lease was no longer held: the job was given to another, or ended. Nothing was recorded.
    Lost,
}

/// What one turn of a worker's loop asks of a shard.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ClaimRequest {
    /// How many attempts to begin at most.
    pub max: usize,
    /// How long a lease lasts unless it is extended.
    pub lease: Duration,
}

/// What one turn of a worker's loop brought.
#[derive(Debug, Default)]
pub struct Step {
    /// What each settlement came to, in their order.
    pub settled: Vec<Settled>,
    /// The attempts that began.
    pub leases: Vec<Lease>,
    /// When there may be work again without a wake-up: the next due job, parked flow or lane.
    pub look_again: Option<Duration>,
}

/// What a heartbeat found.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Beat {
    /// Leases that are no longer held: stop the calls, settle nothing.
    pub lost: Vec<LeaseKey>,
    /// Jobs whose owner asked for their end: stop the calls and settle.
    pub cancelled: Vec<LeaseKey>,
}
