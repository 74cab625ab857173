//! `/v1/responses` in the foreground and in the background, and its events.

use causeway_queue::{
    EventKind, Outcome, RawJson,
    job::{AttemptError, Output, Response as Answered},
};
use futures_util::StreamExt as _;
use serde_json::{Value, json};

use super::{
    Api, Lease, ann_and_bob,
    gateway::{say, served},
    post, signed,
};

const URL: &str = "/v1/responses";

fn delta(text: &str) -> Value {
    json!([{ "type": "response.output_text.delta", "delta": text, "sequence_number": 99 }])
}

/// Ends the response with the object that an upstream returns.
async fn complete(api: &Api, lease: Lease, status: &str) {
    let body = json!({ "id": "resp_of_upstream", "object": "response", "status": status,
        "output": [{ "type": "message" }], "metadata": { "not": "ours" } });
    let response = Some(Answered { status_code: 200, body: RawJson::of(&body).unwrap() });
    let output = Output { response, ..Output::default() };
    api.settle(lease, Outcome::Succeeded { output, turn: None }).await;
}

/// Starts a response in the background; returns its id and its lease.
async fn start_background(api: &Api) -> (String, Lease) {
    let answer = api.post(URL, &json!({ "model": "m", "input": "hi", "background": true })).await;
    answer.ok(200);
    (answer.id(), api.claim().await)
}

/// Returns the events of a stream, by type and number.
fn events(stream: &str) -> Vec<(String, u64)> {
    let event = |block: &str| {
        let (name, data) = block.split_once('\n').unwrap();
        let data: Value = serde_json::from_str(data.strip_prefix("data: ").unwrap()).unwrap();
        assert_eq!(name, format!("event: {}", data["type"].as_str().unwrap()));
        (data["type"].as_str().unwrap().to_owned(), data["sequence_number"].as_u64().unwrap())
    };
    stream.split("\n\n").filter(|block| block.starts_with("event: ")).map(event).collect()
}

fn numbered(kinds: &[&str], from: u64) -> Vec<(String, u64)> {
    kinds.iter().map(|kind| (*kind).to_owned()).zip(from..).collect()
}

#[tokio::test]
async fn a_background_response_grows() {
    let api = Api::new();
    let request = json!({ "model": "m", "input": "hi", "background": true, "metadata": { "a": "b" },
        "temperature": 0.5, "ignore_eos": true });
    let answer = api.post(URL, &request).await;
    let response = answer.ok(200);
    assert_eq!(response["status"], "queued");
    assert_eq!(response["background"], true);
    assert_eq!(response["metadata"], json!({ "a": "b" }));
    assert_eq!(response["temperature"], 0.5);
    let path = format!("{URL}/{}", answer.id());
    let lease = api.claim().await;
    let sent: Value = serde_json::from_slice(&lease.body).unwrap();
    assert_eq!(sent["stream"], true);
    assert_eq!(sent["ignore_eos"], true);
    assert!(sent.get("background").is_none());
    assert_eq!(api.get(&path).await.ok(200)["status"], "in_progress");
    complete(&api, lease, "completed").await;
    let ended = api.get(&path).await;
    let ended = ended.ok(200);
    assert_eq!(ended["status"], "completed");
    assert_eq!(ended["output"][0]["type"], "message");
    assert_eq!(ended["id"], answer.id());
    assert_eq!(ended["metadata"], json!({ "a": "b" }));
    assert!(ended["completed_at"].is_number());
}

#[tokio::test]
async fn late_readers_get_all_events() {
    let api = Api::new();
    let (id, lease) = start_background(&api).await;
    say(&api, &lease, EventKind::Delta, delta("a")).await;
    say(&api, &lease, EventKind::Delta, delta("b")).await;
    complete(&api, lease, "incomplete").await;
    let all = [
        "response.created",
        "response.queued",
        "response.in_progress",
        "response.output_text.delta",
        "response.output_text.delta",
        "response.incomplete",
    ];
    let received = api.text(&format!("{URL}/{id}?stream=true")).await;
    assert_eq!(events(&received), numbered(&all, 0));
    let rest = api.text(&format!("{URL}/{id}?stream=true&starting_after=3")).await;
    assert_eq!(events(&rest), numbered(&all[4..], 4));
    assert!(!rest.contains("\nid:"), "{rest}");
}

#[tokio::test]
async fn a_broken_answer_is_an_error() {
    let api = Api::new();
    let (id, lease) = start_background(&api).await;
    say(&api, &lease, EventKind::Delta, delta("a")).await;
    say(&api, &lease, EventKind::Reset, Value::Null).await;
    say(&api, &lease, EventKind::Delta, delta("a")).await;
    complete(&api, lease, "completed").await;
    let received = api.text(&format!("{URL}/{id}?stream=true")).await;
    assert_eq!(events(&received)[3..], numbered(&["response.output_text.delta", "error"], 3));
    let rest = api.text(&format!("{URL}/{id}?stream=true&starting_after=4")).await;
    assert_eq!(events(&rest), numbered(&["response.completed"], 5));
}

#[tokio::test]
async fn foreground_responses_are_answered_or_streamed() {
    let api = Api::new();
    for stream in [false, true] {
        let request = post(URL, &json!({ "input": "hi", "stream": stream }).to_string());
        let (status, headers, body) =
            served(&api, request, async |lease| complete(&api, lease, "completed").await).await;
        assert_eq!(status, 200);
        let id = headers["x-causeway-job-id"].to_str().unwrap().replacen("job_", "resp_", 1);
        assert!(body.contains(&id) && !body.contains("resp_of_upstream"), "{body}");
        assert_eq!(stream, body.contains("event: response.completed"), "{body}");
    }
}

#[tokio::test]
async fn cancelling_a_response_is_idempotent() {
    let api = Api::new();
    let answer = api.post(URL, &json!({ "input": "hi", "background": true })).await;
    let path = format!("{URL}/{}", answer.id());
    for _ in 0..2 {
        let answer = api.post(&format!("{path}/cancel"), &json!({})).await;
        assert_eq!(answer.ok(200)["status"], "cancelled");
    }
    assert_eq!(api.get(&path).await.ok(200)["status"], "cancelled");
}

#[tokio::test]
async fn a_failed_response_names_its_error() {
    let api = Api::new();
    let (id, lease) = start_background(&api).await;
    api.settle(lease, Outcome::Expired).await;
    let answer = api.get(&format!("{URL}/{id}")).await;
    assert_eq!(answer.ok(200)["status"], "failed");
    assert_eq!(answer.body["error"]["code"], "server_error");
    let received = api.text(&format!("{URL}/{id}?stream=true")).await;
    assert_eq!(events(&received).last().unwrap().0, "response.failed");
}

#[tokio::test]
async fn a_refused_response_names_the_reason() {
    for (status_code, code) in
        [(400, "invalid_prompt"), (404, "server_error"), (429, "rate_limit_exceeded")]
    {
        let api = Api::new();
        let (id, lease) = start_background(&api).await;
        let error = json!({ "error": { "message": "the input is too long" } });
        let (body, status) = (RawJson::of(&error).unwrap(), Some(status_code));
        let (name, message) = ("upstream_refused".to_owned(), "the upstream refused".to_owned());
        let error = AttemptError { attempt: 1, code: name, message, status_code: status };
        let response = Some(Answered { status_code, body });
        let output = Output { response, error: Some(error), ..Output::default() };
        api.settle(lease, Outcome::Failed { output }).await;
        let answer = api.get(&format!("{URL}/{id}")).await;
        let error = json!({ "code": code, "message": "the input is too long" });
        assert_eq!(answer.ok(200)["error"], error);
    }
}

#[tokio::test(start_paused = true)]
async fn a_background_stream_opens_at_once() {
    let api = Api::new();
    let began = tokio::time::Instant::now();
    let request = json!({ "input": "hi", "background": true, "stream": true });
    let mut stream = api.send(post(URL, &request.to_string())).await.into_body().into_data_stream();
    let mut received = String::new();
    while !received.contains("response.queued") {
        let piece = stream.next().await.unwrap().unwrap();
        received.push_str(std::str::from_utf8(&piece).unwrap());
    }
    assert_eq!(events(&received), numbered(&["response.created", "response.queued"], 0));
    assert_eq!(began.elapsed(), std::time::Duration::ZERO);
}

#[tokio::test]
async fn foreign_and_unknown_responses_are_not_found() {
    let api = Api::with(crate::Settings::default(), ann_and_bob());
    let request = post(URL, &json!({ "input": "hi", "background": true }).to_string());
    let id = api.ask(signed(request, "key-of-ann")).await.id();
    let job = id.replacen("resp_", "job_", 1);
    for path in [id.as_str(), job.as_str(), "resp_x"] {
        let path = format!("{URL}/{path}");
        let request = axum::http::Request::get(&path).body(axum::body::Body::empty()).unwrap();
        api.ask(signed(request, "key-of-bob")).await.refused(404, "response_not_found");
    }
}

#[tokio::test]
async fn a_response_continues_an_upstream_one() {
    let api = Api::new();
    let (id, lease) = start_background(&api).await;
    let next = json!({ "input": "on", "background": true, "previous_response_id": id });
    api.post(URL, &next).await.refused(400, "invalid_value");
    complete(&api, lease, "completed").await;
    let answer = api.post(URL, &next).await;
    assert_eq!(answer.ok(200)["previous_response_id"], id);
    let sent: Value = serde_json::from_slice(&api.claim().await.body).unwrap();
    assert_eq!(sent["previous_response_id"], "resp_of_upstream");
}

/// Ends a response like a worker that translated it to a chat.
pub(super) async fn translate(api: &Api, lease: Lease, output: Value) {
    let body = json!({ "id": "chatcmpl-1", "object": "response", "status": "completed", "output": output });
    let response = Some(Answered { status_code: 200, body: RawJson::of(&body).unwrap() });
    let output = Output { response, ..Output::default() };
    api.settle(lease, Outcome::Succeeded { output, turn: None }).await;
}

/// Sends a request that a worker translates to a chat and answers with `text`; returns the response id and the
/// input of the worker.
pub(super) async fn translated_response(api: &Api, request: &Value, text: &str) -> (String, Value) {
    let mut sent = Value::Null;
    let request = post(URL, &request.to_string());
    let (status, headers, body) = served(api, request, async |lease| {
        let request: Value = serde_json::from_slice(&lease.body).unwrap();
        sent = request["input"].clone();
        let name = lease.key.job.to_string().replacen("job_", "", 1);
        let content = json!([{ "type": "output_text", "text": text }]);
        let message = json!({ "id": format!("msg_{name}_0"), "type": "message", "status": "completed",
            "role": "assistant", "content": content });
        translate(api, lease, json!([message])).await;
    })
    .await;
    assert_eq!(status, 200, "{body}");
    let id = headers["x-causeway-job-id"].to_str().unwrap().replacen("job_", "resp_", 1);
    (id, sent)
}

#[tokio::test]
async fn a_response_continues_a_translated_one() {
    let api = Api::new();
    let (first, sent) = translated_response(&api, &json!({ "input": "one" }), "1").await;
    assert_eq!(sent, "one");
    let next =
        json!({ "input": [{ "role": "user", "content": "two" }], "previous_response_id": first });
    let (second, sent) = translated_response(&api, &next, "2").await;
    let answered = |text: &str| {
        json!({ "type": "message", "role": "assistant",
        "content": [{ "type": "output_text", "text": text }] })
    };
    let one = json!({ "type": "message", "role": "user", "content": [{ "type": "input_text", "text": "one" }] });
    let two = json!({ "role": "user", "content": "two" });
    assert_eq!(sent, json!([one, answered("1"), two]));
    let (_, sent) =
        translated_response(&api, &json!({ "input": [], "previous_response_id": second }), "3")
            .await;
    assert_eq!(sent, json!([one, answered("1"), two, answered("2")]));
}

#[tokio::test]
async fn an_item_reference_is_resolved() {
    let api = Api::new();
    let (first, _) = translated_response(&api, &json!({ "input": "one" }), "1").await;
    let refer = |id: &str| json!({ "input": [{ "type": "item_reference", "id": id }] });
    let name = first.replacen("resp_", "", 1);
    let (_, sent) = translated_response(&api, &refer(&format!("msg_{name}_0")), "2").await;
    assert_eq!(sent[0]["content"][0]["text"], "1");
    let (_, sent) = translated_response(&api, &refer("msg_of_upstream"), "2").await;
    assert_eq!(sent, refer("msg_of_upstream")["input"]);
    let answer = api.post(URL, &refer(&format!("msg_{name}_1"))).await;
    answer.refused(400, "invalid_value");
}

#[tokio::test]
async fn only_a_stored_response_is_continued() {
    let api = Api::new();
    let (id, _) = translated_response(&api, &json!({ "input": "one", "store": false }), "1").await;
    let answer = api.post(URL, &json!({ "input": "two", "previous_response_id": id })).await;
    assert!(answer.refused(400, "invalid_value").contains("whole conversation"));
}

#[tokio::test]
async fn a_conversation_has_the_body_limit() {
    let settings = crate::Settings { max_body_bytes: 2000, ..crate::Settings::default() };
    let api = Api::with(settings, crate::Tenants::open());
    let (id, _) = translated_response(&api, &json!({ "input": "x".repeat(1500) }), "1").await;
    let next = json!({ "input": "x".repeat(500), "previous_response_id": id });
    api.post(URL, &next).await.refused(413, "body_too_large");
}

#[tokio::test]
async fn input_items_are_paged() {
    let api = Api::new();
    let input = json!([{ "role": "user", "content": "one" }, { "role": "assistant", "content": "two" },
        { "type": "function_call_output", "call_id": "c", "output": "three" }]);
    let (id, _) = translated_response(&api, &json!({ "input": input }), "four").await;
    let path = format!("{URL}/{id}/input_items");
    let page = api.get(&format!("{path}?order=asc&limit=2")).await.ok(200).clone();
    let data = page["data"].as_array().unwrap();
    assert_eq!(data[0]["content"][0], json!({ "type": "input_text", "text": "one" }));
    assert_eq!(data[1]["content"][0]["type"], "output_text");
    assert_eq!((&page["first_id"], &page["last_id"]), (&data[0]["id"], &data[1]["id"]));
    assert_eq!(page["has_more"], true);
    let after = page["last_id"].as_str().unwrap();
    let rest = api.get(&format!("{path}?order=asc&after={after}")).await.ok(200).clone();
    assert_eq!((&rest["data"][0]["output"], &rest["has_more"]), (&json!("three"), &json!(false)));
    let newest = api.get(&format!("{path}?limit=1")).await.ok(200).clone();
    assert_eq!(newest["data"][0]["id"], rest["data"][0]["id"]);
    for query in ["limit=0", "limit=101", "limit=x", "order=up"] {
        assert_eq!(api.get(&format!("{path}?{query}")).await.status, 400, "{query}");
    }
    api.get(&format!("{path}?after=x")).await.refused(400, "invalid_value");
}

#[tokio::test]
async fn a_deleted_response_is_not_found() {
    let api = Api::new();
    let delete = async |id: &str| {
        let request = axum::http::Request::delete(format!("{URL}/{id}"));
        api.ask(request.body(axum::body::Body::empty()).unwrap()).await
    };
    let (answered, _) = translated_response(&api, &json!({ "input": "one" }), "1").await;
    let waiting = api.post(URL, &json!({ "input": "hi", "background": true })).await.id();
    for id in [answered, waiting] {
        let deleted = json!({ "deleted": true, "id": id, "object": "response" });
        assert_eq!(*delete(&id).await.ok(200), deleted);
        api.get(&format!("{URL}/{id}")).await.refused(404, "response_not_found");
        delete(&id).await.refused(404, "response_not_found");
    }
}

#[tokio::test]
async fn upstream_conversations_pass_unchanged() {
    let api = Api::new();
    let request = json!({ "input": "hi", "conversation": "conv_1", "background": true });
    api.post(URL, &request).await.ok(200);
    let sent: Value = serde_json::from_slice(&api.claim().await.body).unwrap();
    assert_eq!(sent["conversation"], "conv_1");
    let request = json!({ "input": "hi", "conversation": "conv_causeway_1", "previous_response_id": "resp_1" });
    api.post(URL, &request).await.refused(400, "invalid_value");
}
