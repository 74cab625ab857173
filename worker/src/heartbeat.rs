//! Keeps the leases of all running attempts, apart from the work: one call a shard for all of them,
//! three times in the time that a lease lasts.

use std::{collections::HashMap, sync::Arc, time::Duration};

use causeway_queue::{LeaseKey, Queue, Shard};
use tokio::time::{MissedTickBehavior, interval};

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
        for (shard, keys) in by_shard {
            match self.queue.backend().beat(&shard, &keys, self.lease).await {
                Ok(beat) => {
                    for key in &beat.lost {
                        self.running.interrupt(key, Interrupt::Lost);
                    }
                    for key in &beat.cancelled {
                        self.running.interrupt(key, Interrupt::Cancelled);
                    }
                }
                Err(error) => tracing::debug!(shard = %shard, %error, "a heartbeat failed"),
            }
        }
    }
}
