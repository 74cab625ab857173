use std::sync::Arc;

use bytes::Bytes;
use causeway_embedded::Embedded;
use causeway_queue::{
    JobId, Outcome, Policy, Status, TenantId, Webhook,
    backend::ListQuery,
    clock::{ManualClock, Millis},
    job::Output,
    lease::ClaimRequest,
    webhook::Subject,
};
use tokio::time::timeout;

use super::*;
use crate::barrier_backend::BarrierBackend;

fn relay() -> OutboxRelay {
    let clock = Arc::new(ManualClock::new(Millis(1_000_000)));
    under(Policy::default(), clock)
}

fn under(policy: Policy, clock: Arc<ManualClock>) -> OutboxRelay {
    let queue = Queue::new(Arc::new(Embedded::new(policy, clock)), Vec::new());
    OutboxRelay { queue, notifications: mpsc::channel(1).1 }
}

/// Submits a job with a webhook and lets it succeed.
async fn end_job(queue: &Queue) -> JobId {
    end_job_of(queue, "default").await
}

async fn end_job_of(queue: &Queue, tenant: &str) -> JobId {
    let webhook = Webhook { url: "https://example.com/hook".to_owned(), subject: Subject::Job };
    let spec = Spec { webhook: Some(webhook), ..Spec::default() };
    let job = queue.draft(TenantId::new(tenant).unwrap(), spec, Bytes::from_static(b"{}"), None);
    let id = queue.submit(vec![job]).await.unwrap().remove(0).id().clone();
    let claim = ClaimRequest { max: 1, lease: Duration::from_secs(15) };
    let step = queue.transitions().step(id.shard(), &mut Vec::new(), claim).await.unwrap();
    let outcome = Outcome::Succeeded { output: Output::default(), turn: None };
    let settlement = step.leases.into_iter().next().unwrap().settle(outcome, None);
    let claim = ClaimRequest { max: 0, ..claim };
    queue.transitions().step(id.shard(), &mut vec![settlement], claim).await.unwrap();
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
    let relay = relay();
    let id = end_job(&relay.queue).await;
    assert_eq!(relay.step(id.shard()).await.unwrap(), 1);
    assert_eq!(relay.step(id.shard()).await.unwrap(), 0);
    let [delivery] = &deliveries(&relay.queue).await[..] else { panic!("not one delivery") };
    assert_eq!(delivery.spec.url, "https://example.com/hook");
    assert_eq!(delivery.spec.metadata["job"], id.to_string());
    assert_eq!(delivery.spec.metadata["type"], "job.succeeded");
    assert_eq!(
        delivery.spec.headers[EVENT_ID].first(),
        Some(format!("evt_{}_1", id.key()).as_str())
    );
    assert_eq!((delivery.status(), delivery.max_attempts), (Status::Queued, 8));
    assert_eq!(delivery.deadline, Some(Millis(1_000_000).after(DELIVERY_WINDOW)));
}

#[tokio::test]
async fn a_dead_relay_causes_no_second_delivery() {
    let relay = relay();
    let id = end_job(&relay.queue).await;
    let entries = relay.queue.outbox().outbox(id.shard(), MAX_OUTBOX_PAGE).await.unwrap();
    let job = relay.queue.jobs(std::slice::from_ref(&id)).await.unwrap().remove(0);
    // The dead relay had submitted the delivery.
    let made = relay.delivery(&entries[0], job.as_ref()).unwrap();
    relay.queue.submit(vec![made]).await.unwrap();
    assert_eq!(relay.step(id.shard()).await.unwrap(), 1);
    assert_eq!(deliveries(&relay.queue).await.len(), 1);
}

#[tokio::test]
async fn keys_expire_after_the_outbox() {
    let clock = Arc::new(ManualClock::new(Millis(1_000_000)));
    let relay = under(Policy::default(), clock.clone());
    let id = end_job(&relay.queue).await;
    let entries = relay.queue.outbox().outbox(id.shard(), MAX_OUTBOX_PAGE).await.unwrap();
    let job = relay.queue.jobs(std::slice::from_ref(&id)).await.unwrap().remove(0);
    let again = async || {
        let delivery = relay.delivery(&entries[0], job.as_ref()).unwrap();
        let known =
            relay.queue.transitions().accepted(&shard_of_deliveries(), &[&delivery]).await.unwrap();
        known[0].is_some()
    };
    assert_eq!(relay.step(id.shard()).await.unwrap(), 1);
    clock.advance(PAGE_TIMEOUT);
    assert!(again().await, "another relay may still hold the page");
    clock.advance(PAGE_TIMEOUT);
    assert!(!again().await);
}

#[tokio::test]
async fn a_full_tenant_blocks_no_other() {
    let clock = Arc::new(ManualClock::new(Millis(1_000_000)));
    let policy = Policy { tenant_deliveries_queued: 1, ..Policy::default() };
    let relay = under(policy, clock.clone());
    let mut shard = None;
    for _ in 0..MAX_OUTBOX_PAGE + 1 {
        shard = Some(end_job_of(&relay.queue, "ann").await.shard().clone());
    }
    clock.advance(Duration::from_millis(1));
    end_job_of(&relay.queue, "bob").await;
    let shard = shard.unwrap();
    relay.relay_all(&shard).await;
    assert_eq!(deliveries_of(&relay.queue, "bob").await.len(), 1);
    // Ann's entries had no room; they are postponed.
    assert_eq!(deliveries_of(&relay.queue, "ann").await.len(), 0);
    assert_eq!(relay.step(&shard).await.unwrap(), 0);
    clock.advance(FULL_DELAY);
    assert_eq!(relay.step(&shard).await.unwrap(), MAX_OUTBOX_PAGE);
}

#[tokio::test]
async fn many_entries_are_relayed_in_pages() {
    let relay = relay();
    let count = MAX_OUTBOX_PAGE + 10;
    let mut shard = None;
    for _ in 0..count {
        shard = Some(end_job(&relay.queue).await.shard().clone());
    }
    relay.relay_all(&shard.unwrap()).await;
    assert_eq!(deliveries(&relay.queue).await.len(), count);
}

#[tokio::test(start_paused = true)]
async fn outboxes_are_polled_concurrently() {
    let (backend, queue) = BarrierBackend::with(1);
    let relay = OutboxRelay { queue, notifications: mpsc::channel(1).1 };
    tokio::select! {
        () = relay.run() => panic!("the relay runs until it is dropped"),
        met = timeout(POLL_INTERVAL, backend.barrier.wait()) => drop(met.expect("all outboxes are polled")),
    }
}
