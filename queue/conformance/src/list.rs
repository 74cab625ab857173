//! Promises about lists and counts of jobs.

use std::{collections::HashMap, sync::Arc, time::Duration};

use super::stage::{Stage, session_key, tenant_id};
use causeway_queue::{
    Class, Error, JobId, Lane, LaneName, NewJob, Queue, Spec, Status,
    backend::{ListQuery, MAX_LOOKED_AT, Page},
    job::State,
    limits::TenantLimits,
};

fn ids(page: &Page) -> Vec<JobId> {
    page.jobs.iter().map(|job| job.id.clone()).collect()
}

/// A tenant lists its own jobs in pages, newest first.
pub async fn jobs_are_listed_newest_first_in_pages(stage: Stage) {
    let mut accepted = Vec::new();
    for _ in 0..5 {
        accepted.push(stage.accept(stage.job("ann")).await);
        stage.accept(stage.job("bob")).await;
    }
    accepted.reverse();
    assert_eq!(paged(&stage.queue, 2).await, accepted);
}

/// Returns ann's list, read page by page.
async fn paged(queue: &Queue, limit: usize) -> Vec<JobId> {
    let mut query = ListQuery { limit, ..ListQuery::default() };
    let mut seen = Vec::new();
    loop {
        let page = queue.list(&tenant_id("ann"), &query).await.unwrap();
        seen.extend(ids(&page));
        query.after = page.next;
        if query.after.is_none() {
            return seen;
        }
        assert_eq!(page.jobs.len(), limit);
        assert_eq!(query.after.as_ref(), seen.last());
    }
}

/// Of two processes that submit at the same time, the one accepted later may have created the older id. The order is
/// that of acceptance, and no page repeats a job.
pub async fn a_list_is_in_the_order_of_acceptance(stage: Stage) {
    let drafts: Vec<NewJob> = (0..6).map(|_| stage.job("ann")).collect();
    let drafted: Vec<JobId> = drafts.iter().map(|job| job.id.clone()).collect();
    for (place, job) in swapped(drafts) {
        assert_eq!(stage.accept(job).await, drafted[place]);
    }
    for limit in 1..=7 {
        let wanted = [4, 5, 2, 3, 0, 1].map(|place| drafted[place].clone());
        assert_eq!(paged(&stage.queue, limit).await, wanted, "{limit} a page");
    }
}

/// Jobs of two lanes are in one list, which keeps the order of each lane.
pub async fn two_lanes_are_listed_as_one(stage: Stage) {
    let name = LaneName::new(&format!("{}-b", stage.shard.lane)).unwrap();
    let other = Lane { models: vec!["b".to_owned()], ..Lane::named(name) };
    let lanes = vec![Lane::named(stage.shard.lane.clone()), other];
    let queue = Queue::new(Arc::clone(&stage.backend), lanes);
    let draft = |model: &str| {
        let job = stage.job("ann");
        let spec = Spec { model: Some(model.to_owned()), ..job.spec };
        queue.draft(job.tenant, spec, job.body, None)
    };
    let drafts: Vec<NewJob> = ["a", "a", "b", "b", "a", "a"].map(draft).into();
    let drafted: Vec<JobId> = drafts.iter().map(|job| job.id.clone()).collect();
    for (_, job) in swapped(drafts) {
        queue.submit(vec![job]).await.unwrap();
    }
    for limit in 1..=7 {
        let wanted = [4, 5, 2, 3, 0, 1].map(|place| drafted[place].clone());
        assert_eq!(paged(&queue, limit).await, wanted, "{limit} a page");
    }
}

/// Returns jobs with their indexes, the two of each pair swapped.
fn swapped(drafts: Vec<NewJob>) -> Vec<(usize, NewJob)> {
    let mut drafts: Vec<(usize, NewJob)> = drafts.into_iter().enumerate().collect();
    drafts.chunks_mut(2).for_each(<[_]>::reverse);
    drafts
}

/// A list contains only jobs that match its filters.
pub async fn a_list_is_filtered(stage: Stage) {
    let running = stage.accept(stage.job("ann")).await;
    stage.claim_one().await;
    let batch = NewJob { class: Class::Batch, ..stage.in_session("ann", "s") };
    let batch = stage.accept(batch).await;
    let held = stage.accept(stage.in_session("ann", "s")).await;
    let list = async |query: ListQuery| {
        ids(&stage.queue.list(&tenant_id("ann"), &ListQuery { limit: 10, ..query }).await.unwrap())
    };
    let all = ListQuery::default;
    assert_eq!(list(all()).await, [held.clone(), batch.clone(), running.clone()]);
    assert_eq!(list(ListQuery { status: Some(Status::Running), ..all() }).await, [running]);
    let queued = ListQuery { status: Some(Status::Queued), ..all() };
    assert_eq!(list(queued).await, [held.clone(), batch.clone()]);
    let of_class = ListQuery { class: Some(Class::Batch), ..all() };
    assert_eq!(list(of_class).await, std::slice::from_ref(&batch));
    let of_session = ListQuery { session: Some(session_key("s")), ..all() };
    assert_eq!(list(of_session).await, [held, batch]);
}

/// A cursor that is not in the list is an error, not an empty page.
pub async fn a_foreign_cursor_is_an_error(stage: Stage) {
    stage.accept(stage.job("ann")).await;
    let stranger = stage.accept(stage.job("bob")).await;
    let query = ListQuery { limit: 10, after: Some(stranger.clone()), ..ListQuery::default() };
    let refused = stage.queue.list(&tenant_id("ann"), &query).await;
    assert!(matches!(refused, Err(Error::UnknownCursor(id)) if id == stranger));
}

/// A cursor of another shard is compared by its id: only older jobs follow.
pub async fn a_list_continues_after_another_shards_job(stage: Stage) {
    let mut accepted = Vec::new();
    for _ in 0..3 {
        accepted.push(stage.accept(stage.job("ann")).await);
    }
    let elsewhere = format!("job_{}_77_{}", stage.shard.lane, accepted[1].key());
    let after = Some(elsewhere.parse().expect("an id"));
    let query = ListQuery { limit: 10, after, ..ListQuery::default() };
    let page = stage.store().list(&stage.shard, &tenant_id("ann"), &query).await.unwrap();
    assert_eq!((ids(&page), page.next), (accepted[..1].to_vec(), None));
}

/// A matching job among thousands is found, though no page reads more than its limit.
pub async fn a_list_finds_one_among_thousands(stage: Stage) {
    let oldest = stage.accept(NewJob { class: Class::Batch, ..stage.job("ann") }).await;
    let many = MAX_LOOKED_AT + 100;
    stage.queue.submit((0..many).map(|_| stage.job("ann")).collect()).await.unwrap();
    let mut query = ListQuery { class: Some(Class::Batch), limit: 10, ..ListQuery::default() };
    let page = stage.queue.list(&tenant_id("ann"), &query).await.unwrap();
    assert_eq!(ids(&page), []);
    query.after = page.next;
    assert!(query.after.is_some(), "the list goes on");
    let page = stage.queue.list(&tenant_id("ann"), &query).await.unwrap();
    assert_eq!((ids(&page), page.next), (vec![oldest], None));
}

/// The counts are those of the tenant, or of all tenants.
pub async fn stats_count_waiting_and_running_jobs(stage: Stage) {
    for tenant in ["ann", "ann", "bob"] {
        stage.accept(stage.job(tenant)).await;
    }
    let later = NewJob { delay: Duration::from_secs(9), ..stage.job("bob") };
    stage.accept(later).await;
    assert_eq!(stage.claim(2).await.len(), 2);
    stage.pass(Duration::from_secs(2));
    let all = stage.store().stats(&stage.shard, None).await.unwrap();
    assert_eq!((all.queued, all.running, all.scheduled, all.dead), (2, 2, 1, Some(0)));
    assert_eq!(all.oldest_wait_ms, 2000);
    let bob = stage.store().stats(&stage.shard, Some(&tenant_id("bob"))).await.unwrap();
    assert_eq!((bob.queued, bob.running, bob.scheduled, bob.dead), (1, 1, 1, None));
    let none = stage.store().stats(&stage.shard, Some(&tenant_id("nobody"))).await.unwrap();
    assert_eq!((none.queued, none.running), (0, 0));
}

/// A tenant at its cap sees its own limits, the wait of its oldest job, and the estimated wait of a new one.
pub async fn a_tenant_sees_its_limits_and_wait(stage: Stage) {
    let limits = TenantLimits {
        weight: 3,
        max_running: Some(1),
        max_queued: Some(50),
        requests_per_minute: Some(600),
        tokens_per_minute: Some(1_000_000),
    };
    stage.queue.set_limits(HashMap::new(), &[(tenant_id("ann"), limits.clone())]).await.unwrap();
    let seen = async |tenant: Option<&str>| {
        let tenant = tenant.map(tenant_id);
        stage.store().stats(&stage.shard, tenant.as_ref()).await.unwrap()
    };
    assert_eq!(seen(Some("ann")).await.limits, Some(limits));
    assert_eq!(seen(Some("nobody")).await.limits, Some(TenantLimits::default()));
    assert_eq!(seen(None).await.limits, None);

    for _ in 0..10 {
        stage.accept(stage.job("ann")).await;
    }
    assert_eq!(seen(Some("ann")).await.estimated_wait_ms, None);
    for _ in 0..4 {
        let lease = stage.claim_one().await;
        stage.pass(Duration::from_secs(1));
        stage.succeed(lease).await;
    }
    stage.claim_one().await;
    stage.accept(NewJob { class: Class::Interactive, ..stage.job("ann") }).await;
    stage.pass(Duration::from_secs(2));
    let ann = seen(Some("ann")).await;
    assert_eq!((ann.queued, ann.oldest_wait_ms), (6, 6000));
    // Five jobs of its class and one of a higher class start before it, a second each.
    assert_eq!(ann.estimated_wait_ms, Some(7000));
    let next = stage.accept(stage.job("ann")).await;
    let State::Queued { estimated_wait_ms, .. } = stage.see(&next).await.state else {
        panic!("it waits")
    };
    assert_eq!(estimated_wait_ms, Some(7000));
    let all = seen(None).await;
    assert_eq!((all.oldest_wait_ms, all.estimated_wait_ms), (0, None));
}
