//! A webhook receiver that never answers, beside one that does.

use std::time::Duration;

use jiff::Timestamp;
use serde_json::{Value, json};

use super::tenants::{new_key, tenants};
use crate::support::{
    http::{Client, chat},
    process::{Causeway, Settings},
    redis::RedisServer,
    upstream::Upstream,
};

const SIGNED: Settings<'_> = &[
    ("SECRET", "whsec_AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8="),
    ("CAUSEWAY_WEBHOOKS_SECRET_ENV", "SECRET"),
    ("CAUSEWAY_WEBHOOKS_ALLOW", "127.0.0.0/8"),
];

/// The number of measured events, and the number of concurrent ones.
const MEASURED: (usize, usize) = (200, 10);

/// Returns the number of events that wait for the silent receiver: `CAUSEWAY_ENDS`, or 1,000.
fn waiting_events() -> usize {
    let given = option_env("CAUSEWAY_ENDS");
    given.map_or(1000, |text| text.parse().expect("CAUSEWAY_ENDS is a number"))
}

#[expect(clippy::disallowed_methods, reason = "a test's own size, not configuration")]
fn option_env(name: &str) -> Option<String> {
    std::env::var(name).ok()
}

/// Submits jobs with webhook events for `receiver`; returns the id of the last job.
async fn submit(client: &Client, receiver: &Upstream, count: usize) -> String {
    let job = json!({ "body": chat("hello"), "webhook": { "url": receiver.url() } });
    let jobs: Vec<&Value> = std::iter::repeat_n(&job, count).collect();
    let accepted = client.post("/v1/jobs", &json!({ "jobs": jobs })).await.with(202);
    accepted["data"][count - 1]["id"].as_str().expect("an id").to_owned()
}

/// Waits until the last of many jobs has ended, without a limit.
async fn ended(client: &Client, last: &str) {
    while client.get(&format!("/v1/jobs/{last}?wait=20")).await.ok()["finished_at"].is_null() {}
}

/// Answers `count` events; returns the time from the end of each job to its event.
async fn delays(receiver: &mut Upstream, count: usize) -> Vec<Duration> {
    let mut delays = Vec::new();
    for _ in 0..count {
        let call = receiver.call().await;
        let ended: Timestamp =
            call.body["timestamp"].as_str().expect("a time").parse().expect("a time");
        delays.push(Duration::try_from(Timestamp::now().duration_since(ended)).unwrap_or_default());
        call.answer("thanks");
    }
    delays
}

/// Starts a Causeway with the tenants ann and bob; returns a client of each.
async fn two_tenants(arguments: &[&str], upstream: &Upstream) -> (Causeway, [Client; 2]) {
    let directory = tempfile::tempdir().expect("a directory");
    let file = directory.path().join("causeway.toml");
    let [(ann, ann_line), (bob, bob_line)] = [new_key().await, new_key().await];
    tenants(&file, &[("ann", &ann_line), ("bob", &bob_line)]);
    let file = file.to_str().expect("a path");
    let url = upstream.url();
    let fixed = ["up", "--bind", "127.0.0.1:0", "--upstream", &url, "--config", file];
    let up = Causeway::start(&[&fixed, arguments].concat(), SIGNED).await;
    let client = up.client().await;
    (up, [&ann, &bob].map(|key| client.with_key(key)))
}

async fn a_dead_receiver_delays_its_tenant_only(arguments: &[&str]) {
    let (upstream, dead) = (Upstream::echo().await, Upstream::held().await);
    let mut alive = Upstream::held().await;
    let (_up, [ann, bob]) = two_tenants(arguments, &upstream).await;
    let waiting_events = waiting_events();
    let last = submit(&ann, &dead, waiting_events).await;
    ended(&ann, &last).await;
    let ((all, at_once), mut took) = (MEASURED, Vec::new());
    for _ in 0..all / at_once {
        submit(&bob, &alive, at_once).await;
        took.extend(delays(&mut alive, at_once).await);
    }
    took.sort_unstable();
    let [median, p99, worst] = [all / 2, all * 99 / 100 - 1, all - 1].map(|n| took[n]);
    println!(
        "{waiting_events} events wait for a dead receiver; others: {median:?}, p99 {p99:?}, worst {worst:?}"
    );
    assert!(p99 < Duration::from_secs(2), "{took:?}");
}

#[tokio::test]
async fn embedded_a_dead_receiver_delays_its_tenant() {
    a_dead_receiver_delays_its_tenant_only(&[]).await;
}

#[tokio::test]
async fn on_redis_a_dead_receiver_delays_its_tenant() {
    let redis = RedisServer::start();
    a_dead_receiver_delays_its_tenant_only(&["--redis", &redis.url()]).await;
}

#[tokio::test]
async fn a_dead_receiver_leaves_its_tenant_room() {
    let (upstream, dead) = (Upstream::echo().await, Upstream::held().await);
    let mut alive = Upstream::held().await;
    let up = Causeway::up(&upstream.url(), SIGNED).await;
    let client = up.client().await;
    let last = submit(&client, &dead, 300).await;
    ended(&client, &last).await;
    submit(&client, &alive, 10).await;
    let took = delays(&mut alive, 10).await;
    println!("others of the tenant: {took:?}");
    assert!(took[9] < Duration::from_secs(10), "{took:?}");
}
