//! The lease: the right of one worker to run one attempt.
//!
//! Only a [`Lease`] can be settled, and settling consumes it. The store accepts a settlement only while this lease
//! (job and epoch) is still held. So after its lease expired, a worker can neither finish nor keep the job.

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

/// The identity of a lease: a job, its flow, and the attempt's epoch.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct LeaseKey {
    /// The job.
    pub job: JobId,
    /// The epoch, which grows with every attempt of the job.
    pub epoch: u32,
    /// The class half of the job's flow.
    pub class: Class,
    /// The tenant half of the job's flow.
    pub tenant: TenantId,
}

/// The lease of one attempt.
#[derive(Debug)]
pub struct Lease {
    /// The identity.
    pub key: LeaseKey,
    /// The job's session.
    pub session: Option<SessionKey>,
    /// The request to the upstream.
    pub spec: Spec,
    /// The JSON body for the upstream.
    pub body: Bytes,
    /// The number of the attempt, from 1.
    pub attempt: u32,
    /// The number of attempts that the job may spend.
    pub max_attempts: u32,
    /// True if the job's events are kept, so that readers may have seen output of earlier attempts.
    pub keeps_events: bool,
    /// The time by which the job must end.
    pub deadline: Option<Millis>,
    /// The time at which the job was accepted.
    pub created_at: Millis,
    /// The time of the claim, by the store's clock.
    pub claimed_at: Millis,
    /// The remembered turns of the session's conversation, oldest first.
    pub turns: Vec<Turn>,
    /// Opaque backend state: see [`Receipt`].
    pub receipt: Receipt,
}

/// Opaque backend state carried from claim to settlement, to save a lookup: record prefix and store clock. `None` if
/// the backend needs none.
#[derive(Clone, Default)]
pub struct Receipt(pub Option<(Bytes, SystemClock)>);

impl fmt::Debug for Receipt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Receipt(…)")
    }
}

/// The outcome of an attempt.
#[derive(Debug, Clone, PartialEq)]
pub enum Outcome {
    /// With an answer.
    Succeeded {
        /// The answer.
        output: Output,
        /// The turn to append to the session's conversation.
        turn: Option<Turn>,
    },
    /// Without an answer, and another attempt would not help or is not allowed.
    Failed {
        /// The error, and the upstream's answer if there is one.
        output: Output,
    },
    /// Without an answer; the job is retried.
    Retry {
        /// The wait before the next attempt.
        delay: Duration,
        /// The error.
        error: AttemptError,
    },
    /// Without an answer, for a reason that may lie with the upstream. The store charges the job or its lane, see
    /// [`crate::health`].
    Faulted {
        /// The fault.
        fault: Fault,
        /// The wait before the next attempt, if the job is charged or the lane stays open.
        delay: Duration,
        /// A random number in [0, 1): the random part of a cool-down.
        unit: f64,
        /// The output of the job, if it is charged and this was its last attempt.
        output: Output,
        /// The error.
        error: AttemptError,
    },
    /// The worker hands the job back untried: it shuts down, or another worker or a later time suits the job better.
    /// Spends no attempt.
    Released {
        /// The minimum wait of the job; zero returns it to the ready jobs.
        delay: Duration,
    },
    /// The call was stopped because the job was cancelled.
    Cancelled,
    /// The call was stopped because the deadline passed.
    Expired,
}

/// The end of one attempt, for [`step`](crate::backend::Transitions::step).
#[derive(Debug)]
pub struct Settlement {
    /// The lease that it ends.
    pub key: LeaseKey,
    /// The number of turns that the conversation keeps, and their TTL, from the job's spec.
    pub memory: Option<(u32, Duration)>,
    /// True if the end of the job is a webhook event.
    pub has_webhook: bool,
    /// The outcome.
    pub outcome: Outcome,
    /// The tokens that the attempt used, as far as known; `None` keeps the estimate.
    pub usage: Option<Usage>,
    /// The job's model; only for an attempt that was faulted.
    pub model: Option<String>,
    /// The receipt of the lease.
    pub receipt: Receipt,
}

impl Lease {
    /// Ends the attempt. `usage` is the tokens that it used, as far as known; each count is capped at
    /// [`MOST_TOKENS`].
    #[must_use]
    pub fn settle(self, outcome: Outcome, usage: Option<Usage>) -> Settlement {
        let memory = self.spec.memory.as_ref().map(|memory| (memory.turns, memory.ttl()));
        let has_webhook = self.spec.webhook.is_some();
        // An invented count must not outweigh other tenants.
        let usage = usage.map(|usage| Usage {
            prompt_tokens: usage.prompt_tokens.min(MOST_TOKENS),
            completion_tokens: usage.completion_tokens.min(MOST_TOKENS),
        });
        // The model names a failure in logs only, so it is not carried for other outcomes.
        let is_faulted = matches!(outcome, Outcome::Faulted { .. });
        let model = self.spec.model.filter(|_| is_faulted);
        let (key, receipt) = (self.key, self.receipt);
        Settlement { key, memory, has_webhook, outcome, usage, model, receipt }
    }
}

impl Settlement {
    /// Returns true if the job has a webhook, so that its end is published.
    #[must_use]
    pub fn has_webhook(&self) -> bool {
        self.has_webhook
    }

    /// Turns an outcome that would run the job again into a cancel, if the job was cancelled while it ran.
    pub fn unless_cancelled(mut self, cancelling: bool) -> Self {
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

/// The result of a settlement.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Settled {
    /// Recorded.
    Done,
    /// Recorded; the whole lane waits, because its upstream refused the rate.
    LaneWaits,
    /// Recorded; the job has failed, because the failure was charged to it and no attempt is left.
    Failed,
    /// Recorded; the lane cools down, because its upstream fails.
    LaneDown,
    /// Recorded; the lane is open again.
    LaneUp,
    /// Not recorded: the lease was no longer held, because the job was leased again or ended.
    Lost,
}

/// The claim of one step.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ClaimRequest {
    /// The most attempts to start.
    pub max: usize,
    /// The duration of each lease, unless it is extended.
    pub lease: Duration,
}

/// The result of one step.
#[derive(Debug, Default)]
pub struct Step {
    /// The results of the settlements, in their order.
    pub settled: Vec<Settled>,
    /// The attempts that started.
    pub leases: Vec<Lease>,
    /// The time until work may be visible without a wake-up: the next due job, parked flow or lane.
    pub poll_after: Option<Duration>,
}

/// The leases that an extension found lost or cancelled.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Extended {
    /// Leases that are no longer held: the worker stops the calls and settles nothing.
    pub lost: Vec<LeaseKey>,
    /// Jobs that were cancelled: the worker stops the calls and settles.
    pub cancelled: Vec<LeaseKey>,
}
