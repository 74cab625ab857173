//! How running attempts are interrupted: by lease, from the heartbeat, the emitter and the drain.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use causeway_queue::LeaseKey;
use tokio::sync::oneshot;

/// Why an attempt is to stop.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Interrupt {
    /// The job's owner asked for its end.
    Cancelled,
    /// The lease is no longer held: nothing can be settled.
    Lost,
    /// The worker shuts down: hand the job back.
    Released,
}

/// The attempts that run now.
#[derive(Debug, Default)]
pub(crate) struct Running {
    attempts: Mutex<HashMap<LeaseKey, Option<oneshot::Sender<Interrupt>>>>,
}

/// An attempt's place among those that run; leaves it when dropped.
#[derive(Debug)]
pub(crate) struct Place {
    key: LeaseKey,
    running: Arc<Running>,
}

impl Running {
    fn attempts(&self) -> MutexGuard<'_, HashMap<LeaseKey, Option<oneshot::Sender<Interrupt>>>> {
        self.attempts.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Enters an attempt.
    pub(crate) fn enter(self: &Arc<Self>, key: &LeaseKey) -> (Place, oneshot::Receiver<Interrupt>) {
        let (sender, receiver) = oneshot::channel();
        self.attempts().insert(key.clone(), Some(sender));
        (Place { key: key.clone(), running: Arc::clone(self) }, receiver)
    }

    /// Interrupts one attempt, if it still runs.
    pub(crate) fn interrupt(&self, key: &LeaseKey, why: Interrupt) {
        if let Some(sender) = self.attempts().get_mut(key).and_then(Option::take) {
            // The attempt may have ended just now; then there is nothing to interrupt.
            sender.send(why).ok();
        }
    }

    /// Interrupts all of them.
    pub(crate) fn interrupt_all(&self, why: Interrupt) {
        for sender in self.attempts().values_mut().filter_map(Option::take) {
            sender.send(why).ok();
        }
    }

    /// The leases of all of them.
    pub(crate) fn keys(&self) -> Vec<LeaseKey> {
        self.attempts().keys().cloned().collect()
    }

    /// How many there are.
    pub(crate) fn len(&self) -> usize {
        self.attempts().len()
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.running.attempts().remove(&self.key);
    }
}
