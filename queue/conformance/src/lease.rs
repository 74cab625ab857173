//! Promises about leases.

use std::{collections::BTreeSet, time::Duration};

use super::stage::{LEASE, RELEASED, Stage, succeeded};
use causeway_queue::{
    EventKind, Lease, NewJob, Outcome, RawJson, Settlement, Status,
    backend::Emission,
    job::{ChargedTo, State},
    lease::Settled,
};

/// No two claims return the same job, and together they return all.
pub async fn a_claim_takes_each_job_once(stage: Stage) {
    let jobs: Vec<NewJob> = (0..100).map(|n| stage.job(&format!("t{}", n % 7))).collect();
    let wanted: BTreeSet<_> = jobs.iter().map(|job| job.id.clone()).collect();
    stage.queue.submit(jobs).await.unwrap();
    let mut claimed = Vec::new();
    for max in [1, 3, 32, 200] {
        claimed.extend(stage.claim(max).await.into_iter().map(|lease| lease.key.job));
    }
    assert_eq!(claimed.len(), 100);
    assert_eq!(claimed.into_iter().collect::<BTreeSet<_>>(), wanted);
    stage.assert_sound().await;
}

/// A heartbeat extends the lease.
pub async fn a_heartbeat_extends_a_lease(stage: Stage) {
    stage.accept(stage.job("ann")).await;
    let lease = stage.claim_one().await;
    for _ in 0..5 {
        stage.pass(LEASE / 2);
        let keys = [lease.key.clone()];
        let extended = stage.store().extend_leases(&stage.shard, &keys, LEASE).await.unwrap();
        assert!(extended.lost.is_empty());
        assert!(stage.reap().await.requeued.is_empty());
    }
    assert_eq!(stage.succeed(lease).await, Settled::Done);
}

/// The job of a lost worker runs again, and no attempt is spent.
pub async fn an_expired_lease_is_a_stall(stage: Stage) {
    let id = stage.accept(stage.job("ann")).await;
    let first = stage.claim_one().await;
    stage.pass(LEASE - Duration::from_millis(1));
    assert!(stage.reap().await.requeued.is_empty());
    stage.pass(Duration::from_millis(1));
    assert_eq!(stage.reap().await.requeued, std::slice::from_ref(&id));
    let seen = stage.see(&id).await;
    assert_eq!((seen.attempts, seen.stalls, seen.status()), (0, 1, Status::Queued));
    let second = stage.claim_one().await;
    assert_eq!(second.attempt, 1);
    assert!(second.key.epoch > first.key.epoch);
    stage.assert_sound().await;
}

/// A job that crashes its workers does not crash all of them.
pub async fn a_job_that_loses_too_many_workers_fails(stage: Stage) {
    let id = stage.accept(stage.job("ann")).await;
    for _ in 0..3 {
        stage.claim_one().await;
        stage.pass(LEASE);
        stage.reap().await;
    }
    let seen = stage.see(&id).await;
    assert_eq!((seen.status(), seen.stalls), (Status::Failed, 3));
    let State::Ended { output: Some(output), .. } = seen.state else { panic!("no output") };
    assert_eq!(output.error.unwrap().code, "worker_lost");
    let charged: Vec<_> = seen.errors.iter().map(|failed| (failed.at, failed.charged_to)).collect();
    let started = seen.created_at;
    let at = |lost: u32| started.after(LEASE * lost);
    assert_eq!(charged, [1, 2, 3].map(|lost| (at(lost), ChargedTo::Worker)));
}

/// After its lease expired, a worker cannot settle, extend or emit.
pub async fn an_expired_lease_cannot_settle_or_emit(stage: Stage) {
    let job = NewJob { keeps_events: true, ..stage.job("ann") };
    let id = stage.accept(job).await;
    let zombie = stage.claim_one().await;
    stage.pass(LEASE);
    stage.reap().await;
    let alive = stage.claim_one().await;
    let keys = [zombie.key.clone()];
    let extended = stage.store().extend_leases(&stage.shard, &keys, LEASE).await.unwrap();
    assert_eq!(extended.lost, keys);
    let data = RawJson::string("late");
    let late = Emission {
        lease: zombie.key.clone(),
        number: 1,
        repeated: false,
        kind: EventKind::Delta,
        data,
    };
    let lost = stage.store().emit(&stage.shard, vec![late]).await.unwrap();
    assert_eq!(lost, keys);
    assert_eq!(stage.succeed(zombie).await, Settled::Lost);
    assert_eq!(stage.status(&id).await, Status::Running);
    assert_eq!(stage.succeed(alive).await, Settled::Done);
    let kinds: Vec<EventKind> =
        stage.store().events(&id, 0).await.unwrap().iter().map(|event| event.kind).collect();
    assert!(!kinds.contains(&EventKind::Delta), "{kinds:?}");
    stage.assert_sound().await;
}

/// An expired lease that is settled together with valid ones of its tenant ends nothing.
pub async fn an_expired_lease_in_a_batch_ends_nothing(stage: Stage) {
    let first = stage.accept(stage.job("ann")).await;
    let second = stage.accept(stage.job("ann")).await;
    let leases = stage.claim(2).await;
    stage.pass(LEASE / 2);
    let held = [leases[1].key.clone()];
    stage.store().extend_leases(&stage.shard, &held, LEASE).await.unwrap();
    stage.pass(LEASE / 2);
    stage.reap().await;
    let alive = stage.claim_one().await;
    let ends = leases.into_iter().map(|lease| lease.settle(succeeded(), None));
    let settled = stage.step(ends.collect(), 0).await.settled;
    assert_eq!(settled, [Settled::Lost, Settled::Done]);
    assert_eq!(stage.status(&first).await, Status::Running);
    assert_eq!(stage.status(&second).await, Status::Succeeded);
    assert_eq!(stage.succeed(alive).await, Settled::Done);
    stage.assert_sound().await;
}

/// A job that a worker hands back is as if it had not been claimed.
pub async fn a_job_handed_back_spends_no_attempt(stage: Stage) {
    let first = stage.accept(stage.job("ann")).await;
    stage.accept(stage.job("ann")).await;
    let lease = stage.claim_one().await;
    stage.settle(lease, RELEASED).await;
    assert_eq!(stage.see(&first).await.attempts, 0);
    let again = stage.claim_one().await;
    assert_eq!((again.key.job, again.attempt), (first, 1));
    stage.assert_sound().await;
}

/// A job that is handed back with a delay waits for it, spends no attempt, and lets others run meanwhile.
pub async fn a_job_handed_back_with_a_delay_waits(stage: Stage) {
    let later = Duration::from_secs(3);
    let first = stage.accept(stage.job("ann")).await;
    let second = stage.accept(stage.job("ann")).await;
    let lease = stage.claim_one().await;
    stage.settle(lease, Outcome::Released { delay: later }).await;
    let seen = stage.see(&first).await;
    assert_eq!((seen.status(), seen.attempts), (Status::Scheduled, 0));
    assert_eq!(stage.claim_one().await.key.job, second);
    stage.pass(later - Duration::from_millis(1));
    assert!(stage.claim(1).await.is_empty());
    stage.pass(Duration::from_millis(1));
    let again = stage.claim_one().await;
    assert_eq!((again.key.job, again.attempt), (first, 1));
    stage.assert_sound().await;
}

/// The answer is kept as it was given, and the attempt's lease has ended.
pub async fn an_answer_is_kept(stage: Stage) {
    let id = stage.accept(stage.job("ann")).await;
    let lease = stage.claim_one().await;
    let key = lease.key.clone();
    assert_eq!(stage.succeed(lease).await, Settled::Done);
    let Outcome::Succeeded { output, .. } = succeeded() else { unreachable!() };
    let seen = stage.see(&id).await;
    let State::Ended { status, output: kept, .. } = seen.state else { panic!("not ended") };
    assert_eq!((status, kept), (Status::Succeeded, Some(output)));
    let extended = stage.store().extend_leases(&stage.shard, &[key], LEASE).await.unwrap();
    assert_eq!(extended.lost.len(), 1, "the lease has ended with the attempt");
}

/// One attempt ends once, even if the same settlement is twice in one call, beside others.
pub async fn an_attempt_ends_once_in_a_call(stage: Stage) {
    for _ in 0..2 {
        stage.accept(stage.job("ann")).await;
    }
    let mut leases = stage.claim(2).await;
    let end = |lease: &Lease| Settlement {
        key: lease.key.clone(),
        memory: None,
        has_webhook: false,
        outcome: succeeded(),
        usage: None,
        model: None,
        receipt: lease.receipt.clone(),
    };
    let twice = vec![end(&leases[0]), end(&leases[1]), end(&leases[0])];
    let settled = stage.step(twice, 0).await.settled;
    assert_eq!(settled, [Settled::Done, Settled::Done, Settled::Lost]);
    assert_eq!(stage.settle(leases.remove(0), succeeded()).await, Settled::Lost);
    let stats = stage.store().stats(&stage.shard, None).await.unwrap();
    assert_eq!((stats.queued, stats.running), (0, 0));
    stage.assert_sound().await;
}
