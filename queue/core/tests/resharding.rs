//! The watch for former shards.

#![expect(clippy::unwrap_used, reason = "these are tests")]

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use causeway_embedded::Embedded;
use causeway_queue::{
    Lane, LaneName, Policy, Queue, Shard, Spec, TenantId,
    clock::{ManualClock, Millis},
};
use tokio::{sync::mpsc, task::JoinSet, time::Instant};

const INTERVAL: Duration = Duration::from_secs(60);

/// The longest wait of a retry in a former shard.
const FORMER_INTERVAL: Duration = Duration::from_secs(5);

/// The same lane over one shard and, as it was before, over eight.
async fn current_and_former() -> (Queue, Queue) {
    let clock = Arc::new(ManualClock::new(Millis(1_000_000)));
    let store = Arc::new(Embedded::new(Policy::default(), clock));
    let over = |shards| Lane { shards, ..Lane::named(LaneName::default_lane()) };
    let [current, former] = [1, 8].map(|shards| Queue::new(store.clone(), vec![over(shards)]));
    former.discover().await.unwrap();
    (current, former)
}

/// The reports of a watch after a first discovery that found nothing.
async fn watched(queue: Queue) -> (JoinSet<()>, mpsc::Receiver<Vec<Shard>>) {
    let (found, mut reports) = mpsc::channel(1);
    let mut watch = JoinSet::new();
    watch.spawn(queue.watch(INTERVAL, move |shards| drop(found.try_send(shards))));
    assert_eq!(reports.recv().await, Some(Vec::new()));
    (watch, reports)
}

#[tokio::test(start_paused = true)]
async fn a_retry_in_a_former_shard_is_found_soon() {
    let (current, former) = current_and_former().await;
    let draft = |number| {
        let tenant = TenantId::new(&format!("t{number}")).unwrap();
        former.draft(tenant, Spec::default(), Bytes::from_static(b"{}"), None)
    };
    let job = (0..100).map(draft).find(|job| job.id.shard().index > 0).expect("one elsewhere");
    let (tenant, id) = (job.tenant.clone(), job.id.clone());
    former.submit(vec![job]).await.unwrap();
    former.cancel(&tenant, &id).await.unwrap();
    let (_watch, mut reports) = watched(current.clone()).await;
    current.retry(&tenant, &id).await.unwrap().expect("the job");
    let retried = Instant::now();
    while reports.recv().await.expect("another discovery") != [id.shard().clone()] {}
    assert!(retried.elapsed() <= FORMER_INTERVAL, "{:?}", retried.elapsed());
}

#[tokio::test(start_paused = true)]
async fn discoveries_are_rare_without_former_shards() {
    let (_, only) = current_and_former().await;
    let (_watch, mut reports) = watched(only).await;
    let discovered = Instant::now();
    reports.recv().await.expect("another discovery");
    assert_eq!(discovered.elapsed(), INTERVAL);
}
