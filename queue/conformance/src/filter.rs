//! Promises about the filters of lists, and about the data that can be read of a job.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;

use super::stage::{Stage, failed, session_key, tenant_id};
use causeway_queue::{
    Class, JobId, Lane, LaneName, NewJob, Queue, Spec,
    backend::{ListQuery, MAX_LOOKED_AT, Page},
};

fn ids(page: &Page) -> Vec<JobId> {
    page.jobs.iter().map(|job| job.id.clone()).collect()
}

/// A page over two lanes ends at the point at which one of them stopped reading.
pub async fn a_page_stops_with_a_lane(stage: Stage) {
    let name = LaneName::new(&format!("{}-b", stage.shard.lane)).unwrap();
    let other = Lane { models: vec!["b".to_owned()], ..Lane::named(name) };
    let lanes = vec![Lane::named(stage.shard.lane.clone()), other];
    let queue = Queue::new(Arc::clone(&stage.backend), lanes);
    let draft = |model: &str, class| {
        let job = stage.job("ann");
        let spec = Spec { model: Some(model.to_owned()), ..job.spec };
        NewJob { class, ..queue.draft(job.tenant, spec, job.body, None) }
    };
    let old = [draft("b", Class::Batch), draft("a", Class::Batch)];
    let wanted = [old[1].id.clone(), old[0].id.clone()];
    let new = (0..MAX_LOOKED_AT).map(|_| draft("a", Class::Standard));
    queue.submit(old.into_iter().chain(new).collect()).await.unwrap();
    let mut query = ListQuery { class: Some(Class::Batch), limit: 10, ..ListQuery::default() };
    let mut seen = Vec::new();
    for _ in 0..2 {
        let page = queue.list(&tenant_id("ann"), &query).await.unwrap();
        seen.push(ids(&page));
        query.after = page.next;
    }
    assert_eq!((seen, query.after), (vec![Vec::new(), wanted.to_vec()], None));
}

/// A list can be limited to jobs of a model, with an error code, or since a moment.
pub async fn a_list_is_filtered_by_model_and_error(stage: Stage) {
    let of = |url: &str, model: &str| {
        let job = stage.job("ann");
        let (url, model) = (url.to_owned(), Some(model.to_owned()));
        NewJob { spec: Spec { url, model, ..job.spec.clone() }, ..job }
    };
    let quoted = "a \"model\" ü";
    let refused = stage.accept(of("/v1/chat/completions", "m")).await;
    let lease = stage.claim_one().await;
    stage.settle(lease, failed(1)).await;
    let other = stage.accept(of("/v1/messages", "m")).await;
    stage.queue.cancel(&tenant_id("ann"), &other).await.unwrap();
    stage.pass(Duration::from_secs(5));
    let since = Some(stage.see(&other).await.created_at.after(Duration::from_secs(5)));
    let deadline = Some(Duration::from_secs(1));
    let late = stage.accept(NewJob { deadline, ..of("/v1/messages", quoted) }).await;
    stage.pass(Duration::from_secs(2));
    stage.step(Vec::new(), 0).await;
    let waits = stage.accept(NewJob { session: Some(session_key("s")), ..of("", "mm") }).await;

    let list = async |query: ListQuery| {
        ids(&stage.queue.list(&tenant_id("ann"), &ListQuery { limit: 10, ..query }).await.unwrap())
    };
    let all = ListQuery::default;
    let model = |model: &str| ListQuery { model: Some(model.to_owned()), ..all() };
    assert_eq!(list(model("m")).await, [other.clone(), refused.clone()]);
    assert_eq!(list(model(quoted)).await, std::slice::from_ref(&late));
    assert_eq!(list(model("mm")).await, std::slice::from_ref(&waits));
    assert_eq!(list(model("")).await, []);
    let code = |code: &str| ListQuery { error_code: Some(code.to_owned()), ..all() };
    assert_eq!(list(code("upstream_error")).await, [refused]);
    assert_eq!(list(code("cancelled")).await, [other]);
    assert_eq!(list(code("deadline_exceeded")).await, std::slice::from_ref(&late));
    assert_eq!(list(code("gave_up")).await, []);
    assert_eq!(list(ListQuery { since, ..all() }).await, [waits, late]);
}

/// The body of a job can be read until the job has succeeded.
pub async fn a_body_can_be_read_until_it_is_answered(stage: Stage) {
    let large = Bytes::from(vec![b'1'; 5000]);
    let small = stage.accept(stage.job("ann")).await;
    let apart = stage.accept(NewJob { body: large.clone(), ..stage.job("ann") }).await;
    let body = async |id: &JobId| stage.queue.body(id).await.unwrap();
    assert_eq!(body(&small).await, Some(stage.job("ann").body));
    assert_eq!(body(&apart).await, Some(large.clone()));
    let (first, second) = (stage.claim_one().await, stage.claim_one().await);
    assert_eq!(body(&apart).await, Some(large.clone()));
    stage.succeed(first).await;
    stage.settle(second, failed(1)).await;
    assert_eq!((body(&small).await, body(&apart).await), (None, Some(large)));
    assert_eq!(body(&stage.job("ann").id).await, None);
}

/// Ready jobs are counted by class, whatever other jobs their tenants have.
pub async fn ready_jobs_are_counted_by_class(stage: Stage) {
    let of = |tenant: &str, class| NewJob { class, ..stage.job(tenant) };
    for (tenant, class) in [
        ("ann", Class::Interactive),
        ("ann", Class::Batch),
        ("ann", Class::Batch),
        ("bob", Class::Standard),
        ("bob", Class::Standard),
    ] {
        stage.accept(of(tenant, class)).await;
    }
    let delay = Duration::from_secs(9);
    stage.accept(NewJob { delay, ..of("ann", Class::Standard) }).await;
    assert_eq!(stage.store().ready(&stage.shard).await.unwrap(), [1, 2, 2]);
    assert_eq!(stage.claim(2).await.len(), 2);
    let counts: u64 = stage.store().ready(&stage.shard).await.unwrap().into_iter().sum();
    assert_eq!(counts, 3);
}
