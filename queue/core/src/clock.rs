//! Time. Redis uses the server's TIME; the embedded engine uses an injected [`Clock`].

use std::{fmt, sync::atomic::AtomicU64, sync::atomic::Ordering, time::Duration};

use serde::{Deserialize, Serialize};

/// A moment: milliseconds since 1970-01-01 UTC. It stays below 2^53, so that a Redis score can hold it.
#[derive(
    Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
#[serde(transparent)]
pub struct Millis(pub u64);

impl Millis {
    /// Returns the moment `duration` later.
    #[must_use]
    pub fn after(self, duration: Duration) -> Self {
        Self(self.0.saturating_add(millis(duration)))
    }

    /// Returns the time from `earlier` to this moment; zero if `earlier` is later.
    #[must_use]
    pub fn since(self, earlier: Self) -> Duration {
        Duration::from_millis(self.0.saturating_sub(earlier.0))
    }
}

/// Returns the whole milliseconds of `duration`, at most 2^53 - 1.
#[must_use]
pub fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX).min((1 << 53) - 1)
}

/// A source of the current time.
pub trait Clock: fmt::Debug + Send + Sync {
    /// Returns the current time.
    fn now(&self) -> Millis;
}

/// The system's time at its creation, advanced by tokio's monotonic clock: it never goes back, and a test that pauses
/// tokio's time pauses it.
#[derive(Debug, Clone, Copy)]
pub struct SystemClock {
    origin: Millis,
    started: tokio::time::Instant,
}

impl Default for SystemClock {
    #[expect(clippy::disallowed_methods, reason = "the one clock that reads the system's time")]
    fn default() -> Self {
        let since_epoch = std::time::SystemTime::now()
            .duration_since(std::time::UNIX_EPOCH)
            .unwrap_or(Duration::ZERO);
        Self::set(Millis(millis(since_epoch)))
    }
}

impl SystemClock {
    /// Returns a clock that shows `now`.
    pub fn set(now: Millis) -> Self {
        Self { origin: now, started: tokio::time::Instant::now() }
    }
}

impl Clock for SystemClock {
    fn now(&self) -> Millis {
        self.origin.after(self.started.elapsed())
    }
}

/// A clock that a test advances.
#[derive(Debug)]
pub struct ManualClock(AtomicU64);

impl ManualClock {
    /// Returns a clock that shows `start`.
    #[must_use]
    pub fn new(start: Millis) -> Self {
        Self(AtomicU64::new(start.0))
    }

    /// Advances the clock.
    pub fn advance(&self, by: Duration) {
        self.0.fetch_add(millis(by), Ordering::SeqCst);
    }
}

impl Clock for ManualClock {
    fn now(&self) -> Millis {
        Millis(self.0.load(Ordering::SeqCst))
    }
}
