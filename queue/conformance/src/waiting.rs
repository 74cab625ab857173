//! Promises about the reason that a waiting job reports. The promises about caps, rates, sessions and retries are in
//! their own modules.

use std::time::Duration;

use super::stage::{Stage, error, faulted, tenant_id};
use causeway_queue::{Fault, JobId, NewJob, Status, clock::Clock as _, waiting::WaitingFor};

/// Submits `jobs` jobs and cools the lane down by an attempt of the first one.
async fn break_down(stage: &Stage, jobs: usize) -> Vec<JobId> {
    let mut ids = Vec::new();
    for _ in 0..jobs {
        ids.push(stage.accept(stage.job("ann")).await);
    }
    let lease = stage.claim_one().await;
    stage.settle(lease, faulted(Fault::Certain, Duration::ZERO, 1)).await;
    ids
}

/// A paused lane reports its pause, whatever the state of its upstream; resumed, it is open.
pub async fn a_pause_precedes_an_outage(stage: Stage) {
    let ids = break_down(&stage, 2).await;
    assert_eq!(stage.reason(&ids[1]).await, "upstream_down");
    for whose in [None, Some(tenant_id("ann"))] {
        stage.store().pause(&stage.shard, whose.as_ref(), true).await.unwrap();
        for id in &ids {
            assert_eq!(stage.reason(id).await, "paused");
        }
        if whose.is_some() {
            stage.store().pause(&stage.shard, whose.as_ref(), false).await.unwrap();
        }
    }
    stage.store().pause(&stage.shard, None, false).await.unwrap();
    assert_eq!(stage.reason(&ids[1]).await, "turn");
}

/// A job between two attempts, also one that is kept back, waits for the upstream while its lane is down, and reports
/// the start and the error of the outage.
pub async fn a_retry_waits_for_a_lane_that_is_down(stage: Stage) {
    let since = stage.clock.now();
    let ids = break_down(&stage, 2).await;
    assert_eq!(stage.status(&ids[0]).await, Status::Scheduled);
    for id in &ids {
        let WaitingFor::UpstreamDown(down) = stage.waiting_for(id).await else {
            panic!("{:?}", stage.see(id).await)
        };
        assert_eq!((down.since, down.error), (since, Some(error(1))));
    }
    stage.store().pause(&stage.shard, None, false).await.unwrap();
    assert_eq!(stage.reason(&ids[0]).await, "turn");
    stage.assert_sound().await;
}

/// If the upstream named a time, every job of the lane waits for it, also one behind an earlier job of its session.
pub async fn a_rate_of_the_upstream_names_its_end(stage: Stage) {
    let hour = Duration::from_secs(3600);
    stage.accept(stage.job("bob")).await;
    let lease = stage.claim_one().await;
    stage.accept(stage.in_session("ann", "s")).await;
    let held = stage.accept(stage.in_session("ann", "s")).await;
    assert_eq!(stage.reason(&held).await, "session");
    stage.settle(lease, faulted(Fault::Rate(hour), Duration::ZERO, 1)).await;
    let until = stage.clock.now().after(hour);
    assert_eq!(stage.waiting_for(&held).await, WaitingFor::UpstreamRate { until });
    stage.pass(hour);
    assert_eq!(stage.reason(&held).await, "session");
}

/// A job before its start time reports that, also in a paused lane.
pub async fn a_delayed_job_reports_its_schedule(stage: Stage) {
    let delay = Duration::from_secs(60);
    let id = stage.accept(NewJob { delay, ..stage.job("ann") }).await;
    stage.store().pause(&stage.shard, None, true).await.unwrap();
    assert_eq!(stage.reason(&id).await, "schedule");
}

/// The statistics of a lane report the reason of a new job: for one tenant, and for all.
pub async fn the_stats_of_a_lane_name_the_reason(stage: Stage) {
    let ann = tenant_id("ann");
    let reasons = async || {
        let one = stage.store().stats(&stage.shard, Some(&ann)).await.unwrap().waiting_for;
        let all = stage.store().stats(&stage.shard, None).await.unwrap().waiting_for;
        (one.as_str(), all.as_str())
    };
    assert_eq!(reasons().await, ("turn", "turn"));
    stage.store().pause(&stage.shard, Some(&ann), true).await.unwrap();
    assert_eq!(reasons().await, ("paused", "turn"));
    stage.store().pause(&stage.shard, Some(&ann), false).await.unwrap();
    break_down(&stage, 2).await;
    assert_eq!(reasons().await, ("upstream_down", "upstream_down"));
}
