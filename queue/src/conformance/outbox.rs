//! Promises about ends that are to be told.

use std::time::Duration;

use super::stage::{LEASE, Stage, failed, retry_after, succeeded, tenant_id};
use crate::{
    JobId, NewJob, Outcome, Spec, Status, Webhook,
    backend::ListQuery,
    webhook::{End, MAX_OUTBOX_PAGE},
};

fn with_webhook(job: NewJob) -> NewJob {
    let webhook = Webhook { url: "https://example.com/".to_owned(), subject: Default::default() };
    NewJob { spec: Spec { webhook: Some(webhook), ..job.spec }, ..job }
}

async fn outbox(stage: &Stage) -> Vec<End> {
    stage.store().outbox(&stage.shard, MAX_OUTBOX_PAGE).await.expect("the store answers")
}

async fn told(stage: &Stage) -> Vec<(JobId, Status)> {
    outbox(stage).await.into_iter().map(|end| (end.job, end.status)).collect()
}

/// However a job with a webhook ends, and by whom: it is told. One without a webhook is not.
pub async fn every_end_with_a_webhook_is_to_be_told(stage: Stage) {
    let ann = tenant_id("ann");
    let accept = async |job| stage.accept(with_webhook(job)).await;
    let mut wanted = Vec::new();
    let ends = [
        (Status::Succeeded, succeeded()),
        (Status::Failed, failed(1)),
        (Status::Cancelled, Outcome::Cancelled),
        (Status::Expired, Outcome::Expired),
    ];
    for (status, outcome) in ends {
        for job in [stage.job("ann"), stage.in_session("ann", "s")] {
            let id = accept(job).await;
            let lease = stage.claim_one().await;
            stage.settle(lease, retry_after(Duration::ZERO, 1)).await;
            assert_eq!(told(&stage).await, wanted, "a job that has not ended is not told");
            let lease = stage.claim_one().await;
            stage.settle(lease, outcome.clone()).await;
            wanted.push((id, status));
            stage.pass(Duration::from_millis(1));
        }
    }
    let waiting = accept(stage.job("ann")).await;
    stage.store().cancel(&ann, &waiting).await.unwrap();
    wanted.push((waiting, Status::Cancelled));
    let late = NewJob { deadline: Some(Duration::from_secs(1)), ..stage.job("ann") };
    let late = accept(late).await;
    stage.pass(Duration::from_secs(1));
    assert!(stage.claim(1).await.is_empty());
    wanted.push((late, Status::Expired));
    let lost = accept(stage.job("ann")).await;
    for _ in 0..3 {
        stage.claim_one().await;
        stage.pass(LEASE);
        stage.reap().await;
    }
    wanted.push((lost, Status::Failed));

    stage.accept(stage.job("ann")).await;
    let lease = stage.claim_one().await;
    stage.succeed(lease).await;
    assert_eq!(told(&stage).await, wanted);
    stage.assert_sound().await;
}

/// What was handed on is not handed on again; pages are bounded, the oldest ends first.
pub async fn an_end_that_was_handed_on_is_told_no_more(stage: Stage) {
    for _ in 0..3 {
        stage.accept(with_webhook(stage.job("ann"))).await;
        let lease = stage.claim_one().await;
        stage.succeed(lease).await;
        stage.pass(Duration::from_secs(1));
    }
    let all = outbox(&stage).await;
    assert!(all.is_sorted_by_key(|end| end.at));
    let first = stage.store().outbox(&stage.shard, 2).await.unwrap();
    assert_eq!(first, all[..2]);
    for _ in 0..2 {
        stage.store().take_out(&stage.shard, &first).await.unwrap();
        assert_eq!(outbox(&stage).await, all[2..]);
    }
    stage.store().take_out(&stage.shard, &[]).await.unwrap();
}

/// A job that is put back and ends again is told again, even where the first end was not handed on.
pub async fn each_end_of_a_job_is_told(stage: Stage) {
    let id = stage.accept(with_webhook(stage.job("ann"))).await;
    let cancel = async || stage.store().cancel(&tenant_id("ann"), &id).await.unwrap();
    cancel().await;
    assert!(stage.store().retry(&tenant_id("ann"), &id).await.unwrap());
    cancel().await;
    assert!(stage.store().retry(&tenant_id("ann"), &id).await.unwrap());
    let lease = stage.claim_one().await;
    stage.succeed(lease).await;
    let ends = outbox(&stage).await;
    let how: Vec<Status> = ends.iter().map(|end| end.status).collect();
    assert_eq!(how, [Status::Cancelled, Status::Cancelled, Status::Succeeded]);
    let mut names: Vec<String> = ends.iter().map(End::name).collect();
    names.dedup();
    assert_eq!(names.len(), 3, "each end has a name of its own: {names:?}");
}

/// An end that nobody hands on is forgotten with its job.
pub async fn an_end_is_not_kept_for_ever(stage: Stage) {
    stage.accept(with_webhook(stage.job("ann"))).await;
    let lease = stage.claim_one().await;
    stage.succeed(lease).await;
    stage.pass(Duration::from_secs(24 * 3600 - 1));
    stage.assert_sound().await;
    assert_eq!(outbox(&stage).await.len(), 1);
    stage.pass(Duration::from_secs(1));
    stage.assert_sound().await;
    assert!(outbox(&stage).await.is_empty());
}

/// Deliveries have a list of their own.
pub async fn deliveries_are_not_among_the_jobs(stage: Stage) {
    let (ann, spec) = (tenant_id("ann"), stage.job("ann").spec);
    let body = stage.job("ann").body;
    let delivery = stage.queue.draft_delivery(ann.clone(), spec, body);
    let id = delivery.id.clone();
    stage.queue.submit(vec![delivery]).await.unwrap();
    let job = stage.accept(stage.job("ann")).await;
    let query = ListQuery { limit: 10, ..ListQuery::default() };
    let jobs = stage.queue.list(&ann, &query).await.unwrap().jobs;
    let deliveries = stage.queue.deliveries(&ann, &query).await.unwrap().jobs;
    assert_eq!(jobs.iter().map(|job| &job.id).collect::<Vec<_>>(), [&job]);
    assert!(deliveries.iter().any(|delivery| delivery.id == id));
    assert!(deliveries.iter().all(|delivery| delivery.id.shard().lane.as_str() == "webhooks"));
}
