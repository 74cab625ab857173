use super::*;

fn options(jobs: u32) -> Options {
    let store = "embedded".to_owned();
    let (payload, batch, workers, tenants) = (200, 32, 2, 3);
    Options { store, jobs, payload, batch, bulk: None, workers, tenants, json: true }
}

async fn subject(jobs: u32) -> (BenchSubject, Options) {
    let options = options(jobs);
    (BenchSubject::open(&options).await.unwrap(), options)
}

#[tokio::test]
async fn two_measurements_use_two_lanes() {
    let ((one, _), (other, _)) = (subject(1).await, subject(1).await);
    assert_ne!(one.shard, other.shard);
    assert!(one.shard.lane.as_str().starts_with("b-"), "{}", one.shard);
}

#[tokio::test(start_paused = true)]
async fn every_enqueued_job_is_drained() {
    let (subject, options) = subject(500).await;
    let figures = measure(&subject, &options).await.unwrap();
    assert_eq!(figures.jobs, 500);
}

#[tokio::test]
async fn a_drain_counts_its_jobs() {
    let (subject, options) = subject(500).await;
    let bar = ProgressBar::hidden();
    assert_eq!(in_parallel(&subject, &options, &bar, enqueue).await.unwrap().1, 500);
    assert_eq!(subject.step(Vec::new(), 7).await.unwrap().len(), 7, "claimed by another worker");
    assert_eq!(in_parallel(&subject, &options, &bar, drain).await.unwrap().1, 493);
}

#[tokio::test(start_paused = true)]
async fn a_worker_without_jobs_fails() {
    let (subject, _) = subject(1).await;
    subject.queue.pause(&subject.shard.lane, None, true).await.unwrap();
    let error = pickups(&subject).await.unwrap_err();
    assert!(error.to_string().contains(subject.shard.lane.as_str()), "{error:#}");
}

#[tokio::test]
async fn a_cancelled_measurement_makes_no_call() {
    let (subject, options) = subject(500).await;
    subject.stop.cancel();
    let error = measure(&subject, &options).await.err().unwrap();
    assert!(error.to_string().contains("stopped"), "{error:#}");
    let stats = subject.queue.views().stats(&subject.shard, None).await.unwrap();
    assert_eq!(stats.queued + stats.running, 0);
}
