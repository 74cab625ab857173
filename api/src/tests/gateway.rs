//! SDK calls: their answers and their jobs.

use std::time::Duration;

use axum::{
    body::{Body, to_bytes},
    http::{HeaderName, HeaderValue, Request},
};
use causeway_queue::{
    Class, EventKind, Lease, Outcome, RawJson, Status,
    backend::Emission,
    job::{AttemptError, Output, Response as Answered},
};
use serde_json::{Value, json};

use super::{Api, post};

const CHAT: &str = "/v1/chat/completions";

fn chat(stream: bool) -> Value {
    json!({ "model": "m", "messages": [], "stream": stream, "ignore_eos": true })
}

fn with(mut request: Request<Body>, headers: &[(&'static str, &'static str)]) -> Request<Body> {
    for (name, value) in headers {
        let name = HeaderName::from_static(name);
        request.headers_mut().insert(name, HeaderValue::from_static(value));
    }
    request
}

fn cut() -> AttemptError {
    let (code, message) = ("upstream_cut".to_owned(), "cut".to_owned());
    AttemptError { attempt: 1, code, message, status_code: None }
}

pub(super) async fn say(api: &Api, lease: &Lease, kind: EventKind, data: Value) {
    let data = RawJson::of(&data).unwrap();
    let one = Emission { lease: lease.key.clone(), number: 1, repeated: false, kind, data };
    let shard = api.queue.shards().remove(0);
    assert!(api.queue.transitions().emit(&shard, vec![one]).await.unwrap().is_empty());
}

/// Sends `request` and plays the worker's part.
pub(super) async fn served<W>(
    api: &Api,
    request: Request<Body>,
    worker: W,
) -> (u16, axum::http::HeaderMap, String)
where
    W: AsyncFnOnce(Lease),
{
    let client = async {
        let (parts, body) = api.send(request).await.into_parts();
        let bytes = to_bytes(body, usize::MAX).await.unwrap();
        (parts.status.as_u16(), parts.headers, String::from_utf8(bytes.to_vec()).unwrap())
    };
    let worker = async {
        while api.unfinished().await == 0 {
            tokio::task::yield_now().await;
        }
        worker(api.claim().await).await;
    };
    tokio::join!(client, worker).0
}

#[tokio::test]
async fn body_and_answer_pass_unchanged() {
    let api = Api::new();
    let request = post(CHAT, &chat(false).to_string());
    let request = with(request, &[("x-causeway-class", "batch")]);
    let (status, headers, body) = served(&api, request, async |lease| {
        assert_eq!(lease.key.class, Class::Batch);
        let sent: Value = serde_json::from_slice(&lease.body).unwrap();
        assert_eq!(sent, chat(false));
        api.answer(lease, "hi").await;
    })
    .await;
    assert_eq!(status, 200);
    let body: Value = serde_json::from_str(&body).unwrap();
    assert_eq!(body["choices"][0]["message"]["content"], "hi");
    assert!(headers["x-causeway-job-id"].to_str().unwrap().starts_with("job_"));
    assert!(headers.contains_key("x-request-id"));
}

#[tokio::test]
async fn embeddings_are_never_streamed() {
    let api = Api::new();
    let body = json!({ "model": "m", "input": "x", "stream": true }).to_string();
    let (status, headers, _) = served(&api, post("/v1/embeddings", &body), async |lease| {
        assert!(!lease.spec.stream, "an upstream sends no events for it");
        api.answer(lease, "hi").await;
    })
    .await;
    assert_eq!(
        (status, &headers["content-type"]),
        (200, &HeaderValue::from_static("application/json"))
    );
}

#[tokio::test]
async fn an_upstream_refusal_passes_unchanged() {
    for stream in [false, true] {
        let api = Api::new();
        let request = post(CHAT, &chat(stream).to_string());
        let (status, headers, body) = served(&api, request, async |lease| {
            let body = RawJson::of(&json!({ "error": { "message": "no", "code": "budget" } }));
            let response = Some(Answered { status_code: 429, body: body.unwrap() });
            api.settle(lease, Outcome::Failed { output: Output { response, ..Output::default() } })
                .await;
        })
        .await;
        assert_eq!(status, 429, "{body}");
        assert_eq!(body, r#"{"error":{"code":"budget","message":"no"}}"#);
        assert_eq!(headers["x-should-retry"], "false");
    }
}

#[tokio::test]
async fn a_stream_ends_with_done() {
    let api = Api::new();
    let (status, headers, body) =
        served(&api, post(CHAT, &chat(true).to_string()), async |lease| {
            say(&api, &lease, EventKind::Delta, json!([{ "n": 1 }, { "n": 2 }])).await;
            api.answer(lease, "").await;
        })
        .await;
    assert_eq!(status, 200);
    assert!(headers["content-type"].to_str().unwrap().starts_with("text/event-stream"));
    assert_eq!(body, "data: {\"n\":1}\n\ndata: {\"n\":2}\n\ndata: [DONE]\n\n");
}

#[tokio::test]
async fn a_broken_stream_ends_with_an_error() {
    let api = Api::new();
    let (_, _, body) = served(&api, post(CHAT, &chat(true).to_string()), async |lease| {
        say(&api, &lease, EventKind::Delta, json!([{ "n": 1 }])).await;
        let output = Output { error: Some(cut()), ..Output::default() };
        api.settle(lease, Outcome::Failed { output }).await;
    })
    .await;
    let (first, rest) = body.split_once("\n\n").unwrap();
    assert_eq!(first, "data: {\"n\":1}");
    let error: Value = serde_json::from_str(rest.trim().strip_prefix("data: ").unwrap()).unwrap();
    assert_eq!(error["error"]["code"], "upstream_error");
    assert!(!body.contains("[DONE]"));
}

#[tokio::test]
async fn no_second_attempt_repeats_a_stream() {
    let api = Api::new();
    let (_, _, body) = served(&api, post(CHAT, &chat(true).to_string()), async |lease| {
        say(&api, &lease, EventKind::Delta, json!([{ "n": 1 }])).await;
        say(&api, &lease, EventKind::Reset, Value::Null).await;
        say(&api, &lease, EventKind::Delta, json!([{ "n": 1 }])).await;
        api.answer(lease, "").await;
    })
    .await;
    assert_eq!(body.matches(r#"{"n":1}"#).count(), 1, "{body}");
    assert!(body.contains("error") && !body.contains("[DONE]"), "{body}");
}

#[tokio::test]
async fn messages_are_streamed_as_named_events() {
    let api = Api::new();
    let request = json!({ "model": "m", "max_tokens": 5, "messages": [], "stream": true });
    let request = post("/v1/messages", &request.to_string());
    let request = with(request, &[("anthropic-version", "2023-06-01")]);
    let (_, _, body) = served(&api, request, async |lease| {
        assert_eq!(lease.spec.headers["anthropic-version"].first(), Some("2023-06-01"));
        say(&api, &lease, EventKind::Delta, json!([{ "type": "message_start" }])).await;
        let output = Output { error: Some(cut()), ..Output::default() };
        api.settle(lease, Outcome::Failed { output }).await;
    })
    .await;
    let blocks: Vec<&str> = body.trim().split("\n\n").collect();
    assert_eq!(blocks[0], "event: message_start\ndata: {\"type\":\"message_start\"}");
    let error = blocks[1].strip_prefix("event: error\ndata: ").unwrap();
    let error: Value = serde_json::from_str(error).unwrap();
    assert_eq!((&error["type"], &error["error"]["type"]), (&json!("error"), &json!("api_error")));
}

#[tokio::test]
async fn leaving_cancels_unless_the_job_is_stored() {
    for (store, left) in [(false, 0), (true, 1)] {
        let api = Api::new();
        let mut body = chat(false);
        body["store"] = store.into();
        let mut call = Box::pin(api.send(post(CHAT, &body.to_string())));
        while api.unfinished().await == 0 {
            assert!(futures_util::poll!(&mut call).is_pending());
        }
        assert!(futures_util::poll!(&mut call).is_pending());
        drop(call);
        for _ in 0..100 {
            tokio::task::yield_now().await;
        }
        assert_eq!(api.unfinished().await, left, "store: {store}");
    }
}

#[tokio::test]
async fn a_partial_stream_ends_at_once() {
    let api = Api::new();
    let (_, _, body) = served(&api, post(CHAT, &chat(true).to_string()), async |lease| {
        say(&api, &lease, EventKind::Delta, json!([{ "n": 1 }])).await;
        let outcome = Outcome::Retry { delay: Duration::from_secs(60), error: cut() };
        api.settle(lease, outcome).await;
    })
    .await;
    assert!(body.contains("error") && !body.contains("[DONE]"), "{body}");
}

#[tokio::test(start_paused = true)]
async fn a_call_is_pending_until_its_client_leaves() {
    let api = Api::new();
    let impatient = [("x-stainless-read-timeout", "5"), ("x-stainless-retry-count", "0")];
    let request = with(post(CHAT, &chat(false).to_string()), &impatient);
    let (status, ..) = served(&api, request, async |lease| {
        tokio::time::sleep(Duration::from_millis(4990)).await;
        api.answer(lease, "hi").await;
    })
    .await;
    assert_eq!(status, 200);
}

#[tokio::test(start_paused = true)]
async fn the_hold_time_is_limited() {
    let api = Api::new();
    let request = with(post(CHAT, &chat(false).to_string()), &[("x-stainless-retry-count", "0")]);
    let began = tokio::time::Instant::now();
    let answer = api.ask(request).await;
    assert_eq!(began.elapsed(), crate::Settings::default().hold);
    answer.refused(504, "wait_too_long");
    assert_eq!(answer.header("x-should-retry"), Some("false"));
    assert!(answer.header("x-causeway-job-id").is_some());
    super::settle().await;
    assert_eq!(api.unfinished().await, 0);
}

#[tokio::test(start_paused = true)]
async fn short_time_outs_shorten_the_keep_alive() {
    let api = Api::new();
    let request = with(post(CHAT, &chat(true).to_string()), &[("x-stainless-read-timeout", "2")]);
    let (_, _, body) = served(&api, request, async |lease| {
        tokio::time::sleep(Duration::from_millis(5500)).await;
        api.answer(lease, "hi").await;
    })
    .await;
    // The first one is sent at the opening after 1 s, the others each second.
    assert_eq!(body.matches(": alive").count(), 5, "{body}");
}

#[tokio::test]
async fn respond_async_returns_the_job() {
    let api = Api::new();
    let request = with(post(CHAT, &chat(false).to_string()), &[("prefer", "respond-async")]);
    let answer = api.ask(request).await;
    assert_eq!(answer.ok(202)["status"], Status::Queued.to_string());
    assert_eq!(api.unfinished().await, 1);
}

#[tokio::test]
async fn a_wrong_call_gets_its_sdks_envelope() {
    let api = Api::new();
    api.post(CHAT, &json!([])).await.refused(400, "invalid_value");
    let answer = api.post("/v1/messages", &json!("x")).await;
    assert_eq!(answer.ok(400)["type"], "error");
    assert_eq!(answer.body["error"]["type"], "invalid_request_error");
    let request = post("/v1/messages/count_tokens", "{}");
    let answer = api.ask(with(request, &[("anthropic-version", "2023-06-01")])).await;
    assert_eq!(answer.ok(404)["error"]["type"], "not_found_error");
    assert_eq!(answer.header("request-id"), answer.header("x-request-id"));
    let wrong = with(post(CHAT, "{}"), &[("x-causeway-class", "fast")]);
    api.ask(wrong).await.refused(400, "invalid_value");
    api.post("/v1/assistants", &json!({})).await.refused(404, "unknown_route");
}
