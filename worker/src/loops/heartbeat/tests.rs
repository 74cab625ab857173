use causeway_queue::{Class, JobId, TenantId};
use tokio::time::Instant;

use super::*;
use crate::{attempt::interrupt::RunningEntry, barrier_backend::BarrierBackend};

const LEASE: Duration = Duration::from_secs(15);

/// Returns a heartbeat with a running attempt in each shard.
fn heartbeat(queue: Queue) -> (Heartbeat, Vec<RunningEntry>) {
    let running = Arc::<Running>::default();
    let enter = |shard| {
        let (job, tenant) = (JobId::new(shard), TenantId::default_tenant());
        running.enter(&LeaseKey { job, epoch: 1, class: Class::default(), tenant }).0
    };
    let places = queue.known_shards().into_iter().map(enter).collect();
    (Heartbeat { queue, lease: LEASE, running }, places)
}

#[tokio::test(start_paused = true)]
async fn leases_are_extended_concurrently() {
    let (_meeting, queue) = BarrierBackend::with(0);
    let (heartbeat, _places) = heartbeat(queue);
    let began = Instant::now();
    heartbeat.step().await;
    assert_eq!(began.elapsed(), Duration::ZERO);
}

#[tokio::test(start_paused = true)]
async fn a_silent_store_delays_no_heartbeat() {
    let (_meeting, queue) = BarrierBackend::with(1);
    let (heartbeat, _places) = heartbeat(queue);
    let began = Instant::now();
    heartbeat.step().await;
    assert!(began.elapsed() < LEASE / 3, "{:?}", began.elapsed());
}
