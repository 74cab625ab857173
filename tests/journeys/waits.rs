//! Callers of every kind that wait during a restart of their store.

use reqwest::Method;
use serde_json::json;
use tokio::task::JoinSet;

use crate::support::{
    http::{Client, chat},
    process::Causeway,
    redis::RedisServer,
    upstream::{Call, Upstream},
};

/// The number of waiting callers of each kind: 504 in all.
const EACH: usize = 84;

/// The log message of an API process 1.5 s after the loss of its store.
const AWAY: &str = "pause_ms=1600";

const LOGS: (&str, &str) = ("CAUSEWAY_LOG_FILTER", "info,causeway_redis=debug");

/// The kind of a waiting caller.
#[derive(Debug, Clone, Copy)]
enum Kind {
    /// A call of an SDK.
    Sdk,
    /// A call of an SDK that streams.
    Stream,
    /// A submission with `Prefer: wait`.
    Prefer,
    /// A submission with a wait that ends while the store is away.
    Brief,
    /// `GET /v1/jobs/{id}?wait`.
    Poll,
    /// A message to the bridge.
    Bridge,
}

const KINDS: [Kind; 6] =
    [Kind::Sdk, Kind::Stream, Kind::Prefer, Kind::Brief, Kind::Poll, Kind::Bridge];

/// Waits as a caller of this kind does, and checks the answer.
async fn wait(client: Client, kind: Kind, user: usize) {
    let submit = || client.request(Method::POST, "/v1/jobs").json(&json!({ "body": chat("hi") }));
    match kind {
        Kind::Sdk => {
            let reply = client.post("/v1/chat/completions", &chat("hi")).await.ok();
            assert_eq!(reply["choices"][0]["message"]["content"], "there");
        }
        Kind::Stream => {
            let mut body = chat("hi");
            body["stream"] = true.into();
            let stream = client.post("/v1/chat/completions", &body).await.ok();
            let stream = stream.as_str().expect("events");
            assert!(stream.contains("there") && stream.ends_with("data: [DONE]\n\n"), "{stream}");
        }
        Kind::Prefer => {
            let job = client.ask(submit().header("prefer", "wait=60")).await.ok();
            assert_eq!(job["status"], "succeeded");
        }
        Kind::Brief => {
            let reply = client.ask(submit().header("prefer", "wait=1")).await;
            assert!(reply.status.is_success(), "{reply:?}");
            assert_eq!(
                reply.headers["x-causeway-job-id"],
                reply.body["id"].as_str().expect("an id")
            );
        }
        Kind::Poll => {
            let id = client.submit("hi").await;
            let job = client.get(&format!("/v1/jobs/{id}?wait=60")).await.ok();
            assert_eq!(job["status"], "succeeded");
        }
        Kind::Bridge => {
            let reply = client.chat(&format!("user {user}"), "hi").await.ok();
            assert_eq!(reply["response"], "there");
        }
    }
}

async fn answer(calls: Vec<Call>) {
    for call in calls {
        if call.body["stream"] == true {
            let answer = call.stream();
            answer.say("there").await;
            answer.finish().await;
        } else {
            call.answer("there");
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn waiting_callers_survive_a_store_restart() {
    // Each caller takes two handles of the test process.
    rlimit::increase_nofile_limit(4096).expect("handles");
    let mut upstream = Upstream::held().await;
    let mut redis = RedisServer::start_with(&["--appendonly", "yes", "--appendfsync", "always"]);
    let api = Causeway::api(&redis.url(), &[LOGS, ("CAUSEWAY_BRIDGE_WAIT", "60s")]).await;
    let concurrency = ("CAUSEWAY_CONCURRENCY", "1000");
    let _worker = Causeway::worker(&redis.url(), &upstream.url(), &[concurrency]).await;
    let client = api.client().await;
    let mut waiting = JoinSet::new();
    for (user, kind) in (0..EACH).flat_map(|user| KINDS.map(|kind| (user, kind))) {
        waiting.spawn(wait(client.clone(), kind, user));
    }
    let mut during = upstream.calls(EACH * KINDS.len()).await;
    let after = during.split_off(during.len() / 2);
    redis.kill();
    answer(during).await;
    api.says(AWAY).await;
    redis.restart();
    answer(after).await;
    waiting.join_all().await;
    assert_eq!(upstream.seen().len(), EACH * KINDS.len(), "no call was repeated");
}
