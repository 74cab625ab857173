//! A simulated answer is always marked as one.

use reqwest::Method;
use serde_json::{Value, json};

use crate::support::{
    http::{Client, Reply, chat},
    process::Causeway,
    redis::RedisServer,
    system::{Store, System},
    upstream::Upstream,
};

crate::on_both_stores! {
    a_real_answer_has_no_mark;
}

const FAST: (&str, &str) = ("CAUSEWAY_SIMULATED_CALL", "1ms");

fn mark(reply: &Reply) -> Option<&str> {
    reply.headers.get("x-causeway-simulated").map(|value| value.to_str().expect("a text"))
}

/// Calls every endpoint that returns answers; returns the mark of each, and the mark in the job.
async fn marks(client: &Client) -> (Vec<Option<String>>, Value) {
    let mut marks = Vec::new();
    let mut keep = |reply: &Reply| marks.push(mark(reply).map(str::to_owned));
    let streamed = json!({ "model": "m", "messages": [], "stream": true });
    for body in [chat("hi"), streamed] {
        keep(&client.post("/v1/chat/completions", &body).await);
    }
    let response = json!({ "model": "m", "input": "hi", "stream": true });
    let streamed = client.post("/v1/responses", &response).await;
    let job = streamed.headers["x-causeway-job-id"].to_str().expect("a text");
    let path = format!("/v1/responses/{}", job.replacen("job_", "resp_", 1));
    keep(&streamed);
    keep(&client.get(&path).await);
    keep(&client.get(&format!("{path}?stream=true")).await);
    keep(&client.chat("ann", "hi").await);
    let waiting = client.request(Method::POST, "/v1/jobs").header("prefer", "wait=20");
    keep(&client.ask(waiting.json(&json!({ "body": chat("hi") }))).await);
    let id = client.submit_stream("hi").await;
    let job = client.end_of(&id).await;
    for path in ["", "/events", "/result"] {
        keep(&client.get(&format!("/v1/jobs/{id}{path}")).await);
    }
    (marks, job["simulated"].clone())
}

fn all_marked() -> (Vec<Option<String>>, Value) {
    (vec![Some("true".to_owned()); 10], json!(true))
}

async fn a_real_answer_has_no_mark(store: Store) {
    let upstream = Upstream::echo().await;
    let system = System::start(store, &upstream, &[]).await;
    let client = system.client();
    let reply = client.post("/v1/chat/completions", &chat("hi")).await;
    assert_eq!(mark(&reply), None);
    let job = client.end_of(&client.submit("hi").await).await;
    assert_eq!(job["simulated"], false);
    let id = job["id"].as_str().expect("an id");
    assert_eq!(mark(&client.get(&format!("/v1/jobs/{id}/events")).await), None);
}

#[tokio::test]
async fn every_simulated_answer_is_marked() {
    let up = Causeway::start(&["up", "--bind", "127.0.0.1:0"], &[FAST]).await;
    assert_eq!(marks(&up.client().await).await, all_marked());

    let redis = RedisServer::start();
    let api = Causeway::api(&redis.url(), &[]).await;
    let worker = ["worker", "--redis", &redis.url(), "--simulate"];
    let _worker = Causeway::start(&worker, &[FAST]).await;
    assert_eq!(marks(&api.client().await).await, all_marked());
}

#[tokio::test]
async fn a_simulated_upstreams_mark_is_kept() {
    let simulate = ["simulate", "--port", "0", "--call", "1ms"];
    let mut server = Causeway::launch(&simulate, &[]);
    let url = server.url().await;
    let simulated = Client::new(url.trim_end_matches("/v1"));
    let request = simulated.request(Method::POST, "/v1/chat/completions").json(&chat("hi"));
    assert_eq!(mark(&simulated.ask(request).await), Some("true"));
    let up = Causeway::up(&url, &[]).await;
    assert_eq!(marks(&up.client().await).await, all_marked());
    server.kill().await;
}
