//! Extends the leases of all running attempts: one call per shard, three times within the duration of a lease.
//!
//! All shards are called concurrently: if one master of a cluster does not answer, the leases in the other
//! shards are still extended. The loop is a task of its own, so slow work cannot delay it.

use std::{collections::HashMap, sync::Arc, time::Duration};

use causeway_queue::{LeaseKey, Queue, Shard, lease::Extended};
use futures_util::future::join_all;
use tokio::time::{MissedTickBehavior, interval, timeout};

use crate::attempt::interrupt::{Interrupt, Running};

/// The heartbeat of one worker.
#[derive(Debug)]
pub(crate) struct Heartbeat {
    pub(crate) queue: Queue,
    pub(crate) lease: Duration,
    pub(crate) running: Arc<Running>,
}

impl Heartbeat {
    /// Extends leases until the future is dropped.
    pub(crate) async fn run(self) {
        let mut ticks = interval((self.lease / 3).max(Duration::from_millis(1)));
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            ticks.tick().await;
            self.step().await;
        }
    }

    /// Extends every lease once. After a failure the next tick retries: a call is interrupted only if its lease is
    /// known to be lost.
    pub(crate) async fn step(&self) {
        let mut by_shard: HashMap<Shard, Vec<LeaseKey>> = HashMap::new();
        for key in self.running.keys() {
            by_shard.entry(key.job.shard().clone()).or_default().push(key);
        }
        join_all(by_shard.iter().map(|(shard, keys)| self.extend(shard, keys))).await;
    }

    /// Extends the leases of one shard. The time-out ends the call well before the next tick.
    async fn extend(&self, shard: &Shard, keys: &[LeaseKey]) {
        let answer = self.queue.transitions().extend_leases(shard, keys, self.lease);
        // A quarter of the lease is less than the interval of a third, so calls never overlap.
        match timeout(self.lease / 4, answer).await {
            Ok(Ok(extended)) => self.interrupt(&extended),
            Ok(Err(error)) => tracing::debug!(shard = %shard, %error, "cannot extend leases"),
            Err(_) => tracing::debug!(shard = %shard, "extending leases timed out"),
        }
    }

    fn interrupt(&self, extended: &Extended) {
        for key in &extended.lost {
            self.running.interrupt(key, Interrupt::Lost);
        }
        for key in &extended.cancelled {
            self.running.interrupt(key, Interrupt::Cancelled);
        }
    }
}

#[cfg(test)]
mod tests;
