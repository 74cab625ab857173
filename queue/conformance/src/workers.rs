//! Promises about the registry of workers. Stages may share a store, so each reads its own lane only.

use std::time::Duration;

use super::stage::{Stage, tenant_id};
use causeway_queue::{
    NewJob, Status,
    job::State,
    workers::{FORGET_AFTER, LIVE_FOR, RegisteredWorker, WorkerId, WorkerReport, WorkerStatus},
};

fn report(stage: &Stage) -> WorkerReport {
    WorkerReport {
        name: "gpu-1:4711".to_owned(),
        version: "0.1.0".to_owned(),
        lanes: vec![stage.shard.lane.clone()],
        concurrency: 8,
        running: 3,
        deliveries: 1,
        is_draining: false,
    }
}

async fn seen(stage: &Stage) -> Vec<RegisteredWorker> {
    let mut workers = stage.store().workers().await.unwrap();
    workers.retain(|worker| worker.report.lanes.contains(&stage.shard.lane));
    workers
}

/// A worker is live while it sends heartbeats, lost when it is silent, and removed later.
pub async fn a_lost_worker_is_not_live(stage: Stage) {
    let (first, second) = (stage.start_worker().await, stage.start_worker().await);
    stage.store().beat_worker(&first, &report(&stage)).await.unwrap();
    let workers = seen(&stage).await;
    let ids: Vec<&WorkerId> = workers.iter().map(|worker| &worker.id).collect();
    assert_eq!(ids, [&first, &second], "in the order of their start");
    assert_eq!(workers[0].report, report(&stage));
    stage.pass(LIVE_FOR);
    stage.store().beat_worker(&second, &report(&stage)).await.unwrap();
    stage.pass(Duration::from_millis(1));
    let statuses = async || -> Vec<WorkerStatus> {
        seen(&stage).await.iter().map(RegisteredWorker::status).collect()
    };
    assert_eq!(statuses().await, [WorkerStatus::Lost, WorkerStatus::Live]);
    assert_eq!(stage.queue.workers_of(&stage.shard.lane).await, Some(1));
    stage.pass(FORGET_AFTER - LIVE_FOR);
    assert_eq!(statuses().await, [WorkerStatus::Lost]);
}

/// A draining worker is listed, but claims no jobs.
pub async fn a_draining_worker_serves_no_lane(stage: Stage) {
    let id = stage.start_worker().await;
    assert_eq!(stage.queue.workers_of(&stage.shard.lane).await, Some(1));
    let draining = WorkerReport { is_draining: true, ..report(&stage) };
    stage.store().beat_worker(&id, &draining).await.unwrap();
    let worker = seen(&stage).await.remove(0);
    assert_eq!(worker.status(), WorkerStatus::Draining);
    assert!(!worker.serves(&stage.shard.lane));
}

/// A worker that stops in good order leaves no entry.
pub async fn a_stopped_worker_is_forgotten(stage: Stage) {
    let id = stage.start_worker().await;
    stage.store().remove_worker(&id).await.unwrap();
    assert_eq!(seen(&stage).await, []);
    stage.store().remove_worker(&id).await.unwrap();
}

/// Jobs of a lane without a live worker report that, and have no estimate; so do the statistics of the lane.
pub async fn jobs_without_a_worker_report_it(stage: Stage) {
    let ann = tenant_id("ann");
    let id = stage.accept(stage.job("ann")).await;
    let delay = Duration::from_secs(60);
    let delayed = stage.accept(NewJob { delay, ..stage.job("ann") }).await;
    let reason = async |id| {
        let job = stage.queue.job(&ann, id).await.unwrap().expect("a job");
        match job.state {
            State::Queued { waiting_for, .. } | State::Scheduled { waiting_for, .. } => {
                waiting_for.as_str()
            }
            state @ (State::Running { .. } | State::Ended { .. }) => panic!("{state:?}"),
        }
    };
    let of_lane = async || {
        let stats = stage.queue.stats(&stage.shard.lane, Some(&ann)).await.unwrap();
        stats.waiting_for.as_str()
    };
    assert_eq!((reason(&id).await, reason(&delayed).await), ("no_worker", "schedule"));
    assert_eq!(of_lane().await, "no_worker");
    stage.start_worker().await;
    assert_eq!((reason(&id).await, of_lane().await), ("turn", "turn"));
    stage.queue.pause(&stage.shard.lane, None, true).await.unwrap();
    assert_eq!((reason(&id).await, of_lane().await), ("paused", "paused"));
    assert_eq!(stage.status(&id).await, Status::Queued);
}
