//! Promises about waking idle workers.

use std::{future::pending, pin::pin, time::Duration};

use super::stage::{LEASE, Stage, faulted, retry_after, succeeded, tenant_id};
use causeway_queue::{Fault, NewJob, lease::ClaimRequest};

/// Far longer than any wake-up takes, and shorter than a test may last.
const LONG: Duration = Duration::from_secs(30);

/// Asserts that a waiting worker is woken long before its time-out.
async fn assert_woken(stage: &Stage) {
    let started = tokio::time::Instant::now();
    while started.elapsed() < LONG {
        let waited = tokio::time::Instant::now();
        stage.store().wait_for_work(&stage.shard, Duration::from_secs(2)).await.unwrap();
        if waited.elapsed() < Duration::from_secs(1) {
            return;
        }
    }
    panic!("no worker was woken");
}

/// Asserts that a waiting worker is not woken before its time-out.
async fn assert_no_worker_is_woken(stage: &Stage) {
    let (time, started) = (Duration::from_millis(100), tokio::time::Instant::now());
    stage.store().wait_for_work(&stage.shard, time).await.unwrap();
    assert!(started.elapsed() > time / 2, "a worker was woken");
}

/// Consumes earlier wake-ups.
async fn drain_wake_ups(stage: &Stage) {
    for _ in 0..3 {
        stage.store().wait_for_work(&stage.shard, Duration::from_millis(1)).await.unwrap();
    }
}

/// Every transition that makes work visible wakes a worker.
pub async fn new_work_wakes_a_worker(stage: Stage) {
    let ann = tenant_id("ann");

    let (waiting, accepted) = tokio::join!(assert_woken(&stage), stage.accept(stage.job("ann")));
    let () = waiting;
    let lease = stage.claim_one().await;
    drain_wake_ups(&stage).await;
    stage.settle(lease, retry_after(Duration::ZERO, 1)).await;
    assert_woken(&stage).await;

    stage.claim_one().await;
    stage.pass(LEASE);
    drain_wake_ups(&stage).await;
    stage.reap().await;
    assert_woken(&stage).await;
    let lease = stage.claim_one().await;
    assert_eq!(lease.key.job, accepted);
    stage.succeed(lease).await;

    let first = stage.accept(stage.in_session("ann", "s")).await;
    stage.accept(stage.in_session("ann", "s")).await;
    drain_wake_ups(&stage).await;
    stage.store().cancel(&ann, &first).await.unwrap();
    assert_woken(&stage).await;

    let lease = stage.claim_one().await;
    stage.accept(stage.in_session("ann", "s")).await;
    drain_wake_ups(&stage).await;
    stage.step(vec![lease.settle(succeeded(), None)], 0).await;
    assert_woken(&stage).await;

    stage.claim_one().await;
    drain_wake_ups(&stage).await;
    stage.accept(NewJob { delay: LONG, ..stage.job("ann") }).await;
    assert_woken(&stage).await;

    stage.store().pause(&stage.shard, None, true).await.unwrap();
    stage.accept(stage.job("bob")).await;
    drain_wake_ups(&stage).await;
    stage.store().pause(&stage.shard, None, false).await.unwrap();
    assert_woken(&stage).await;
}

/// A wake-up reaches one worker. If that has no room, its step wakes another.
pub async fn a_step_that_leaves_work_wakes_another_worker(stage: Stage) {
    stage.accept(stage.job("ann")).await;
    stage.accept(stage.job("ann")).await;
    for room in [0, 1] {
        drain_wake_ups(&stage).await;
        assert_eq!(stage.claim(room).await.len(), room);
        assert_woken(&stage).await;
    }
}

/// A step that cannot start anything now wakes no worker for the waiting jobs, because it could not start them
/// either.
pub async fn a_waiting_lane_wakes_no_worker(stage: Stage) {
    stage.accept(stage.job("ann")).await;
    stage.accept(stage.job("ann")).await;
    let lease = stage.claim_one().await;
    let stopped = faulted(Fault::Rate(LONG), Duration::ZERO, 1);
    stage.settle(lease, stopped).await;
    drain_wake_ups(&stage).await;
    let step = stage.step(Vec::new(), 1).await;
    assert_eq!((step.leases.len(), step.poll_after), (0, Some(LONG)));
    assert_no_worker_is_woken(&stage).await;
}

/// A wake-up between a step and the following wait is not lost.
pub async fn a_wake_up_before_the_wait_is_not_lost(stage: Stage) {
    assert!(stage.claim(1).await.is_empty());
    drain_wake_ups(&stage).await;
    stage.accept(stage.job("ann")).await;
    assert_woken(&stage).await;
    assert_eq!(stage.claim(1).await.len(), 1);
}

/// A worker that waits receives a job with the wake-up.
pub async fn a_wake_up_returns_a_job(stage: Stage) {
    let claim = ClaimRequest { max: 1, lease: LEASE };
    drain_wake_ups(&stage).await;
    let never = pin!(pending());
    let (step, ids) =
        tokio::join!(stage.store().claim_when_woken(&stage.shard, LONG, claim, never), async {
            [stage.accept(stage.job("ann")).await, stage.accept(stage.job("ann")).await]
        },);
    let step = step.unwrap();
    let first = step.leases.into_iter().next().unwrap();
    assert_eq!(first.key.job, ids[0]);
    // A second job is left.
    let never = pin!(pending());
    let second = stage.store().claim_when_woken(&stage.shard, LONG, claim, never).await.unwrap();
    let second = second.leases.into_iter().next().unwrap();
    assert_eq!(second.key.job, ids[1]);
    stage.succeed(first).await;
    stage.succeed(second).await;
}

/// A stopped wait ends at once and leaves no attempt without a worker.
pub async fn a_stopped_wait_leaves_nothing_running(stage: Stage) {
    let claim = ClaimRequest { max: 1, lease: LEASE };
    drain_wake_ups(&stage).await;
    let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
    let mut stopping = pin!(async { drop(stopped.await) });
    let started = tokio::time::Instant::now();
    let wait = stage.store().claim_when_woken(&stage.shard, LONG, claim, stopping.as_mut());
    let (step, ()) = tokio::join!(wait, async { stop.send(()).unwrap() });
    assert!(step.unwrap().leases.is_empty());
    assert!(started.elapsed() < Duration::from_secs(2));
    let id = stage.accept(stage.job("ann")).await;
    let lease = stage.claim_one().await;
    assert_eq!(lease.key.job, id);
    stage.succeed(lease).await;
}
