//! Looks for work in shards that the present configuration no longer uses.

use std::time::Duration;

use causeway_queue::{Queue, Shard};
use tokio::{
    sync::mpsc,
    time::{MissedTickBehavior, interval},
};

/// Surveys the store at once and then at every interval, and reports the former shards that hold
/// work; ends when nobody listens any more.
pub(crate) async fn run(queue: Queue, every: Duration, found: mpsc::Sender<Vec<Shard>>) {
    let mut ticks = interval(every.max(Duration::from_millis(1)));
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        match queue.survey().await {
            Ok(shards) => {
                if found.send(shards).await.is_err() {
                    return;
                }
            }
            Err(error) => tracing::debug!(%error, "cannot look for former shards"),
        }
    }
}
