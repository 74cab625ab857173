//! The request of a caller reaches the upstream unchanged.

use std::collections::BTreeMap;

use reqwest::Method;
use serde_json::json;

use crate::support::{
    http::{Client, Reply},
    system::{Store, System},
    upstream::{Call, Upstream},
};

crate::on_both_stores! {
    a_body_arrives_byte_for_byte;
    header_lines_arrive_one_by_one;
    a_job_reaches_an_anthropic_upstream;
}

/// Numbers beyond 2^53, exact decimals, escapes, repeated and unknown names, and blanks.
const BODY: &str = r#"{"z":1, "model":"a","seed":12345678901234567890123,"max_tokens":-1,"t":0.10000000000000000555,
"messages":[{"role":"user","content":"\u0000 \ud83d é","n":9007199254740993}],"a":-0.0,"e":1e400,"model":"m"}"#;

async fn send(client: &Client, path: &str, body: &str, lines: &[(&str, &str)]) -> Reply {
    let request = client.request(Method::POST, path).header("content-type", "application/json");
    let request = request.header("prefer", "respond-async").body(body.to_owned());
    client
        .ask(lines.iter().fold(request, |request, (name, value)| request.header(*name, *value)))
        .await
}

/// Returns the forwarded headers of a call, all lines of a name together.
fn forwarded(call: &Call) -> BTreeMap<String, Vec<String>> {
    let mut found = BTreeMap::new();
    for (name, value) in &call.headers {
        let name = name.as_str();
        if name.starts_with("anthropic-") || name.starts_with("openai-") || name.starts_with("x-t")
        {
            let lines: &mut Vec<String> = found.entry(name.to_owned()).or_default();
            lines.push(value.to_str().expect("a text").to_owned());
        }
    }
    found
}

async fn a_body_arrives_byte_for_byte(store: Store) {
    let mut upstream = Upstream::held().await;
    let system = System::start(store, &upstream, &[]).await;
    let job = format!(r#"{{"body":{BODY}}}"#);
    for (path, body) in [("/v1/chat/completions", BODY), ("/v1/jobs", job.as_str())] {
        send(system.client(), path, body, &[]).await.with(202);
        let call = upstream.call().await;
        assert_eq!(String::from_utf8_lossy(&call.raw), BODY);
        call.answer("fine");
    }
}

async fn header_lines_arrive_one_by_one(store: Store) {
    let mut upstream = Upstream::held().await;
    let setting = [("CAUSEWAY_API_FORWARD_HEADERS", "anthropic-*,X-Tr*")];
    let system = System::start(store, &upstream, &setting).await;
    let lines = [
        ("anthropic-beta", "one"),
        ("anthropic-beta", "two"),
        ("openai-project", "p"),
        ("x-trace", "t"),
    ];
    send(system.client(), "/v1/chat/completions", r#"{"messages":[]}"#, &lines).await.with(202);
    let call = upstream.call().await;
    let expected = json!({ "anthropic-beta": ["one", "two"], "x-trace": ["t"] });
    assert_eq!(json!(forwarded(&call)), expected);
    call.answer("fine");
}

async fn a_job_reaches_an_anthropic_upstream(store: Store) {
    let mut upstream = Upstream::held().await;
    let system = System::start(store, &upstream, &[]).await;
    let body = json!({ "model": "claude", "max_tokens": 9, "messages": [] });
    let headers = json!({ "anthropic-beta": ["one", "two"], "X-Trace": "t" });
    let job = json!({ "url": "/v1/messages", "headers": headers, "body": body });
    let id = system.client().post("/v1/jobs", &job).await.id();
    let call = upstream.call().await;
    assert_eq!((call.path.as_str(), &call.body), ("/v1/messages", &body));
    let expected = json!({
        "anthropic-beta": ["one", "two"], "anthropic-version": ["2023-06-01"], "x-trace": ["t"],
    });
    assert_eq!(json!(forwarded(&call)), expected);
    let message = json!({
        "id": "msg_1", "type": "message", "role": "assistant", "model": "claude",
        "content": [{ "type": "text", "text": "hi" }], "stop_reason": "end_turn", "stop_sequence": null,
        "usage": { "input_tokens": 3, "output_tokens": 2 },
    });
    call.answer_with(&message);
    let job = system.client().end_of(&id).await;
    assert_eq!((&job["status"], &job["response"]["body"]), (&json!("succeeded"), &message));
    assert_eq!(job["usage"]["total_tokens"], 5);
}
