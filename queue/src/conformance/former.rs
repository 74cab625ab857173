//! Promises about the bounds of jobs that wait in shards which are no longer used.

use std::{
    collections::{BTreeMap, HashMap},
    time::Duration,
};

use super::{
    shards::{TENANTS, claim_all, one_each, settle, submit_one_each, tenants, with_shards},
    stage::{Stage, failed, succeeded},
};
use crate::{
    JobId, Lease, NewJob, Queue, TenantId,
    limits::{LaneLimits, TenantLimits},
};

const DAY: Duration = Duration::from_secs(86_400);

/// Sets these bounds of the lane, and the same bounds of every tenant.
async fn bound(queue: &Queue, lane: &LaneLimits, tenant: &TenantLimits) {
    let lanes = HashMap::from([(queue.lanes()[0].name.clone(), lane.clone())]);
    let tenants: Vec<_> = tenants().into_iter().map(|id| (id, tenant.clone())).collect();
    queue.set_limits(lanes, &tenants).await.expect("the store answers");
}

async fn uphold(queue: &Queue) {
    assert!(!queue.uphold_limits().await.expect("the store answers"), "nothing was lost");
}

/// The lane over so many shards, where every tenant may run one job at a time.
async fn spread_otherwise(stage: &Stage, shards: u16) -> Queue {
    let queue = with_shards(stage, shards);
    queue.survey().await.expect("the store answers");
    let one = TenantLimits { max_running: Some(1), ..TenantLimits::default() };
    bound(&queue, &LaneLimits::default(), &one).await;
    queue
}

async fn submit_delayed(queue: &Queue, stage: &Stage) {
    let delayed = one_each(queue, stage).into_iter().map(|job| NewJob { delay: DAY, ..job });
    queue.submit(delayed.collect()).await.expect("the jobs are accepted");
}

/// Each tenant has begun one job, and none more.
#[track_caller]
fn assert_one_each(leases: &[Lease]) {
    let mut begun: BTreeMap<&TenantId, usize> = BTreeMap::new();
    for lease in leases {
        *begun.entry(&lease.key.tenant).or_default() += 1;
    }
    assert!(begun.len() == TENANTS && begun.values().all(|count| *count == 1), "{begun:?}");
}

/// A lane's bound holds over former and present shards together, and comes back whole to the present
/// when nothing but what waits for its time is left in the former.
pub async fn former_shards_share_in_the_bounds(stage: Stage) {
    let before = with_shards(&stage, 4);
    before.survey().await.unwrap();
    submit_one_each(&before, &stage).await;
    submit_delayed(&before, &stage).await;
    stage.pass(Duration::from_secs(1));
    let after = with_shards(&stage, 1);
    after.survey().await.unwrap();
    submit_one_each(&after, &stage).await;
    let limits = LaneLimits { max_running: Some(2), ..LaneLimits::default() };
    let limits = HashMap::from([(stage.shard.lane.clone(), limits)]);
    after.set_limits(limits, &[]).await.unwrap();
    let mut ended = 0;
    while ended < 2 * TENANTS {
        let leases = claim_all(&after).await;
        assert!((1..=2).contains(&leases.len()), "{} at once", leases.len());
        ended += leases.len();
        for lease in leases {
            settle(&after, lease, succeeded()).await;
        }
        assert!(!after.uphold_limits().await.unwrap());
    }
    submit_one_each(&after, &stage).await;
    assert_eq!(claim_all(&after).await.len(), 2);
}

/// A tenant's cap holds for what comes due in a former shard, and where its lane has no bounds of its own
/// that waits for nothing else.
pub async fn a_cap_holds_for_former_delayed_jobs(stage: Stage) {
    let before = with_shards(&stage, 4);
    before.survey().await.unwrap();
    for _ in 0..3 {
        submit_delayed(&before, &stage).await;
    }
    let after = spread_otherwise(&stage, 1).await;
    stage.pass(DAY);
    assert_one_each(&claim_all(&after).await);
}

/// A tenant's cap holds when its pause in a former shard is over.
pub async fn a_cap_holds_for_former_paused_jobs(stage: Stage) {
    let before = with_shards(&stage, 4);
    before.survey().await.unwrap();
    let lane = &stage.shard.lane;
    for tenant in tenants() {
        before.pause(lane, Some(&tenant), true).await.unwrap();
    }
    for _ in 0..3 {
        submit_one_each(&before, &stage).await;
    }
    let after = spread_otherwise(&stage, 1).await;
    for tenant in tenants() {
        after.pause(lane, Some(&tenant), false).await.unwrap();
    }
    assert_one_each(&claim_all(&after).await);
}

/// A tenant's cap holds for what is put back into a former shard in which all had ended.
pub async fn a_cap_holds_for_jobs_put_back(stage: Stage) {
    let before = with_shards(&stage, 4);
    before.survey().await.unwrap();
    let mut ids: Vec<JobId> = Vec::new();
    for _ in 0..3 {
        ids.extend(submit_one_each(&before, &stage).await);
        for lease in claim_all(&before).await {
            settle(&before, lease, failed(1)).await;
        }
    }
    let after = spread_otherwise(&stage, 1).await;
    for (place, id) in ids.iter().enumerate() {
        let tenant = &tenants()[place % TENANTS];
        after.retry(tenant, id).await.unwrap().expect("a job");
    }
    assert_one_each(&claim_all(&after).await);
}

/// What comes due in former shards while the lane is full waits until it gets a part of the lane's
/// bound, and gets it: the lane never runs more.
pub async fn a_full_lane_waits_for_its_former_shards(stage: Stage) {
    let before = with_shards(&stage, 4);
    before.survey().await.unwrap();
    submit_delayed(&before, &stage).await;
    let after = with_shards(&stage, 1);
    after.survey().await.unwrap();
    let four = LaneLimits { max_running: Some(4), ..LaneLimits::default() };
    bound(&after, &four, &TenantLimits::default()).await;
    submit_one_each(&after, &stage).await;
    let mut running = claim_all(&after).await;
    assert_eq!(running.len(), 4);
    stage.pass(DAY);
    let mut ended = 0;
    while ended < 2 * TENANTS {
        running.extend(claim_all(&after).await);
        uphold(&after).await;
        running.extend(claim_all(&after).await);
        assert!((1..=4).contains(&running.len()), "{} at once", running.len());
        settle(&after, running.remove(0), succeeded()).await;
        ended += 1;
    }
}

/// Bounds that are raised are raised where the jobs of a tenant wait that has moved.
pub async fn a_raised_rate_reaches_former_shards(stage: Stage) {
    let before = with_shards(&stage, 4);
    before.survey().await.unwrap();
    let rate = |rate| TenantLimits { requests_per_minute: Some(rate), ..TenantLimits::default() };
    bound(&before, &LaneLimits::default(), &rate(1)).await;
    for _ in 0..2 {
        submit_one_each(&before, &stage).await;
    }
    assert_one_each(&claim_all(&before).await);
    let after = with_shards(&stage, 1);
    after.survey().await.unwrap();
    bound(&after, &LaneLimits::default(), &rate(1)).await;
    assert_eq!(claim_all(&after).await.len(), 0);
    bound(&after, &LaneLimits::default(), &rate(6000)).await;
    assert_one_each(&claim_all(&after).await);
}

/// A former shard does not begin anew what a minute allows when it gets its part of a lane's rate again.
pub async fn a_closed_shard_keeps_its_debts(stage: Stage) {
    let before = with_shards(&stage, 2);
    before.survey().await.unwrap();
    for _ in 0..2 {
        submit_one_each(&before, &stage).await;
    }
    stage.pass(Duration::from_secs(1));
    let after = with_shards(&stage, 1);
    after.survey().await.unwrap();
    let rate = LaneLimits { requests_per_minute: Some(8), ..LaneLimits::default() };
    bound(&after, &rate, &TenantLimits::default()).await;
    let begun = claim_all(&after).await;
    assert_eq!(begun.len(), 8);
    for lease in begun {
        settle(&after, lease, succeeded()).await;
    }
    for is_paused in [true, false] {
        for tenant in tenants() {
            after.pause(&stage.shard.lane, Some(&tenant), is_paused).await.unwrap();
        }
        uphold(&after).await;
    }
    assert_eq!(claim_all(&after).await.len(), 0);
    stage.pass(Duration::from_secs(60));
    assert_eq!(claim_all(&after).await.len(), 8);
}
