//! The states of a job, and the transitions between them.
//!
//! ```text
//!  enqueue                                          enqueue with a delay
//!     │                                                      │
//!     ▼               the time has come: step                ▼
//!   queued ◀──────────────────────────────────────────── scheduled
//!    │ ▲ │                                                 ▲  │
//!    │ │ └── cancel, deadline ───────────────────────────┐ │  │
//!    │ │                                                 │ │  │
//!    │ └── lease expired: reap                           │ │  │
//!    │ │   retry at once, handed back: settle            │ │  │
//!    │ │                                                 │ │  │
//!    ▼ │           retry after a delay: settle           │ │  │
//!  running ──────────────────────────────────────────────┼─┘  │
//!    │                                                   │    │
//!    │ settle, reap                                      ▼    ▼
//!    └──▶ succeeded, failed, cancelled, expired    cancelled, expired
//!                      │
//!                      └── retry, unless succeeded ──▶ queued
//!         every ended job ── retention over, delete ──▶ forgotten
//! ```
//!
//! API processes call `enqueue`, `cancel`, `retry` and `delete`. Worker processes call `step`, which settles attempts
//! and claims jobs; the reaper of each worker process calls `reap` and `reconcile`. The state of a job is in the store
//! only. So the crash of a process changes no state, except that the leases of a worker expire.

#![warn(clippy::wildcard_enum_match_arm)]

use std::fmt;

use serde::{Deserialize, Serialize};

/// The state of a job.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Status {
    /// Ready for a worker, or behind an earlier job of its session.
    ///
    /// In: `enqueue`; `step`, when a scheduled job is due; `settle`, when the attempt is handed back or retried at
    /// once; `reap`, when the lease expired; `retry`.
    ///
    /// Out: `step` claims the job; `cancel`; the deadline or `give_up_after`, by `step`, `reap` or `reconcile`. The
    /// job becomes scheduled if its start time has not come when the session reaches it, or if `step` passes it over
    /// as the probe of a failing lane.
    ///
    /// Crash: no effect. Deletion: refused until the job has ended.
    Queued,
    /// Waits for a time: its start, the next attempt, or the recovery of its lane.
    ///
    /// In: `enqueue` with a delay; `settle`, when the attempt is retried or handed back with a delay; `step` and the
    /// end of an earlier job, see [`Queued`](Self::Queued).
    ///
    /// Out: `step`, when the time has come; `settle` or a resumed lane, when a job was kept back by a failing lane;
    /// `cancel`; the deadline, by `step`, `reap` or `reconcile`.
    ///
    /// Crash: no effect. Deletion: refused until the job has ended.
    Scheduled,
    /// Leased by a worker.
    ///
    /// In: `step`. Out: `settle` by the worker; `reap` when the lease expires. `cancel` only marks the job; its
    /// worker then stops the call and settles. A worker also stops the call at the deadline and settles the job as
    /// expired.
    ///
    /// Crash of the worker: its heartbeat stops, the lease expires, and `reap` requeues the job with one stall more.
    /// The job fails after `max_stalls`. Deletion: refused until the job has ended.
    Running,
    /// Ended with an answer.
    ///
    /// In: `settle`. Out: never; only deletion. The body is deleted at once, for the job cannot run again.
    ///
    /// Crash: no effect. Deletion: by `delete`, or after the retention.
    Succeeded,
    /// Ended without an answer.
    ///
    /// In: `settle`, if the failure is fatal or the last attempt is spent; `reap`, if too many workers were lost.
    /// Out: `retry`.
    ///
    /// Crash: no effect. Deletion: by `delete`, or after the retention.
    Failed,
    /// Ended by a client.
    ///
    /// In: `cancel`, if the job waits; `settle`, if it ran; `reap`, if its lease expired after the cancel. Out:
    /// `retry`.
    ///
    /// Crash: no effect. Deletion: by `delete`, or after the retention.
    Cancelled,
    /// Not ended before its deadline, or before `give_up_after` if it has no deadline.
    ///
    /// In: `step`, `reap` and `reconcile`, if the job waits; `settle` and `reap`, if it ran. Out: `retry`.
    ///
    /// Crash: no effect. Deletion: by `delete`, or after the retention.
    Expired,
}

impl Status {
    /// All states, in the order of a job's life.
    pub const ALL: [Self; 7] = [
        Self::Queued,
        Self::Scheduled,
        Self::Running,
        Self::Succeeded,
        Self::Failed,
        Self::Cancelled,
        Self::Expired,
    ];

    /// Returns true if the job has ended.
    #[must_use]
    pub fn is_terminal(self) -> bool {
        match self {
            Self::Queued | Self::Scheduled | Self::Running => false,
            Self::Succeeded | Self::Failed | Self::Cancelled | Self::Expired => true,
        }
    }

    /// Returns true if a job that ended with this status can be retried.
    #[must_use]
    pub fn is_retryable(self) -> bool {
        match self {
            Self::Failed | Self::Cancelled | Self::Expired => true,
            Self::Queued | Self::Scheduled | Self::Running | Self::Succeeded => false,
        }
    }

    /// Returns the name that clients see.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Queued => "queued",
            Self::Scheduled => "scheduled",
            Self::Running => "running",
            Self::Succeeded => "succeeded",
            Self::Failed => "failed",
            Self::Cancelled => "cancelled",
            Self::Expired => "expired",
        }
    }

    /// Returns the letter of the status in a stored record.
    pub fn code(self) -> u8 {
        match self {
            Self::Queued => b'q',
            Self::Scheduled => b'w',
            Self::Running => b'r',
            Self::Succeeded => b's',
            Self::Failed => b'f',
            Self::Cancelled => b'c',
            Self::Expired => b'x',
        }
    }

    /// Returns the status with this letter; `None` for any other letter.
    pub fn from_code(code: u8) -> Option<Self> {
        Self::ALL.into_iter().find(|status| status.code() == code)
    }
}

impl fmt::Display for Status {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// The urgency of a job. Claims prefer higher classes without starving lower ones.
#[derive(
    Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
#[serde(rename_all = "lowercase")]
pub enum Class {
    /// A user waits for the answer.
    Interactive,
    /// The default.
    #[default]
    Standard,
    /// Runs when capacity is left over.
    Batch,
}

impl Class {
    /// All classes, most urgent first.
    pub const ALL: [Self; 3] = [Self::Interactive, Self::Standard, Self::Batch];

    /// Returns the factor of the class in a flow's weight.
    #[must_use]
    pub fn weight(self) -> u32 {
        match self {
            Self::Interactive => 16,
            Self::Standard => 4,
            Self::Batch => 1,
        }
    }

    /// Returns the name that clients see.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Interactive => "interactive",
            Self::Standard => "standard",
            Self::Batch => "batch",
        }
    }

    /// Returns the index in [`Class::ALL`]. A flow's name starts with this digit, so that the more urgent of two
    /// flows with equal tags sorts first.
    #[must_use]
    pub fn rank(self) -> usize {
        match self {
            Self::Interactive => 0,
            Self::Standard => 1,
            Self::Batch => 2,
        }
    }
}

impl fmt::Display for Class {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}
