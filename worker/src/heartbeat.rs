//! Keeps the leases of all running attempts, apart from the work: one call a shard for all of them,
//! three times in the time that a lease lasts. All shards are called at once, and none waits for
//! another: where one master of a cluster is silent, the leases in the others are kept.

use std::{collections::HashMap, sync::Arc, time::Duration};

use causeway_queue::{LeaseKey, Queue, Shard, lease::Beat};
use futures_util::future::join_all;
use tokio::time::{MissedTickBehavior, interval, timeout};

use crate::interrupt::{Interrupt, Running};

/// The heart of one worker.
#[derive(Debug)]
pub(crate) struct Heartbeat {
    pub(crate) queue: Queue,
    pub(crate) lease: Duration,
    pub(crate) running: Arc<Running>,
}

impl Heartbeat {
    /// Beats until it is dropped.
    pub(crate) async fn run(self) {
        let mut ticks = interval((self.lease / 3).max(Duration::from_millis(1)));
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            ticks.tick().await;
            self.step().await;
        }
    }

    /// One beat for every lease. A store that fails is asked again at the next beat: a call is
    /// given up only when its lease is known to be lost.
    pub(crate) async fn step(&self) {
        let mut by_shard: HashMap<Shard, Vec<LeaseKey>> = HashMap::new();
        for key in self.running.keys() {
            by_shard.entry(key.job.shard().clone()).or_default().push(key);
        }
        join_all(by_shard.iter().map(|(shard, keys)| self.beat(shard, keys))).await;
    }

    /// One beat for the leases of one shard, given up well before the next is due.
    async fn beat(&self, shard: &Shard, keys: &[LeaseKey]) {
        let answer = self.queue.backend().beat(shard, keys, self.lease);
        match timeout(self.lease / 4, answer).await {
            Ok(Ok(beat)) => self.hear(&beat),
            Ok(Err(error)) => tracing::debug!(shard = %shard, %error, "a heartbeat failed"),
            Err(_) => tracing::debug!(shard = %shard, "a heartbeat had no answer in time"),
        }
    }

    fn hear(&self, beat: &Beat) {
        for key in &beat.lost {
            self.running.interrupt(key, Interrupt::Lost);
        }
        for key in &beat.cancelled {
            self.running.interrupt(key, Interrupt::Cancelled);
        }
    }
}

#[cfg(test)]
mod tests;
