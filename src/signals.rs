//! SIGTERM and SIGINT: the first requests an orderly end, the second an immediate one.

use tokio::signal::unix::{Signal, SignalKind, signal};

/// The stop signals that arrive after its creation.
#[derive(Debug)]
pub(crate) struct Signals {
    terminate: Signal,
    interrupt: Signal,
}

impl Signals {
    /// Installs the handlers.
    ///
    /// # Errors
    /// If the system refuses the handlers.
    pub(crate) fn listen() -> std::io::Result<Self> {
        let terminate = signal(SignalKind::terminate())?;
        Ok(Self { terminate, interrupt: signal(SignalKind::interrupt())? })
    }

    /// Waits for the next stop signal and returns its name. Safe to cancel.
    pub(crate) async fn next(&mut self) -> &'static str {
        // Both receivers are cancel-safe, so no signal is lost between two calls.
        tokio::select! {
            _ = self.terminate.recv() => "SIGTERM",
            _ = self.interrupt.recv() => "SIGINT",
        }
    }
}
