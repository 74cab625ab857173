//! The depth of the queue as metrics, measured when the metrics are scraped.
//!
//! The labels are lanes, classes and states: there are few of each. Tenants are not a label.

use std::time::Duration;

use causeway_queue::{Class, Error, LaneName, Queue};
use metrics::{Unit, describe_counter, describe_gauge, describe_histogram, gauge};
use tokio::{sync::Mutex, time::Instant};

/// Longest age of the numbers. More frequent scrapes cost the store nothing.
const MAX_AGE: Duration = Duration::from_secs(5);

/// The time of the latest measurement.
#[derive(Debug, Default)]
pub(crate) struct Gauges(Mutex<Option<Instant>>);

impl Gauges {
    /// Measures the depth of all lanes, unless the latest numbers are fresh. If the store fails, the latest numbers
    /// remain.
    pub(crate) async fn measure(&self, queue: &Queue) {
        // Another scrape is already measuring.
        let Ok(mut measured) = self.0.try_lock() else { return };
        if measured.is_some_and(|at| at.elapsed() < MAX_AGE) {
            return;
        }
        // Set before measuring: a failing store must not be measured at each scrape.
        *measured = Some(Instant::now());
        for lane in queue.lanes() {
            if let Err(error) = measure(queue, &lane.name).await {
                tracing::debug!(%error, lane = %lane.name, "cannot measure the depth of a lane");
            }
        }
    }
}

async fn measure(queue: &Queue, lane: &LaneName) -> Result<(), Error> {
    let (stats, ready) = (queue.stats(lane, None).await?, queue.ready(lane).await?);
    // Classes without jobs are set too; a gauge that is not set would keep its old value.
    for (class, count) in Class::ALL.iter().zip(ready) {
        gauge!("causeway_jobs", "lane" => lane.to_string(), "state" => "ready", "class" => class.as_str())
            .set(as_f64(count));
    }
    // The two numbers come from separate reads, so the difference may be negative.
    let held = stats.queued.saturating_sub(stats.scheduled + ready.iter().sum::<u64>());
    let dead = stats.dead.unwrap_or(0);
    let counts = [
        ("held", held),
        ("scheduled", stats.scheduled),
        ("running", stats.running),
        ("dead", dead),
    ];
    for (state, count) in counts {
        gauge!("causeway_jobs", "lane" => lane.to_string(), "state" => state).set(as_f64(count));
    }
    gauge!("causeway_oldest_wait_seconds", "lane" => lane.to_string())
        .set(as_f64(stats.oldest_wait_ms) / 1000.0);
    Ok(())
}

#[expect(clippy::cast_precision_loss, reason = "counts and milliseconds lie below 2^53")]
fn as_f64(count: u64) -> f64 {
    count as f64
}

/// Describes the metrics of this crate to the recorder of the process.
pub fn describe_metrics() {
    describe_counter!("causeway_http_requests_total", "Requests, by route and status.");
    describe_histogram!(
        "causeway_http_request_seconds",
        Unit::Seconds,
        "Time to the answer of a request, or to the first byte of a stream."
    );
    describe_gauge!(
        "causeway_jobs",
        "Jobs in the store by lane and state, ready ones also by class. held: blocked by an \
         earlier job of their session; scheduled: waiting for a time; dead: the latest failed \
         ones. Every API process reports the same."
    );
    describe_gauge!(
        "causeway_oldest_wait_seconds",
        Unit::Seconds,
        "Age of the oldest job of a lane that a worker could claim now. Every API process reports \
         the same."
    );
}
