//! Failing upstreams, and the requests that they receive.

use crate::support::{
    http::chat,
    process::Causeway,
    system::{Store, System},
    upstream::Upstream,
};

/// Retries without delay, so that no test waits for one.
const QUICK: &[(&str, &str)] = &[("CAUSEWAY_RETRY_BASE", "1ms")];

crate::on_both_stores! {
    a_failed_call_is_retried;
    a_cut_answer_is_retried;
    a_refusal_keeps_the_upstreams_message;
    a_refused_request_is_charged_its_prompt;
}

async fn a_failed_call_is_retried(store: Store) {
    let mut upstream = Upstream::held().await;
    let system = System::start(store, &upstream, QUICK).await;
    let id = system.client().submit("hello").await;
    upstream.call().await.fail(500, "out of order");
    upstream.call().await.answer("in order");
    let job = system.client().end_of(&id).await;
    assert_eq!((&job["status"], &job["attempts"]), (&"succeeded".into(), &2.into()), "{job:#}");
}

async fn a_cut_answer_is_retried(store: Store) {
    let mut upstream = Upstream::held().await;
    let system = System::start(store, &upstream, QUICK).await;
    let id = system.client().submit("hello").await;
    drop(upstream.call().await);
    upstream.call().await.answer("whole");
    let job = system.client().end_of(&id).await;
    assert_eq!((&job["status"], &job["attempts"]), (&"succeeded".into(), &2.into()), "{job:#}");
}

async fn a_refusal_keeps_the_upstreams_message(store: Store) {
    let mut upstream = Upstream::held().await;
    let system = System::start(store, &upstream, QUICK).await;
    let id = system.client().submit("hello").await;
    upstream.call().await.fail(400, "no such model");
    let job = system.client().end_of(&id).await;
    assert_eq!((&job["status"], &job["attempts"]), (&"failed".into(), &1.into()), "{job:#}");
    assert_eq!(job["response"]["status_code"], 400);
    assert_eq!(job["response"]["body"]["error"]["message"], "no such model");
}

#[tokio::test]
async fn a_failure_names_status_and_url() {
    let mut upstream = Upstream::held().await;
    let up = Causeway::up(&upstream.url(), QUICK).await;
    let client = up.client().await;
    let id = client.submit("hello").await;
    upstream.call().await.fail(422, "no such field");
    let job = client.end_of(&id).await;
    let wanted = format!("422 from {}/chat/completions: no such field", upstream.url());
    assert_eq!(job["error"]["message"], *wanted, "{job:#}");
    assert_eq!(job["error"]["code"], "upstream_refused", "{job:#}");
    let list = client.get("/v1/jobs").await.ok();
    assert_eq!(list["data"][0]["error"]["message"], *wanted, "{list:#}");
    let line = up.says("a job failed").await;
    for part in ["WARN", &id, "default", "attempt=1", "upstream_refused", "status=422", &wanted] {
        assert!(line.contains(part), "{part} is missing: {line}");
    }
    let url = up.url().await;
    let shown = Causeway::command(&["jobs", "list", "--url", &url], &[]).await;
    assert!(shown.contains(&wanted), "{shown}");
}

#[tokio::test]
async fn redirects_and_pages_are_no_success() {
    let mut upstream = Upstream::held().await;
    let up = Causeway::up(&upstream.url(), QUICK).await;
    let client = up.client().await;
    let id = client.submit("hello").await;
    upstream.call().await.redirect("/elsewhere");
    upstream.call().await.page("Sign in");
    upstream.call().await.answer("fine");
    let job = client.end_of(&id).await;
    assert_eq!((&job["status"], &job["attempts"]), (&"succeeded".into(), &1.into()), "{job:#}");
    let codes = job["attempt_errors"].as_array().expect("a list").iter();
    let codes: Vec<_> = codes.map(|error| &error["code"]).collect();
    assert_eq!(codes, ["upstream_redirected", "upstream_no_answer"], "{job:#}");
}

/// Checks that a refused request for very many tokens does not exhaust the lane's rate for later
/// jobs.
async fn a_refused_request_is_charged_its_prompt(store: Store) {
    let mut upstream = Upstream::held().await;
    let file = tempfile::NamedTempFile::new().expect("a file");
    let lane = "[[lane]]\nname = \"default\"\ntokens_per_minute = 1000\n";
    std::fs::write(&file, lane).expect("the file can be written");
    let settings = [("CAUSEWAY_CONFIG", file.path().to_str().expect("a path"))];
    let system = System::start(store, &upstream, &settings).await;
    let mut greedy = chat("hello");
    greedy["max_tokens"] = 1_000_000_000.into();
    let greedy =
        system.client().post("/v1/jobs", &serde_json::json!({ "body": greedy })).await.id();
    upstream.call().await.fail(400, "max_tokens is too large");
    assert_eq!(system.client().end_of(&greedy).await["status"], "failed");
    let modest = system.client().submit("hello").await;
    upstream.call().await.answer("hello to you");
    assert_eq!(system.client().end_of(&modest).await["status"], "succeeded");
}

#[tokio::test]
async fn requests_and_keys_are_never_logged() {
    let mut upstream = Upstream::held().await;
    let url = upstream.url();
    let arguments = ["up", "--bind", "127.0.0.1:0", "--upstream", &url, "--api-key-env", "MY_KEY"];
    let settings = [("MY_KEY", "sk-very-secret"), ("CAUSEWAY_LOG_FILTER", "trace")];
    let mut up = Causeway::start(&arguments, &settings).await;
    let client = up.client().await;
    let id = client.submit("whisper").await;
    let call = upstream.call().await;
    assert_eq!(call.path, "/v1/chat/completions");
    assert_eq!(call.headers["authorization"], "Bearer sk-very-secret");
    assert_eq!(call.body, crate::support::http::chat("whisper"));
    call.answer("murmur");
    client.end_of(&id).await;
    up.terminate();
    assert!(up.ended().await.success());
    let text = up.text();
    for secret in ["sk-very-secret", "whisper", "murmur"] {
        assert!(!text.contains(secret), "{secret:?} is in\n{text}");
    }
}
