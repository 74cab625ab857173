//! Orderly stops: running calls are finished, and unfinished jobs are handed back.

use std::time::Duration;

use reqwest::Method;
use tokio::time::Instant;

use crate::support::{
    eventually,
    http::{Client, chat},
    process::Causeway,
    redis::RedisServer,
    upstream::Upstream,
};

/// The log line after the first signal.
const STOPPING: &str = "stopping:";

#[tokio::test]
async fn a_draining_worker_claims_no_job() {
    let mut upstream = Upstream::held().await;
    let redis = RedisServer::start();
    let api = Causeway::api(&redis.url(), &[]).await;
    let client = api.client().await;
    let mut worker = Causeway::worker(&redis.url(), &upstream.url(), &[]).await;
    let id = client.submit("first").await;
    let call = upstream.call().await;
    worker.terminate();
    worker.says(STOPPING).await;
    let later = client.submit("second").await;
    call.answer("finished");
    assert!(worker.ended().await.success());
    let job = client.job(&id).await;
    assert_eq!((&job["status"], &job["attempts"]), (&"succeeded".into(), &1.into()));
    assert!(!upstream.has_call());
    assert_eq!(client.job(&later).await["status"], "queued");
}

#[tokio::test]
async fn an_unfinished_job_is_handed_back_unspent() {
    let mut upstream = Upstream::held().await;
    let redis = RedisServer::start();
    let api = Causeway::api(&redis.url(), &[]).await;
    let client = api.client().await;
    let settings = &[("CAUSEWAY_DRAIN", "100ms")];
    let mut worker = Causeway::worker(&redis.url(), &upstream.url(), settings).await;
    let id = client.submit("a long story").await;
    let call = upstream.call().await;
    worker.terminate();
    assert!(worker.ended().await.success());
    call.left().await;
    let job = client.job(&id).await;
    assert_eq!((&job["status"], &job["attempts"]), (&"queued".into(), &0.into()), "{job:#}");
    let _next = Causeway::worker(&redis.url(), &upstream.url(), &[]).await;
    upstream.call().await.answer("finished");
    let job = client.end_of(&id).await;
    assert_eq!((&job["status"], &job["attempts"]), (&"succeeded".into(), &1.into()));
}

#[tokio::test]
async fn a_second_signal_ends_at_once() {
    let mut upstream = Upstream::held().await;
    let redis = RedisServer::start();
    let api = Causeway::api(&redis.url(), &[]).await;
    let client = api.client().await;
    let settings = &[("CAUSEWAY_DRAIN", "1h"), ("CAUSEWAY_LEASE", "1s")];
    let mut worker = Causeway::worker(&redis.url(), &upstream.url(), settings).await;
    let id = client.submit("a long story").await;
    let call = upstream.call().await;
    worker.terminate();
    worker.says(STOPPING).await;
    worker.terminate();
    worker.ended().await;
    call.left().await;
    let _next = Causeway::worker(&redis.url(), &upstream.url(), &[]).await;
    upstream.call().await.answer("finished");
    assert_eq!(client.end_of(&id).await["status"], "succeeded");
}

#[tokio::test]
async fn a_draining_process_answers_waiting_users() {
    let mut upstream = Upstream::held().await;
    let mut up = Causeway::up(&upstream.url(), &[]).await;
    let client = up.client().await;
    let stop = async {
        let call = upstream.call().await;
        up.terminate();
        up.says(STOPPING).await;
        call.answer("finished");
        assert!(up.ended().await.success());
    };
    let (reply, ()) = tokio::join!(client.chat("ann", "hello"), stop);
    assert_eq!(reply.ok()["response"], "finished");
}

#[tokio::test]
async fn a_draining_api_finishes_its_calls() {
    let mut upstream = Upstream::held().await;
    let redis = RedisServer::start();
    let settings = &[("CAUSEWAY_API_DRAIN_PAUSE", "100ms")];
    let mut api = Causeway::api(&redis.url(), settings).await;
    let client = api.client().await;
    let _worker = Causeway::worker(&redis.url(), &upstream.url(), &[]).await;
    let stop = async {
        let call = upstream.call().await;
        api.terminate();
        eventually("that new connections are refused", async || {
            Client::new(client.base()).try_ask(client.request(Method::GET, "/readyz")).await.err()
        })
        .await;
        call.answer("finished");
        assert!(api.ended().await.success());
    };
    let hello = chat("hello");
    let (reply, ()) = tokio::join!(client.post("/v1/chat/completions", &hello), stop);
    assert_eq!(reply.ok()["choices"][0]["message"]["content"], "finished");
}

#[tokio::test]
async fn an_api_drains_for_a_limited_time() {
    let mut upstream = Upstream::held().await;
    let redis = RedisServer::start();
    let settings = &[("CAUSEWAY_API_DRAIN_PAUSE", "0s"), ("CAUSEWAY_DRAIN", "300ms")];
    let mut api = Causeway::api(&redis.url(), settings).await;
    let client = api.client().await;
    let _worker = Causeway::worker(&redis.url(), &upstream.url(), &[]).await;
    let stop = async {
        let call = upstream.call().await;
        api.terminate();
        assert!(api.ended().await.success());
        call
    };
    let hello = chat("hello");
    let (reply, call) = tokio::join!(client.post("/v1/chat/completions", &hello), stop);
    let id = reply.headers["x-causeway-job-id"].to_str().expect("an id").to_owned();
    let error = reply.error(503);
    assert_eq!(error["code"], "draining");
    assert!(error["message"].as_str().expect("a text").contains("continues, poll"), "{error}");
    let next = Causeway::api(&redis.url(), &[]).await;
    call.answer("too late");
    assert_eq!(next.client().await.end_of(&id).await["status"], "succeeded");
}

#[tokio::test]
async fn an_idle_process_stops_at_once() {
    let mut upstream = Upstream::held().await;
    let redis = RedisServer::start();
    let api = Causeway::api(&redis.url(), &[("CAUSEWAY_API_DRAIN_PAUSE", "0s")]).await;
    let worker = Causeway::worker(&redis.url(), &upstream.url(), &[]).await;
    let up = Causeway::up(&upstream.url(), &[]).await;
    for (client, mut process) in [(api.client().await, worker), (up.client().await, up)] {
        let id = client.submit("first").await;
        upstream.call().await.answer("finished");
        assert_eq!(client.end_of(&id).await["status"], "succeeded");
        let asked = Instant::now();
        process.terminate();
        assert!(process.ended().await.success());
        let took = asked.elapsed();
        // A single wait of an idle worker for work is longer than this.
        assert!(took < Duration::from_secs(1), "{took:?}");
    }
}
