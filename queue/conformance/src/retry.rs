//! Promises about attempts that failed.

use std::time::Duration;

use super::stage::{Stage, error, failed, faulted, retry_after, tenant_id};
use causeway_queue::{
    Error, Fault, Status, clock::Clock as _, job::State, lease::Settled, waiting::WaitingFor,
};

/// A retried job waits for its time and then returns to its old place.
pub async fn a_retry_waits_and_returns_to_its_place(stage: Stage) {
    let first = stage.accept(stage.job("ann")).await;
    let second = stage.accept(stage.job("ann")).await;
    let lease = stage.claim_one().await;
    stage.settle(lease, retry_after(Duration::from_secs(3), 1)).await;
    assert_eq!(stage.status(&first).await, Status::Scheduled);
    assert_eq!(stage.reason(&first).await, "retry");
    stage.pass(Duration::from_secs(3));
    let lease = stage.claim_one().await;
    assert_eq!((lease.key.job, lease.attempt), (first, 2));
    assert_eq!(stage.claim_one().await.key.job, second);
    stage.assert_sound().await;
}

/// The last twenty errors of a job are kept.
pub async fn errors_of_earlier_attempts_are_kept(stage: Stage) {
    let id = stage.accept(stage.job("ann")).await;
    for attempt in 1..=25 {
        let lease = stage.claim_one().await;
        stage.settle(lease, retry_after(Duration::ZERO, attempt)).await;
    }
    let lease = stage.claim_one().await;
    stage.settle(lease, failed(26)).await;
    let seen = stage.see(&id).await;
    let attempts: Vec<u32> = seen.errors.iter().map(|one| one.error.attempt).collect();
    assert_eq!(attempts, (6..=25).collect::<Vec<u32>>());
    let State::Ended { status, output: Some(output), .. } = seen.state else { panic!("not ended") };
    assert_eq!((status, output.error), (Status::Failed, Some(error(26))));
}

/// A failed job that is retried is like a new one.
pub async fn a_failed_job_can_be_retried(stage: Stage) {
    let id = stage.accept(stage.job("ann")).await;
    let body = stage.job("ann").body;
    let lease = stage.claim_one().await;
    stage.settle(lease, failed(1)).await;
    assert_eq!(stage.store().stats(&stage.shard, None).await.unwrap().dead, Some(1));
    assert!(stage.store().retry(&tenant_id("ann"), &id).await.unwrap());
    let seen = stage.see(&id).await;
    assert_eq!((seen.status(), seen.attempts, seen.errors.len()), (Status::Queued, 0, 0));
    assert_eq!(stage.store().stats(&stage.shard, None).await.unwrap().dead, Some(0));
    let lease = stage.claim_one().await;
    assert_eq!((&lease.key.job, lease.attempt, &lease.body), (&id, 1, &body));
    stage.succeed(lease).await;
    assert_eq!(stage.status(&id).await, Status::Succeeded);
    stage.assert_sound().await;
}

/// A succeeded, waiting or running job cannot be retried.
pub async fn a_succeeded_job_cannot_be_retried(stage: Stage) {
    let id = stage.accept(stage.job("ann")).await;
    let refused = async |wanted: Status| {
        let refused = stage.store().retry(&tenant_id("ann"), &id).await;
        assert!(matches!(refused, Err(Error::NotRetryable { status, .. }) if status == wanted));
    };
    refused(Status::Queued).await;
    let lease = stage.claim_one().await;
    refused(Status::Running).await;
    stage.succeed(lease).await;
    refused(Status::Succeeded).await;
}

/// If the upstream refuses a rate, the whole lane waits for the named time.
pub async fn a_refused_rate_spends_no_attempt(stage: Stage) {
    let first = stage.accept(stage.job("ann")).await;
    let second = stage.accept(stage.job("bob")).await;
    let lease = stage.claim_one().await;
    let delay = Duration::from_secs(20);
    let stopped = faulted(Fault::Rate(delay), Duration::ZERO, 1);
    let step = stage.step(vec![lease.settle(stopped, None)], 10).await;
    assert!(step.leases.is_empty());
    assert_eq!(step.settled, [Settled::LaneWaits]);
    assert_eq!(step.poll_after, Some(delay));
    let until = stage.clock.now().after(delay);
    assert_eq!(stage.waiting_for(&second).await, WaitingFor::UpstreamRate { until });
    stage.pass(delay);
    let leases = stage.claim(10).await;
    assert_eq!(leases.len(), 2);
    let lease = leases.iter().find(|lease| lease.key.job == first).unwrap();
    assert_eq!(lease.attempt, 1);
    stage.assert_sound().await;
}
