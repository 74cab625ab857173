use tokio::time::timeout;

use super::*;
use crate::meeting::Meeting;

#[tokio::test(start_paused = true)]
async fn shards_are_reaped_concurrently() {
    let (meeting, queue) = Meeting::with(1);
    let [every, reconcile_every] = [1, 3].map(Duration::from_secs);
    let reaper = Reaper { queue, every, reconcile_every };
    let visit = async {
        // Four ticks, and the reconciliation that is due with the last of them.
        for _ in 0..5 {
            meeting.place.wait().await;
        }
    };
    tokio::select! {
        () = reaper.run() => panic!("it runs until it is dropped"),
        met = timeout(reconcile_every * 2, visit) => met.expect("all shards are called concurrently"),
    }
}
