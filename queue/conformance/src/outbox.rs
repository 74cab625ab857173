//! Promises about the outbox.

use std::time::Duration;

use super::stage::{LEASE, Stage, failed, retry_after, succeeded, tenant_id};
use causeway_queue::{
    Error, IdempotencyKey, JobId, NewJob, Outcome, Policy, Spec, Status, TenantId, Webhook,
    backend::ListQuery,
    job::Idempotency,
    lease::ClaimRequest,
    limits::{LaneLimits, TenantLimits},
    webhook::{End, MAX_OUTBOX_PAGE, shard_of_deliveries},
};

fn with_webhook(job: NewJob) -> NewJob {
    let webhook = Webhook { url: "https://example.com/".to_owned(), subject: Default::default() };
    NewJob { spec: Spec { webhook: Some(webhook), ..job.spec }, ..job }
}

async fn outbox(stage: &Stage) -> Vec<End> {
    stage.store().outbox(&stage.shard, MAX_OUTBOX_PAGE).await.expect("the store answers")
}

async fn pending(stage: &Stage) -> Vec<(JobId, Status)> {
    outbox(stage).await.into_iter().map(|end| (end.job, end.status)).collect()
}

/// Every end of a job with a webhook enters the outbox, whatever its cause. A job without a webhook does not.
pub async fn every_end_with_a_webhook_is_stored(stage: Stage) {
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
            assert_eq!(pending(&stage).await, wanted, "it has not ended");
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
    assert_eq!(pending(&stage).await, wanted);
    stage.assert_sound().await;
}

/// An acknowledged entry is not returned again; a page that is too small has the oldest and the newest entries.
pub async fn an_acknowledged_end_leaves_the_outbox(stage: Stage) {
    for _ in 0..3 {
        stage.accept(with_webhook(stage.job("ann"))).await;
        let lease = stage.claim_one().await;
        stage.succeed(lease).await;
        stage.pass(Duration::from_secs(1));
    }
    let all = outbox(&stage).await;
    assert!(all.is_sorted_by_key(|end| end.at));
    let first = stage.store().outbox(&stage.shard, 2).await.unwrap();
    assert_eq!(first, [&all[..1], &all[2..]].concat());
    for _ in 0..2 {
        stage.store().take_out(&stage.shard, &first).await.unwrap();
        assert_eq!(outbox(&stage).await, all[1..2]);
    }
    stage.store().take_out(&stage.shard, &[]).await.unwrap();
}

/// A retried job that ends again has another entry, even if the first was not acknowledged.
pub async fn each_end_of_a_job_is_published(stage: Stage) {
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

/// An entry without an acknowledgement is deleted after the retention.
pub async fn an_unacknowledged_end_expires(stage: Stage) {
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

/// A delayed entry is not returned before its time, stays the same, and is acknowledged like any other.
pub async fn a_postponed_end_waits_for_its_time(stage: Stage) {
    for _ in 0..3 {
        stage.accept(with_webhook(stage.job("ann"))).await;
        let lease = stage.claim_one().await;
        stage.succeed(lease).await;
        stage.pass(Duration::from_secs(1));
    }
    let all = outbox(&stage).await;
    let later = Duration::from_secs(9);
    stage.store().postpone(&stage.shard, &all[..1], later).await.unwrap();
    assert_eq!(outbox(&stage).await, all[1..]);
    // An entry that another worker has acknowledged is not restored.
    stage.store().take_out(&stage.shard, &all[1..2]).await.unwrap();
    stage.store().postpone(&stage.shard, &all[..2], later).await.unwrap();
    stage.pass(later - Duration::from_millis(1));
    assert_eq!(outbox(&stage).await, all[2..]);
    stage.pass(Duration::from_millis(1));
    assert_eq!(outbox(&stage).await, [&all[2..], &all[..1]].concat());
    stage.store().take_out(&stage.shard, &all).await.unwrap();
    assert!(outbox(&stage).await.is_empty());
}

/// An idempotency key that expires can be used again; the others stay.
pub async fn a_key_can_be_made_to_expire(stage: Stage) {
    let job = |key: &str, digest| {
        let key = IdempotencyKey::new(key).unwrap();
        let ttl = Duration::from_secs(3600);
        let idempotency = Some(Idempotency { key, digest: [digest; 32], ttl, spans_job: false });
        NewJob { idempotency, ..stage.job("ann") }
    };
    let first = stage.accept(job("a", 1)).await;
    stage.accept(job("b", 1)).await;
    let keys = ["a", "unknown"].map(|key| (tenant_id("ann"), IdempotencyKey::new(key).unwrap()));
    let expire = async |ttl| stage.store().expire_keys(&stage.shard, &keys, ttl).await.unwrap();
    expire(Duration::from_secs(60)).await;
    assert_eq!(stage.accept(job("a", 1)).await, first);
    expire(Duration::ZERO).await;
    assert_ne!(stage.accept(job("a", 2)).await, first);
    let other = stage.queue.submit(vec![job("b", 2)]).await;
    assert!(matches!(other, Err(Error::IdempotencyKeyReused { .. })), "{other:?}");
}

/// The deliveries of one tenant leave room for those of others, whatever limits are set.
pub async fn a_tenant_runs_few_deliveries(stage: Stage) {
    let most = usize::try_from(Policy::default().tenant_deliveries).unwrap();
    let (eve, fay) = (tenant_id("eve"), tenant_id("fay"));
    let shard = shard_of_deliveries();
    let wide = TenantLimits { max_running: Some(1000), ..TenantLimits::default() };
    let deliver = async |tenant: &TenantId, count: usize| {
        let draft = |_| {
            let (spec, body) = (stage.job("eve").spec, stage.job("eve").body);
            stage.queue.draft_delivery(tenant.clone(), spec, body)
        };
        stage.queue.submit((0..count).map(draft).collect()).await.unwrap();
        let claim = ClaimRequest { max: count, lease: LEASE };
        let step = stage.store().step(&shard, &mut Vec::new(), claim).await.unwrap();
        step.leases.into_iter().filter(|lease| lease.key.tenant == *tenant).count()
    };
    assert_eq!(deliver(&eve, 2 * most).await, most);
    let limits = [(eve.clone(), wide)];
    stage.store().set_limits(&shard, &LaneLimits::default(), &limits).await.unwrap();
    assert_eq!(deliver(&eve, 1).await, 0);
    assert_eq!(deliver(&fay, 3).await, 3);
    let stats = stage.store().stats(&shard, Some(&fay)).await.unwrap();
    let max_queued = stats.limits.and_then(|limits| limits.max_queued);
    assert_eq!(max_queued, Some(Policy::default().tenant_deliveries_queued));
}

/// Deliveries are in a separate list.
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
