//! Promises about the limits of jobs that wait in former shards.

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

/// Sets the limits of the lane, and the same limits of every tenant.
async fn limit(queue: &Queue, lane: &LaneLimits, tenant: &TenantLimits) {
    let lanes = HashMap::from([(queue.lanes()[0].name.clone(), lane.clone())]);
    let tenants: Vec<_> = tenants().into_iter().map(|id| (id, tenant.clone())).collect();
    queue.set_limits(lanes, &tenants).await.expect("the store answers");
}

/// The lane over so many shards, where every tenant may run one job at a time.
async fn spread_otherwise(stage: &Stage, shards: u16) -> Queue {
    let queue = with_shards(stage, shards);
    queue.discover().await.expect("the store answers");
    let one = TenantLimits { max_running: Some(1), ..TenantLimits::default() };
    limit(&queue, &LaneLimits::default(), &one).await;
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

/// Each former shard runs as many jobs as a current one, and leaves the limits of the current ones as they are.
pub async fn a_former_shard_takes_the_share_of_a_current_one(stage: Stage) {
    let before = with_shards(&stage, 4);
    before.discover().await.unwrap();
    submit_one_each(&before, &stage).await;
    let after = with_shards(&stage, 2);
    after.discover().await.unwrap();
    let four = LaneLimits { max_running: Some(4), ..LaneLimits::default() };
    limit(&after, &four, &TenantLimits::default()).await;
    let mut ended = 0;
    while ended < TENANTS {
        let leases = claim_all(&after).await;
        let mut running: BTreeMap<u16, usize> = BTreeMap::new();
        for lease in &leases {
            *running.entry(lease.key.job.shard().index).or_default() += 1;
        }
        assert!(!running.is_empty() && running.values().all(|count| *count <= 2), "{running:?}");
        ended += leases.len();
        for lease in leases {
            settle(&after, lease, succeeded()).await;
        }
    }
    submit_one_each(&after, &stage).await;
    assert_eq!(claim_all(&after).await.len(), 4);
}

/// A former shard that is discovered after the limits were set gets them.
pub async fn limits_reach_a_shard_that_is_discovered_later(stage: Stage) {
    let (before, after) = (with_shards(&stage, 4), with_shards(&stage, 1));
    let one = TenantLimits { max_running: Some(1), ..TenantLimits::default() };
    after.discover().await.unwrap();
    limit(&after, &LaneLimits::default(), &one).await;
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
    limit(&before, &LaneLimits::default(), &rate(1)).await;
    for _ in 0..2 {
        submit_one_each(&before, &stage).await;
    }
    assert_one_each(&claim_all(&before).await);
    let after = with_shards(&stage, 1);
    after.discover().await.unwrap();
    limit(&after, &LaneLimits::default(), &rate(1)).await;
    assert_eq!(claim_all(&after).await.len(), 0);
    limit(&after, &LaneLimits::default(), &rate(6000)).await;
    assert_one_each(&claim_all(&after).await);
}
