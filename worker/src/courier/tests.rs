use std::sync::Arc;

use bytes::Bytes;
use causeway_queue::{
    JobId, Outcome, Policy, Status, TenantId, Webhook,
    backend::ListQuery,
    clock::{ManualClock, Millis},
    embedded::Embedded,
    job::Output,
    lease::ClaimRequest,
    webhook::Subject,
};
use tokio::time::timeout;

use super::*;
use crate::meeting::Meeting;

fn courier() -> Courier {
    let clock = Arc::new(ManualClock::new(Millis(1_000_000)));
    under(Policy::default(), clock)
}

fn under(policy: Policy, clock: Arc<ManualClock>) -> Courier {
    let queue = Queue::new(Arc::new(Embedded::new(policy, clock)), Vec::new());
    Courier { queue, nudges: mpsc::channel(1).1 }
}

/// Submits a job with a webhook and lets it succeed.
async fn end_one(queue: &Queue) -> JobId {
    end_one_of(queue, "default").await
}

async fn end_one_of(queue: &Queue, tenant: &str) -> JobId {
    let webhook = Webhook { url: "https://example.com/hook".to_owned(), subject: Subject::Job };
    let spec = Spec { webhook: Some(webhook), ..Spec::default() };
    let job = queue.draft(TenantId::new(tenant).unwrap(), spec, Bytes::from_static(b"{}"), None);
    let id = queue.submit(vec![job]).await.unwrap().remove(0).id().clone();
    let claim = ClaimRequest { max: 1, lease: Duration::from_secs(15) };
    let step = queue.backend().step(id.shard(), &mut Vec::new(), claim).await.unwrap();
    let outcome = Outcome::Succeeded { output: Output::default(), turn: None };
    let settlement = step.leases.into_iter().next().unwrap().settle(outcome, None);
    let claim = ClaimRequest { max: 0, ..claim };
    queue.backend().step(id.shard(), &mut vec![settlement], claim).await.unwrap();
    id
}

async fn deliveries(queue: &Queue) -> Vec<Job> {
    deliveries_of(queue, "default").await
}

async fn deliveries_of(queue: &Queue, tenant: &str) -> Vec<Job> {
    let query = ListQuery { limit: 1000, ..ListQuery::default() };
    queue.deliveries(&TenantId::new(tenant).unwrap(), &query).await.unwrap().jobs
}

#[tokio::test]
async fn each_entry_becomes_a_delivery() {
    let courier = courier();
    let id = end_one(&courier.queue).await;
    assert_eq!(courier.step(id.shard()).await.unwrap(), 1);
    assert_eq!(courier.step(id.shard()).await.unwrap(), 0);
    let [delivery] = &deliveries(&courier.queue).await[..] else { panic!("not one delivery") };
    assert_eq!(delivery.spec.url, "https://example.com/hook");
    assert_eq!(delivery.spec.metadata["job"], id.to_string());
    assert_eq!(delivery.spec.metadata["type"], "job.succeeded");
    assert_eq!(
        delivery.spec.headers[EVENT_ID].first(),
        Some(format!("evt_{}_1", id.key()).as_str())
    );
    assert_eq!((delivery.status(), delivery.max_attempts), (Status::Queued, 8));
    assert_eq!(delivery.deadline, Some(Millis(1_000_000).after(LIFE)));
}

#[tokio::test]
async fn a_dead_relay_causes_no_second_delivery() {
    let courier = courier();
    let id = end_one(&courier.queue).await;
    let backend = courier.queue.backend();
    let ends = backend.outbox(id.shard(), MAX_OUTBOX_PAGE).await.unwrap();
    let job = courier.queue.jobs(std::slice::from_ref(&id)).await.unwrap().remove(0);
    // The dead relay had submitted the delivery.
    let made = courier.delivery(&ends[0], job.as_ref()).unwrap();
    courier.queue.submit(vec![made]).await.unwrap();
    assert_eq!(courier.step(id.shard()).await.unwrap(), 1);
    assert_eq!(deliveries(&courier.queue).await.len(), 1);
}

#[tokio::test]
async fn keys_expire_after_the_outbox() {
    let clock = Arc::new(ManualClock::new(Millis(1_000_000)));
    let courier = under(Policy::default(), clock.clone());
    let id = end_one(&courier.queue).await;
    let backend = courier.queue.backend();
    let ends = backend.outbox(id.shard(), MAX_OUTBOX_PAGE).await.unwrap();
    let job = courier.queue.jobs(std::slice::from_ref(&id)).await.unwrap().remove(0);
    let again = async || {
        let delivery = courier.delivery(&ends[0], job.as_ref()).unwrap();
        let known = backend.accepted(&shard_of_deliveries(), &[&delivery]).await.unwrap();
        known[0].is_some()
    };
    assert_eq!(courier.step(id.shard()).await.unwrap(), 1);
    clock.advance(STEP);
    assert!(again().await, "another relay may still hold the page");
    clock.advance(STEP);
    assert!(!again().await);
}

#[tokio::test]
async fn a_full_tenant_blocks_no_other() {
    let clock = Arc::new(ManualClock::new(Millis(1_000_000)));
    let policy = Policy { tenant_deliveries_queued: 1, ..Policy::default() };
    let courier = under(policy, clock.clone());
    let mut shard = None;
    for _ in 0..MAX_OUTBOX_PAGE + 1 {
        shard = Some(end_one_of(&courier.queue, "ann").await.shard().clone());
    }
    clock.advance(Duration::from_millis(1));
    end_one_of(&courier.queue, "bob").await;
    let shard = shard.unwrap();
    courier.empty(&shard).await;
    assert_eq!(deliveries_of(&courier.queue, "bob").await.len(), 1);
    // Ann's entries had no room; they are postponed.
    assert_eq!(deliveries_of(&courier.queue, "ann").await.len(), 0);
    assert_eq!(courier.step(&shard).await.unwrap(), 0);
    clock.advance(FULL_PAUSE);
    assert_eq!(courier.step(&shard).await.unwrap(), MAX_OUTBOX_PAGE);
}

#[tokio::test]
async fn many_entries_are_relayed_in_pages() {
    let courier = courier();
    let count = MAX_OUTBOX_PAGE + 10;
    let mut shard = None;
    for _ in 0..count {
        shard = Some(end_one(&courier.queue).await.shard().clone());
    }
    courier.empty(&shard.unwrap()).await;
    assert_eq!(deliveries(&courier.queue).await.len(), count);
}

#[tokio::test(start_paused = true)]
async fn outboxes_are_polled_concurrently() {
    let (meeting, queue) = Meeting::with(1);
    let courier = Courier { queue, nudges: mpsc::channel(1).1 };
    tokio::select! {
        () = courier.run() => panic!("the relay runs until it is dropped"),
        met = timeout(LOOK_ANYWAY, meeting.place.wait()) => drop(met.expect("all outboxes are polled")),
    }
}
