//! Lanes, and operations of administrators.

use std::{collections::HashMap, time::Duration};

use causeway_queue::{
    Class, LaneName, Outcome, Spec, Status, TenantId,
    backend::ListQuery,
    limits::{LaneLimits, TenantLimits},
};
use serde_json::{Value, json};

use super::{Api, ann_and_bob, post, signed, tenant};
use crate::{Settings, Tenant, Tenants};

#[tokio::test]
async fn a_lane_is_paused_and_resumed() {
    let api = Api::new();
    let id = api.post("/v1/jobs", &json!({ "body": {} })).await.id();
    let paused = api.ask(post("/v1/lanes/default/pause", "")).await;
    assert_eq!((paused.status.as_u16(), &paused.body["paused"]), (200, &json!(true)));
    assert_eq!(api.get(&format!("/v1/jobs/{id}")).await.body["waiting_for"], "paused");
    assert_eq!(api.get("/v1/lanes").await.body["data"][0]["queued"], 1);
    api.ask(post("/v1/lanes/default/resume", "{}")).await;
    let job = api.get(&format!("/v1/jobs/{id}")).await;
    assert_eq!(job.body["waiting_for"], "turn");
    api.post("/v1/lanes/default/pause", &json!({ "tenant": "default" })).await;
    assert_eq!(api.get(&format!("/v1/jobs/{id}")).await.body["waiting_for"], "paused");

    let missing = api.ask(post("/v1/lanes/gpu/pause", "")).await;
    assert!(missing.refused(404, "lane_not_found").contains("default"));
    let wrong = api.post("/v1/lanes/default/pause", &json!({ "tenant": "a b" })).await;
    assert!(wrong.refused(400, "invalid_value").contains("tenant"));
}

/// serde alone would accept an array as the fields of a struct.
#[tokio::test]
async fn an_array_pauses_nothing() {
    let api = Api::new();
    for (body, what) in [("[]", "an array"), (r#"["default"]"#, "an array"), ("null", "null")] {
        let answer = api.ask(post("/v1/lanes/default/pause", body)).await;
        let message = answer.refused(400, "invalid_value");
        assert!(message.contains(&format!("it is {what}, expected an object")), "{message}");
    }
    assert_eq!(api.get("/v1/lanes").await.body["data"][0]["paused"], false);
    assert_eq!(api.get("/v1/queue").await.body["lanes"][0]["paused"], false);
}

#[tokio::test]
async fn a_tenant_sees_limits_and_estimated_wait() {
    let api = Api::new();
    let lane = LaneLimits { requests_per_minute: Some(6000), ..LaneLimits::default() };
    let own = TenantLimits { max_running: Some(1), max_queued: Some(9), ..TenantLimits::default() };
    let lanes = HashMap::from([(LaneName::default_lane(), lane)]);
    api.queue.set_limits(lanes, &[(TenantId::default_tenant(), own)]).await.unwrap();
    for _ in 0..8 {
        api.post("/v1/jobs", &json!({ "body": {} })).await.id();
    }
    let lane = async || api.get("/v1/queue").await.body["lanes"][0].clone();
    assert_eq!(lane().await["estimated_wait_ms"], Value::Null);
    for _ in 0..4 {
        let lease = api.claim().await;
        api.clock.advance(Duration::from_secs(1));
        api.answer(lease, "fine").await;
    }
    let lane = lane().await;
    assert_eq!((&lane["queued"], &lane["estimated_wait_ms"]), (&json!(4), &json!(4000)));
    assert_eq!(lane["oldest_wait_ms"], 4000);
    assert_eq!(
        (&lane["limits"]["max_queued"], &lane["limits"]["max_running"]),
        (&json!(1_000_000), &Value::Null)
    );
    let own = json!({
        "max_queued": 9, "max_running": 1, "requests_per_minute": null, "tokens_per_minute": null, "weight": 1,
    });
    assert_eq!(lane["tenant_limits"], own);
    let all = &api.get("/v1/lanes").await.body["data"][0];
    assert_eq!((&all["tenant_limits"], &all["estimated_wait_ms"]), (&Value::Null, &Value::Null));
}

#[tokio::test]
async fn an_unknown_tenant_cannot_be_paused() {
    let boss = Tenant { admin: true, ..tenant("boss") };
    let open = Api::new();
    let closed = Api::with(Settings::default(), Tenants::new(vec![tenant("ann"), boss]));
    for (api, known) in [(&open, "default"), (&closed, "ann, boss")] {
        let ask = async |action: &str, whose: &str| {
            let body = json!({ "tenant": whose }).to_string();
            let path = format!("/v1/lanes/default/{action}");
            api.ask(signed(post(&path, &body), "key-of-boss")).await
        };
        for action in ["pause", "resume"] {
            let refused = ask(action, "old").await;
            let message = refused.refused(404, "tenant_not_found");
            assert_eq!(message, format!("there is no tenant old; there is {known}"));
        }
        // A revoked tenant may still have jobs.
        let old = TenantId::new("old").unwrap();
        let job = api.queue.draft(old, Spec::default(), "{}".into(), None);
        api.queue.submit(vec![job]).await.unwrap();
        assert_eq!(ask("pause", "old").await.ok(200)["paused"], true);
        assert_eq!(ask("resume", "old").await.ok(200)["paused"], false);
    }
    let body = json!({ "tenant": "default" }).to_string();
    let path = "/v1/lanes/default/pause";
    let foreign = closed.ask(signed(post(path, &body), "key-of-boss")).await;
    foreign.refused(404, "tenant_not_found");
}

#[tokio::test]
async fn lanes_are_for_administrators() {
    let api = Api::with(Settings::default(), ann_and_bob());
    for path in ["/v1/lanes/default/pause", "/v1/lanes/default/resume"] {
        api.ask(post(path, "")).await.refused(401, "invalid_api_key");
        let answer = api.ask(signed(post(path, ""), "key-of-ann")).await;
        assert!(answer.refused(403, "not_an_admin").contains("ann"));
    }
}

#[tokio::test]
async fn dead_jobs_are_retried_by_filter() {
    let api = Api::new();
    for class in ["standard", "batch", "batch"] {
        api.post("/v1/jobs", &json!({ "body": {}, "class": class, "max_attempts": 1 })).await.id();
        let lease = api.claim().await;
        api.settle(lease, Outcome::Failed { output: causeway_queue::job::Output::default() }).await;
    }
    let refused = api.ask(post("/v1/jobs/retry", "")).await;
    assert!(refused.refused(400, "invalid_value").contains("failed"));
    api.ask(post("/v1/jobs/retry?status=queued", "")).await.refused(400, "invalid_value");
    let back = api.ask(post("/v1/jobs/retry?status=failed&class=batch", "")).await;
    assert_eq!(back.status.as_u16(), 202);
    assert_eq!(back.body["data"].as_array().unwrap().len(), 2);
    assert!(back.body["data"].as_array().unwrap().iter().all(|job| job["status"] == "queued"));
    let tenant = TenantId::default_tenant();
    let failed = ListQuery { status: Some(Status::Failed), limit: 10, ..ListQuery::default() };
    let failed = api.queue.list(&tenant, &failed).await.unwrap();
    assert_eq!(failed.jobs.iter().map(|job| job.class).collect::<Vec<_>>(), [Class::Standard]);
}
