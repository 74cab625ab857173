//! Processes that crash, or resume when their leases have expired.

use serde_json::Value;

use crate::support::{process::Causeway, redis::RedisServer, soon, upstream::Upstream};

/// A lease that expires within a test.
const SHORT_LEASE: &[(&str, &str)] = &[("CAUSEWAY_LEASE", "1s")];

fn text(job: &Value) -> &str {
    let message = &job["response"]["body"]["choices"][0]["message"];
    message["content"].as_str().unwrap_or_else(|| panic!("no answer in {job:#}"))
}

#[tokio::test]
async fn a_killed_workers_job_runs_again() {
    let mut upstream = Upstream::held().await;
    let redis = RedisServer::start();
    let api = Causeway::api(&redis.url(), &[]).await;
    let client = api.client().await;
    let mut dying = Causeway::worker(&redis.url(), &upstream.url(), SHORT_LEASE).await;
    let id = client.submit_stream("a long story").await;
    let events = client.events(&id, None).await;
    let first = upstream.call().await;
    let _other = Causeway::worker(&redis.url(), &upstream.url(), SHORT_LEASE).await;
    dying.kill().await;
    first.left().await;
    let answer = upstream.call().await.stream();
    answer.say("told twice").await;
    answer.finish().await;
    let job = client.end_of(&id).await;
    assert_eq!((&job["status"], text(&job)), (&"succeeded".into(), "told twice"));
    assert_eq!(job["attempts"], 1, "a lost worker spends no attempt: {job:#}");
    assert_eq!(job["stalls"], 1);
    let ends = events.rest().await;
    let ends = ends.iter().filter(|event| event.kind == "job.succeeded").count();
    assert_eq!(ends, 1);
    assert_eq!(upstream.seen().len(), 2);
}

#[tokio::test]
async fn a_worker_that_resumes_late_changes_nothing() {
    let mut upstream = Upstream::held().await;
    let redis = RedisServer::start();
    let api = Causeway::api(&redis.url(), &[]).await;
    let client = api.client().await;
    let mut zombie = Causeway::worker(&redis.url(), &upstream.url(), SHORT_LEASE).await;
    let id = client.submit("a long story").await;
    let first = upstream.call().await;
    zombie.freeze();
    let _other = Causeway::worker(&redis.url(), &upstream.url(), SHORT_LEASE).await;
    let second = upstream.call().await;
    first.answer("too late");
    second.answer("in time");
    assert_eq!(text(&client.end_of(&id).await), "in time");
    zombie.thaw();
    // A worker that ends in order has settled all of its jobs.
    zombie.terminate();
    assert!(zombie.ended().await.success());
    let job = client.job(&id).await;
    assert_eq!((&job["status"], text(&job)), (&"succeeded".into(), "in time"));
}

#[tokio::test]
async fn a_job_outlives_its_api_process() {
    let mut upstream = Upstream::held().await;
    let redis = RedisServer::start();
    let mut dying = Causeway::api(&redis.url(), &[]).await;
    let _worker = Causeway::worker(&redis.url(), &upstream.url(), &[]).await;
    let client = dying.client().await;
    let id = client.submit("a long story").await;
    let call = upstream.call().await;
    let waiting = client.request(reqwest::Method::GET, &format!("/v1/jobs/{id}?wait=60"));
    let (waited, ()) = tokio::join!(client.try_ask(waiting), dying.kill());
    assert!(waited.is_err(), "the connection must break: {waited:?}");
    let next = Causeway::api(&redis.url(), &[]).await;
    let client = next.client().await;
    call.answer("the end");
    let job = soon("the answer", client.end_of(&id)).await;
    assert_eq!(text(&job), "the end");
    assert_eq!(upstream.seen().len(), 1);
}
