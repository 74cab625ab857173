//! Webhook events, from the end of a job to a receiver that verifies them.

use reqwest::header::HeaderMap;
use serde_json::{Value, json};
use standardwebhooks::Webhook;

use crate::support::{
    eventually,
    http::{Client, chat},
    process::{Causeway, Settings},
    redis::RedisServer,
    upstream::{Call, Upstream},
};

const NEW: &str = "whsec_AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=";
const OLD: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";

/// Settings with two secrets, permitted loopback receivers, and a short retry schedule.
const SIGNED: Settings<'_> = &[
    ("NEW", NEW),
    ("OLD", OLD),
    ("CAUSEWAY_WEBHOOKS_SECRET_ENV", "NEW,OLD"),
    ("CAUSEWAY_WEBHOOKS_ALLOW", "127.0.0.0/8"),
    ("CAUSEWAY_WEBHOOKS_RETRY_BASE", "1ms"),
    ("CAUSEWAY_LEASE", "1s"),
];

/// Submits a job with a webhook event for `receiver`.
async fn submit(client: &Client, receiver: &Upstream) -> String {
    let job = json!({
        "body": chat("hello"), "metadata": { "order": "17" }, "webhook": { "url": receiver.url() },
    });
    client.post("/v1/jobs", &job).await.id()
}

/// Returns the event of `call`, which each of `secrets` must have signed.
#[track_caller]
fn verified(call: &Call, secrets: &[&str]) -> Value {
    let signatures = header(&call.headers, "webhook-signature");
    assert_eq!(signatures.split(' ').count(), secrets.len(), "{signatures}");
    for secret in secrets {
        let verifier = Webhook::new(secret).expect("a secret");
        verifier.verify(&call.raw, &call.headers).expect("a valid signature");
    }
    call.body.clone()
}

fn header<'a>(headers: &'a HeaderMap, name: &str) -> &'a str {
    headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_else(|| panic!("no {name}"))
}

/// Waits until the only delivery of this job is `status`; returns it.
async fn delivery(client: &Client, job: &str, status: &str) -> Value {
    let path = format!("/v1/webhooks/deliveries?job={job}");
    eventually(&format!("a delivery that is {status}"), async || {
        let listed = client.get(&path).await.ok();
        let found = listed["data"].as_array().expect("deliveries").clone();
        assert!(found.len() <= 1, "{found:#?}");
        found.into_iter().find(|one| one["status"] == status)
    })
    .await
}

#[tokio::test]
async fn an_event_is_signed_and_retried() {
    let upstream = Upstream::echo().await;
    let mut receiver = Upstream::held().await;
    let redis = RedisServer::start();
    let api = Causeway::api(&redis.url(), SIGNED).await;
    let _worker = Causeway::worker(&redis.url(), &upstream.url(), SIGNED).await;
    let client = api.client().await;
    let job = submit(&client, &receiver).await;

    let first = receiver.call().await;
    let event = verified(&first, &[NEW, OLD]);
    let id = header(&first.headers, "webhook-id").to_owned();
    assert_eq!((&event["id"], &event["object"]), (&json!(id), &json!("event")));
    assert_eq!(event["type"], "job.succeeded");
    let reported = &event["data"];
    assert_eq!((&reported["id"], &reported["status"]), (&json!(job), &json!("succeeded")));
    assert_eq!(reported["metadata"], json!({ "order": "17" }));
    assert_eq!(reported["usage"]["total_tokens"], 7);
    first.fail(500, "not now");

    let second = receiver.call().await;
    assert_eq!(header(&second.headers, "webhook-id"), id);
    assert_eq!(verified(&second, &[NEW, OLD]), event);
    second.answer("thanks");
    let done = delivery(&client, &job, "succeeded").await;
    assert_eq!((&done["attempts"], &done["event"]), (&json!(2), &json!(id)));
    assert_eq!(done["errors"][0]["message"], "the receiver answered 500");
    assert_eq!(done["response_status"], 200);
    assert!(!receiver.has_call());
    // The idempotency key of a delivery is short-lived: it does not stay for the life of the
    // delivery.
    let keys: Vec<String> = redis.ask(&["KEYS", "cw:{webhooks:0}:idem:*"]).await;
    assert_eq!(keys.len(), 1);
    eventually("a key that expires within a minute", async || {
        let left_ms: i64 = redis.ask(&["PTTL", &keys[0]]).await;
        (1..=60_000).contains(&left_ms).then_some(())
    })
    .await;

    // The deliveries of a job are not jobs of its tenant.
    let jobs = client.get("/v1/jobs").await.ok();
    assert_eq!(jobs["data"].as_array().map(Vec::len), Some(1));
}

#[tokio::test]
async fn an_event_survives_crashed_workers() {
    let upstream = Upstream::echo().await;
    let mut receiver = Upstream::held().await;
    let redis = RedisServer::start();
    let api = Causeway::api(&redis.url(), SIGNED).await;
    let client = api.client().await;
    // No worker runs that could deliver this event.
    let job = submit(&client, &receiver).await;
    client.post(&format!("/v1/jobs/{job}/cancel"), &json!({})).await.ok();

    let mut dying = Causeway::worker(&redis.url(), &upstream.url(), SIGNED).await;
    let first = receiver.call().await;
    assert_eq!(verified(&first, &[NEW, OLD])["type"], "job.cancelled");
    dying.kill().await;
    let id = header(&first.headers, "webhook-id").to_owned();
    drop(first);

    let _next = Causeway::worker(&redis.url(), &upstream.url(), SIGNED).await;
    let second = receiver.call().await;
    assert_eq!(header(&second.headers, "webhook-id"), id);
    second.answer("thanks");
    assert_eq!(delivery(&client, &job, "succeeded").await["attempts"], 1);
}

#[tokio::test]
async fn a_410_ends_deliveries_until_a_retry() {
    let upstream = Upstream::echo().await;
    let mut receiver = Upstream::held().await;
    let up = Causeway::up(&upstream.url(), SIGNED).await;
    let client = up.client().await;
    let job = submit(&client, &receiver).await;
    receiver.call().await.fail(410, "gone");
    let failed = delivery(&client, &job, "failed").await;
    assert_eq!((&failed["attempts"], &failed["response_status"]), (&json!(1), &json!(410)));

    let id = failed["id"].as_str().expect("an id");
    let again = client.post(&format!("/v1/webhooks/deliveries/{id}/retry"), &json!({})).await;
    assert_eq!(again.with(202)["id"], id);
    receiver.call().await.answer("back");
    delivery(&client, &job, "succeeded").await;
}

#[tokio::test]
async fn deliveries_and_calls_run_independently() {
    let mut upstream = Upstream::held().await;
    let mut receiver = Upstream::held().await;
    let one_each = [("CAUSEWAY_CONCURRENCY", "1"), ("CAUSEWAY_WEBHOOKS_CONCURRENCY", "1")];
    let up = Causeway::up(&upstream.url(), &[SIGNED, &one_each].concat()).await;
    let client = up.client().await;
    submit(&client, &receiver).await;
    upstream.call().await.answer("first");
    let slow_receiver = receiver.call().await;

    let second = submit(&client, &receiver).await;
    upstream.call().await.answer("second");
    assert_eq!(client.end_of(&second).await["status"], "succeeded");

    submit(&client, &receiver).await;
    let slow_model = upstream.call().await;
    slow_receiver.answer("thanks");
    let event = receiver.call().await;
    assert_eq!(event.body["data"]["id"], second);
    event.answer("thanks");
    slow_model.answer("third");
    receiver.call().await.answer("thanks");
}

#[tokio::test]
async fn a_redirect_is_not_followed() {
    let upstream = Upstream::echo().await;
    let mut receiver = Upstream::held().await;
    let up = Causeway::up(&upstream.url(), SIGNED).await;
    let client = up.client().await;
    let job = submit(&client, &receiver).await;
    receiver.call().await.redirect(&receiver.url());
    let again = receiver.call().await;
    verified(&again, &[NEW, OLD]);
    again.answer("thanks");
    let done = delivery(&client, &job, "succeeded").await;
    assert_eq!(done["attempts"], 2, "the redirect is a failed attempt: {done:#}");
    assert_eq!(done["errors"][0]["status_code"], 307);
}

#[tokio::test]
async fn loopback_receivers_need_permission() {
    let upstream = Upstream::echo().await;
    let receiver = Upstream::held().await;
    let redis = RedisServer::start();
    let strict = &[("OLD", OLD), ("CAUSEWAY_WEBHOOKS_SECRET_ENV", "OLD")];
    let job = json!({ "body": chat("hello"), "webhook": { "url": receiver.url() } });

    let careful = Causeway::api(&redis.url(), strict).await;
    let refused = careful.client().await.post("/v1/jobs", &job).await.error(400);
    assert_eq!(refused["param"], "webhook.url");

    // A permissive API does not override a strict worker.
    let lax = Causeway::api(&redis.url(), SIGNED).await;
    let _worker = Causeway::worker(&redis.url(), &upstream.url(), strict).await;
    let client = lax.client().await;
    let id = submit(&client, &receiver).await;
    let kept = delivery(&client, &id, "scheduled").await;
    let message = kept["errors"][0]["message"].as_str().expect("a message");
    assert!(message.contains("127.0.0.1 is no public address"), "{message}");
    assert!(!receiver.has_call());

    let unsigned = Causeway::up(&upstream.url(), &[]).await;
    let refused = unsigned.client().await.post("/v1/jobs", &job).await.error(400);
    assert_eq!(refused["param"], "webhook.url");
}

#[tokio::test]
async fn a_new_secret_fits_receivers() {
    let made = Causeway::command(&["webhook", "secret"], &[]).await;
    let secret = made.lines().find(|line| line.starts_with("whsec_")).expect("a secret");
    Webhook::new(secret).expect("receivers take it");
    let receiver = Upstream::held().await;
    let settings = &[("S", secret), ("CAUSEWAY_WEBHOOKS_SECRET_ENV", "S")];
    let up = Causeway::up(&receiver.url(), settings).await;
    assert!(!up.text().contains(secret), "a secret was shown");
}
