//! The owner of a failure, its consequence, and the facts that decide it.

use std::time::Duration;

use crate::upstream::target::CallTarget;

/// The owner of a failure and its consequence. A named time is the earliest start of the next attempt.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Disposition {
    /// Owned by the upstream's rate limit: the lane starts nothing for this time. No attempt is spent.
    Rate(Duration),
    /// Owned by the lane: it cools down and starts nothing for this time. No attempt is spent.
    Unavailable(Duration),
    /// Owned by the lane: it cools down after several such failures in a row. No attempt is spent.
    Upstream {
        /// True if one failure is enough, because the next job would fail in the same way.
        at_once: bool,
        /// The time that the upstream named.
        after: Option<Duration>,
    },
    /// Owned by the job while others of its lane succeed; by the lane after five different jobs in a row.
    Unclear(Option<Duration>),
    /// Owned by the job: it spends an attempt and is retried.
    Retry(Option<Duration>),
    /// Owned by the job: another attempt would not help.
    Fatal,
    /// Owned by this worker or the receiver: the job is handed back for this time, and no attempt is spent.
    Released(Duration),
}

/// The facts about an attempt that decide the consequence of its failure.
#[derive(Debug, Clone)]
pub(crate) struct Attempt<'a> {
    /// The number of the attempt, from 1.
    pub(crate) number: u32,
    /// Most attempts that the job may spend.
    pub(crate) max: u32,
    /// The endpoint that was called.
    pub(crate) url: &'a str,
    /// The address of the endpoint, for messages.
    pub(crate) target: Option<CallTarget>,
}
