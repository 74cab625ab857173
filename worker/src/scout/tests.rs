use std::sync::Arc;

use bytes::Bytes;
use causeway_queue::{
    Lane, LaneName, Policy, Spec, TenantId,
    clock::{ManualClock, Millis},
    embedded::Embedded,
};
use tokio::{task::JoinSet, time::Instant};

use super::*;

const EVERY: Duration = Duration::from_secs(60);

/// The same lane over one shard and, as it was before, over eight.
async fn now_and_before() -> (Queue, Queue) {
    let clock = Arc::new(ManualClock::new(Millis(1_000_000)));
    let store = Arc::new(Embedded::new(Policy::default(), clock));
    let over = |shards| Lane { shards, ..Lane::named(LaneName::default_lane()) };
    let [now, before] = [1, 8].map(|shards| Queue::new(store.clone(), vec![over(shards)]));
    before.survey().await.unwrap();
    (now, before)
}

/// A scout that has found nothing so far.
async fn scout(queue: Queue) -> (JoinSet<()>, mpsc::Receiver<Vec<Shard>>) {
    let (found, mut reports) = mpsc::channel(1);
    let mut scout = JoinSet::new();
    scout.spawn(run(queue, EVERY, found));
    assert_eq!(reports.recv().await, Some(Vec::new()));
    (scout, reports)
}

#[tokio::test(start_paused = true)]
async fn what_is_put_back_into_a_former_shard_is_found_soon() {
    let (now, before) = now_and_before().await;
    let draft = |number| {
        let tenant = TenantId::new(&format!("t{number}")).unwrap();
        before.draft(tenant, Spec::default(), Bytes::from_static(b"{}"), None)
    };
    let job = (0..100).map(draft).find(|job| job.id.shard().index > 0).expect("one elsewhere");
    let (tenant, id) = (job.tenant.clone(), job.id.clone());
    before.submit(vec![job]).await.unwrap();
    before.cancel(&tenant, &id).await.unwrap();
    let (_scout, mut reports) = scout(now.clone()).await;
    now.retry(&tenant, &id).await.unwrap().expect("the job");
    let put_back = Instant::now();
    while reports.recv().await.expect("the scout looks again") != [id.shard().clone()] {}
    assert!(put_back.elapsed() <= LOOK, "{:?}", put_back.elapsed());
}

#[tokio::test(start_paused = true)]
async fn where_there_are_no_former_shards_a_scout_looks_seldom() {
    let (_, only) = now_and_before().await;
    let (_scout, mut reports) = scout(only).await;
    let looked = Instant::now();
    reports.recv().await.expect("the scout looks again");
    assert_eq!(looked.elapsed().as_secs(), EVERY.as_secs());
}
