//! Promises about order between tenants and classes.

use std::{collections::HashMap, time::Duration};

use super::stage::{RELEASED, Stage, succeeded, tenant_id};
use causeway_queue::{
    Class, JobId, Lease, NewJob,
    fair::{Estimate, MOST_TOKENS},
    job::Usage,
    limits::{LaneLimits, TenantLimits},
};

/// The number of attempts that run at once.
pub(super) const SLOTS: usize = 10;

/// The served tenants and classes, in order.
type Starts = Vec<(String, Class)>;

/// A fleet with [`SLOTS`] slots, in which each attempt takes one turn of the clock.
struct Fleet<'a> {
    stage: &'a Stage,
    running: Vec<Lease>,
}

impl<'a> Fleet<'a> {
    fn new(stage: &'a Stage) -> Self {
        Self { stage, running: Vec::new() }
    }

    /// Settles all running attempts at a cost of `tokens`, and claims new ones, until `count` attempts have started.
    async fn serve(&mut self, count: usize, tokens: fn(&str) -> u64) -> Starts {
        let mut starts = Starts::new();
        while starts.len() < count {
            self.stage.pass(Duration::from_millis(100));
            let settled = self.running.drain(..).map(|lease| {
                let completion_tokens = tokens(lease.key.tenant.as_str());
                lease.settle(succeeded(), Some(Usage { prompt_tokens: 0, completion_tokens }))
            });
            let step = self.stage.step(settled.collect(), SLOTS).await;
            assert!(!step.leases.is_empty(), "a backlog leaves no place empty");
            let name = |lease: &Lease| (lease.key.tenant.to_string(), lease.key.class);
            starts.extend(step.leases.iter().map(name));
            self.running = step.leases;
        }
        starts
    }
}

/// Submits `count` jobs of `tenant`, each with an estimate of 100 tokens.
pub(super) async fn backlog(stage: &Stage, tenant: &str, class: Class, count: usize) -> Vec<JobId> {
    let cost = Estimate { prompt: 0, completion: Some(100) };
    let jobs = (0..count).map(|_| NewJob { class, cost, ..stage.job(tenant) }).collect();
    let accepted = stage.queue.submit(jobs).await.expect("there is room");
    accepted.into_iter().map(|accepted| accepted.id().clone()).collect()
}

fn share<T>(starts: &[T], of: impl Fn(&T) -> bool) -> f64 {
    #[expect(clippy::cast_precision_loss, reason = "counts of a test")]
    let part = |count: usize| count as f64;
    part(starts.iter().filter(|start| of(start)).count()) / part(starts.len())
}

/// Twenty jobs beside a hundred thousand of another tenant have all started within forty starts.
pub async fn a_light_tenant_does_not_wait_behind_a_heavy_one(stage: Stage) {
    for _ in 0..10 {
        backlog(&stage, "heavy", Class::Standard, 10_000).await;
    }
    let mut fleet = Fleet::new(&stage);
    fleet.serve(200, |_| 100).await;
    backlog(&stage, "light", Class::Standard, 20).await;
    let starts = fleet.serve(40, |_| 100).await;
    let light = |start: &(String, Class)| start.0 == "light";
    let last = starts.iter().rposition(light).map_or(0, |place| place + 1);
    tell(&format!("the last job of the light tenant is start {last}"));
    assert_eq!(starts.iter().filter(|start| light(start)).count(), 20);
}

/// Three tenants with backlogs are served by their weights.
pub async fn turns_go_by_weight(stage: Stage) {
    let weighted = |name, weight| (tenant_id(name), TenantLimits { weight, ..Default::default() });
    let tenants = [weighted("a", 1), weighted("b", 3), weighted("c", 6)];
    stage.queue.set_limits(HashMap::new(), &tenants).await.unwrap();
    for (tenant, _) in &tenants {
        backlog(&stage, tenant.as_str(), Class::Standard, 1300).await;
    }
    let starts = Fleet::new(&stage).serve(2000, |_| 100).await;
    for (tenant, wanted) in [("a", 0.1), ("b", 0.3), ("c", 0.6)] {
        let share = share(&starts, |start| start.0 == tenant);
        tell(&format!("{tenant} had {share:.4}, {wanted} is its weight"));
        assert!((share / wanted - 1.0).abs() <= 0.02, "{tenant} had {share}, not {wanted}");
    }
    stage.assert_sound().await;
}

/// Actual costs count: a tenant with answers twelve times as long is served a twelfth as often, although all
/// estimates are equal.
pub async fn turns_are_paid_in_tokens(stage: Stage) {
    let cost = |tenant: &str| if tenant == "long" { 6000 } else { 500 };
    backlog(&stage, "long", Class::Standard, 600).await;
    backlog(&stage, "short", Class::Standard, 6000).await;
    let mut fleet = Fleet::new(&stage);
    let starts = fleet.serve(5200, cost).await;
    let mut tokens: HashMap<&str, u64> = HashMap::new();
    for (tenant, _) in &starts {
        *tokens.entry(tenant).or_default() += cost(tenant);
    }
    #[expect(clippy::cast_precision_loss, reason = "tokens of a test")]
    let ratio = tokens["long"] as f64 / tokens["short"] as f64;
    assert!((ratio - 1.0).abs() <= 0.05, "long answers had {ratio} of the tokens of short ones");
    let jobs = share(&starts, |start| start.0 == "long");
    tell(&format!("long to short: {ratio:.4} in tokens, 1 to {:.2} in jobs", 1.0 / jobs - 1.0));
    assert!((jobs * 13.0 - 1.0).abs() <= 0.05, "long answers were {jobs} of all, not 1 of 13");
}

/// Higher classes are preferred by 16 : 4 : 1, and none starves.
pub async fn classes_are_served_by_weight(stage: Stage) {
    for class in Class::ALL {
        backlog(&stage, "ann", class, 1700).await;
    }
    let starts = Fleet::new(&stage).serve(2100, |_| 100).await;
    for (class, parts) in [(Class::Interactive, 16.0), (Class::Standard, 4.0), (Class::Batch, 1.0)]
    {
        let share = share(&starts, |start| start.1 == class);
        assert!((share * 21.0 / parts - 1.0).abs() <= 0.05, "{class} had {share}");
    }
}

/// Prints measured figures, shown with `--no-capture`.
#[expect(clippy::print_stderr, reason = "the figures of a test")]
pub(super) fn tell(figures: &str) {
    eprintln!("{figures}");
}

/// Bursts of interactive jobs wait hardly longer beside a flood of batch jobs than alone, and the flood is still
/// served.
pub async fn batch_jobs_hardly_delay_interactive_jobs(stage: Stage) {
    let (alone, none) = interactive_waits(&stage).await;
    backlog(&stage, "bulk", Class::Batch, 5000).await;
    let (beside, batch) = interactive_waits(&stage).await;
    let p99 = |waits: &[Duration]| waits[waits.len() * 99 / 100];
    let (alone, beside) = (p99(&alone), p99(&beside));
    tell(&format!("p99 {alone:?} alone, {beside:?} beside {batch} batch jobs"));
    assert!(beside <= 2 * alone, "{beside:?} instead of {alone:?}");
    assert!(none == 0 && batch > 1000, "{batch} of the flood started");
}

/// Returns the waits of interactive jobs, sorted, if forty arrive at once and half of the fleet is enough; and the
/// number of batch jobs that started meanwhile.
async fn interactive_waits(stage: &Stage) -> (Vec<Duration>, usize) {
    let (mut waits, mut batch) = (Vec::new(), 0);
    let mut running: Vec<Lease> = Vec::new();
    for turn in 0..400 {
        if turn % 8 == 0 {
            backlog(stage, "ann", Class::Interactive, 40).await;
        }
        stage.pass(Duration::from_millis(100));
        let usage = Usage { prompt_tokens: 0, completion_tokens: 100 };
        let settled = running.drain(..).map(|lease| lease.settle(succeeded(), Some(usage)));
        running = stage.step(settled.collect(), SLOTS).await.leases;
        for lease in &running {
            match lease.key.class {
                Class::Interactive => waits.push(lease.claimed_at.since(lease.created_at)),
                Class::Standard | Class::Batch => batch += 1,
            }
        }
    }
    waits.sort_unstable();
    (waits, batch)
}

/// A flow that closes during a claim does not change the turns of its neighbours.
pub async fn a_closing_flow_gives_no_extra_turns(stage: Stage) {
    let cap = TenantLimits { max_running: Some(1), ..TenantLimits::default() };
    stage.queue.set_limits(HashMap::new(), &[(tenant_id("a"), cap)]).await.unwrap();
    backlog(&stage, "a", Class::Interactive, 2).await;
    for tenant in ["a", "b", "c", "d"] {
        backlog(&stage, tenant, Class::Standard, 2).await;
    }
    let leases = stage.claim(3).await;
    let turns: Vec<_> = leases.iter().map(|lease| lease.key.tenant.as_str()).collect();
    assert_eq!(turns, ["a", "b", "c"]);
}

/// A tenant that was idle returns as an equal: it saved no turns and lost none.
pub async fn an_idle_flow_saves_no_turns(stage: Stage) {
    backlog(&stage, "ann", Class::Standard, 2000).await;
    backlog(&stage, "bob", Class::Standard, 10).await;
    let mut fleet = Fleet::new(&stage);
    fleet.serve(1000, |_| 100).await;
    backlog(&stage, "bob", Class::Standard, 500).await;
    let starts = fleet.serve(400, |_| 100).await;
    let share = share(&starts, |start| start.0 == "bob");
    assert!((share - 0.5).abs() <= 0.03, "bob came back to {share}");
}

/// A tenant that estimates far more than it uses does not delay a tenant that arrives later.
pub async fn a_high_estimate_delays_no_other_tenant(stage: Stage) {
    let cost = Estimate { prompt: 0, completion: Some(1 << 30) };
    let greedy: Vec<_> = (0..2 * SLOTS).map(|_| NewJob { cost, ..stage.job("greedy") }).collect();
    stage.queue.submit(greedy).await.expect("there is room");
    let mut fleet = Fleet::new(&stage);
    fleet.serve(2 * SLOTS, |_| 20).await;
    backlog(&stage, "greedy", Class::Standard, 1500).await;
    fleet.serve(100, |_| 100).await;
    backlog(&stage, "light", Class::Standard, 20).await;
    let starts = fleet.serve(50, |_| 100).await;
    let light = starts.iter().filter(|(tenant, _)| tenant == "light").count();
    assert_eq!(light, 20, "within {} starts", starts.len());
    stage.assert_sound().await;
}

/// Jobs with an estimate of zero tokens cost something, so other tenants have their turns beside them.
pub async fn free_jobs_take_turns(stage: Stage) {
    for (tenant, completion) in [("ann", Some(0)), ("bob", Some(1))] {
        let cost = Estimate { prompt: 0, completion };
        let jobs = (0..10).map(|_| NewJob { cost, ..stage.job(tenant) });
        stage.queue.submit(jobs.collect()).await.unwrap();
    }
    let leases = stage.claim(10).await;
    assert_eq!(leases.iter().filter(|lease| lease.key.tenant == tenant_id("bob")).count(), 5);
}

/// An absurd estimate closes a lane with a rate no longer than the largest possible cost of an attempt.
pub async fn an_absurd_estimate_closes_a_lane_briefly(stage: Stage) {
    let rate = LaneLimits { tokens_per_minute: Some(MOST_TOKENS), ..LaneLimits::default() };
    stage.store().set_limits(&stage.shard, &rate, &[]).await.unwrap();
    let beyond = Estimate { prompt: 1 << 40, completion: Some(1 << 40) };
    stage.accept(NewJob { cost: beyond, ..stage.job("greedy") }).await;
    let lease = stage.claim_one().await;
    stage.step(vec![lease.settle(succeeded(), None)], 0).await;
    stage.accept(stage.job("ann")).await;
    assert!(stage.claim(1).await.is_empty(), "the minute's tokens are used up");
    stage.pass(Duration::from_secs(60));
    assert_eq!(stage.claim(1).await.len(), 1);
}

/// An attempt that is started and handed back costs its tenant nothing.
pub async fn a_job_handed_back_costs_nothing(stage: Stage) {
    let one = LaneLimits { max_running: Some(1), ..LaneLimits::default() };
    stage.store().set_limits(&stage.shard, &one, &[]).await.unwrap();
    backlog(&stage, "ann", Class::Standard, 5).await;
    for _ in 0..20 {
        let lease = stage.claim_one().await;
        assert_eq!(lease.key.tenant, tenant_id("ann"));
        stage.settle(lease, RELEASED).await;
    }
    backlog(&stage, "bob", Class::Standard, 5).await;
    let mut turns = Vec::new();
    for _ in 0..10 {
        let lease = stage.claim_one().await;
        turns.push(lease.key.tenant.to_string());
        stage.step(vec![lease.settle(succeeded(), None)], 0).await;
    }
    assert_eq!(turns[..4].iter().filter(|tenant| *tenant == "ann").count(), 2, "{turns:?}");
}
