//! How a worker is asked to stop: first to finish, then at once.

use tokio_util::sync::CancellationToken;

/// Asks a worker to stop.
#[derive(Debug, Clone, Default)]
pub struct StopHandle {
    drain: CancellationToken,
    now: CancellationToken,
}

/// Hears what a [`StopHandle`] asks.
#[derive(Debug, Clone)]
pub struct Stop {
    drain: CancellationToken,
    now: CancellationToken,
}

impl StopHandle {
    /// A handle that has asked for nothing yet.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// What hears this handle.
    #[must_use]
    pub fn stop(&self) -> Stop {
        Stop { drain: self.drain.clone(), now: self.now.clone() }
    }

    /// Claim nothing more, finish what runs within the time that the settings give, hand back the
    /// rest.
    pub fn drain(&self) {
        self.drain.cancel();
    }

    /// Hand back at once what runs.
    pub fn now(&self) {
        self.drain.cancel();
        self.now.cancel();
    }
}

impl Stop {
    /// Whether it was asked to stop.
    #[must_use]
    pub fn is_draining(&self) -> bool {
        self.drain.is_cancelled()
    }

    /// Ends when it is asked to stop.
    pub async fn draining(&self) {
        self.drain.cancelled().await;
    }

    /// Ends when it is asked to stop at once.
    pub async fn at_once(&self) {
        self.now.cancelled().await;
    }
}
