//! `/api/v1/generate`.

use causeway_queue::{
    Lease, Outcome, RawJson,
    job::{Output, Response as Answered},
};
use serde_json::{Value, json};

use super::{Api, gateway::served, post};

const URL: &str = "/api/v1/generate";

/// Sends a request that a worker answers with `content`; returns status, body and the chat of the worker.
async fn generated(api: &Api, request: &Value, content: &Value) -> (u16, Value, Value) {
    let mut sent = Value::Null;
    let request = post(URL, &request.to_string());
    let (status, _, body) = served(api, request, async |lease: Lease| {
        assert_eq!(lease.spec.url, "/v1/chat/completions");
        sent = serde_json::from_slice(&lease.body).unwrap();
        let body =
            json!({ "choices": [{ "message": { "role": "assistant", "content": content } }] });
        let response = Some(Answered { status_code: 200, body: RawJson::of(&body).unwrap() });
        let output = Output { response, ..Output::default() };
        api.settle(lease, Outcome::Succeeded { output, turn: None }).await;
    })
    .await;
    (status, serde_json::from_str(&body).unwrap(), sent)
}

#[tokio::test]
async fn a_prompt_is_answered_with_a_text() {
    let api = Api::new();
    let request = json!({ "prompt": "hi", "max_new_tokens": 250, "temperature": 0.7, "do_sample": true,
        "stopping_strings": ["\n"] });
    let (status, body, sent) = generated(&api, &request, &json!("Hello")).await;
    assert_eq!((status, body), (200, json!({ "results": [{ "text": "Hello" }] })));
    let chat = json!({ "model": "default", "messages": [{ "role": "user", "content": "hi" }],
        "max_tokens": 250, "temperature": 0.7, "stop": ["\n"] });
    assert_eq!(sent, chat);
}

#[tokio::test]
async fn alternative_member_names_are_understood() {
    let api = Api::new();
    let request = json!({ "prompt": "hi", "model": "m", "max_length": 9, "stop_sequence": ["x"] });
    let (_, _, sent) = generated(&api, &request, &json!("Hello")).await;
    assert_eq!(
        (&sent["model"], &sent["max_tokens"], &sent["stop"]),
        (&json!("m"), &json!(9), &json!(["x"]))
    );
    let (_, _, sent) = generated(&api, &json!({ "prompt": "hi" }), &json!("Hello")).await;
    assert_eq!(sent["max_tokens"], 300);
}

#[tokio::test]
async fn an_answer_without_a_text_is_an_error() {
    let api = Api::new();
    for content in [Value::Null, json!(" ")] {
        let (status, body, _) = generated(&api, &json!({ "prompt": "hi" }), &content).await;
        assert_eq!((status, &body["error"]["code"]), (502, &json!("upstream_error")));
    }
    api.post(URL, &json!({ "prompt": " " })).await.refused(400, "invalid_value");
    api.post(URL, &json!({})).await.refused(400, "missing_field");
    let request = json!({ "prompt": "hi", "max_new_tokens": 0 });
    api.post(URL, &request).await.refused(400, "invalid_value");
}
