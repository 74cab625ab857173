//! What a store keeps of what is over, and for how long.
//!
//! Redis forgets by its own time. A test does not wait for that: it reads the time that each key has left,
//! or sets the queue's clock so far back that what ends is forgotten at once.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use causeway_queue::{
    IdempotencyKey, NewJob, Outcome, Policy, RawJson,
    clock::{Clock, ManualClock, Millis},
    conformance::{Stage, failed, retry_after, session_key, succeeded, tenant_id},
    embedded::Embedded,
    job::Idempotency,
    limits::{LaneLimits, Rate, TenantLimits},
    redis::RedisStore,
    session::{Conversation, Memory, Turn},
};

use crate::{
    conformance::{clock, on},
    support::redis::RedisServer,
};

const MINUTE: Duration = Duration::from_secs(60);
const DAY: Duration = Duration::from_secs(24 * 3600);

/// A stage whose clock is two days behind the server's: what ends is forgotten at once.
async fn forgetting(server: &RedisServer) -> Stage {
    let two_days_ago = clock().now().0 - 2 * u64::try_from(DAY.as_millis()).unwrap();
    let clock = Arc::new(ManualClock::new(Millis(two_days_ago)));
    let policy = Policy::default();
    let store = RedisStore::connect_with_clock(&server.url(), policy, clock.clone()).await;
    Stage::new(Arc::new(store.unwrap()), clock)
}

fn key(stage: &Stage, name: &str) -> String {
    format!("cw:{{{}}}:{name}", stage.shard)
}

/// The keys of jobs, tenants and conversations, each with the milliseconds that it has left; -1: it
/// stays.
async fn keys(server: &RedisServer, stage: &Stage) -> Vec<(String, i64)> {
    let mut keys = Vec::new();
    for name in server.ask::<Vec<String>>(&["KEYS", &key(stage, "*:*")]).await {
        let left = server.ask(&["PTTL", &name]).await;
        keys.push((name.replace(&key(stage, ""), ""), left));
    }
    keys
}

/// Those of them that stay. An idempotency key has the time that its job may take, and an hour, and the time for
/// which that is kept.
async fn lasting(server: &RedisServer, stage: &Stage) -> Vec<String> {
    let day = i64::try_from(DAY.as_millis()).unwrap();
    let is_kept = |(name, left): &(String, i64)| {
        let span = if name.starts_with("idem:") { 2 * day..=2 * day + day / 24 } else { 0..=day };
        !span.contains(left)
    };
    let keys = keys(server, stage).await.into_iter();
    keys.filter(is_kept).map(|(name, _)| name).collect()
}

/// A job of ann with a body, events and an idempotency key of its own.
fn with_everything(stage: &Stage, key: &str) -> NewJob {
    let key = IdempotencyKey::new(key).unwrap();
    let idempotency = Idempotency { key, digest: [1; 32], ttl: MINUTE, spans_job: true };
    let body = Bytes::from(vec![b'1'; 3000]);
    NewJob { idempotency: Some(idempotency), keeps_events: true, body, ..stage.job("ann") }
}

/// A message of ann's conversation `session`, which is remembered for so long after it.
fn message(stage: &Stage, session: &str, ttl: Duration) -> NewJob {
    let mut job = stage.in_session("ann", session);
    let profile = RawJson::string("in the tower");
    job.spec.memory = Some(Memory { turns: 5, ttl_s: ttl.as_secs(), profile });
    job
}

/// Ends the next attempt so, after one that is tried again.
async fn run(stage: &Stage, end: Outcome) {
    let lease = stage.claim_one().await;
    stage.settle(lease, retry_after(Duration::ZERO, 1)).await;
    let lease = stage.claim_one().await;
    stage.settle(lease, end).await;
}

fn answered() -> Outcome {
    let turn = Turn { user: "hello".to_owned(), assistant: "hi".to_owned() };
    let Outcome::Succeeded { output, .. } = succeeded() else { panic!("no answer") };
    Outcome::Succeeded { output, turn: Some(turn) }
}

#[tokio::test]
async fn what_is_over_is_forgotten() {
    let server = RedisServer::start();
    let stage = on(&server.url()).await;
    for (key, end) in [("k", succeeded()), ("l", failed(2))] {
        stage.accept(with_everything(&stage, key)).await;
        run(&stage, end).await;
    }
    let rate = Rate { limit: 2, window: MINUTE };
    stage.queue.throttle(&tenant_id("ann"), "bucket", rate).await.unwrap();
    assert_eq!(keys(&server, &stage).await.len(), 11, "two of each, but one body, bucket and list");
    assert_eq!(lasting(&server, &stage).await, ["jobs:ann"], "which reconcile trims");

    stage.pass(DAY);
    stage.assert_sound().await;
    assert!(!server.ask::<bool>(&["EXISTS", &key(&stage, "dead")]).await);
}

#[tokio::test]
async fn a_job_that_is_put_back_stays() {
    let server = RedisServer::start();
    let stage = on(&server.url()).await;
    let id = stage.accept(with_everything(&stage, "k")).await;
    run(&stage, failed(2)).await;
    // As if the retry came late.
    let idempotency = key(&stage, "idem:ann:k");
    let minute = MINUTE.as_millis().to_string();
    server.ask::<bool>(&["PEXPIRE", &idempotency, &minute]).await;
    assert!(stage.store().retry(&tenant_id("ann"), &id).await.unwrap());
    let left: i64 = server.ask(&["PTTL", &idempotency]).await;
    assert!(left > 2 * i64::try_from(DAY.as_millis()).unwrap(), "its key has {left} ms left");
    let mut kept = keys(&server, &stage).await;
    kept.retain(|(name, left)| name.ends_with(&id.key()) && *left == -1);
    assert_eq!(kept.len(), 3, "its record, its body and its events: {kept:?}");
    assert_eq!(stage.claim_one().await.body.len(), 3000);
}

#[tokio::test]
async fn a_conversation_is_kept_until_it_is_forgotten() {
    let server = RedisServer::start();
    let stage = on(&server.url()).await;
    stage.accept(message(&stage, "s", MINUTE)).await;
    run(&stage, answered()).await;
    assert_eq!(lasting(&server, &stage).await, ["jobs:ann"]);

    // A newer message keeps all of it for longer, and another conversation none of it shorter.
    stage.accept(message(&stage, "s", 60 * MINUTE)).await;
    let imported = Conversation {
        session: session_key("t"),
        profile: RawJson::string("in the tower"),
        expires_at: stage.clock.now().after(MINUTE),
        turns: vec![Turn { user: "hello".to_owned(), assistant: "hi".to_owned() }],
    };
    stage.store().import_conversation(&stage.shard, &tenant_id("ann"), &imported).await.unwrap();
    run(&stage, answered()).await;
    assert_eq!(lasting(&server, &stage).await, ["jobs:ann"]);
    for name in ["profile:ann:s", "turns:ann:s", "talks:ann"] {
        let left: i64 = server.ask(&["PTTL", &key(&stage, name)]).await;
        assert!(left > 60_000, "{name} has {left} ms left");
    }

    // What is over leaves the set although others stay.
    stage.pass(2 * MINUTE);
    stage.accept(message(&stage, "u", MINUTE)).await;
    let talks: Vec<String> = server.ask(&["ZRANGE", &key(&stage, "talks:ann"), "0", "-1"]).await;
    assert_eq!(talks, ["u", "s"]);
}

/// Has 2,500 jobs of ann run.
async fn run_many(stage: &Stage) {
    stage.queue.submit((0..2500).map(|_| stage.job("ann")).collect()).await.unwrap();
    for wanted in [1000, 1000, 500] {
        let leases = stage.claim(1000).await;
        assert_eq!(leases.len(), wanted);
        let ends = leases.into_iter().map(|lease| lease.settle(succeeded(), None));
        stage.step(ends.collect(), 0).await;
    }
}

#[tokio::test]
async fn a_list_loses_what_is_forgotten_behind_a_job_that_stays() {
    let server = RedisServer::start();
    let stage = forgetting(&server).await;
    let stays = stage.accept(NewJob { delay: DAY, ..stage.job("ann") }).await;
    run_many(&stage).await;
    stage.assert_sound().await;
    let list = key(&stage, "jobs:ann");
    let left: Vec<String> = server.ask(&["LRANGE", &list, "0", "-1"]).await;
    assert!(left.len() < 1000, "{} are left", left.len());
    assert_eq!(left[0], stays.key());
}

#[tokio::test]
async fn a_list_loses_all_that_is_forgotten() {
    let server = RedisServer::start();
    let stage = forgetting(&server).await;
    run_many(&stage).await;
    let last = stage.accept(stage.job("ann")).await;
    stage.assert_sound().await;
    let list = key(&stage, "jobs:ann");
    assert_eq!(server.ask::<Vec<String>>(&["LRANGE", &list, "0", "-1"]).await, [last.key()]);
    let lease = stage.claim_one().await;
    stage.succeed(lease).await;
    stage.assert_sound().await;
    assert_eq!(keys(&server, &stage).await, []);
}

/// Leaves five tenants behind of which there is something to know, and one that is idle.
async fn leave(stage: &Stage) {
    let rates = |requests, tokens| TenantLimits {
        requests_per_minute: requests,
        tokens_per_minute: tokens,
        ..TenantLimits::default()
    };
    let lane = LaneLimits::default();
    let rated = [("requests", rates(Some(10), None)), ("tokens", rates(None, Some(100)))];
    let rated = rated.map(|(name, limits)| (tenant_id(name), limits));
    stage.store().set_limits(&stage.shard, &lane, &rated).await.unwrap();
    stage.store().pause(&stage.shard, Some(&tenant_id("paused")), true).await.unwrap();
    for tenant in ["requests", "tokens", "idle", "ahead", "ahead"] {
        stage.accept(stage.job(tenant)).await;
        let lease = stage.claim_one().await;
        stage.succeed(lease).await;
    }
    // Those with rates are taken out, and keep them as long as something is left of them.
    let bound = [(tenant_id("bound"), TenantLimits::default())];
    stage.store().set_limits(&stage.shard, &lane, &bound).await.unwrap();
    stage.pass(Duration::from_millis(1));
    stage.assert_sound().await;
}

/// Lets the rates recover and the pause end.
async fn let_go(stage: &Stage) {
    stage.pass(MINUTE);
    stage.store().pause(&stage.shard, Some(&tenant_id("paused")), false).await.unwrap();
    stage.assert_sound().await;
}

#[tokio::test]
async fn a_tenant_is_kept_as_long_as_there_is_something_to_know_of_it() {
    let server = RedisServer::start();
    let stage = forgetting(&server).await;
    let kept = async || {
        let mut names: Vec<String> = server.ask(&["HKEYS", &key(&stage, "tenants")]).await;
        names.sort_unstable();
        names
    };
    leave(&stage).await;
    assert_eq!(kept().await, ["", "ahead", "bound", "paused", "requests", "tokens"]);
    let_go(&stage).await;
    assert_eq!(kept().await, ["", "ahead", "bound"]);
}

#[tokio::test]
async fn the_embedded_engine_keeps_a_tenant_for_the_same_reasons() {
    let clock = clock();
    let policy = Policy { retention: Duration::from_millis(1), ..Policy::default() };
    let store = Arc::new(Embedded::new(policy, clock.clone()));
    let stage = Stage::new(store.clone(), clock);
    leave(&stage).await;
    let five =
        ["ahead", "bound", "paused", "requests", "tokens"].map(|name| format!("tenant:{name}"));
    assert_eq!(store.kept(&stage.shard), five);
    let_go(&stage).await;
    assert_eq!(store.kept(&stage.shard), five[..2]);
}

#[tokio::test]
async fn the_embedded_engine_forgets_what_is_over() {
    let clock = clock();
    let store = Arc::new(Embedded::new(Policy::default(), clock.clone()));
    let stage = Stage::new(store.clone(), clock);
    stage.accept(with_everything(&stage, "k")).await;
    run(&stage, succeeded()).await;
    stage.accept(message(&stage, "s", MINUTE)).await;
    run(&stage, answered()).await;
    stage.pass(DAY);
    let id = stage.accept(message(&stage, "t", MINUTE)).await;
    stage.assert_sound().await;
    let kept = [format!("job:{id}"), "talk:ann:t".to_owned(), "tenant:ann".to_owned()];
    assert_eq!(store.kept(&stage.shard), kept);
}
