//! The data that a store keeps after the end of jobs, and its lifetime.
//!
//! Redis expires keys by its own clock. A test does not wait for that: it reads the remaining
//! lifetime of each key, or sets the queue's clock so far back that ended jobs expire at once.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use causeway_conformance::{Stage, failed, retry_after, session_key, succeeded, tenant_id};
use causeway_embedded::Embedded;
use causeway_queue::{
    IdempotencyKey, NewJob, Outcome, Policy, RawJson,
    clock::{Clock, ManualClock, Millis},
    job::Idempotency,
    limits::{LaneLimits, Rate, TenantLimits},
    session::{Conversation, Memory, Turn},
};
use causeway_redis::RedisStore;

use crate::{
    conformance::{clock, on},
    support::redis::RedisServer,
};

const MINUTE: Duration = Duration::from_secs(60);
const DAY: Duration = Duration::from_secs(24 * 3600);

/// Returns a stage with a clock two days behind the server's: ended jobs expire at once.
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

/// Returns the keys of jobs, tenants and conversations, each with its remaining milliseconds; -1
/// means no expiry.
async fn keys(server: &RedisServer, stage: &Stage) -> Vec<(String, i64)> {
    let mut keys = Vec::new();
    for name in server.ask::<Vec<String>>(&["KEYS", &key(stage, "*:*")]).await {
        let left = server.ask(&["PTTL", &name]).await;
        keys.push((name.replace(&key(stage, ""), ""), left));
    }
    keys
}

/// Returns the keys that stay longer than they should. An idempotency key lives as long as its job
/// may take, and an hour, and then as long as the job is retained.
async fn lasting(server: &RedisServer, stage: &Stage) -> Vec<String> {
    let day = i64::try_from(DAY.as_millis()).unwrap();
    let is_kept = |(name, left): &(String, i64)| {
        let span = if name.starts_with("idem:") { 2 * day..=2 * day + day / 24 } else { 0..=day };
        !span.contains(left)
    };
    let keys = keys(server, stage).await.into_iter();
    keys.filter(is_kept).map(|(name, _)| name).collect()
}

/// Returns a job of ann with a body, events and an idempotency key of its own.
fn with_everything(stage: &Stage, key: &str) -> NewJob {
    let key = IdempotencyKey::new(key).unwrap();
    let idempotency = Idempotency { key, digest: [1; 32], ttl: MINUTE, spans_job: true };
    let body = Bytes::from(vec![b'1'; 3000]);
    NewJob { idempotency: Some(idempotency), keeps_events: true, body, ..stage.job("ann") }
}

/// Returns a message of ann's conversation `session` with this lifetime.
fn message(stage: &Stage, session: &str, ttl: Duration) -> NewJob {
    let mut job = stage.in_session("ann", session);
    let profile = RawJson::string("in the tower");
    job.spec.memory = Some(Memory { turns: 5, ttl_s: ttl.as_secs(), profile });
    job
}

/// Ends the next attempt with `end`, after one that is retried.
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
async fn ended_jobs_expire() {
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
async fn a_retried_job_does_not_expire() {
    let server = RedisServer::start();
    let stage = on(&server.url()).await;
    let id = stage.accept(with_everything(&stage, "k")).await;
    run(&stage, failed(2)).await;
    // The key is about to expire, as before a late retry.
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
async fn a_conversation_expires_as_a_whole() {
    let server = RedisServer::start();
    let stage = on(&server.url()).await;
    stage.accept(message(&stage, "s", MINUTE)).await;
    run(&stage, answered()).await;
    assert_eq!(lasting(&server, &stage).await, ["jobs:ann"]);

    // A newer message extends the whole conversation; another conversation shortens none of it.
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

    // An expired conversation leaves the set although others stay.
    stage.pass(2 * MINUTE);
    stage.accept(message(&stage, "u", MINUTE)).await;
    let talks: Vec<String> = server.ask(&["ZRANGE", &key(&stage, "talks:ann"), "0", "-1"]).await;
    assert_eq!(talks, ["u", "s"]);
}

/// Runs 2,500 jobs of ann.
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
async fn trimming_keeps_an_unfinished_job() {
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
async fn a_list_loses_all_expired_jobs() {
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

/// Creates five tenants with state that must be kept, and an idle one.
async fn create_tenants(stage: &Stage) {
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
    // Tenants with rate limits are removed from the list; their state stays until the rates have
    // recovered.
    let bound = [(tenant_id("bound"), TenantLimits::default())];
    stage.store().set_limits(&stage.shard, &lane, &bound).await.unwrap();
    stage.pass(Duration::from_millis(1));
    stage.assert_sound().await;
}

/// Lets the rates recover, and ends the pause.
async fn recover(stage: &Stage) {
    stage.pass(MINUTE);
    stage.store().pause(&stage.shard, Some(&tenant_id("paused")), false).await.unwrap();
    stage.assert_sound().await;
}

#[tokio::test]
async fn a_tenants_state_stays_while_needed() {
    let server = RedisServer::start();
    let stage = forgetting(&server).await;
    let kept = async || {
        let mut names: Vec<String> = server.ask(&["HKEYS", &key(&stage, "tenants")]).await;
        names.sort_unstable();
        names
    };
    create_tenants(&stage).await;
    assert_eq!(kept().await, ["", "ahead", "bound", "paused", "requests", "tokens"]);
    recover(&stage).await;
    assert_eq!(kept().await, ["", "ahead", "bound"]);
}

#[tokio::test]
async fn the_embedded_engine_keeps_the_same_tenants() {
    let clock = clock();
    let policy = Policy { retention: Duration::from_millis(1), ..Policy::default() };
    let store = Arc::new(Embedded::new(policy, clock.clone()));
    let stage = Stage::new(store.clone(), clock);
    create_tenants(&stage).await;
    let five =
        ["ahead", "bound", "paused", "requests", "tokens"].map(|name| format!("tenant:{name}"));
    assert_eq!(store.kept(&stage.shard), five);
    recover(&stage).await;
    assert_eq!(store.kept(&stage.shard), five[..2]);
}

#[tokio::test]
async fn the_embedded_engine_deletes_ended_jobs() {
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
