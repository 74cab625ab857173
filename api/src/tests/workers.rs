//! The listing of workers, and the effect of missing ones.

use std::time::Duration;

use causeway_queue::{
    Fault, Outcome,
    job::{AttemptError, Output},
};
use serde_json::{Value, json};

use super::{Api, signed, tenant};
use crate::{Settings, Tenant, Tenants};

fn alone() -> Api {
    Api::without_worker(Settings::default(), Tenants::open())
}

#[tokio::test]
async fn a_missing_worker_is_reported_everywhere() {
    let api = alone();
    let id = api.post("/v1/jobs", &json!({ "body": {} })).await.id();
    let path = format!("/v1/jobs/{id}");
    let reasons = async || {
        let job = api.get(&path).await.body["waiting_for"].clone();
        let listed = api.get("/v1/jobs").await.body["data"][0]["waiting_for"].clone();
        let own = api.get("/v1/queue").await.body["lanes"][0].clone();
        let lane = api.get("/v1/lanes").await.body["data"][0].clone();
        assert_eq!(own["workers"], lane["workers"]);
        let workers = own["workers"].as_u64();
        ([job, listed, own["waiting_for"].clone(), lane["waiting_for"].clone()], workers)
    };
    assert_eq!(reasons().await, (["no_worker"; 4].map(Value::from), Some(0)));
    let id = api.start_worker();
    assert_eq!(reasons().await, (["turn"; 4].map(Value::from), Some(1)));
    api.queue.registry().remove_worker(&id).await.unwrap();
    // A view of the registry is cached for up to a second.
    tokio::time::pause();
    tokio::time::advance(Duration::from_secs(1)).await;
    assert_eq!(reasons().await, (["no_worker"; 4].map(Value::from), Some(0)));
}

#[tokio::test]
async fn a_process_without_worker_is_ready() {
    let api = alone();
    for path in ["/readyz", "/bridge/health"] {
        let ready = api.get(path).await;
        let body = ready.ok(200);
        assert_eq!((&body["status"], &body["workers"]), (&json!("ok"), &json!(0)), "{path}");
        let warning = body["warning"].as_str().unwrap();
        assert!(warning.contains("no live worker serves default: jobs are accepted"), "{warning}");
    }
    api.start_worker();
    for path in ["/readyz", "/bridge/health"] {
        let ready = api.get(path).await;
        let body = ready.ok(200);
        assert_eq!((&body["workers"], body.get("warning")), (&json!(1), None), "{path}");
    }
}

#[tokio::test]
async fn workers_are_listed_with_their_last_report() {
    let api = alone();
    assert_eq!(api.get("/v1/workers").await.ok(200), &json!({ "data": [], "object": "list" }));
    let id = api.start_worker();
    api.clock.advance(Duration::from_secs(7));
    let answer = api.get("/v1/workers").await;
    let wanted = json!({
        "id": id.as_str(), "object": "worker", "name": "test", "status": "lost", "version": "",
        "lanes": ["default"], "concurrency": 8, "running": 0, "deliveries": 0,
        "last_beat_at": "1970-01-01T00:16:40.000Z", "silent_for_ms": 7000,
    });
    assert_eq!(answer.ok(200)["data"], json!([wanted]));
}

#[tokio::test]
async fn workers_are_for_administrators() {
    let boss = Tenant { admin: true, ..tenant("boss") };
    let api = Api::with(Settings::default(), Tenants::new(vec![tenant("ann"), boss]));
    let get = || axum::http::Request::get("/v1/workers").body(axum::body::Body::empty()).unwrap();
    api.ask(get()).await.refused(401, "invalid_api_key");
    api.ask(signed(get(), "key-of-ann")).await.refused(403, "not_an_admin");
    api.ask(signed(get(), "key-of-boss")).await.ok(200);
}

#[tokio::test]
async fn a_wait_has_its_details() {
    let api = Api::new();
    api.post("/v1/jobs", &json!({ "body": {} })).await.id();
    let second = api.post("/v1/jobs", &json!({ "body": {} })).await.id();
    let error = AttemptError {
        attempt: 1,
        code: "upstream_rate_limited".to_owned(),
        message: "429 from http://127.0.0.1:9101".to_owned(),
        status_code: Some(429),
    };
    let fail = async |fault: Fault| {
        let lease = api.claim().await;
        let (delay, output, error) = (Duration::ZERO, Output::default(), error.clone());
        api.settle(lease, Outcome::Faulted { fault, delay, unit: 0.0, output, error }).await;
    };
    let seen = async |path: &str, pointer: &str| {
        let body = api.get(path).await.body;
        let found = body.pointer(pointer).unwrap();
        (found["waiting_for"].clone(), found["waiting_details"].clone())
    };
    let path = format!("/v1/jobs/{second}");
    fail(Fault::Rate(Duration::from_secs(2))).await;
    let details = json!({ "since": null, "until": "1970-01-01T00:16:42.000Z", "message": null });
    let refused = (json!("upstream_rate"), details);
    assert_eq!(seen(&path, "").await, refused);
    assert_eq!(seen("/v1/queue", "/lanes/0").await, refused);

    api.clock.advance(Duration::from_secs(2));
    fail(Fault::Certain).await;
    let (reason, details) = seen(&path, "").await;
    assert_eq!((reason, &details["message"]), (json!("upstream_down"), &json!(error.message)));
    assert_eq!(details["since"], "1970-01-01T00:16:42.000Z");
    // The next start of a blocked job is unknown: the next probe may succeed or fail.
    for job in api.get("/v1/jobs").await.body["data"].as_array().unwrap() {
        assert_eq!(job["scheduled_for"], json!(null), "{job:#}");
    }
    assert_eq!(seen("/v1/lanes", "/data/0").await, (json!("upstream_down"), details));

    let delayed = api.post("/v1/jobs", &json!({ "body": {}, "delay_ms": 1000 })).await.id();
    let (reason, details) = seen(&format!("/v1/jobs/{delayed}"), "").await;
    let until = &details["until"];
    assert_eq!((reason, until), (json!("schedule"), &json!("1970-01-01T00:16:43.000Z")));
    let job = api.get(&format!("/v1/jobs/{delayed}")).await.body;
    assert_eq!(job["scheduled_for"], *until);
}
