//! The registry of worker processes: which live, and which lanes they serve.
//!
//! Each worker process writes one entry every [`BEAT_INTERVAL`], whatever number of jobs it runs, and removes it when it stops
//! in good order. An entry that is silent for longer than [`LIVE_FOR`] is that of a lost worker; it is listed until
//! [`FORGET_AFTER`]. The registry informs people only: leases decide which jobs run again.

use std::{fmt, time::Duration};

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::{clock::Millis, id::LaneName};

/// How often a worker process writes its entry.
pub const BEAT_INTERVAL: Duration = Duration::from_secs(2);

/// How long after its latest beat a worker counts as live: two beats may be lost.
pub const LIVE_FOR: Duration = Duration::from_secs(6);

/// How long the entry of a lost worker is listed.
pub const FORGET_AFTER: Duration = Duration::from_secs(600);

/// Most entries in the registry. A worker beyond that works, but is not listed.
pub const MAX_WORKERS: usize = 1000;

/// The name of one run of a worker process, unique in a store.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct WorkerId(String);

impl WorkerId {
    /// A new name, later in order than those made before.
    #[must_use]
    pub fn random() -> Self {
        Self(format!("worker_{}", Uuid::now_v7().simple()))
    }

    /// The name as a store holds it.
    pub(crate) fn stored(text: String) -> Self {
        Self(text)
    }

    /// The name as text.
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

/// What a worker process reports with each beat.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct WorkerReport {
    /// Its name for people: host and process id, unless configured.
    pub name: String,
    /// Its version.
    pub version: String,
    /// The lanes that it serves.
    pub lanes: Vec<LaneName>,
    /// How many calls it runs at once.
    pub concurrency: u64,
    /// How many calls it runs now.
    pub running: u64,
    /// How many deliveries to webhooks it runs now, beside the calls.
    pub deliveries: u64,
    /// True once it claims nothing more because it stops.
    pub is_draining: bool,
}

/// An entry of the registry.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RegisteredWorker {
    /// The process.
    pub id: WorkerId,
    /// When it last reported, by the store's clock.
    pub beat_at: Millis,
    /// How long that was ago.
    pub silent_for: Duration,
    /// What it reported then.
    pub report: WorkerReport,
}

/// Whether a worker process works.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WorkerStatus {
    /// It reports, and claims jobs.
    Live,
    /// It reports, and finishes what it runs.
    Draining,
    /// It has not reported for [`LIVE_FOR`]: it was killed, hangs, or does not reach the store.
    Lost,
}

impl WorkerStatus {
    /// The names that clients see.
    pub const NAMES: [&str; 3] = ["live", "draining", "lost"];

    /// The name that clients see.
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
    /// Whether it works.
    #[must_use]
    pub fn status(&self) -> WorkerStatus {
        match (self.silent_for > LIVE_FOR, self.report.is_draining) {
            (true, _) => WorkerStatus::Lost,
            (false, true) => WorkerStatus::Draining,
            (false, false) => WorkerStatus::Live,
        }
    }

    /// True if it claims jobs of `lane`.
    #[must_use]
    pub fn serves(&self, lane: &LaneName) -> bool {
        self.status() == WorkerStatus::Live && self.report.lanes.contains(lane)
    }
}
