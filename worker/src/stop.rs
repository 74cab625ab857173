//! The shutdown signal of a worker, in two stages: drain, then stop at once.

use tokio_util::sync::CancellationToken;

/// The sender of the shutdown signal.
#[derive(Debug, Clone, Default)]
pub struct StopHandle {
    drain: CancellationToken,
    now: CancellationToken,
}

/// The receiver of the shutdown signal of a [`StopHandle`].
#[derive(Debug, Clone)]
pub struct Stop {
    drain: CancellationToken,
    now: CancellationToken,
}

impl StopHandle {
    /// Returns a handle that has sent no signal yet.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Returns a receiver of this handle's signal.
    #[must_use]
    pub fn stop(&self) -> Stop {
        Stop { drain: self.drain.clone(), now: self.now.clone() }
    }

    /// Starts to drain: the worker claims no more jobs, finishes running calls within `WorkerSettings::drain`, and
    /// hands back the rest.
    pub fn drain(&self) {
        self.drain.cancel();
    }

    /// Stops at once: the worker hands back all running jobs.
    pub fn now(&self) {
        self.drain.cancel();
        self.now.cancel();
    }
}

impl Stop {
    /// True once the worker drains.
    #[must_use]
    pub fn is_draining(&self) -> bool {
        self.drain.is_cancelled()
    }

    /// Waits until the worker drains.
    pub async fn draining(&self) {
        self.drain.cancelled().await;
    }

    /// Waits until the worker stops at once.
    pub async fn at_once(&self) {
        self.now.cancelled().await;
    }
}
