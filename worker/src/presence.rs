//! The worker's entry in the registry: written every [`BEAT_INTERVAL`], and removed when the worker stops in good order.
//!
//! A worker whose claim loops do not turn writes nothing, and so becomes a lost one: a process that exists is not a worker
//! that works.

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

use crate::{interrupt::Running, settings::Settings, stop::Stop, worker::Health};

/// How long no claim loop may turn until the worker reports itself no more. A loop turns every 2 s at least, or waits for a
/// store that is slow.
const STANDSTILL: Duration = Duration::from_secs(10);

/// Longest wait for the store.
const PATIENCE: Duration = Duration::from_secs(1);

/// The presence of one worker process.
#[derive(Debug)]
pub(crate) struct Presence {
    id: WorkerId,
    queue: Queue,
    /// What stays the same with every beat.
    report: WorkerReport,
    running: Arc<Running>,
    health: Arc<Health>,
    stop: Stop,
    /// False once the registry was full, which is logged once.
    is_listed: AtomicBool,
}

impl Presence {
    pub(crate) fn new(
        queue: &Queue,
        settings: &Settings,
        lanes: Vec<LaneName>,
        (running, health): (&Arc<Running>, &Arc<Health>),
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

    /// Reports until the worker is `over`, and at once when it begins to drain; then removes the entry. No report is under
    /// way then, which could bring the entry back.
    pub(crate) async fn run(self, over: CancellationToken) {
        let mut ticks = interval(BEAT_INTERVAL);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            let is_draining = self.stop.is_draining();
            tokio::select! {
                _ = ticks.tick() => {}
                () = self.stop.draining(), if !is_draining => {}
                () = over.cancelled() => return self.leave().await,
            }
            if self.health.is_alive(STANDSTILL) {
                self.step().await;
            }
        }
    }

    /// Removes the entry. If the store does not answer, the entry expires.
    async fn leave(&self) {
        match timeout(PATIENCE, self.queue.backend().remove_worker(&self.id)).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => tracing::debug!(%error, "cannot leave the registry of workers"),
            Err(_) => tracing::debug!("the registry of workers did not answer in time"),
        }
    }

    /// Writes the entry. The first time before the worker claims, so that no running job waits for a worker.
    pub(crate) async fn step(&self) {
        let report = self.now();
        let beat = timeout(PATIENCE, self.queue.backend().beat_worker(&self.id, &report));
        match beat.await.unwrap_or(Err(Error::Unavailable("no answer in time".to_owned()))) {
            Ok(true) => self.is_listed.store(true, Ordering::Relaxed),
            Ok(false) if self.is_listed.swap(false, Ordering::Relaxed) => {
                tracing::warn!(
                    "the registry of workers is full: this worker works, but is not listed"
                );
            }
            Ok(false) => {}
            Err(error) => tracing::debug!(%error, "cannot report to the registry of workers"),
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
