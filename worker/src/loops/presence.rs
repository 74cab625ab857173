//! The worker's entry in the registry: written every [`BEAT_INTERVAL`], removed after an orderly shutdown.
//!
//! A worker with stuck claim loops writes nothing and is listed as lost: a process that exists does not
//! necessarily work.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use causeway_queue::{
    Error, LaneName, LeaseKey, Queue,
    webhook::is_of_deliveries,
    workers::{BEAT_INTERVAL, WorkerId, WorkerReport},
};
use tokio::time::{MissedTickBehavior, interval, timeout};
use tokio_util::sync::CancellationToken;

use super::loop_health::LoopHealth;
use crate::{attempt::interrupt::Running, settings::WorkerSettings, stop::Stop};

/// Time without an iteration of any claim loop after which the worker stops reporting itself. A loop iterates at
/// least every 2 s, unless the store is slow.
const STALL_LIMIT: Duration = Duration::from_secs(10);

/// Time-out of one call to the store.
const STORE_TIMEOUT: Duration = Duration::from_secs(1);

/// The registry entry of one worker process.
#[derive(Debug)]
pub(crate) struct Presence {
    id: WorkerId,
    queue: Queue,
    /// The part of the entry that does not change.
    report: WorkerReport,
    running: Arc<Running>,
    health: Arc<LoopHealth>,
    stop: Stop,
    /// False after the registry was full, so that this is logged once.
    is_listed: AtomicBool,
}

impl Presence {
    pub(crate) fn new(
        queue: &Queue,
        settings: &WorkerSettings,
        lanes: Vec<LaneName>,
        (running, health): (&Arc<Running>, &Arc<LoopHealth>),
        stop: &Stop,
    ) -> Self {
        let report = WorkerReport {
            name: settings.name.clone(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            lanes,
            concurrency: settings.concurrency as u64,
            ..WorkerReport::default()
        };
        Self {
            id: WorkerId::random(),
            queue: queue.clone(),
            report,
            running: Arc::clone(running),
            health: Arc::clone(health),
            stop: stop.clone(),
            is_listed: AtomicBool::new(true),
        }
    }

    /// Writes the entry regularly until `finished`, and at once when the worker starts to drain; then removes it. No
    /// write is in progress at the removal, so none can restore the entry.
    pub(crate) async fn run(self, finished: CancellationToken) {
        let mut ticks = interval(BEAT_INTERVAL);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            let is_draining = self.stop.is_draining();
            tokio::select! {
                _ = ticks.tick() => {}
                () = self.stop.draining(), if !is_draining => {}
                () = finished.cancelled() => return self.leave().await,
            }
            // A worker that does not claim must not look alive: operators act on the list of workers.
            if self.health.is_alive(STALL_LIMIT) {
                self.step().await;
            }
        }
    }

    /// Removes the entry. If the store does not answer, the entry expires by itself.
    async fn leave(&self) {
        match timeout(STORE_TIMEOUT, self.queue.registry().remove_worker(&self.id)).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => {
                tracing::debug!(%error, "cannot remove this worker from the registry");
            }
            Err(_) => tracing::debug!("removing this worker from the registry timed out"),
        }
    }

    /// Writes the entry. The first write precedes the first claim, so no running job has an unlisted worker.
    pub(crate) async fn step(&self) {
        let report = self.now();
        let beat = timeout(STORE_TIMEOUT, self.queue.registry().beat_worker(&self.id, &report));
        match beat.await.unwrap_or(Err(Error::Unavailable("no answer in time".to_owned()))) {
            Ok(true) => self.is_listed.store(true, Ordering::Relaxed),
            Ok(false) if self.is_listed.swap(false, Ordering::Relaxed) => {
                tracing::warn!("the registry of workers is full: this worker runs unlisted");
            }
            Ok(false) => {}
            Err(error) => tracing::debug!(%error, "cannot write this worker to the registry"),
        }
    }

    fn now(&self) -> WorkerReport {
        let keys = self.running.keys();
        let is_delivery = |key: &&LeaseKey| is_of_deliveries(&key.job.shard().lane);
        let deliveries = keys.iter().filter(is_delivery).count();
        WorkerReport {
            running: (keys.len() - deliveries) as u64,
            deliveries: deliveries as u64,
            is_draining: self.stop.is_draining(),
            ..self.report.clone()
        }
    }
}

#[cfg(test)]
mod tests;
