//! Takes back the leases of dead workers, and once a minute recounts what can be recounted. Every
//! worker does both for the shards that it serves; the store makes it safe.

use std::time::Duration;

use causeway_queue::{Queue, Shard};
use futures_util::future::join_all;
use tokio::time::{Instant, MissedTickBehavior, interval};

/// The reaper of one worker.
#[derive(Debug)]
pub(crate) struct Reaper {
    pub(crate) queue: Queue,
    pub(crate) every: Duration,
    pub(crate) reconcile_every: Duration,
}

impl Reaper {
    /// Reaps and reconciles until it is dropped.
    pub(crate) async fn run(self) {
        let mut ticks = interval(self.every.max(Duration::from_millis(1)));
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut reconciled = Instant::now();
        loop {
            ticks.tick().await;
            let shards = self.queue.known_shards();
            join_all(shards.iter().map(|shard| self.step(shard))).await;
            if reconciled.elapsed() >= self.reconcile_every {
                reconciled = Instant::now();
                join_all(shards.iter().map(|shard| self.reconcile(shard))).await;
            }
        }
    }

    /// Takes expired leases of one shard back.
    pub(crate) async fn step(&self, shard: &Shard) {
        match self.queue.backend().reap(shard).await {
            Ok(reaped) => {
                for job in reaped.requeued {
                    metrics::counter!("causeway_stalls_total").increment(1);
                    tracing::warn!(job.id = %job, "its worker was lost; the job runs again");
                }
                for job in reaped.ended {
                    metrics::counter!("causeway_stalls_total").increment(1);
                    tracing::warn!(job.id = %job, "its worker was lost; the job has ended");
                }
            }
            Err(error) => tracing::debug!(shard = %shard, %error, "cannot reap"),
        }
    }

    async fn reconcile(&self, shard: &Shard) {
        match self.queue.backend().reconcile(shard).await {
            Ok(repairs) => {
                metrics::counter!("causeway_repairs_total").increment(repairs.total());
                if repairs.total() > 0 {
                    tracing::error!(shard = %shard, ?repairs, "counts were wrong and are repaired; please report this");
                }
            }
            Err(error) => tracing::debug!(shard = %shard, %error, "cannot reconcile"),
        }
    }
}

#[cfg(test)]
mod tests;
