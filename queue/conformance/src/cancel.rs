//! Promises about cancellation.

use std::time::Duration;

use super::stage::{LEASE, RELEASED, Stage, retry_after, tenant_id};
use causeway_queue::{NewJob, Outcome, Status, job::State, lease::Settled, news::News};

/// A waiting job is cancelled at once, in any place.
pub async fn a_waiting_job_is_cancelled_at_once(stage: Stage) {
    let ready = stage.accept(stage.job("ann")).await;
    let delayed = NewJob { delay: Duration::from_secs(60), ..stage.job("ann") };
    let delayed = stage.accept(delayed).await;
    let first = stage.accept(stage.in_session("ann", "s")).await;
    let held = stage.accept(stage.in_session("ann", "s")).await;
    for id in [&ready, &delayed, &held] {
        assert!(stage.store().cancel(&tenant_id("ann"), id).await.unwrap());
        assert_eq!(stage.status(id).await, Status::Cancelled);
    }
    let claimed = stage.claim(10).await;
    assert_eq!(claimed.iter().map(|lease| &lease.key.job).collect::<Vec<_>>(), [&first]);
    stage.assert_sound().await;
}

/// The worker of a running job receives the cancel at once, and again with its heartbeat.
pub async fn a_running_job_is_cancelled_by_its_worker(stage: Stage) {
    let id = stage.accept(stage.job("ann")).await;
    let lease = stage.claim_one().await;
    let mut listener = stage.store().news().listen(&id);
    assert!(stage.store().cancel(&tenant_id("ann"), &id).await.unwrap());
    assert_eq!(stage.see(&id).await.state, State::Running { cancelling: true });
    loop {
        match listener.next().await {
            News::Cancel => break,
            // The subscription may have started after the cancel.
            News::Missed => break,
            News::Ended(_) | News::Event(_) => {}
        }
    }
    let keys = [lease.key.clone()];
    let extended = stage.store().extend_leases(&stage.shard, &keys, LEASE).await.unwrap();
    assert_eq!(extended.cancelled, keys);
    assert_eq!(stage.settle(lease, Outcome::Cancelled).await, Settled::Done);
    assert_eq!(stage.status(&id).await, Status::Cancelled);
    assert!(stage.store().cancel(&tenant_id("ann"), &id).await.unwrap(), "again changes nothing");
    stage.assert_sound().await;
}

/// A cancelled job does not run again, whatever the outcome of its attempt.
pub async fn a_cancelled_job_does_not_run_again(stage: Stage) {
    let ends = [
        Some(RELEASED),
        Some(retry_after(Duration::ZERO, 1)),
        None, // its worker is lost
    ];
    for end in ends {
        let id = stage.accept(stage.job("ann")).await;
        let lease = stage.claim_one().await;
        stage.store().cancel(&tenant_id("ann"), &id).await.unwrap();
        if let Some(outcome) = end {
            stage.settle(lease, outcome).await;
        } else {
            stage.pass(LEASE);
            assert_eq!(stage.reap().await.ended, std::slice::from_ref(&id));
        }
        assert_eq!(stage.status(&id).await, Status::Cancelled);
        assert!(stage.claim(1).await.is_empty());
    }
    stage.assert_sound().await;
}

/// After its lease expired, a worker learns that the lease is lost, and receives no cancel of the job's new attempt.
pub async fn a_lost_worker_receives_no_cancel(stage: Stage) {
    let id = stage.accept(stage.job("ann")).await;
    let zombie = stage.claim_one().await;
    stage.pass(LEASE);
    stage.reap().await;
    let alive = stage.claim_one().await;
    stage.store().cancel(&tenant_id("ann"), &id).await.unwrap();
    let keys = [zombie.key, alive.key];
    let extended = stage.store().extend_leases(&stage.shard, &keys, LEASE).await.unwrap();
    assert_eq!((extended.lost, extended.cancelled), (keys[..1].to_vec(), keys[1..].to_vec()));
}

/// A job of another tenant does not exist for the caller.
pub async fn a_foreign_job_cannot_be_cancelled_or_retried(stage: Stage) {
    let id = stage.accept(stage.job("ann")).await;
    assert!(!stage.store().cancel(&tenant_id("bob"), &id).await.unwrap());
    assert!(!stage.store().retry(&tenant_id("bob"), &id).await.unwrap());
    assert_eq!(stage.queue.job(&tenant_id("bob"), &id).await.unwrap(), None);
    assert_eq!(stage.status(&id).await, Status::Queued);
}
