use tokio::time::timeout;

use super::*;
use crate::meeting::Meeting;

#[tokio::test(start_paused = true)]
async fn no_shard_waits_for_another() {
    let (meeting, queue) = Meeting::with(1);
    let [every, reconcile_every] = [1, 3].map(Duration::from_secs);
    let reaper = Reaper { queue, every, reconcile_every };
    let visit = async {
        // Four ticks, and the recount that is due with the last of them.
        for _ in 0..5 {
            meeting.place.wait().await;
        }
    };
    tokio::select! {
        () = reaper.run() => panic!("it runs until it is dropped"),
        met = timeout(reconcile_every * 2, visit) => met.expect("all shards are asked at once"),
    }
}
