//! Promises about the estimated wait of a job.

use std::{collections::HashMap, time::Duration};

use super::{
    fair::{SLOTS, backlog, tell},
    stage::{RELEASED, Stage, failed, succeeded, tenant_id},
};
use causeway_queue::{
    Class, JobId, Lease, NewJob, Outcome,
    clock::Clock as _,
    error::{Error, Scope},
    job::{State, Usage},
    limits::{LaneLimits, TenantLimits},
};

/// A run of a fleet, and the jobs with estimates that are read once. A turn takes 100 ms.
struct Run {
    observed: Vec<JobId>,
    /// The turn at which the estimates are read.
    at: u64,
    turns: u64,
    /// The number of turns of the n-th attempt, which is one of this tenant.
    takes: fn(&str, u64) -> u64,
}

impl Run {
    /// Runs the fleet, and returns the relative errors of the estimates, sorted.
    async fn errors(self, stage: &Stage) -> Vec<f64> {
        let mut running: Vec<(u64, Lease)> = Vec::new();
        let mut estimates = HashMap::new();
        let (mut started, mut errors) = (0, Vec::new());
        for turn in 0..self.turns {
            stage.pass(Duration::from_millis(100));
            if turn == self.at {
                for id in &self.observed {
                    let wait = estimated_wait(stage, id).await.expect("a wait");
                    estimates.insert(id.clone(), (wait, stage.clock.now()));
                }
            }
            let (over, rest) = running.into_iter().partition(|(end, _)| *end <= turn);
            running = rest;
            let settled = Vec::into_iter(over).map(|(end, lease)| {
                let usage = Usage { prompt_tokens: 0, completion_tokens: 50 + (end * 37) % 101 };
                lease.settle(succeeded(), Some(usage))
            });
            let step = stage.step(settled.collect(), SLOTS - running.len()).await;
            for lease in step.leases {
                if let Some((wait, then)) = estimates.remove(&lease.key.job) {
                    let really = lease.claimed_at.since(then).as_secs_f64();
                    errors.push((wait.as_secs_f64() / really - 1.0).abs());
                }
                started += 1;
                running.push((turn + (self.takes)(lease.key.tenant.as_str(), started), lease));
            }
        }
        errors.sort_by(f64::total_cmp);
        errors
    }
}

/// Returns the estimated wait of a queued job.
async fn estimated_wait(stage: &Stage, id: &JobId) -> Option<Duration> {
    match stage.see(id).await.state {
        State::Queued { estimated_wait_ms, .. } => estimated_wait_ms.map(Duration::from_millis),
        state @ (State::Scheduled { .. } | State::Running { .. } | State::Ended { .. }) => {
            panic!("{state:?}")
        }
    }
}

/// Prints the errors of the estimates, and asserts their number and the largest median and p90.
#[track_caller]
fn check(what: &str, count: usize, errors: &[f64], (median, p90): (f64, f64)) {
    assert_eq!(errors.len(), count, "every observed job starts");
    let at = |percent| errors[errors.len() * percent / 100];
    tell(&format!("{what}: off by {:.2} (median), {:.2} (p90)", at(50), at(90)));
    assert!(at(50) <= median && at(90) <= p90, "{what}: off by {}, {}", at(50), at(90));
}

async fn limit(stage: &Stage, tenants: &[(&str, TenantLimits)]) {
    let tenants: Vec<_> =
        tenants.iter().map(|(name, limits)| (tenant_id(name), limits.clone())).collect();
    stage.queue.set_limits(HashMap::new(), &tenants).await.expect("the store answers");
}

fn cap(most: u32) -> TenantLimits {
    TenantLimits { max_running: Some(most), ..TenantLimits::default() }
}

/// The estimate is accurate for tenants of different weights, with attempts that take one to three turns and cost 50
/// to 150 tokens.
pub async fn the_estimate_is_accurate(stage: Stage) {
    let weight = |weight| TenantLimits { weight, ..TenantLimits::default() };
    let tenants = [("a", weight(1)), ("b", weight(2)), ("c", weight(4))];
    limit(&stage, &tenants).await;
    let mut observed = Vec::new();
    for (tenant, _) in &tenants {
        let jobs = backlog(&stage, tenant, Class::Standard, 1000).await;
        observed.extend(jobs.into_iter().skip(300).step_by(20));
    }
    let count = observed.len();
    let run = Run { observed, at: 100, turns: 900, takes: |_, started| 1 + started % 3 };
    check("turns by weight", count, &run.errors(&stage).await, (0.15, 0.5));
}

/// The estimate includes a tenant's cap, beside tenants that are served much faster.
pub async fn the_estimate_includes_a_cap(stage: Stage) {
    limit(&stage, &[("ann", cap(1)), ("bob", cap(2)), ("cem", cap(3))]).await;
    let mut observed = backlog(&stage, "ann", Class::Standard, 40).await.split_off(10);
    observed.extend(backlog(&stage, "cem", Class::Standard, 120).await.split_off(30));
    backlog(&stage, "bob", Class::Standard, 1000).await;
    // An attempt of bob takes a turn, and twenty end in a second.
    let takes = |tenant: &str, started| if tenant == "bob" { 1 } else { 9 + started % 3 };
    let count = observed.len();
    let run = Run { observed, at: 50, turns: 450, takes };
    check("a cap", count, &run.errors(&stage).await, (0.1, 0.3));
}

/// The estimate includes a tenant's limits of attempts and tokens per minute, beside a tenant that is served much
/// faster.
pub async fn the_estimate_includes_a_tenants_rates(stage: Stage) {
    let requests = TenantLimits { requests_per_minute: Some(60), ..TenantLimits::default() };
    let tokens = TenantLimits { tokens_per_minute: Some(6000), ..TenantLimits::default() };
    limit(&stage, &[("ann", requests), ("cem", tokens), ("bob", cap(2))]).await;
    let mut of_requests = backlog(&stage, "ann", Class::Standard, 110).await.split_off(70);
    let of_tokens = backlog(&stage, "cem", Class::Standard, 110).await.split_off(70);
    backlog(&stage, "bob", Class::Standard, 1500).await;
    of_requests.extend(of_tokens);
    let count = of_requests.len();
    let run = Run { observed: of_requests, at: 50, turns: 650, takes: |_, _| 1 };
    check("a tenant's rates", count, &run.errors(&stage).await, (0.05, 0.1));
}

/// The estimate includes a lane's limit of attempts per minute, for all its tenants.
pub async fn the_estimate_includes_a_lanes_rates(stage: Stage) {
    let requests = LaneLimits { requests_per_minute: Some(60), ..LaneLimits::default() };
    stage.store().set_limits(&stage.shard, &requests, &[]).await.unwrap();
    let observed = backlog(&stage, "ann", Class::Standard, 60).await.split_off(35);
    backlog(&stage, "bob", Class::Standard, 60).await;
    let count = observed.len();
    let run = Run { observed, at: 50, turns: 650, takes: |_, _| 1 };
    check("a lane's rates", count, &run.errors(&stage).await, (0.05, 0.1));
}

/// The retry time of a full tenant depends on its own jobs, however fast other tenants are served.
pub async fn a_full_tenant_receives_its_retry_time(stage: Stage) {
    let slow = TenantLimits {
        requests_per_minute: Some(60),
        max_queued: Some(100),
        ..TenantLimits::default()
    };
    limit(&stage, &[("ann", slow)]).await;
    backlog(&stage, "ann", Class::Standard, 100).await;
    backlog(&stage, "bob", Class::Standard, 1500).await;
    let run = Run { observed: Vec::new(), at: u64::MAX, turns: 150, takes: |_, _| 1 };
    run.errors(&stage).await;
    // 60 jobs of ann have started at once, then one each second; a hundred jobs of bob end each second.
    let waiting = stage.store().stats(&stage.shard, Some(&tenant_id("ann"))).await.unwrap().queued;
    let more = 100 - waiting + 20;
    let jobs = (0..more).map(|_| stage.job("ann")).collect();
    let refused = stage.queue.submit(jobs).await;
    let Err(Error::Full { scope, retry_after, .. }) = refused else { panic!("{refused:?}") };
    assert_eq!(scope, Scope::Tenant);
    assert!((19..=21).contains(&retry_after.as_secs()), "{retry_after:?}");
}

/// The mean duration of a tenant's attempts includes every spent attempt, whatever its outcome. An attempt that was
/// handed back, or lost its worker, does not count.
pub async fn the_estimate_includes_the_mean_attempt(stage: Stage) {
    // Bob's jobs end so fast that only the cap delays ann's.
    backlog(&stage, "bob", Class::Standard, 250).await;
    let run = Run { observed: Vec::new(), at: 0, turns: 26, takes: |_, _| 1 };
    run.errors(&stage).await;
    limit(&stage, &[("ann", cap(1))]).await;
    let jobs = backlog(&stage, "ann", Class::Standard, 60).await;
    let last = &jobs[59];
    let spend = async |time: Duration, outcome: fn(u32) -> Outcome| {
        let lease = stage.claim_one().await;
        stage.pass(time);
        let outcome = outcome(lease.attempt);
        stage.settle(lease, outcome).await;
    };
    let second = Duration::from_secs(1);
    for _ in 0..4 {
        spend(second, |_| succeeded()).await;
    }
    assert_eq!(estimated_wait(&stage, last).await, Some(55 * second));
    spend(5 * second, |_| RELEASED).await;
    stage.claim_one().await;
    stage.pass(20 * second);
    // The drain rate is outdated by now; a job that ends renews it.
    stage.accept(stage.job("bob")).await;
    let renewing = stage.claim_one().await;
    stage.succeed(renewing).await;
    stage.reap().await;
    assert_eq!(estimated_wait(&stage, last).await, Some(55 * second));
    // One attempt of 17 s moves the mean by a sixteenth of the difference.
    spend(17 * second, failed).await;
    assert_eq!(estimated_wait(&stage, last).await, Some(54 * 2 * second));
    // The mean is kept as long as the cap exists.
    limit(&stage, &[("ann", cap(2))]).await;
    assert_eq!(estimated_wait(&stage, last).await, Some(53 * second));
    limit(&stage, &[("ann", TenantLimits::default())]).await;
    limit(&stage, &[("ann", cap(1))]).await;
    assert!(estimated_wait(&stage, last).await.is_some_and(|wait| wait < 53 * second));
}

/// The drain rate counts only jobs that had started: not a backlog that is cancelled or expires.
pub async fn unstarted_jobs_do_not_count_as_drain(stage: Stage) {
    let run = |turns| Run { observed: Vec::new(), at: u64::MAX, turns, takes: |_, _| 10 };
    let drain = async || stage.store().stats(&stage.shard, None).await.unwrap().drain_per_s;
    let waiting = backlog(&stage, "ann", Class::Standard, 600).await;
    run(50).errors(&stage).await;
    let before = drain().await;
    assert!((8.0..12.0).contains(&before), "{before} jobs end per second");
    for id in &waiting[500..] {
        stage.store().cancel(&tenant_id("ann"), id).await.unwrap();
    }
    let deadline = Some(Duration::from_millis(1));
    let late = (0..100).map(|_| NewJob { deadline, ..stage.job("ann") });
    stage.queue.submit(late.collect()).await.unwrap();
    run(50).errors(&stage).await;
    let after = drain().await;
    assert!((8.0..12.0).contains(&after), "{after} jobs end per second, not {before}");
}

/// The estimate disappears if no job has ended for ten seconds while jobs wait, and returns with the next end.
pub async fn an_estimate_expires_with_the_drain_rate(stage: Stage) {
    let last = backlog(&stage, "ann", Class::Standard, 300).await.pop().expect("a job");
    let run = Run { observed: Vec::new(), at: 0, turns: 26, takes: |_, _| 1 };
    run.errors(&stage).await;
    stage.pass(Duration::from_secs(10));
    assert!(estimated_wait(&stage, &last).await.is_some());
    stage.pass(Duration::from_millis(1));
    assert_eq!(estimated_wait(&stage, &last).await, None);
    let ann = stage.store().stats(&stage.shard, Some(&tenant_id("ann"))).await.unwrap();
    assert_eq!(ann.estimated_wait_ms, None);
    let next = stage.claim_one().await;
    stage.succeed(next).await;
    assert!(estimated_wait(&stage, &last).await.is_some());
}

/// A lane with long calls keeps its estimate between two ends, as long as a call runs.
pub async fn an_estimate_lasts_as_long_as_calls(stage: Stage) {
    let last = backlog(&stage, "ann", Class::Standard, 5).await.pop().expect("a job");
    for _ in 0..2 {
        let lease = stage.claim_one().await;
        stage.pass(Duration::from_secs(30));
        stage.succeed(lease).await;
    }
    stage.pass(Duration::from_secs(10));
    assert!(estimated_wait(&stage, &last).await.is_some());
    stage.pass(Duration::from_secs(1));
    assert_eq!(estimated_wait(&stage, &last).await, None, "nothing has started for 10 s");
    stage.claim_one().await;
    stage.pass(Duration::from_secs(79));
    assert!(estimated_wait(&stage, &last).await.is_some());
    stage.pass(Duration::from_secs(1));
    assert_eq!(estimated_wait(&stage, &last).await, None);
}

/// The duration of a pause is unknown, so a paused job has no estimate.
pub async fn the_estimate_of_a_paused_job_is_none(stage: Stage) {
    let last = backlog(&stage, "ann", Class::Standard, 300).await.pop().expect("a job");
    let run = Run { observed: Vec::new(), at: 0, turns: 26, takes: |_, _| 1 };
    run.errors(&stage).await;
    let ann = tenant_id("ann");
    for whose in [None, Some(&ann)] {
        assert!(estimated_wait(&stage, &last).await.is_some());
        stage.store().pause(&stage.shard, whose, true).await.unwrap();
        assert_eq!(estimated_wait(&stage, &last).await, None);
        stage.store().pause(&stage.shard, whose, false).await.unwrap();
    }
}
