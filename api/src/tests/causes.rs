//! The reported causes of a job without an answer in time.

use std::time::Duration;

use axum::body::to_bytes;
use causeway_queue::{
    Fault, Outcome,
    job::{AttemptError, Output},
};
use serde_json::{Value, json};
use tokio::time::Instant;

use super::{Answer, Api, post, settle};
use crate::{Settings, Tenants};

const WORDS: &str = "401 from http://127.0.0.1:9101: Incorrect API key provided";

fn error() -> AttemptError {
    let (code, message) = ("upstream_refused".to_owned(), WORDS.to_owned());
    AttemptError { attempt: 1, code, message, status_code: Some(401) }
}

/// Returns a failure that is charged to the job.
fn failed() -> Outcome {
    Outcome::Retry { delay: Duration::from_secs(60), error: error() }
}

/// Returns a failure that lets the lane cool down.
fn refused() -> Outcome {
    let (fault, delay, output) = (Fault::Certain, Duration::ZERO, Output::default());
    Outcome::Faulted { fault, delay, unit: 0.0, output, error: error() }
}

/// Ends the first attempt of the next job.
async fn work(api: &Api, outcome: Outcome) {
    while api.unfinished().await == 0 {
        tokio::task::yield_now().await;
    }
    let lease = api.claim().await;
    api.settle(lease, outcome).await;
}

async fn call(api: &Api) -> Answer {
    let body = json!({ "model": "m", "messages": [] }).to_string();
    api.ask(post("/v1/chat/completions", &body)).await
}

async fn say(api: &Api) -> Answer {
    api.post("/bridge/chat", &json!({ "user_id": "ann", "message": "hello" })).await
}

#[tokio::test(start_paused = true)]
async fn a_late_answer_names_the_last_failure() {
    let api = Api::new();
    let (answer, ()) = tokio::join!(call(&api), work(&api, failed()));
    let message = answer.refused(504, "wait_too_long");
    let cause = format!("within 660 s; its last attempt failed: {WORDS}; it is cancelled");
    assert!(message.contains(&cause), "{message}");
}

#[tokio::test(start_paused = true)]
async fn a_late_answer_names_the_outage() {
    let api = Api::new();
    let (first, ()) = tokio::join!(call(&api), work(&api, refused()));
    let second = call(&api).await;
    let outage = "the upstream of lane default is down since 1970-01-01T00:16:40.000Z (next \
                  probe at 1970-01-01T00:16:4";
    for answer in [first, second] {
        let message = answer.refused(504, "wait_too_long");
        assert!(message.contains(outage), "{message}");
        assert_eq!(message.matches(WORDS).count(), 1, "{message}");
    }
}

#[tokio::test]
async fn an_untried_job_names_the_outage() {
    let api = Api::new();
    let job = json!({ "body": { "messages": [] }, "deadline_ms": 1000 });
    api.post("/v1/jobs", &json!({ "body": { "messages": [] } })).await.ok(202);
    work(&api, refused()).await;
    let id = api.post("/v1/jobs", &job).await.ok(202)["id"].as_str().unwrap().to_owned();
    api.clock.advance(Duration::from_secs(1));
    api.queue.let_in().await.unwrap();
    let ended = api.get(&format!("/v1/jobs/{id}")).await;
    let error = &ended.ok(200)["error"];
    assert_eq!(error["code"], "deadline_exceeded");
    let message = error["message"].as_str().unwrap();
    assert!(
        message.ends_with(&format!("; the upstream of its lane was down: {WORDS}")),
        "{message}"
    );
    api.get(&format!("/v1/jobs/{id}/result")).await.refused(410, "no_result");
}

#[tokio::test(start_paused = true)]
async fn a_late_answer_may_have_no_cause() {
    let answer = call(&Api::new()).await;
    let message = answer.refused(504, "wait_too_long");
    assert!(message.contains("within 660 s; it is cancelled"), "{message}");
}

#[tokio::test(start_paused = true)]
async fn a_stream_without_an_answer_names_the_outage() {
    for (path, kind, body) in [
        ("/v1/chat/completions", "", json!({ "model": "m", "messages": [], "stream": true })),
        ("/v1/messages", "event: error", json!({ "model": "m", "messages": [], "stream": true })),
        ("/v1/responses", "event: error", json!({ "model": "m", "input": "hi", "stream": true })),
    ] {
        let api = Api::new();
        let started = Instant::now();
        let (answer, ()) =
            tokio::join!(api.send(post(path, &body.to_string())), work(&api, refused()));
        let body = to_bytes(answer.into_body(), usize::MAX).await.unwrap();
        let body = String::from_utf8(body.to_vec()).unwrap();
        assert_eq!(started.elapsed(), Settings::default().hold, "{path}");
        let last = body.trim_end().rsplit("\n\n").next().unwrap();
        assert!(last.starts_with(kind), "{last}");
        assert!(last.contains("did not end within 660 s") && last.contains(WORDS), "{last}");
        settle().await;
        assert_eq!(api.unfinished().await, 0, "{path}: the job is cancelled");
    }
}

#[tokio::test(start_paused = true)]
async fn a_late_answer_names_the_missing_worker() {
    let api = Api::without_worker(Settings::default(), Tenants::open());
    let answer = call(&api).await;
    let message = answer.refused(504, "wait_too_long");
    assert!(
        message.contains("within 660 s; no live worker serves lane default; it is cancelled"),
        "{message}"
    );
}

#[tokio::test(start_paused = true)]
async fn a_late_answer_names_the_upstream_rate() {
    let api = Api::new();
    let fault = Fault::Rate(Duration::from_secs(3600));
    let outcome = Outcome::Faulted {
        fault,
        delay: Duration::ZERO,
        unit: 0.0,
        output: Output::default(),
        error: error(),
    };
    let (answer, ()) = tokio::join!(call(&api), work(&api, outcome));
    let message = answer.refused(504, "wait_too_long");
    let cause = "; the upstream of lane default refuses requests until 1970-01-01T01:16:40.000Z;";
    assert!(message.contains(cause), "{message}");
}

#[tokio::test(start_paused = true)]
async fn pending_messages_name_the_cause() {
    for (outcome, words) in [(failed(), "its last attempt failed"), (refused(), "is down since")] {
        let api = Api::new();
        let (answer, ()) = tokio::join!(say(&api), work(&api, outcome));
        let pending = answer.ok(202);
        let cause = pending["cause"].as_str().unwrap();
        assert!(cause.contains(words) && cause.contains(WORDS), "{cause}");
        assert_eq!(pending.get("response"), None);
    }
    assert_eq!(say(&Api::new()).await.ok(202)["cause"], Value::Null);
}

#[tokio::test]
async fn a_cancelled_job_names_its_last_failure() {
    let api = Api::new();
    let id = api.post("/v1/jobs", &json!({ "body": {} })).await.id();
    work(&api, failed()).await;
    let job = api.post(&format!("/v1/jobs/{id}/cancel"), &json!({})).await;
    let error = &job.body["error"];
    assert_eq!(error["code"], "cancelled");
    let message = format!("the job was cancelled; its last attempt failed: {WORDS}");
    assert_eq!(error["message"], message);
}
