//! Promises about the order while attempts with wrong estimates run.

use std::{
    collections::{HashMap, VecDeque},
    time::Duration,
};

use super::{
    fair::backlog,
    stage::{Stage, succeeded, tenant_id},
};
use causeway_queue::{
    Class, Lease, NewJob, Settlement, fair::Estimate, job::Usage, limits::TenantLimits,
};

/// The number of attempts that run at once.
const SLOTS: usize = 64;

/// The actual cost of every attempt.
const TOKENS: u64 = 100;

/// Submits `count` jobs of `tenant`, each with an estimate of `completion` tokens.
async fn thought_to_cost(stage: &Stage, tenant: &str, completion: u64, count: usize) {
    let cost = Estimate { prompt: 0, completion: Some(completion) };
    let jobs = (0..count).map(|_| NewJob { cost, ..stage.job(tenant) }).collect();
    stage.queue.submit(jobs).await.expect("there is room");
}

/// A fleet with [`SLOTS`] slots, in which the oldest attempt ends first and another one starts.
struct Fleet<'a> {
    stage: &'a Stage,
    running: VecDeque<Lease>,
}

impl<'a> Fleet<'a> {
    async fn full(stage: &'a Stage) -> Self {
        let running = VecDeque::from(stage.claim(SLOTS).await);
        assert_eq!(running.len(), SLOTS);
        Self { stage, running }
    }

    /// Starts `count` attempts, and returns their tenants.
    async fn serve(&mut self, count: usize) -> Vec<String> {
        let mut starts = Vec::new();
        for _ in 0..count {
            self.stage.pass(Duration::from_millis(10));
            let lease = self.running.pop_front().expect("a running attempt");
            let step = self.stage.step(vec![settled(lease)], 1).await;
            starts.extend(step.leases.iter().map(|lease| lease.key.tenant.to_string()));
            self.running.extend(step.leases);
        }
        starts
    }
}

fn settled(lease: Lease) -> Settlement {
    lease.settle(succeeded(), Some(Usage { prompt_tokens: 0, completion_tokens: TOKENS }))
}

fn count(starts: &[String], tenant: &str) -> usize {
    starts.iter().filter(|start| *start == tenant).count()
}

/// A tenant that arrives while attempts with far too high estimates run has its turns at once, not only after others
/// have used the estimated tokens.
pub async fn a_new_tenant_does_not_wait_for_estimates(stage: Stage) {
    thought_to_cost(&stage, "greedy", 1 << 20, SLOTS).await;
    let mut fleet = Fleet::full(&stage).await;
    backlog(&stage, "greedy", Class::Standard, 200).await;
    backlog(&stage, "light", Class::Standard, 20).await;
    let starts = fleet.serve(40).await;
    assert_eq!(count(&starts, "light"), 20, "{starts:?}");
    stage.assert_sound().await;
}

/// The same holds if every tenant's estimates are far too high.
pub async fn a_light_tenant_starts_despite_high_estimates(stage: Stage) {
    thought_to_cost(&stage, "heavy", 16_384, 400).await;
    let mut fleet = Fleet::full(&stage).await;
    fleet.serve(200).await;
    thought_to_cost(&stage, "light", 16_384, 20).await;
    let starts = fleet.serve(40).await;
    assert_eq!(count(&starts, "light"), 20, "{starts:?}");
}

/// A new tenant starts at the lowest tag, which is behind virtual time because attempts cost less than estimated.
pub async fn a_new_tenant_starts_at_the_lowest_tag(stage: Stage) {
    thought_to_cost(&stage, "greedy", 1 << 20, SLOTS).await;
    backlog(&stage, "greedy", Class::Standard, 200).await;
    let slow = stage.claim(SLOTS).await;
    backlog(&stage, "steady", Class::Standard, 400).await;
    let mut fleet = Fleet::full(&stage).await;
    fleet.serve(200).await;
    stage.step(slow.into_iter().map(settled).collect(), 0).await;
    backlog(&stage, "light", Class::Standard, 20).await;
    let starts = fleet.serve(40).await;
    assert_eq!(count(&starts, "light"), 20, "{starts:?}");
}

/// A tenant's new weight also applies to its running attempts.
pub async fn a_new_weight_applies_to_running_attempts(stage: Stage) {
    let weigh = async |weight| {
        let limits = TenantLimits { weight, ..TenantLimits::default() };
        stage.queue.set_limits(HashMap::new(), &[(tenant_id("ann"), limits)]).await.unwrap();
    };
    for tenant in ["ann", "bob"] {
        thought_to_cost(&stage, tenant, 1 << 17, 2500).await;
    }
    let mut fleet = Fleet::full(&stage).await;
    fleet.serve(100).await;
    for (weight, wanted) in [(10, 910), (1, 500)] {
        weigh(weight).await;
        fleet.serve(2 * SLOTS).await;
        let of_ann = count(&fleet.serve(1000).await, "ann");
        assert!(of_ann.abs_diff(wanted) <= 20, "{of_ann} of 1000 by weight {weight}");
    }
    stage.assert_sound().await;
}
