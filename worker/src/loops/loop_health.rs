//! The health of the claim loops.

use std::{
    sync::atomic::{AtomicU64, Ordering},
    time::Duration,
};

use tokio::time::Instant;

/// The health of the claim loops.
#[derive(Debug)]
pub struct LoopHealth {
    origin: Instant,
    /// Time of the latest iteration of any loop, in milliseconds after `origin`.
    iterated_ms: AtomicU64,
}

impl LoopHealth {
    pub(crate) fn new() -> Self {
        Self { origin: Instant::now(), iterated_ms: AtomicU64::new(0) }
    }

    pub(crate) fn record_iteration(&self) {
        let now = u64::try_from(self.origin.elapsed().as_millis()).unwrap_or(u64::MAX);
        self.iterated_ms.store(now, Ordering::Relaxed);
    }

    /// True if a claim loop iterated within the last `time`.
    #[must_use]
    pub fn is_alive(&self, time: Duration) -> bool {
        let latest = Duration::from_millis(self.iterated_ms.load(Ordering::Relaxed));
        self.origin.elapsed().saturating_sub(latest) <= time
    }
}
