//! Event streams: replay, resumption, and keep-alive comments.

use std::time::Duration;

use axum::{body::Body, http::Request};
use causeway_queue::{EventKind, RawJson, backend::Emission};
use futures_util::StreamExt as _;
use serde_json::json;

use super::{Api, post};

const STREAM: &str = r#"{"body":{"stream":true}}"#;

/// Returns the ids and names of the events of an ended stream.
async fn events(api: &Api, request: Request<Body>) -> Vec<(String, String)> {
    let bytes = axum::body::to_bytes(api.send(request).await.into_body(), usize::MAX).await;
    let text = String::from_utf8(bytes.unwrap().to_vec()).unwrap();
    let field = |block: &str, name: &str| {
        let found = block.lines().find_map(|line| line.strip_prefix(name));
        found.unwrap_or_default().trim().to_owned()
    };
    let blocks = text.split("\n\n").filter(|block| !block.trim().is_empty());
    blocks.map(|block| (field(block, "id:"), field(block, "event:"))).collect()
}

fn follow(id: &str, query: &str) -> Request<Body> {
    Request::get(format!("/v1/jobs/{id}/events{query}")).body(Body::empty()).unwrap()
}

fn named(events: &[(&str, &str)]) -> Vec<(String, String)> {
    events.iter().map(|(id, name)| ((*id).to_owned(), (*name).to_owned())).collect()
}

/// Runs a job that streams two pieces; returns its id.
async fn streamed(api: &Api) -> String {
    let id = api.ask(post("/v1/jobs", STREAM)).await.id();
    let lease = api.claim().await;
    let shard = api.queue.shards().remove(0);
    for text in ["a", "b"] {
        let data = RawJson::of(&serde_json::json!({ "text": text })).unwrap();
        let one = Emission {
            lease: lease.key.clone(),
            number: 1,
            repeated: false,
            kind: EventKind::Delta,
            data,
        };
        assert!(api.queue.transitions().emit(&shard, vec![one]).await.unwrap().is_empty());
    }
    api.answer(lease, "ab").await;
    id
}

#[tokio::test]
async fn a_late_reader_gets_every_event() {
    let api = Api::new();
    let id = streamed(&api).await;
    let all = named(&[
        ("0", "job.queued"),
        ("1", "job.started"),
        ("2", "output.delta"),
        ("3", "output.delta"),
        ("4", "job.succeeded"),
    ]);
    assert_eq!(events(&api, follow(&id, "")).await, all);
    assert_eq!(events(&api, follow(&id, "?after=2")).await, all[3..]);
    for query in ["", "?after=1"] {
        let resumed = |last: &str| {
            let mut request = follow(&id, query);
            request.headers_mut().insert("last-event-id", last.parse().unwrap());
            request
        };
        assert_eq!(events(&api, resumed("3")).await, all[4..]);
        // Some clients send an empty header on their first connect.
        assert_eq!(events(&api, resumed("")).await, events(&api, follow(&id, query)).await);
        let refused = api.ask(resumed("three")).await;
        assert!(refused.refused(400, "invalid_value").contains("\"three\""), "{query}");
    }
}

#[tokio::test]
async fn a_job_without_log_has_three_events() {
    let api = Api::new();
    let id = api.ask(post("/v1/jobs", r#"{"body":{}}"#)).await.id();
    let work = async {
        tokio::task::yield_now().await;
        let lease = api.claim().await;
        api.answer(lease, "done").await;
    };
    let (live, ()) = tokio::join!(events(&api, follow(&id, "")), work);
    let all = named(&[("0", "job.queued"), ("1", "job.started"), ("2", "job.succeeded")]);
    assert_eq!(live, all);
    assert_eq!(events(&api, follow(&id, "")).await, all);
    assert_eq!(events(&api, follow(&id, "?after=1")).await, all[2..]);
}

#[tokio::test(start_paused = true)]
async fn a_silent_stream_sends_keep_alives() {
    let api = Api::new();
    let id = api.ask(post("/v1/jobs", STREAM)).await.id();
    let response = api.send(follow(&id, "")).await;
    assert_eq!(response.headers()["content-type"], "text/event-stream");
    let mut body = response.into_body().into_data_stream();
    let mut next = async || {
        let bytes = body.next().await.unwrap().unwrap();
        String::from_utf8(bytes.to_vec()).unwrap()
    };
    assert!(next().await.contains("job.queued"));
    let began = tokio::time::Instant::now();
    let ping = next().await;
    assert!(ping.contains("event: ping") || ping.contains("event:ping"), "{ping}");
    assert_eq!(began.elapsed(), Duration::from_secs(15));
}

#[tokio::test]
async fn proxies_neither_buffer_nor_change_streams() {
    let api = Api::new();
    let id = api.ask(post("/v1/jobs", STREAM)).await.id();
    let chat = post("/v1/chat/completions", r#"{"stream":true,"messages":[]}"#);
    let background = post("/v1/responses", r#"{"stream":true,"background":true,"input":"hi"}"#);
    for request in [follow(&id, ""), chat, background] {
        let answer = api.send(request).await;
        assert_eq!(answer.headers()["x-accel-buffering"], "no");
        assert_eq!(answer.headers()["cache-control"], "no-cache, no-transform");
    }
    let plain = api.get("/v1/jobs").await;
    assert_eq!(plain.header("x-accel-buffering"), None);
}

#[tokio::test]
async fn browsers_stop_after_the_last_event() {
    let api = Api::new();
    let id = api.post("/v1/jobs", &json!({ "body": {} })).await.id();
    let lease = api.claim().await;
    api.answer(lease, "hello").await;
    assert!(api.text(&format!("/v1/jobs/{id}/events?after=1")).await.contains("job.succeeded"));
    let answer = api.get(&format!("/v1/jobs/{id}/events?after=2")).await;
    assert_eq!((answer.status.as_u16(), &answer.body), (204, &serde_json::Value::Null));
}
