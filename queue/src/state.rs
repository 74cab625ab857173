//! The states of a job, and who moves it between them.
//!
//! ```text
//!             enqueue ─┬─▶ scheduled ──step──▶ queued ◀─┬─ enqueue
//!                      │      ▲  │               │      │
//!                      │      │  └── cancel ──┐  │      ├─ reap (a lease expired)
//!        settle: retry ┴──────┤               │  │ step ├─ settle: handed back
//!                             │               ▼  ▼      │
//!                          running ◀──────────(claim)───┘
//!                             │
//!      settle ────────────────┴──▶ succeeded, failed, cancelled, expired
//! ```

#![warn(clippy::wildcard_enum_match_arm)]

use std::fmt;

use serde::{Deserialize, Serialize};

/// Where a job is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Status {
    /// Runs as soon as its turn comes. In: `enqueue`, `step` (its time has come, or the job before it in
    /// its session ended), `reap` (its worker died), `settle` (handed back, its lane stopped, or tried
    /// again at once), `retry`. Out: `step` claims it, `cancel`, its deadline.
    Queued,
    /// Waits for a time. In: `enqueue` with a delay, `settle` with a retry. Out: `step` when the
    /// time has come, `cancel`, its deadline.
    Scheduled,
    /// Leased by a worker. In: `step`. Out: `settle`; `reap` when the lease expires.
    Running,
    /// Ended with an answer. In: `settle`. Out: its TTL.
    Succeeded,
    /// Ended without an answer. In: `settle` (fatal, or out of attempts), `reap` (out of stalls).
    /// Out: `retry`, its TTL.
    Failed,
    /// Ended by its owner. In: `cancel` while it waits, `settle` while it runs, `reap` when its
    /// worker died while a cancel was under way. Out: `retry`, its TTL.
    Cancelled,
    /// Did not end before its deadline. In: `step`, `reap` and `reconcile` while it waits, `settle` and
    /// `reap` while it runs.
    /// Out: `retry`, its TTL.
    Expired,
}

impl Status {
    /// All of them, in the order of a job's life.
    pub const ALL: [Self; 7] = [
        Self::Queued,
        Self::Scheduled,
        Self::Running,
        Self::Succeeded,
        Self::Failed,
        Self::Cancelled,
        Self::Expired,
    ];

    /// Whether the job has ended.
    #[must_use]
    pub fn is_terminal(self) -> bool {
        match self {
            Self::Queued | Self::Scheduled | Self::Running => false,
            Self::Succeeded | Self::Failed | Self::Cancelled | Self::Expired => true,
        }
    }

    /// Whether a job that ended so can be put back.
    #[must_use]
    pub fn is_retryable(self) -> bool {
        match self {
            Self::Failed | Self::Cancelled | Self::Expired => true,
            Self::Queued | Self::Scheduled | Self::Running | Self::Succeeded => false,
        }
    }

    /// The name that clients see.
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

    /// The letter that stands for it in a stored record.
    pub(crate) fn code(self) -> u8 {
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

    /// The status whose letter is `code`.
    pub(crate) fn from_code(code: u8) -> Option<Self> {
        Self::ALL.into_iter().find(|status| status.code() == code)
    }
}

impl fmt::Display for Status {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// How urgent a job is. Claims prefer higher classes without starving lower ones.
#[derive(
    Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
#[serde(rename_all = "lowercase")]
pub enum Class {
    /// Somebody is watching.
    Interactive,
    /// The default.
    #[default]
    Standard,
    /// Whenever there is room.
    Batch,
}

impl Class {
    /// All of them, most urgent first.
    pub const ALL: [Self; 3] = [Self::Interactive, Self::Standard, Self::Batch];

    /// The class's factor in a flow's weight.
    #[must_use]
    pub fn weight(self) -> u32 {
        match self {
            Self::Interactive => 16,
            Self::Standard => 4,
            Self::Batch => 1,
        }
    }

    /// The name that clients see.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Interactive => "interactive",
            Self::Standard => "standard",
            Self::Batch => "batch",
        }
    }

    /// Place in [`Class::ALL`]; as a digit it begins a flow's name, so that among equal tags the
    /// more urgent flow sorts first.
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
