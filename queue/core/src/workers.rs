//! The registry of worker processes: the live ones, and the lanes they serve.
//!
//! Each worker process writes one entry every [`BEAT_INTERVAL`], regardless of the number of jobs it runs, and
//! removes it at an orderly stop. An entry that is silent for longer than [`LIVE_FOR`] is that of a lost worker; it
//! is listed until [`FORGET_AFTER`]. The registry is informational: only leases decide which jobs run again.

use std::{fmt, time::Duration};

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::{clock::Millis, id::LaneName};

/// The interval between two heartbeats of a worker process.
pub const BEAT_INTERVAL: Duration = Duration::from_secs(2);

/// The silence after which a worker is lost: two heartbeats may fail.
pub const LIVE_FOR: Duration = Duration::from_secs(6);

/// The silence after which the entry of a lost worker is removed.
pub const FORGET_AFTER: Duration = Duration::from_secs(600);

/// The most entries in the registry. A worker beyond that works, but is not listed.
pub const MAX_WORKERS: usize = 1000;

/// The name of one run of a worker process, unique in a store.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct WorkerId(String);

impl WorkerId {
    /// Returns a new id, which sorts after earlier ones.
    #[must_use]
    pub fn random() -> Self {
        Self(format!("worker_{}", Uuid::now_v7().simple()))
    }

    /// Returns the id that a store holds as text.
    pub fn stored(text: String) -> Self {
        Self(text)
    }

    /// Returns the id as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for WorkerId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// The report of a worker process, sent with each heartbeat.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct WorkerReport {
    /// The name for people: host and process id, unless configured.
    pub name: String,
    /// The version.
    pub version: String,
    /// The lanes that it serves.
    pub lanes: Vec<LaneName>,
    /// The most calls that it runs at once.
    pub concurrency: u64,
    /// The calls that it runs now.
    pub running: u64,
    /// The webhook deliveries that it runs now, besides the calls.
    pub deliveries: u64,
    /// True if it claims no more jobs because it stops.
    pub is_draining: bool,
}

/// An entry of the registry.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RegisteredWorker {
    /// The id of the process.
    pub id: WorkerId,
    /// The time of the latest report, by the store's clock.
    pub beat_at: Millis,
    /// The time since then.
    pub silent_for: Duration,
    /// The latest report.
    pub report: WorkerReport,
}

/// The health of a worker process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WorkerStatus {
    /// It reports, and claims jobs.
    Live,
    /// It reports, and finishes what it runs.
    Draining,
    /// It has not reported for [`LIVE_FOR`]: it was killed, hangs, or cannot reach the store.
    Lost,
}

impl WorkerStatus {
    /// The names that clients see.
    pub const NAMES: [&str; 3] = ["live", "draining", "lost"];

    /// Returns the name that clients see.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Live => "live",
            Self::Draining => "draining",
            Self::Lost => "lost",
        }
    }
}

impl RegisteredWorker {
    /// Returns the health of the worker.
    #[must_use]
    pub fn status(&self) -> WorkerStatus {
        // Silence outweighs the last report: a draining worker that was killed is lost.
        match (self.silent_for > LIVE_FOR, self.report.is_draining) {
            (true, _) => WorkerStatus::Lost,
            (false, true) => WorkerStatus::Draining,
            (false, false) => WorkerStatus::Live,
        }
    }

    /// Returns true if it claims jobs of `lane`.
    #[must_use]
    pub fn serves(&self, lane: &LaneName) -> bool {
        self.status() == WorkerStatus::Live && self.report.lanes.contains(lane)
    }
}
