//! A store or an upstream that is unreachable.

use serde_json::json;

use crate::support::{
    eventually,
    http::chat,
    process::Causeway,
    proxy::Proxy,
    redis::{RedisServer, free_port},
    upstream::Upstream,
};

#[tokio::test]
async fn a_store_outage_accepts_no_job() {
    let upstream = Upstream::echo().await;
    let mut redis = RedisServer::start_with(&["--appendonly", "yes", "--appendfsync", "always"]);
    let api = Causeway::api(&redis.url(), &[]).await;
    let _worker = Causeway::worker(&redis.url(), &upstream.url(), &[]).await;
    let client = api.client().await;
    let before = client.submit("before").await;
    assert_eq!(client.end_of(&before).await["status"], "succeeded");

    redis.kill();
    let refused = client.post("/v1/jobs", &json!({ "body": chat("during") })).await;
    assert!(refused.headers.contains_key("retry-after"), "{:?}", refused.headers);
    let error = refused.error(503);
    let message = error["message"].as_str().expect("a message");
    assert!(!message.contains("redis://"), "clients need not know the store: {message}");
    client.get(&format!("/v1/jobs/{before}")).await.error(503);
    let warnings = api.text().matches("the store is not available").count();
    assert_eq!(warnings, 1, "an outage is logged once:\n{}", api.text());
    client.get("/readyz").await.with(503);
    client.get("/healthz").await.ok();

    redis.restart();
    eventually("readiness", async || client.get("/readyz").await.status.is_success().then_some(()))
        .await;
    let after = client.submit("after").await;
    assert_eq!(client.end_of(&after).await["status"], "succeeded");
    let listed = client.get("/v1/jobs").await.ok();
    let ids: Vec<_> =
        listed["data"].as_array().expect("jobs").iter().map(|job| &job["id"]).collect();
    assert_eq!(ids, [&json!(after), &json!(before)]);
}

#[tokio::test]
async fn a_call_survives_a_store_outage() {
    let mut upstream = Upstream::held().await;
    let redis = RedisServer::start();
    let proxy = Proxy::to(redis.port()).await;
    let api = Causeway::api(&redis.url(), &[]).await;
    let far = format!("redis://127.0.0.1:{}", proxy.port());
    let _worker = Causeway::worker(&far, &upstream.url(), &[]).await;
    let client = api.client().await;
    for said in ["first", "second"] {
        let id = client.submit(said).await;
        let mut call = upstream.call().await;
        match said {
            "first" => proxy.cut(),
            _ => proxy.silence(),
        }
        assert!(call.is_waiting(), "the {said} call is gone");
        call.answer("kept");
        proxy.restore();
        let job = client.end_of(&id).await;
        assert_eq!((&job["status"], &job["attempts"]), (&"succeeded".into(), &1.into()), "{said}");
    }
    assert_eq!(upstream.seen().len(), 2, "no call was made twice");
}

#[tokio::test]
async fn processes_follow_a_failover() {
    let upstream = Upstream::echo().await;
    let (former, new) = (RedisServer::start(), RedisServer::start());
    let proxy = Proxy::to(former.port()).await;
    let store = format!("redis://127.0.0.1:{}", proxy.port());
    let api = Causeway::api(&store, &[]).await;
    let _worker = Causeway::worker(&store, &upstream.url(), &[]).await;
    let client = api.client().await;
    let before = client.submit("before").await;
    client.end_of(&before).await;

    former.hand_over_to(&new).await;
    client.get("/readyz").await.with(503);
    client.post("/v1/jobs", &json!({ "body": chat("during") })).await.error(503);
    proxy.turn_to(new.port());
    eventually("readiness", async || client.get("/readyz").await.status.is_success().then_some(()))
        .await;
    let accepted = eventually("acceptance", async || {
        let reply = client.post("/v1/jobs", &json!({ "body": chat("after") })).await;
        reply.status.is_success().then(|| reply.id())
    });
    assert_eq!(client.end_of(&accepted.await).await["status"], "succeeded");
    assert_eq!(client.job(&before).await["status"], "succeeded");
}

#[tokio::test]
async fn an_idle_worker_survives_store_restarts() {
    let upstream = Upstream::echo().await;
    let mut redis = RedisServer::start();
    let api = Causeway::api(&redis.url(), &[]).await;
    let _worker = Causeway::worker(&redis.url(), &upstream.url(), &[]).await;
    let client = api.client().await;
    let first = client.submit("first").await;
    client.end_of(&first).await;
    for _ in 0..2 {
        redis.kill();
        redis.restart();
        let accepted = eventually("acceptance", async || {
            let reply = client.post("/v1/jobs", &json!({ "body": chat("again") })).await;
            reply.status.is_success().then(|| reply.id())
        });
        assert_eq!(client.end_of(&accepted.await).await["status"], "succeeded");
    }
}

#[tokio::test]
async fn jobs_wait_for_an_unreachable_upstream() {
    let nowhere = format!("http://127.0.0.1:{}", free_port());
    let up = Causeway::up(&format!("{nowhere}/v1"), &[("CAUSEWAY_RETRY_BASE", "1ms")]).await;
    let client = up.client().await;
    let job = json!({ "body": chat("hello"), "max_attempts": 1 });
    let id = client.post("/v1/jobs", &job).await.id();
    up.says("the lane cools down").await;
    let job = client.job(&id).await;
    assert_ne!(job["status"], "failed", "{job:#}");
    let error = &job["attempt_errors"][0];
    assert_eq!(error["code"], "upstream_unreachable", "{job:#}");
    assert_eq!(error["message"], format!("cannot connect to {nowhere}: connection refused"));
}

#[tokio::test]
async fn lost_limits_are_set_again() {
    let mut upstream = Upstream::held().await;
    let mut redis = RedisServer::start();
    let directory = tempfile::tempdir().expect("a directory");
    let file = directory.path().join("causeway.toml");
    std::fs::write(&file, "[[lane]]\nname = \"default\"\nmax_running = 1\n").expect("a file");
    let settings = [("CAUSEWAY_CONFIG", file.to_str().expect("a path"))];
    let api = Causeway::api(&redis.url(), &settings).await;
    let _worker = Causeway::worker(&redis.url(), &upstream.url(), &settings).await;
    redis.kill();
    redis.restart();
    api.says("they are set again").await;
    let client = api.client().await;
    let first = client.submit("first").await;
    let call = upstream.call().await;
    let second = client.submit("second").await;
    // The store lost the registry of workers, too: the worker registers again with its next
    // heartbeat.
    eventually("the cap", async || {
        (client.job(&second).await["waiting_for"] == "lane_cap").then_some(())
    })
    .await;
    call.answer("well");
    assert_eq!(client.end_of(&first).await["status"], "succeeded");
    upstream.call().await.answer("well");
    assert_eq!(client.end_of(&second).await["status"], "succeeded");
}
