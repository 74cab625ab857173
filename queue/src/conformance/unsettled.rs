//! Promises about turns while attempts run whose estimates are wrong.

use std::{
    collections::{HashMap, VecDeque},
    time::Duration,
};

use super::{
    fair::backlog,
    stage::{Stage, succeeded, tenant_id},
};
use crate::{Class, Lease, NewJob, Settlement, fair::Estimate, job::Usage, limits::TenantLimits};

/// How many attempts run at once.
const SLOTS: usize = 64;

/// What every attempt really uses.
const TOKENS: u64 = 100;

/// Lets `count` jobs of `tenant` wait, each thought to cost that much.
async fn thought_to_cost(stage: &Stage, tenant: &str, completion: u64, count: usize) {
    let cost = Estimate { prompt: 0, completion: Some(completion) };
    let jobs = (0..count).map(|_| NewJob { cost, ..stage.job(tenant) }).collect();
    stage.queue.submit(jobs).await.expect("there is room");
}

/// A fleet with [`SLOTS`] places, where the attempt that began first ends first, and another begins.
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

    /// Begins so many; answers whose they are.
    async fn serve(&mut self, count: usize) -> Vec<String> {
        let mut starts = Vec::new();
        for _ in 0..count {
            self.stage.pass(Duration::from_millis(10));
            let lease = self.running.pop_front().expect("what runs");
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

/// Who comes while attempts run that were thought to cost far more than they use has its turns at once,
/// not when others have used what was thought.
pub async fn who_comes_does_not_wait_for_estimates(stage: Stage) {
    thought_to_cost(&stage, "greedy", 1 << 20, SLOTS).await;
    let mut fleet = Fleet::full(&stage).await;
    backlog(&stage, "greedy", Class::Standard, 200).await;
    backlog(&stage, "light", Class::Standard, 20).await;
    let starts = fleet.serve(40).await;
    assert_eq!(count(&starts, "light"), 20, "{starts:?}");
    stage.assert_sound().await;
}

/// So it is where all ask for far more than they use.
pub async fn a_light_tenant_is_served_at_once_where_all_ask_for_much(stage: Stage) {
    thought_to_cost(&stage, "heavy", 16_384, 400).await;
    let mut fleet = Fleet::full(&stage).await;
    fleet.serve(200).await;
    thought_to_cost(&stage, "light", 16_384, 20).await;
    let starts = fleet.serve(40).await;
    assert_eq!(count(&starts, "light"), 20, "{starts:?}");
}

/// Who comes stands beside the one that is behind the others, as its attempts cost less than was thought.
pub async fn who_comes_stands_beside_the_last(stage: Stage) {
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

/// A tenant's new weight is that of what runs too.
pub async fn a_new_weight_holds_for_what_runs(stage: Stage) {
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
