//! Responses, and streams of existing clients, while processes start and end.

use futures_util::{StreamExt as _, stream::FuturesUnordered};
use reqwest::Method;
use serde_json::{Value, json};

use crate::support::{
    http::{Client, chat},
    process::Causeway,
    redis::RedisServer,
    soon,
    sse::{Event, Stream},
    system::{Store, System},
    upstream::{Answering, Upstream},
};

crate::on_both_stores! {
    a_background_response_resumes_after_a_break;
    cancelling_a_response_stops_its_call;
    concurrent_turns_are_accepted_once;
}

const SHORT_LEASE: &[(&str, &str)] = &[("CAUSEWAY_LEASE", "1s")];

/// Starts a background response at an upstream that supports chat only.
async fn start_response(client: &Client, upstream: &mut Upstream) -> (String, Answering) {
    let body = json!({ "model": "m", "input": "a story", "background": true });
    let response = client.post("/v1/responses", &body).await.ok();
    assert_eq!(response["status"], "queued");
    let call = upstream.call().await;
    assert_eq!(call.path, "/v1/responses");
    call.fail(404, "no such route");
    let call = upstream.call().await;
    assert_eq!((call.path.as_str(), call.prompt().as_str()), ("/v1/chat/completions", "a story"));
    let path = format!("/v1/responses/{}", response["id"].as_str().expect("an id"));
    (path, call.stream())
}

async fn stream(client: &Client, path: &str, after: Option<u64>) -> Stream {
    let after = after.map(|after| format!("&starting_after={after}")).unwrap_or_default();
    let request = client.request(Method::GET, &format!("{path}?stream=true{after}"));
    Stream::new(request.send().await.expect("a stream"))
}

fn number(event: &Event) -> u64 {
    event.data["sequence_number"].as_u64().expect("every event has a number")
}

fn text(events: &[Event]) -> String {
    let deltas = events.iter().filter(|event| event.kind == "response.output_text.delta");
    deltas.map(|event| event.data["delta"].as_str().expect("a text")).collect()
}

async fn a_background_response_resumes_after_a_break(store: Store) {
    let mut upstream = Upstream::held().await;
    let system = System::start(store, &upstream, &[]).await;
    let [one, other] = &system.clients;
    let (path, answer) = start_response(one, &mut upstream).await;
    let mut broken = stream(one, &path, None).await;
    answer.say("Once ").await;
    let last = broken.next_of("response.output_text.delta").await;
    drop(broken);
    answer.say("upon ").await;
    let mut resumed = stream(other, &path, Some(number(&last))).await;
    let mut rest = vec![resumed.next().await.expect("an event")];
    answer.say("a time").await;
    answer.finish().await;
    rest.extend(resumed.rest().await);
    assert_eq!(text(&rest), "upon a time");
    let all = stream(one, &path, None).await.rest().await;
    assert_eq!(text(&all), "Once upon a time");
    let numbers: Vec<u64> = all.iter().map(number).collect();
    assert_eq!(numbers, (0..all.len() as u64).collect::<Vec<u64>>());
    assert_eq!(all.last().map(|event| event.kind.as_str()), Some("response.completed"));
    let whole = other.get(&path).await.ok();
    assert_eq!(whole["status"], "completed");
    assert_eq!(whole["output"][0]["content"][0]["text"], "Once upon a time");
}

async fn cancelling_a_response_stops_its_call(store: Store) {
    let mut upstream = Upstream::held().await;
    let system = System::start(store, &upstream, &[]).await;
    let (path, answer) = start_response(system.client(), &mut upstream).await;
    answer.say("Once ").await;
    let cancelled = system.client().post(&format!("{path}/cancel"), &json!({})).await.ok();
    assert_eq!(cancelled["status"], "cancelled");
    answer.left().await;
}

async fn concurrent_turns_are_accepted_once(store: Store) {
    let mut upstream = Upstream::held().await;
    let system = System::start(store, &upstream, &[]).await;
    let conversation = system.client().post("/v1/conversations", &json!({})).await.ok();
    let id = conversation["id"].as_str().expect("an id");
    let mut taken = Vec::new();
    for round in 0..5 {
        let turn = |n: usize| {
            let client = system.clients[n % 2].clone();
            let body = json!({ "model": "m", "input": format!("{round} {n}"), "conversation": id });
            async move { client.post("/v1/responses", &body).await }
        };
        let mut turns: FuturesUnordered<_> = (0..8).map(turn).collect();
        for _ in 0..7 {
            let locked = soon("a turn that is locked", turns.next()).await.expect("a reply");
            assert_eq!(locked.error(400)["code"], "conversation_locked");
        }
        let call = upstream.call().await;
        let inputs = call.body["input"].as_array().expect("items");
        taken.push(inputs.last().expect("its own input")["content"][0]["text"].clone());
        let output = json!([{ "type": "message", "role": "assistant", "content": [] }]);
        call.answer_with(&json!({ "id": "resp_1", "object": "response", "output": output }));
        turns.next().await.expect("a reply").ok();
    }
    let path = format!("/v1/conversations/{id}/items?order=asc&limit=100");
    let items = system.client().get(&path).await.ok()["data"].clone();
    let items = items.as_array().expect("items").iter();
    let inputs: Vec<Value> = items
        .filter(|item| item["role"] == "user")
        .map(|item| item["content"][0]["text"].clone())
        .collect();
    assert_eq!(inputs, taken);
}

/// Starts a streaming chat; returns its whole answer as text.
fn chatting(client: &Client) -> impl Future<Output = String> + use<> {
    let mut body = chat("a story");
    body["stream"] = json!(true);
    let request = client.request(Method::POST, "/v1/chat/completions").json(&body);
    async move { request.send().await.expect("a stream").text().await.expect("its end") }
}

/// Returns the data of a stream's blocks, without comments.
fn blocks(stream: &str) -> Vec<&str> {
    stream.split("\n\n").filter_map(|block| block.strip_prefix("data: ")).collect()
}

#[tokio::test]
async fn an_unstarted_stream_survives_its_worker() {
    let mut upstream = Upstream::held().await;
    let redis = RedisServer::start();
    let api = Causeway::api(&redis.url(), &[]).await;
    let mut dying = Causeway::worker(&redis.url(), &upstream.url(), SHORT_LEASE).await;
    let chatting = chatting(&api.client().await);
    let meanwhile = async {
        let first = upstream.call().await;
        let other = Causeway::worker(&redis.url(), &upstream.url(), SHORT_LEASE).await;
        dying.kill().await;
        first.left().await;
        let answer = upstream.call().await.stream();
        answer.say("the end").await;
        answer.finish().await;
        other
    };
    let (heard, _other) = tokio::join!(chatting, meanwhile);
    assert!(heard.contains("the end") && !heard.contains("\"error\""), "{heard}");
    assert_eq!(blocks(&heard).last(), Some(&"[DONE]"), "{heard}");
}

#[tokio::test]
async fn a_started_stream_ends_with_its_worker() {
    let mut upstream = Upstream::held().await;
    let redis = RedisServer::start();
    let api = Causeway::api(&redis.url(), &[]).await;
    let client = api.client().await;
    let mut dying = Causeway::worker(&redis.url(), &upstream.url(), SHORT_LEASE).await;
    // A stored answer keeps its job after the caller has left, so its events remain readable.
    let mut body = chat("a story");
    body["stream"] = json!(true);
    body["store"] = json!(true);
    let request = client.request(Method::POST, "/v1/chat/completions").json(&body);
    let started = async {
        let first = upstream.call().await.stream();
        first.say("Once ").await;
        first
    };
    let (reply, first) = tokio::join!(request.send(), started);
    let mut reply = reply.expect("a stream");
    let id = reply.headers()["x-causeway-job-id"].to_str().expect("text").to_owned();
    let mut heard = String::new();
    while !heard.contains("Once ") {
        let piece = reply.chunk().await.expect("no cut").expect("no end");
        heard.push_str(std::str::from_utf8(&piece).expect("whole characters"));
    }
    let mut events = client.events(&id, None).await;
    let last = events.next_of("output.delta").await;
    drop(events);
    let _other = Causeway::worker(&redis.url(), &upstream.url(), SHORT_LEASE).await;
    dying.kill().await;
    first.left().await;
    let second = upstream.call().await.stream();
    second.say("Once more ").await;
    second.finish().await;
    while let Some(piece) = reply.chunk().await.expect("no cut") {
        heard.push_str(std::str::from_utf8(&piece).expect("whole characters"));
    }
    let last_block = blocks(&heard).last().copied().unwrap_or_default();
    let error: Value = serde_json::from_str(last_block).expect("the stream ends with JSON");
    assert_eq!(error["error"]["code"], "upstream_error", "{heard}");
    let rest = client.events(&id, last.id.as_deref()).await.rest().await;
    let kinds: Vec<&str> = rest.iter().map(|event| event.kind.as_str()).collect();
    assert_eq!(kinds[..3], ["job.retrying", "job.started", "output.reset"]);
    assert_eq!(kinds.last(), Some(&"job.succeeded"));
    let deltas = rest.iter().filter(|event| event.kind == "output.delta");
    let text: String = deltas.map(|event| event.data["text"].as_str().expect("a text")).collect();
    assert_eq!(text, "Once more ");
}
