//! `/v1/responses`: in the foreground, in the background, and its events.

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

/// Ends the response with what an upstream says of it.
async fn complete(api: &Api, lease: Lease, status: &str) {
    let body = json!({ "id": "resp_of_upstream", "object": "response", "status": status,
        "output": [{ "type": "message" }], "metadata": { "not": "ours" } });
    let response = Some(Answered { status_code: 200, body: RawJson::of(&body).unwrap() });
    let output = Output { response, ..Output::default() };
    api.settle(lease, Outcome::Succeeded { output, turn: None }).await;
}

/// Begins a response in the background; its id, and its lease.
async fn begun(api: &Api) -> (String, Lease) {
    let answer = api.post(URL, &json!({ "model": "m", "input": "hi", "background": true })).await;
    answer.ok(200);
    (answer.id(), api.claim().await)
}

/// The events of a stream: type and number.
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
async fn in_the_background_it_is_there_at_once_and_grows() {
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
async fn whoever_comes_late_hears_all_and_whoever_returns_the_rest() {
    let api = Api::new();
    let (id, lease) = begun(&api).await;
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
    let heard = api.text(&format!("{URL}/{id}?stream=true")).await;
    assert_eq!(events(&heard), numbered(&all, 0));
    let rest = api.text(&format!("{URL}/{id}?stream=true&starting_after=3")).await;
    assert_eq!(events(&rest), numbered(&all[4..], 4));
    assert!(!rest.contains("\nid:"), "{rest}");
}

#[tokio::test]
async fn what_broke_off_is_an_error_and_behind_it_stands_the_end() {
    let api = Api::new();
    let (id, lease) = begun(&api).await;
    say(&api, &lease, EventKind::Delta, delta("a")).await;
    say(&api, &lease, EventKind::Reset, Value::Null).await;
    say(&api, &lease, EventKind::Delta, delta("a")).await;
    complete(&api, lease, "completed").await;
    let heard = api.text(&format!("{URL}/{id}?stream=true")).await;
    assert_eq!(events(&heard)[3..], numbered(&["response.output_text.delta", "error"], 3));
    let rest = api.text(&format!("{URL}/{id}?stream=true&starting_after=4")).await;
    assert_eq!(events(&rest), numbered(&["response.completed"], 5));
}

#[tokio::test]
async fn in_the_foreground_it_is_answered_or_streamed() {
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
async fn a_cancelled_response_says_so_again_and_again() {
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
    let (id, lease) = begun(&api).await;
    api.settle(lease, Outcome::Expired).await;
    let answer = api.get(&format!("{URL}/{id}")).await;
    assert_eq!(answer.ok(200)["status"], "failed");
    assert_eq!(answer.body["error"]["code"], "server_error");
    let heard = api.text(&format!("{URL}/{id}?stream=true")).await;
    assert_eq!(events(&heard).last().unwrap().0, "response.failed");
}

#[tokio::test]
async fn a_response_that_its_upstream_refused_says_why() {
    for (status_code, code) in
        [(400, "invalid_prompt"), (404, "server_error"), (429, "rate_limit_exceeded")]
    {
        let api = Api::new();
        let (id, lease) = begun(&api).await;
        let said = json!({ "error": { "message": "the input is too long" } });
        let (body, status) = (RawJson::of(&said).unwrap(), Some(status_code));
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
async fn in_the_background_its_stream_is_open_at_once() {
    let api = Api::new();
    let began = tokio::time::Instant::now();
    let request = json!({ "input": "hi", "background": true, "stream": true });
    let mut stream = api.send(post(URL, &request.to_string())).await.into_body().into_data_stream();
    let mut heard = String::new();
    while !heard.contains("response.queued") {
        let piece = stream.next().await.unwrap().unwrap();
        heard.push_str(std::str::from_utf8(&piece).unwrap());
    }
    assert_eq!(events(&heard), numbered(&["response.created", "response.queued"], 0));
    assert_eq!(began.elapsed(), std::time::Duration::ZERO);
}

#[tokio::test]
async fn nobody_sees_anothers_response_nor_what_is_none() {
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
async fn a_response_goes_on_from_one_that_its_upstream_knows() {
    let api = Api::new();
    let (id, lease) = begun(&api).await;
    let next = json!({ "input": "on", "background": true, "previous_response_id": id });
    api.post(URL, &next).await.refused(400, "invalid_value");
    complete(&api, lease, "completed").await;
    let answer = api.post(URL, &next).await;
    assert_eq!(answer.ok(200)["previous_response_id"], id);
    let sent: Value = serde_json::from_slice(&api.claim().await.body).unwrap();
    assert_eq!(sent["previous_response_id"], "resp_of_upstream");
}
