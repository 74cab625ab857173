use tokio::time::timeout;

use super::*;
use crate::barrier_backend::BarrierBackend;

#[tokio::test(start_paused = true)]
async fn shards_are_reaped_concurrently() {
    let (backend, queue) = BarrierBackend::with(1);
    let [every, reconcile_every] = [1, 3].map(Duration::from_secs);
    let reaper = Reaper { queue, every, reconcile_every };
    let visit = async {
        // Four ticks, and the reconciliation that is due with the last of them.
        for _ in 0..5 {
            backend.barrier.wait().await;
        }
    };
    tokio::select! {
        () = reaper.run() => panic!("it runs until it is dropped"),
        met = timeout(reconcile_every * 2, visit) => met.expect("all shards are called concurrently"),
    }
}
