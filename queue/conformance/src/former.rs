//! Promises about the limits of jobs that wait in former shards.

use std::{
    collections::{BTreeMap, HashMap},
    time::Duration,
};

use super::{
    shards::{TENANTS, claim_all, one_each, settle, submit_one_each, tenants, with_shards},
    stage::{Stage, failed, succeeded},
};
use causeway_queue::{
    JobId, Lease, NewJob, Queue, TenantId,
    limits::{LaneLimits, TenantLimits},
};

const DAY: Duration = Duration::from_secs(86_400);

/// Sets the limits of the lane, and the same limits of every tenant.
async fn set_limits(queue: &Queue, lane: &LaneLimits, tenant: &TenantLimits) {
    let lanes = HashMap::from([(queue.lanes()[0].name.clone(), lane.clone())]);
    let tenants: Vec<_> = tenants().into_iter().map(|id| (id, tenant.clone())).collect();
    queue.set_limits(lanes, &tenants).await.expect("the store answers");
}

/// The lane over so many shards, where every tenant may run one job at a time.
async fn spread_otherwise(stage: &Stage, shards: u16) -> Queue {
    let queue = with_shards(stage, shards);
    queue.discover().await.expect("the store answers");
    let one = TenantLimits { max_running: Some(1), ..TenantLimits::default() };
    set_limits(&queue, &LaneLimits::default(), &one).await;
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

/// The lane runs fewer jobs than twice its limit: current shards divide it, and former shards take a share of the larger
/// layout, but at least one job.
pub async fn former_shards_at_most_double_the_limits(stage: Stage) {
    let before = with_shards(&stage, 4);
    before.discover().await.unwrap();
    submit_one_each(&before, &stage).await;
    let after = with_shards(&stage, 2);
    after.discover().await.unwrap();
    for (limit, shares) in [(10, [5, 5, 2, 2]), (2, [1, 1, 1, 1])] {
        let limits = LaneLimits { max_running: Some(limit), ..LaneLimits::default() };
        set_limits(&after, &limits, &TenantLimits::default()).await;
        let mut running = [0; 4];
        for lease in claim_all(&after).await {
            running[usize::from(lease.key.job.shard().index)] += 1;
            settle(&after, lease, succeeded()).await;
        }
        assert_eq!(running, shares);
    }
}

/// A former shard that is discovered after the limits were set gets them.
pub async fn limits_reach_a_shard_that_is_discovered_later(stage: Stage) {
    let (before, after) = (with_shards(&stage, 4), with_shards(&stage, 1));
    let one = TenantLimits { max_running: Some(1), ..TenantLimits::default() };
    after.discover().await.unwrap();
    set_limits(&after, &LaneLimits::default(), &one).await;
    before.discover().await.unwrap();
    for _ in 0..3 {
        submit_one_each(&before, &stage).await;
    }
    after.discover().await.unwrap();
    assert!(!after.uphold_limits().await.unwrap(), "nothing was lost");
    assert_one_each(&claim_all(&after).await);
}

/// A tenant's cap holds for jobs that become due in a former shard.
pub async fn a_cap_holds_for_former_delayed_jobs(stage: Stage) {
    let before = with_shards(&stage, 4);
    before.discover().await.unwrap();
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
    before.discover().await.unwrap();
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
    before.discover().await.unwrap();
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

/// Bounds that are raised are raised where the jobs of a tenant wait that has moved.
pub async fn a_raised_rate_reaches_former_shards(stage: Stage) {
    let before = with_shards(&stage, 4);
    before.discover().await.unwrap();
    let rate = |rate| TenantLimits { requests_per_minute: Some(rate), ..TenantLimits::default() };
    set_limits(&before, &LaneLimits::default(), &rate(1)).await;
    for _ in 0..2 {
        submit_one_each(&before, &stage).await;
    }
    assert_one_each(&claim_all(&before).await);
    let after = with_shards(&stage, 1);
    after.discover().await.unwrap();
    set_limits(&after, &LaneLimits::default(), &rate(1)).await;
    assert_eq!(claim_all(&after).await.len(), 0);
    set_limits(&after, &LaneLimits::default(), &rate(6000)).await;
    assert_one_each(&claim_all(&after).await);
}
