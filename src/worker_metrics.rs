//! Metrics of the registered workers, which an API process reads at an interval.

use std::time::Duration;

use causeway_queue::{
    Queue,
    workers::{RegisteredWorker, WorkerStatus},
};
use metrics::{describe_gauge, gauge};

/// The interval between reads. Together with the time-out of a worker it bounds the age of the
/// metrics to 8 s.
const INTERVAL: Duration = Duration::from_secs(2);

/// Counts the workers until it is dropped. The last counts stay while the store does not answer.
pub(crate) async fn run(queue: Queue) {
    describe_gauge!("causeway_workers", "Worker processes, by status: live, draining or lost");
    describe_gauge!("causeway_lane_workers", "Live worker processes that serve the lane");
    let mut ticks = tokio::time::interval(INTERVAL);
    loop {
        ticks.tick().await;
        match queue.workers().await {
            Ok(workers) => record(&queue, &workers),
            Err(error) => tracing::debug!(%error, "cannot read the registered workers"),
        }
    }
}

fn record(queue: &Queue, workers: &[RegisteredWorker]) {
    for status in [WorkerStatus::Live, WorkerStatus::Draining, WorkerStatus::Lost] {
        let count = workers.iter().filter(|worker| worker.status() == status).count();
        gauge!("causeway_workers", "status" => status.as_str()).set(as_f64(count));
    }
    for lane in queue.lanes() {
        let count = workers.iter().filter(|worker| worker.serves(&lane.name)).count();
        gauge!("causeway_lane_workers", "lane" => lane.name.to_string()).set(as_f64(count));
    }
}

#[expect(clippy::cast_precision_loss, reason = "at most 1,000 workers are registered")]
fn as_f64(count: usize) -> f64 {
    count as f64
}
