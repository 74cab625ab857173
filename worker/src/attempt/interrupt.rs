//! Interrupts of running attempts, addressed by lease: from the heartbeat, the emitter and the drain.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use causeway_queue::LeaseKey;
use tokio::sync::oneshot;

/// The reason why an attempt is interrupted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Interrupt {
    /// The job was cancelled.
    Cancelled,
    /// The lease was lost: nothing may be settled.
    Lost,
    /// The worker shuts down: the job is handed back.
    Released,
}

/// The running attempts of one worker.
#[derive(Debug, Default)]
pub(crate) struct Running {
    attempts: Mutex<HashMap<LeaseKey, Option<oneshot::Sender<Interrupt>>>>,
}

/// The entry of a running attempt; removed when dropped.
#[derive(Debug)]
pub(crate) struct RunningEntry {
    key: LeaseKey,
    running: Arc<Running>,
}

impl Running {
    // A panic cannot leave the map inconsistent, so a poisoned lock is used as it is.
    fn attempts(&self) -> MutexGuard<'_, HashMap<LeaseKey, Option<oneshot::Sender<Interrupt>>>> {
        self.attempts.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Adds a running attempt. The receiver yields its interrupt.
    pub(crate) fn enter(
        self: &Arc<Self>,
        key: &LeaseKey,
    ) -> (RunningEntry, oneshot::Receiver<Interrupt>) {
        let (sender, receiver) = oneshot::channel();
        self.attempts().insert(key.clone(), Some(sender));
        (RunningEntry { key: key.clone(), running: Arc::clone(self) }, receiver)
    }

    /// Interrupts one attempt, if it still runs.
    pub(crate) fn interrupt(&self, key: &LeaseKey, why: Interrupt) {
        if let Some(sender) = self.attempts().get_mut(key).and_then(Option::take) {
            // The attempt may have ended already; then there is nothing to interrupt.
            sender.send(why).ok();
        }
    }

    /// Interrupts all attempts.
    pub(crate) fn interrupt_all(&self, why: Interrupt) {
        for sender in self.attempts().values_mut().filter_map(Option::take) {
            sender.send(why).ok();
        }
    }

    /// Returns the leases of all attempts.
    pub(crate) fn keys(&self) -> Vec<LeaseKey> {
        self.attempts().keys().cloned().collect()
    }

    /// Returns the number of attempts.
    pub(crate) fn len(&self) -> usize {
        self.attempts().len()
    }
}

impl Drop for RunningEntry {
    fn drop(&mut self) {
        self.running.attempts().remove(&self.key);
    }
}
