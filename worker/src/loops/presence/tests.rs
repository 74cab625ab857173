use std::collections::HashMap;

use causeway_embedded::Embedded;
use causeway_queue::{
    Class, JobId, LeaseKey, Policy, TenantId,
    clock::SystemClock,
    workers::{RegisteredWorker, WorkerStatus},
};
use tokio::{task::JoinSet, time::sleep};

use super::*;
use crate::{SimulatedSettings, SimulatedUpstream, StopHandle, Worker, upstream::call::Upstream};

fn queue() -> Queue {
    let clock = Arc::new(SystemClock::default());
    Queue::new(Arc::new(Embedded::new(Policy::default(), clock)), Vec::new())
}

async fn only(queue: &Queue) -> RegisteredWorker {
    let mut workers = queue.workers().await.unwrap();
    assert_eq!(workers.len(), 1, "{workers:?}");
    workers.remove(0)
}

#[tokio::test(start_paused = true)]
async fn a_worker_is_listed_until_it_stops() {
    let queue = queue();
    let (name, stop) = ("gpu-1".to_owned(), StopHandle::new());
    let settings = WorkerSettings { name, concurrency: 7, ..WorkerSettings::default() };
    let simulated: Arc<dyn Upstream> =
        Arc::new(SimulatedUpstream::new(SimulatedSettings::default()));
    let lane = queue.lanes()[0].name.clone();
    let upstreams = HashMap::from([(lane.clone(), simulated)]);
    let worker = Worker::new(queue.clone(), settings, upstreams);
    let mut tasks = JoinSet::new();
    tasks.spawn(worker.run(stop.stop()));
    for _ in 0..5 {
        sleep(BEAT_INTERVAL).await;
        let seen = only(&queue).await;
        assert_eq!((seen.status(), seen.report.concurrency), (WorkerStatus::Live, 7));
        assert_eq!(
            (seen.report.name.as_str(), &seen.report.lanes[..]),
            ("gpu-1", &[lane.clone()][..])
        );
    }
    stop.drain();
    tasks.join_next().await;
    assert_eq!(queue.workers().await.unwrap(), []);
}

#[tokio::test(start_paused = true)]
async fn a_stuck_worker_is_listed_as_lost() {
    let queue = queue();
    let (running, stop) = (Arc::<Running>::default(), StopHandle::new());
    let health = Worker::new(queue.clone(), WorkerSettings::default(), HashMap::new()).health();
    let known = (&running, &health);
    let presence =
        Presence::new(&queue, &WorkerSettings::default(), Vec::new(), known, &stop.stop());
    let mut tasks = JoinSet::new();
    tasks.spawn(presence.run(CancellationToken::new()));
    sleep(STALL_LIMIT).await;
    assert_eq!(only(&queue).await.status(), WorkerStatus::Live);
    sleep(STALL_LIMIT).await;
    assert_eq!(only(&queue).await.status(), WorkerStatus::Lost);
    health.record_iteration();
    sleep(BEAT_INTERVAL).await;
    assert_eq!(only(&queue).await.status(), WorkerStatus::Live);
}

#[tokio::test]
async fn calls_and_deliveries_are_counted_separately() {
    let queue = queue();
    let (running, stop) = (Arc::<Running>::default(), StopHandle::new());
    let health = Worker::new(queue.clone(), WorkerSettings::default(), HashMap::new()).health();
    let known = (&running, &health);
    let presence =
        Presence::new(&queue, &WorkerSettings::default(), Vec::new(), known, &stop.stop());
    let tenant = TenantId::default_tenant();
    let spec = causeway_queue::Spec::default();
    let delivery = queue.draft_delivery(tenant.clone(), spec, "{}".into()).id;
    let call = JobId::new(queue.shards().remove(0));
    let enter = |job: JobId| {
        running.enter(&LeaseKey { job, epoch: 1, class: Class::default(), tenant: tenant.clone() })
    };
    let _places = [enter(delivery), enter(call)];
    stop.drain();
    presence.step().await;
    let seen = only(&queue).await;
    assert_eq!((seen.report.running, seen.report.deliveries), (1, 1));
    assert_eq!(seen.status(), WorkerStatus::Draining);
}
