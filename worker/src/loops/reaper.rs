//! Recovers the leases of lost workers, and reconciles the store's counters once a minute. Every worker does both
//! for all known shards; the store's calls are safe to run concurrently.

use std::time::Duration;

use causeway_queue::{Queue, Shard, backend::Reaped};
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
    /// Reaps and reconciles until the future is dropped.
    pub(crate) async fn run(self) {
        let mut ticks = interval(self.every.max(Duration::from_millis(1)));
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut reconciled = Instant::now();
        loop {
            ticks.tick().await;
            // Former shards are included: workers die there, too.
            let shards = self.queue.known_shards();
            join_all(shards.iter().map(|shard| self.step(shard))).await;
            if reconciled.elapsed() >= self.reconcile_every {
                reconciled = Instant::now();
                join_all(shards.iter().map(|shard| self.reconcile(shard))).await;
            }
        }
    }

    /// Recovers the expired leases of one shard.
    pub(crate) async fn step(&self, shard: &Shard) {
        match self.queue.transitions().reap(shard).await {
            Ok(reaped) => tell(shard, &reaped),
            Err(error) => tracing::debug!(shard = %shard, %error, "cannot reap"),
        }
    }

    async fn reconcile(&self, shard: &Shard) {
        match self.queue.transitions().reconcile(shard).await {
            Ok(repairs) => {
                metrics::counter!("causeway_repairs_total").increment(repairs.total());
                if repairs.total() > 0 {
                    tracing::error!(shard = %shard, ?repairs, "wrong counters were repaired; please report this");
                }
            }
            Err(error) => tracing::debug!(shard = %shard, %error, "cannot reconcile"),
        }
    }
}

/// Logs one line per call: a lost worker may have had many jobs.
fn tell(shard: &Shard, Reaped { requeued, ended }: &Reaped) {
    let (again, over) = (requeued.len(), ended.len());
    if again + over == 0 {
        return;
    }
    metrics::counter!("causeway_stalls_total").increment((again + over) as u64);
    tracing::warn!(shard = %shard, requeued = again, ended = over, "jobs lost their workers");
    for job in requeued {
        tracing::debug!(job.id = %job, "the job lost its worker and is requeued");
    }
    for job in ended {
        tracing::debug!(job.id = %job, "the job lost its worker and has ended");
    }
}

#[cfg(test)]
mod tests;
