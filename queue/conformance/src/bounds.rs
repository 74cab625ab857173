//! Promises about caps, rates, pauses and deadlines.

use std::{collections::HashMap, time::Duration};

use super::stage::{Stage, succeeded, tenant_id};
use causeway_queue::{
    Error, JobId, Lease, NewJob, Outcome, Status,
    clock::Clock as _,
    error::Scope,
    fair::Estimate,
    job::{State, Usage},
    limits::{LaneLimits, TenantLimits},
    waiting::WaitingFor,
};

/// Sets ann's bounds, and none of the lane.
async fn limit_ann(stage: &Stage, limits: TenantLimits) {
    stage
        .queue
        .set_limits(HashMap::new(), &[(tenant_id("ann"), limits)])
        .await
        .expect("the store answers");
}

async fn limit_lane(stage: &Stage, limits: LaneLimits) {
    stage.store().set_limits(&stage.shard, &limits, &[]).await.expect("the store answers");
}

/// Lets `count` jobs of ann's wait, each thought to cost `tokens`.
async fn backlog(stage: &Stage, count: usize, tokens: u64) -> Vec<JobId> {
    let cost = Estimate { prompt: 0, completion: Some(tokens) };
    let jobs = (0..count).map(|_| NewJob { cost, ..stage.job("ann") }).collect();
    let accepted = stage.queue.submit(jobs).await.expect("there is room");
    accepted.iter().map(|accepted| accepted.id().clone()).collect()
}

async fn end(stage: &Stage, lease: Lease, completion_tokens: u64) {
    let usage = Usage { prompt_tokens: 0, completion_tokens };
    stage.step(vec![lease.settle(succeeded(), Some(usage))], 0).await;
}

/// A tenant at its cap waits, others do not; the cap moves while jobs wait and run.
pub async fn a_tenant_never_runs_more_than_its_cap(stage: Stage) {
    let cap = |most| TenantLimits { max_running: Some(most), ..TenantLimits::default() };
    limit_ann(&stage, cap(2)).await;
    let jobs = backlog(&stage, 10, 1).await;
    let mut running = stage.claim(10).await;
    assert_eq!(running.len(), 2);
    assert_eq!(stage.reason(&jobs[5]).await, "tenant_cap");
    stage.accept(stage.job("bob")).await;
    assert_eq!(stage.claim_one().await.key.tenant, tenant_id("bob"));
    assert!(stage.claim(10).await.is_empty());

    stage.succeed(running.remove(0)).await;
    running.extend(stage.claim(10).await);
    assert_eq!(running.len(), 2);
    limit_ann(&stage, cap(5)).await;
    running.extend(stage.claim(10).await);
    assert_eq!(running.len(), 5);
    limit_ann(&stage, cap(3)).await;
    for left in [4, 3] {
        stage.succeed(running.remove(0)).await;
        assert_eq!((running.len(), stage.claim(10).await.len()), (left, 0));
    }
    stage.succeed(running.remove(0)).await;
    assert_eq!(stage.claim(10).await.len(), 1);
    limit_ann(&stage, TenantLimits::default()).await;
    assert_eq!(stage.claim(10).await.len(), 3);
    stage.assert_sound().await;
}

/// A tenant that is taken out of the configuration keeps its bounds as long as jobs of it wait.
pub async fn a_tenant_that_is_taken_out_keeps_its_bounds(stage: Stage) {
    limit_ann(&stage, TenantLimits { max_running: Some(2), ..TenantLimits::default() }).await;
    backlog(&stage, 4, 1).await;
    let others = [(tenant_id("bob"), TenantLimits::default())];
    stage.queue.set_limits(HashMap::new(), &others).await.expect("the store answers");
    let running = stage.claim(10).await;
    assert_eq!(running.len(), 2);
    for lease in running {
        stage.succeed(lease).await;
    }
    assert_eq!(stage.claim(10).await.len(), 2);
    stage.assert_sound().await;
}

/// A debt is one of tokens, not of time: at ten times the rate it is paid in a tenth of the time.
pub async fn a_debt_is_paid_at_the_rate_that_holds(stage: Stage) {
    let rate = |limit| TenantLimits { tokens_per_minute: Some(limit), ..TenantLimits::default() };
    limit_ann(&stage, rate(100)).await;
    backlog(&stage, 2, 1_100).await;
    stage.claim_one().await;
    limit_ann(&stage, rate(1000)).await;
    stage.pass(Duration::from_secs(5));
    assert!(stage.claim(1).await.is_empty(), "100 tokens are owed, a tenth of a minute");
    stage.pass(Duration::from_secs(2));
    stage.claim_one().await;
    stage.assert_sound().await;
}

/// The lane's cap holds over all tenants.
pub async fn a_lane_never_runs_more_than_its_cap(stage: Stage) {
    limit_lane(&stage, LaneLimits { max_running: Some(3), ..LaneLimits::default() }).await;
    let jobs = backlog(&stage, 4, 1).await;
    for _ in 0..4 {
        stage.accept(stage.job("bob")).await;
    }
    let mut running = stage.claim(10).await;
    assert_eq!((running.len(), stage.claim(10).await.len()), (3, 0));
    assert_eq!(stage.reason(&jobs[3]).await, "lane_cap");
    stage.succeed(running.remove(0)).await;
    assert_eq!(stage.claim(10).await.len(), 1);
    limit_lane(&stage, LaneLimits::default()).await;
    assert_eq!(stage.claim(10).await.len(), 4);
    stage.assert_sound().await;
}

/// So many attempts begin in a minute: a minute's allowance at once, then evenly.
pub async fn a_tenant_begins_only_so_many_requests_a_minute(stage: Stage) {
    let limits = TenantLimits { requests_per_minute: Some(60), ..TenantLimits::default() };
    limit_ann(&stage, limits).await;
    let jobs = backlog(&stage, 100, 1).await;
    assert_eq!(stage.claim(100).await.len(), 60);
    let until = stage.clock.now().after(Duration::from_secs(1));
    assert_eq!(stage.waiting_for(&jobs[99]).await, WaitingFor::TenantRate { until });
    stage.accept(stage.job("bob")).await;
    assert_eq!(stage.claim(100).await.len(), 1);
    for _ in 0..5 {
        let step = stage.step(Vec::new(), 100).await;
        assert!(step.leases.is_empty());
        assert_eq!(step.poll_after, Some(Duration::from_secs(1)));
        stage.pass(Duration::from_secs(1));
        assert_eq!(stage.claim(100).await.len(), 1);
    }
    stage.assert_sound().await;
}

/// So many tokens go to a tenant in a minute, by what its answers really cost.
pub async fn a_tenant_uses_only_so_many_tokens_a_minute(stage: Stage) {
    let limits = TenantLimits { tokens_per_minute: Some(6000), ..TenantLimits::default() };
    limit_ann(&stage, limits).await;
    backlog(&stage, 100, 1000).await;
    let mut running = stage.claim(100).await;
    assert_eq!(running.len(), 6);
    assert!(stage.claim(100).await.is_empty());
    // It cost half of what was thought: there is room for another attempt that is thought to cost 1,000.
    for _ in 0..2 {
        end(&stage, running.remove(0), 500).await;
    }
    assert_eq!(stage.claim(100).await.len(), 1);
    // It cost more: nothing begins until a minute's allowance has paid for it.
    end(&stage, running.remove(0), 4000).await;
    stage.pass(Duration::from_secs(29));
    assert!(stage.claim(100).await.is_empty());
    stage.pass(Duration::from_secs(2));
    assert_eq!(stage.claim(100).await.len(), 1);
    stage.assert_sound().await;
}

/// The lane's rates hold over all tenants.
pub async fn a_lane_begins_only_so_much_a_minute(stage: Stage) {
    let limits = LaneLimits { requests_per_minute: Some(30), ..LaneLimits::default() };
    limit_lane(&stage, limits).await;
    let jobs = backlog(&stage, 40, 100).await;
    for _ in 0..40 {
        stage.accept(stage.job("bob")).await;
    }
    assert_eq!(stage.claim(100).await.len(), 30);
    let until = stage.clock.now().after(Duration::from_secs(2));
    assert_eq!(stage.waiting_for(&jobs[39]).await, WaitingFor::LaneRate { until });
    stage.pass(Duration::from_secs(2));
    assert_eq!(stage.claim(100).await.len(), 1);
    let limits = LaneLimits { tokens_per_minute: Some(1000), ..LaneLimits::default() };
    limit_lane(&stage, limits).await;
    stage.pass(Duration::from_secs(60));
    // What is left of the first jobs costs ann 100 tokens and bob 12, as was thought.
    let begun = stage.claim(100).await;
    let cost = |lease: &Lease| if lease.key.tenant == tenant_id("ann") { 100 } else { 12 };
    let tokens: u64 = begun.iter().map(cost).sum();
    assert!((1000..1100).contains(&tokens), "{tokens} tokens of 1,000");
    stage.assert_sound().await;
}

/// A pause lets running jobs finish and keeps the others where they are.
pub async fn a_pause_keeps_everything_where_it_is(stage: Stage) {
    let (ann, bob) = (tenant_id("ann"), tenant_id("bob"));
    let first = stage.accept(stage.job("ann")).await;
    let second = stage.accept(stage.job("ann")).await;
    let lease = stage.claim_one().await;
    stage.store().pause(&stage.shard, Some(&ann), true).await.unwrap();
    stage.succeed(lease).await;
    assert_eq!(stage.status(&first).await, Status::Succeeded);
    assert!(stage.claim(10).await.is_empty());
    assert_eq!(stage.reason(&second).await, "paused");
    stage.accept(stage.job("bob")).await;
    stage.store().pause(&stage.shard, None, true).await.unwrap();
    assert!(stage.claim(10).await.is_empty());
    stage.store().pause(&stage.shard, Some(&ann), false).await.unwrap();
    assert!(stage.claim(10).await.is_empty());
    assert_eq!(stage.reason(&second).await, "paused");
    assert!(stage.store().stats(&stage.shard, None).await.unwrap().paused);
    stage.store().pause(&stage.shard, None, false).await.unwrap();
    let mut tenants: Vec<_> = stage.claim(10).await.into_iter().map(|l| l.key.tenant).collect();
    tenants.sort();
    assert_eq!(tenants, [ann, bob]);
    stage.assert_sound().await;
}

/// A job that has not begun by its deadline never begins; its session goes on.
pub async fn a_job_that_comes_too_late_expires(stage: Stage) {
    let within = |job, seconds| NewJob { deadline: Some(Duration::from_secs(seconds)), ..job };
    let late = stage.accept(within(stage.in_session("ann", "s"), 5)).await;
    let next = stage.accept(stage.in_session("ann", "s")).await;
    let delay = Duration::from_secs(60);
    let delayed = stage.accept(NewJob { delay, ..within(stage.job("ann"), 5) }).await;
    let step = stage.step(Vec::new(), 0).await;
    assert!(step.poll_after.is_some_and(|after| after <= Duration::from_secs(5)));
    stage.pass(Duration::from_secs(5));
    assert_eq!(stage.claim_one().await.key.job, next);
    assert_eq!(stage.status(&late).await, Status::Expired);
    assert_eq!(stage.status(&delayed).await, Status::Expired);
    stage.assert_sound().await;
}

/// A deadline holds where no worker is left to see it.
pub async fn a_job_expires_without_a_worker(stage: Stage) {
    let deadline = Some(Duration::from_secs(5));
    let id = stage.accept(NewJob { deadline, ..stage.job("ann") }).await;
    stage.pass(Duration::from_secs(5));
    stage.queue.let_in().await.expect("the store answers");
    assert_eq!(stage.status(&id).await, Status::Expired);
}

/// The worker knows the deadline of what it runs, and its word ends the job.
pub async fn a_running_job_expires_by_its_worker(stage: Stage) {
    let deadline = Some(Duration::from_secs(5));
    let id = stage.accept(NewJob { deadline, ..stage.job("ann") }).await;
    let lease = stage.claim_one().await;
    assert_eq!(lease.deadline.map(|at| at.since(lease.claimed_at)), deadline);
    stage.pass(Duration::from_secs(6));
    assert_eq!(stage.status(&id).await, Status::Running);
    stage.settle(lease, Outcome::Expired).await;
    assert_eq!(stage.status(&id).await, Status::Expired);
    stage.assert_sound().await;
}

/// While jobs end evenly, a waiting job shows its place and an estimated wait, and a refusal names the time of free
/// room.
pub async fn a_waiting_job_knows_its_place_and_its_time(stage: Stage) {
    limit_lane(&stage, LaneLimits { max_queued: 500, ..LaneLimits::default() }).await;
    let jobs = backlog(&stage, 500, 10).await;
    let mut running = Vec::new();
    for _ in 0..200 {
        stage.pass(Duration::from_millis(100));
        let settled = running.drain(..).map(|lease: Lease| lease.settle(succeeded(), None));
        running = stage.step(settled.collect(), 1).await.leases;
    }
    // Ten end each second, and 100 of 300 wait before this one.
    let State::Queued { position, estimated_wait_ms, waiting_for } =
        stage.see(&jobs[300]).await.state
    else {
        panic!("it waits")
    };
    assert_eq!((position, waiting_for), (Some(100), WaitingFor::Turn));
    let estimate = estimated_wait_ms.expect("an estimate");
    assert!((9_000..=11_500).contains(&estimate), "{estimate} ms");
    backlog(&stage, 200, 10).await;
    let too_many = (0..50).map(|_| stage.job("ann")).collect();
    let refused = stage.queue.submit(too_many).await;
    let Err(Error::Full { scope, limit, retry_after, .. }) = refused else { panic!("{refused:?}") };
    assert_eq!((scope, limit), (Scope::Lane, 500));
    assert!((4..=6).contains(&retry_after.as_secs()), "{retry_after:?}");
}
