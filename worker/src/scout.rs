//! Looks for work in shards that the present configuration no longer uses.
//!
//! Whoever puts a job back into one of them wakes nobody: as long as no worker serves that shard, only
//! the scout finds the job. So it looks often where there are such shards.

use std::time::Duration;

use causeway_queue::{Queue, Shard};
use tokio::{sync::mpsc, time::sleep};

/// Longest time between two looks where there are former shards: each costs a question a shard.
const LOOK: Duration = Duration::from_secs(5);

/// Surveys the store at once and then at every interval, and no later than after [`LOOK`] where there are
/// former shards; reports those that hold work. Ends when nobody listens any more.
pub(crate) async fn run(queue: Queue, every: Duration, found: mpsc::Sender<Vec<Shard>>) {
    loop {
        match queue.survey().await {
            Ok(shards) => {
                if found.send(shards).await.is_err() {
                    return;
                }
            }
            Err(error) => tracing::debug!(%error, "cannot look for former shards"),
        }
        let longest = if queue.has_former_shards() { LOOK } else { every };
        sleep(every.min(longest).max(Duration::from_millis(1))).await;
    }
}

#[cfg(test)]
mod tests;
