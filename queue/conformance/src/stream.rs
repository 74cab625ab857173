//! Promises about events and rates.

use std::time::Duration;

use super::stage::{Stage, retry_after, tenant_id};
use causeway_queue::{Event, EventKind, Lease, NewJob, RawJson, backend::Emission, limits::Rate};

async fn emit(stage: &Stage, lease: &Lease, text: &str) {
    let data = RawJson::string(text);
    let one = Emission {
        lease: lease.key.clone(),
        number: 1,
        repeated: false,
        kind: EventKind::Delta,
        data,
    };
    assert!(stage.store().emit(&stage.shard, vec![one]).await.unwrap().is_empty());
}

const LIFE: [EventKind; 8] = [
    EventKind::Queued,
    EventKind::Started,
    EventKind::Delta,
    EventKind::Retrying,
    EventKind::Started,
    EventKind::Delta,
    EventKind::Delta,
    EventKind::Succeeded,
];

/// Runs a job through the events of [`LIFE`].
async fn live(stage: &Stage) {
    let lease = stage.claim_one().await;
    emit(stage, &lease, "a").await;
    stage.settle(lease, retry_after(Duration::ZERO, 1)).await;
    let lease = stage.claim_one().await;
    emit(stage, &lease, "b").await;
    emit(stage, &lease, "c").await;
    stage.succeed(lease).await;
}

fn assert_life(events: &[Event], from: usize) {
    let kinds: Vec<EventKind> = events.iter().map(|event| event.kind).collect();
    assert_eq!(kinds, LIFE[from..]);
    for (place, event) in events.iter().enumerate() {
        assert_eq!(event.seq, (from + place) as u64);
    }
}

/// An emission that is repeated because the store did not answer is in the log once, even if an earlier one had the
/// same text.
pub async fn a_repeated_emission_is_kept_once(stage: Stage) {
    let id = stage.accept(NewJob { keeps_events: true, ..stage.job("ann") }).await;
    let emit = async |lease: &Lease, numbers: &[u32], repeated| {
        let one = |number: &u32| Emission {
            lease: lease.key.clone(),
            number: *number,
            repeated,
            kind: EventKind::Delta,
            data: RawJson::string("ha"),
        };
        let emissions = numbers.iter().map(one).collect();
        assert!(stage.store().emit(&stage.shard, emissions).await.unwrap().is_empty());
        let events = stage.store().events(&id, 0).await.unwrap();
        events.iter().filter(|event| event.kind == EventKind::Delta).count()
    };
    let lease = stage.claim_one().await;
    assert_eq!(emit(&lease, &[1, 2], false).await, 2);
    assert_eq!(emit(&lease, &[1, 2], true).await, 2);
    assert_eq!(emit(&lease, &[3], true).await, 3);
    stage.settle(lease, retry_after(Duration::ZERO, 1)).await;
    let lease = stage.claim_one().await;
    assert_eq!(emit(&lease, &[1], true).await, 4);
    assert_eq!(emit(&lease, &[1], true).await, 4);
}

/// A late reader receives all events, or those after its last one.
pub async fn events_are_numbered_and_kept(stage: Stage) {
    let id = stage.accept(NewJob { keeps_events: true, ..stage.job("ann") }).await;
    live(&stage).await;
    let events = stage.store().events(&id, 0).await.unwrap();
    assert_life(&events, 0);
    assert_eq!(events[1].data.as_str(), r#"{"attempt":1}"#);
    assert_eq!(events[2].data, RawJson::string("a"));
    assert_life(&stage.store().events(&id, 5).await.unwrap(), 5);
    assert!(stage.store().events(&id, 8).await.unwrap().is_empty());
    let silent = stage.accept(stage.job("ann")).await;
    assert!(stage.store().events(&silent, 0).await.unwrap().is_empty());
}

/// A follower that connects in the middle misses no event and receives none twice.
pub async fn a_late_follower_misses_no_event(stage: Stage) {
    let id = stage.accept(NewJob { keeps_events: true, ..stage.job("ann") }).await;
    let job = stage.see(&id).await;
    let mut follower = stage.queue.follow(&job, 0);
    let mut events = vec![follower.next().await.unwrap().unwrap()];
    let (queue, mut late) = (stage.queue.clone(), Vec::new());
    live(&stage).await;
    while let Some(event) = follower.next().await.unwrap() {
        events.push(event);
    }
    assert_life(&events, 0);
    let mut follower = queue.follow(&job, 3);
    while let Some(event) = follower.next().await.unwrap() {
        late.push(event);
    }
    assert_life(&late, 3);
}

/// A bucket permits its limit, and more as time passes; each bucket is independent.
pub async fn a_bucket_refuses_more_than_its_limit(stage: Stage) {
    let rate = Rate { limit: 3, window: Duration::from_secs(60) };
    let take = async |tenant: &str, name: &str| {
        stage.queue.throttle(&tenant_id(tenant), name, rate).await.unwrap()
    };
    for left in [2, 1, 0] {
        let answer = take("ann", "a").await;
        assert_eq!((answer.allowed, answer.remaining), (true, left));
    }
    let answer = take("ann", "a").await;
    assert!(!answer.allowed);
    assert_eq!(answer.retry_after, Duration::from_secs(20));
    assert!(take("ann", "b").await.allowed);
    assert!(take("bob", "a").await.allowed);
    stage.pass(Duration::from_secs(20));
    assert!(take("ann", "a").await.allowed);
    assert!(!take("ann", "a").await.allowed);
}
