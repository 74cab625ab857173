//! Promises about acceptance.

use std::time::Duration;

use bytes::Bytes;

use super::stage::{Stage, failed, tenant_id};
use causeway_queue::{
    Accepted, Error, IdempotencyKey, NewJob, Status,
    error::Scope,
    job::{Idempotency, State},
    limits::{LaneLimits, TenantLimits},
    waiting::WaitingFor,
};

pub(super) fn keyed(job: NewJob, key: &str, digest: u8) -> NewJob {
    let key = IdempotencyKey::new(key).expect("a key");
    let ttl = Duration::from_secs(3600);
    let idempotency = Idempotency { key, digest: [digest; 32], ttl, spans_job: true };
    NewJob { idempotency: Some(idempotency), ..job }
}

/// An accepted job waits for a worker, in order.
pub async fn a_job_is_accepted_and_seen(stage: Stage) {
    let first = stage.accept(stage.job("ann")).await;
    let second = stage.accept(stage.job("ann")).await;
    let seen = stage.see(&second).await;
    assert_eq!((seen.id, seen.tenant), (second, tenant_id("ann")));
    assert_eq!(
        seen.state,
        State::Queued { position: Some(1), waiting_for: WaitingFor::Turn, estimated_wait_ms: None }
    );
    assert_eq!(stage.claim_one().await.key.job, first);
}

/// A repetition is answered with the existing job, in the same call and in a later one.
pub async fn the_same_key_and_request_is_the_same_job(stage: Stage) {
    let twice = vec![keyed(stage.job("ann"), "k", 1), keyed(stage.job("ann"), "k", 1)];
    let first = twice[0].id.clone();
    let answers = stage.queue.submit(twice).await.unwrap();
    assert_eq!(answers, [Accepted::New(first.clone()), Accepted::Replayed(first.clone())]);
    let again = stage.queue.submit(vec![keyed(stage.job("ann"), "k", 1)]).await.unwrap();
    assert_eq!(again, [Accepted::Replayed(first)]);
    assert_eq!(stage.claim(10).await.len(), 1);
    stage.assert_sound().await;
}

/// Another request under a used key is refused, with all jobs of the call.
pub async fn the_same_key_and_another_request_is_refused(stage: Stage) {
    stage.accept(keyed(stage.job("ann"), "k", 1)).await;
    let jobs = vec![stage.job("ann"), keyed(stage.job("ann"), "k", 2)];
    let refused = stage.queue.submit(jobs).await;
    assert!(matches!(refused, Err(Error::IdempotencyKeyReused { key }) if key == "k"));
    assert_eq!(stage.claim(10).await.len(), 1);
}

/// A key belongs to its job until the job is deleted, however late that is, and at least for its TTL.
pub async fn a_key_lives_as_long_as_its_job(stage: Stage) {
    let ttl = Duration::from_secs(3600);
    let delayed = NewJob { delay: 3 * ttl, ..stage.job("ann") };
    let first = stage.accept(keyed(delayed, "k", 1)).await;
    let again = || stage.queue.submit(vec![keyed(stage.job("ann"), "k", 1)]);
    stage.pass(2 * ttl);
    stage.store().reconcile(&stage.shard).await.unwrap();
    assert_eq!(again().await.unwrap(), [Accepted::Replayed(first.clone())]);
    stage.pass(2 * ttl);
    let lease = stage.claim_one().await;
    stage.succeed(lease).await;
    assert_eq!(again().await.unwrap(), [Accepted::Replayed(first)]);
    stage.assert_sound().await;
}

/// A job that is retried long after its key's TTL keeps the key to its next end.
pub async fn a_key_outlives_a_late_retry(stage: Stage) {
    let first = stage.accept(keyed(stage.job("ann"), "k", 1)).await;
    let again = || stage.queue.submit(vec![keyed(stage.job("ann"), "k", 1)]);
    let hours = |hours: u64| Duration::from_secs(3600 * hours);
    for _ in 0..3 {
        stage.pass(hours(20));
        let lease = stage.claim_one().await;
        stage.settle(lease, failed(1)).await;
        stage.pass(hours(20));
        assert!(stage.store().retry(&tenant_id("ann"), &first).await.unwrap());
        stage.store().reconcile(&stage.shard).await.unwrap();
        assert_eq!(again().await.unwrap(), [Accepted::Replayed(first.clone())]);
    }
    stage.assert_sound().await;
}

/// A key is unique within its tenant only.
pub async fn keys_of_two_tenants_are_independent(stage: Stage) {
    let ann = stage.accept(keyed(stage.job("ann"), "k", 1)).await;
    let bob = stage.accept(keyed(stage.job("bob"), "k", 2)).await;
    assert_ne!(ann, bob);
}

/// Above the lane's limit nothing is accepted, and the error names the limit.
pub async fn a_full_lane_accepts_all_or_nothing(stage: Stage) {
    let lane = LaneLimits { max_queued: 2, ..LaneLimits::default() };
    stage.store().set_limits(&stage.shard, &lane, &[]).await.unwrap();
    for count in [3, 300] {
        let names = ["ann", "bob", "cem"].into_iter().cycle().take(count);
        let refused = stage.queue.submit(names.map(|name| stage.job(name)).collect()).await;
        assert!(matches!(refused, Err(Error::Full { scope: Scope::Lane, limit: 2, .. })));
        assert_eq!(stage.claim(10).await.len(), 0);
    }
    stage.queue.submit(vec![stage.job("ann"), stage.job("bob")]).await.unwrap();
    assert_eq!(stage.claim(10).await.len(), 2, "running jobs take no room in the queue");
    stage.queue.submit(vec![stage.job("ann"), stage.job("bob")]).await.unwrap();
}

/// A tenant at its limit does not block other tenants.
pub async fn a_full_tenant_leaves_room_for_others(stage: Stage) {
    let limits = TenantLimits { max_queued: Some(1), ..TenantLimits::default() };
    let lane = LaneLimits::default();
    stage.store().set_limits(&stage.shard, &lane, &[(tenant_id("ann"), limits)]).await.unwrap();
    for delay in [Duration::ZERO, Duration::from_secs(1)] {
        let accepted = stage.accept(NewJob { delay, ..stage.job("ann") }).await;
        let refused = stage.queue.submit(vec![stage.job("ann")]).await;
        assert!(matches!(refused, Err(Error::Full { scope: Scope::Tenant, limit: 1, .. })));
        stage.accept(stage.job("bob")).await;
        assert!(stage.queue.cancel(&tenant_id("ann"), &accepted).await.unwrap().is_some());
    }
}

/// A refusal reports how many jobs wait and how many jobs of the call are new.
pub async fn a_refusal_counts_waiting_and_new_jobs(stage: Stage) {
    let bound = TenantLimits { max_queued: Some(3), ..TenantLimits::default() };
    let lane = LaneLimits { max_queued: 5, ..LaneLimits::default() };
    stage.store().set_limits(&stage.shard, &lane, &[(tenant_id("ann"), bound)]).await.unwrap();
    stage.accept(keyed(stage.job("ann"), "k", 1)).await;
    let known = || keyed(stage.job("ann"), "k", 1);
    let jobs = |name: &str, count| (0..count).map(|_| stage.job(name)).collect::<Vec<_>>();
    for (jobs, reported) in [
        (jobs("ann", 3), (Scope::Tenant, 3, 1, 3)),
        (jobs("ann", 300), (Scope::Tenant, 3, 1, 300)),
        ([vec![known()], jobs("ann", 4)].concat(), (Scope::Tenant, 3, 1, 4)),
        (jobs("bob", 5), (Scope::Lane, 5, 1, 5)),
        ([vec![known()], jobs("ann", 1), jobs("bob", 4)].concat(), (Scope::Lane, 5, 1, 5)),
    ] {
        let refused = stage.queue.submit(jobs).await;
        let Err(Error::Full { scope, limit, waiting, new, .. }) = refused else {
            panic!("{refused:?}")
        };
        assert_eq!((scope, limit, waiting, new), reported);
    }
    let fits = [vec![known()], jobs("ann", 2)].concat();
    assert_eq!(stage.queue.submit(fits).await.unwrap().len(), 3);
    // A call without new jobs is answered even if the limit is below the number of waiting jobs.
    let lane = LaneLimits { max_queued: 1, ..LaneLimits::default() };
    stage.store().set_limits(&stage.shard, &lane, &[]).await.unwrap();
    assert_eq!(stage.queue.submit(vec![known()]).await.unwrap().len(), 1);
}

/// Of several tenants without room, the error names the first, in any mixture of their jobs.
pub async fn the_first_tenant_without_room_is_named(stage: Stage) {
    let bounds = [("ann", 1), ("bob", 2), ("cem", 3), ("dan", 4)];
    let tenants = bounds.map(|(name, bound)| {
        (tenant_id(name), TenantLimits { max_queued: Some(bound), ..TenantLimits::default() })
    });
    stage.store().set_limits(&stage.shard, &LaneLimits::default(), &tenants).await.unwrap();
    for first in 0..bounds.len() {
        let each = (0..bounds.len()).map(|place| bounds[(first + place) % bounds.len()].0);
        let jobs: Vec<NewJob> =
            each.cycle().take(5 * bounds.len()).map(|name| stage.job(name)).collect();
        let delayed =
            jobs.iter().cloned().map(|job| NewJob { delay: Duration::from_secs(1), ..job });
        for jobs in [jobs.clone(), delayed.collect()] {
            let refused = stage.queue.submit(jobs).await;
            let Err(Error::Full { scope: Scope::Tenant, limit, .. }) = refused else {
                panic!("{refused:?}")
            };
            assert_eq!(limit, bounds[first].1);
        }
    }
}

/// Jobs of one flow start in the order of their acceptance, whatever their ids, in groups of any size and between
/// jobs of other flows.
pub async fn jobs_of_a_flow_start_in_accepted_order(stage: Stage) {
    let mut accepted = Vec::new();
    for (count, keeps_events) in [(1, false), (2, true), (98, false), (300, false), (7, true)] {
        let tenant = |n: usize| if n % 7 < 4 { "ann" } else { "bob" };
        let drafts = (0..count).map(|n| NewJob { keeps_events, ..stage.job(tenant(n)) });
        let jobs: Vec<NewJob> = drafts.collect();
        let backwards: Vec<NewJob> = jobs.into_iter().rev().collect();
        accepted.extend(backwards.iter().map(|job| (job.tenant.clone(), job.id.clone())));
        stage.queue.submit(backwards).await.unwrap();
    }
    let mut started = Vec::new();
    while started.len() < accepted.len() {
        let leases = stage.claim(64).await;
        assert!(!leases.is_empty(), "{} have started", started.len());
        started.extend(leases.into_iter().map(|lease| (lease.key.tenant, lease.key.job)));
    }
    // The sort is stable, so the order within a tenant does not change.
    accepted.sort_by(|(ours, _), (theirs, _)| ours.cmp(theirs));
    started.sort_by(|(ours, _), (theirs, _)| ours.cmp(theirs));
    assert_eq!(started, accepted);
    stage.assert_sound().await;
}

/// A delayed job cannot be claimed before its time.
pub async fn a_delayed_job_waits_for_its_time(stage: Stage) {
    let job = NewJob { delay: Duration::from_secs(5), ..stage.job("ann") };
    let id = stage.accept(job).await;
    let seen = stage.see(&id).await;
    let State::Scheduled { until, waiting_for } = seen.state else { panic!("{:?}", seen.state) };
    assert_eq!(until.since(seen.created_at), Duration::from_secs(5));
    assert_eq!(waiting_for, WaitingFor::Schedule);
    stage.pass(Duration::from_millis(4999));
    let step = stage.step(Vec::new(), 1).await;
    assert!(step.leases.is_empty());
    assert_eq!(step.poll_after, Some(Duration::from_millis(1)));
    stage.pass(Duration::from_millis(1));
    assert_eq!(stage.claim_one().await.key.job, id);
    assert_eq!(stage.status(&id).await, Status::Running);
}

/// A body of any size reaches the worker unchanged.
pub async fn a_large_body_arrives_whole(stage: Stage) {
    for size in [0, 1, 2048, 2049, 1_000_000] {
        let body = Bytes::from(vec![b'x'; size]);
        let id = stage.accept(NewJob { body: body.clone(), ..stage.job("ann") }).await;
        let lease = stage.claim_one().await;
        assert_eq!(lease.key.job, id);
        assert_eq!(lease.body, body, "{size} bytes");
    }
}
