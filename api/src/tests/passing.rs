//! Requests reach the upstream unchanged.

use axum::{body::Body, http::Request};
use serde_json::json;

use super::{Api, post};

const JOB: &str = "/v1/jobs";
const CHAT: &str = "/v1/chat/completions";

/// Submits the raw `body` without waiting for the answer; returns the lease of its job.
async fn leased(api: &Api, path: &str, body: &str) -> causeway_queue::Lease {
    let mut request = post(path, body);
    request.headers_mut().insert("prefer", "respond-async".parse().unwrap());
    api.ask(request).await.ok(202);
    api.claim().await
}

#[tokio::test]
async fn an_unreadable_estimate_is_no_estimate() {
    let api = Api::new();
    for value in
        ["-1", "null", "\"10\"", "1e9", "0.5", "1e400", "[]", "{}", "true", "9007199254740993"]
    {
        for name in ["max_tokens", "max_completion_tokens", "max_output_tokens"] {
            let body = format!(r#"{{"model":"m","{name}":{value},"messages":[]}}"#);
            assert_eq!(leased(&api, CHAT, &body).await.body, body);
            let job = format!(r#"{{"body":{body}}}"#);
            assert_eq!(leased(&api, JOB, &job).await.body, body);
        }
    }
}

#[tokio::test]
async fn the_upstream_validates_its_fields() {
    let api = Api::new();
    for field in [r#""service_tier":5"#, r#""service_tier":["flex"]"#, r#""store":"yes""#] {
        let body = format!(r#"{{{field},"messages":[]}}"#);
        assert_eq!(leased(&api, CHAT, &body).await.body, body);
    }
}

#[tokio::test]
async fn the_last_repeated_name_counts() {
    let api = Api::new();
    let body =
        r#"{"model":"a","max_tokens":1,"store":true,"model":"b","max_tokens":2,"store":true}"#;
    for (path, sent) in [(CHAT, body.to_owned()), (JOB, format!(r#"{{"body":{body}}}"#))] {
        let lease = leased(&api, path, &sent).await;
        assert_eq!((lease.spec.model.as_deref(), &lease.body[..]), (Some("b"), body.as_bytes()));
    }
}

/// Returns a call with these header lines.
fn with_lines(path: &str, body: &str, lines: &[(&'static str, &str)]) -> Request<Body> {
    let mut request = post(path, body);
    for (name, value) in lines {
        request.headers_mut().append(*name, value.parse().unwrap());
    }
    request.headers_mut().insert("prefer", "respond-async".parse().unwrap());
    request
}

#[tokio::test]
async fn all_lines_of_a_forwarded_header_survive() {
    let api = Api::new();
    let lines = [
        ("anthropic-beta", "one"),
        ("anthropic-beta", "two,three"),
        ("anthropic-version", "2024-01-01"),
        ("openai-organization", "org"),
        ("traceparent", "00-1-2-01"),
        ("authorization", "Bearer k"),
        ("x-other", "no"),
    ];
    api.ask(with_lines("/v1/messages", r#"{"messages":[]}"#, &lines)).await.ok(202);
    let headers = serde_json::to_value(api.claim().await.spec.headers).unwrap();
    let expected = json!({
        "anthropic-beta": ["one", "two,three"], "anthropic-version": "2024-01-01",
        "openai-organization": "org", "traceparent": "00-1-2-01",
    });
    assert_eq!(headers, expected);
}

#[tokio::test]
async fn a_job_may_name_headers() {
    let api = Api::new();
    let headers = json!({ "Anthropic-Beta": ["one", "two"], "x-trace": "t", "none": [] });
    let job = json!({ "url": "/v1/messages", "headers": headers, "body": { "model": "m" } });
    api.post(JOB, &job).await.ok(202);
    let headers = serde_json::to_value(api.claim().await.spec.headers).unwrap();
    let expected = json!({
        "anthropic-beta": ["one", "two"], "anthropic-version": "2023-06-01", "x-trace": "t",
    });
    assert_eq!(headers, expected);
}

#[tokio::test]
async fn invalid_headers_are_refused_by_name() {
    let api = Api::new();
    let many: serde_json::Map<_, _> = (0..33).map(|n| (format!("x-{n}"), json!("v"))).collect();
    for (headers, param, part) in [
        (json!({ "Authorization": "Bearer k" }), "headers.Authorization", "Causeway sets"),
        (json!({ "content-type": "text/plain" }), "headers.content-type", "Causeway sets"),
        (json!({ "host": "h" }), "headers.host", "Causeway sets"),
        (json!({ "Range": "bytes=0-1" }), "headers.Range", "a partial answer"),
        (json!({ "if-none-match": "*" }), "headers.if-none-match", "a partial answer"),
        (json!({ "if-modified-since": "x" }), "headers.if-modified-since", "a partial answer"),
        (json!({ "forwarded": "for=x" }), "headers.forwarded", "one connection"),
        (json!({ "x-forwarded-for": "x" }), "headers.x-forwarded-for", "one connection"),
        (json!({ "http2-settings": "x" }), "headers.http2-settings", "one connection"),
        (json!({ "x-a": "a\r\nb: c" }), "headers.x-a", "visible ASCII"),
        (json!({ "x-a": ["fine", "é"] }), "headers.x-a", "visible ASCII"),
        (json!({ "x a": "b" }), "headers.x a", "name"),
        (json!({ "x-a": 5 }), "headers.x-a", "expected a string or an array of strings"),
        (
            json!({ "x-a": "v".repeat(9000) }),
            "headers",
            "headers may have 8192 bytes, names and values together; they have 9003",
        ),
        (json!(many), "headers", "headers may have 32 lines; they have 33"),
        (json!("x-a: b"), "headers", "expected an object"),
    ] {
        let answer = api.post(JOB, &json!({ "body": {}, "headers": headers })).await;
        let message = answer.refused(400, "invalid_value");
        assert!(message.contains(part), "{message}");
        assert_eq!(answer.body["error"]["param"], param, "{message}");
    }
    assert_eq!(api.unfinished().await, 0);
}
