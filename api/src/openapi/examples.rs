//! Examples of bodies, with which pages that show the document fill in their forms.

use serde_json::Value;
use utoipa::openapi::{Components, Paths, RefOr, Schema};

/// The body of each operation that takes one, by its path. All of them are POST or PATCH, and no path has both.
const REQUESTS: [(&str, &str); 19] = [
    (
        "/v1/jobs",
        r#"{"body": {"model": "default", "messages": [{"role": "user", "content": "Name three rivers"}]},
            "class": "standard", "metadata": {"order": "17"}}"#,
    ),
    (
        "/v1/chat/completions",
        r#"{"model": "default", "messages": [{"role": "user", "content": "Name three rivers"}], "max_tokens": 60}"#,
    ),
    ("/v1/completions", r#"{"model": "default", "prompt": "Three rivers:", "max_tokens": 20}"#),
    ("/v1/embeddings", r#"{"model": "default", "input": ["a river", "a lake"]}"#),
    ("/v1/responses", r#"{"model": "default", "input": "Name three rivers", "background": true}"#),
    (
        "/v1/messages",
        r#"{"model": "default", "max_tokens": 60, "messages": [{"role": "user", "content": "Name three rivers"}]}"#,
    ),
    (
        "/bridge/chat",
        r#"{"user_id": "u1", "username": "Ann", "message": "hello", "room": "The Tower"}"#,
    ),
    ("/api/v1/generate", r#"{"prompt": "You are a villager. Ann: hello", "max_new_tokens": 60}"#),
    (
        "/v1/conversations",
        r#"{"items": [{"role": "user", "content": "I am Ann"}], "metadata": {"order": "17"}}"#,
    ),
    ("/v1/conversations/{id}", r#"{"metadata": {"order": "18"}}"#),
    (
        "/v1/messages/count_tokens",
        r#"{"model": "default", "messages": [{"role": "user", "content": "Name three rivers"}]}"#,
    ),
    ("/v1/moderations", r#"{"model": "default", "input": "hello"}"#),
    ("/v1/audio/speech", r#"{"model": "default", "input": "hello", "voice": "alloy"}"#),
    ("/v1/images/generations", r#"{"model": "default", "prompt": "a river"}"#),
    ("/v1/lanes/{lane}/pause", "{}"),
    ("/v1/lanes/{lane}/resume", "{}"),
    ("/v1/tenants", r#"{"id": "ann", "max_running": 10, "expires_in": 7776000}"#),
    ("/v1/tenants/{id}", r#"{"max_running": null, "tokens_per_minute": 100000}"#),
    ("/v1/tenants/{id}/keys", r#"{"keep_old": 3600}"#),
];

/// Answers by the name of their schema.
const ANSWERS: [(&str, &str); 3] = [
    (
        "Job",
        r#"{"id": "job_default_0_01m8548n41e7s9rp8k6v2j5x50", "object": "job", "status": "succeeded",
            "lane": "default", "class": "standard", "session": null, "url": "/v1/chat/completions",
            "model": "default", "attempts": 1, "max_attempts": 5, "stalls": 0,
            "created_at": "2026-11-23T20:00:00.000Z", "scheduled_for": null,
            "started_at": "2026-11-23T20:00:00.004Z", "finished_at": "2026-11-23T20:00:01.470Z",
            "expires_at": null, "position": null, "estimated_wait_ms": null, "waiting_for": null,
            "cancelling": false,
            "response": {"status_code": 200, "body": {"choices": [{"index": 0, "finish_reason": "stop",
                "message": {"role": "assistant", "content": "Rhine, Nile, Amazon"}}]}},
            "error": null, "usage": {"prompt_tokens": 16, "completion_tokens": 7, "total_tokens": 23},
            "simulated": false, "attempt_errors": [], "metadata": {"order": "17"}, "webhook": null}"#,
    ),
    (
        "ChatAnswer",
        r#"{"job_id": "job_default_0_01m85476ybecavrsb79me55wqz", "response": "Good day, Ann.", "user_id": "u1"}"#,
    ),
    (
        "ChatPending",
        r#"{"cause": null, "job_id": "job_default_0_01m85476ybecavrsb79me55wqz",
            "message": "the answer is not ready yet; poll for it",
            "poll": "/v1/jobs/job_default_0_01m85476ybecavrsb79me55wqz", "status": "pending"}"#,
    ),
];

/// The example of `name` in `table`. Tests read all of them.
fn example(table: &[(&str, &str)], name: &str) -> Option<Value> {
    let (_, text) = table.iter().find(|(of, _)| *of == name)?;
    serde_json::from_str(text).ok()
}

/// Adds an example to each body that is taken.
pub(super) fn add_to_requests(paths: &mut Paths) {
    for (path, item) in &mut paths.paths {
        let operation = item.post.as_mut().or(item.patch.as_mut());
        let body = operation.and_then(|operation| operation.request_body.as_mut());
        let Some(RefOr::T(body)) = body else { continue };
        for content in body.content.values_mut() {
            if let RefOr::T(content) = content {
                content.example = example(&REQUESTS, path);
            }
        }
    }
}

/// Adds examples to the schemas of answers.
pub(super) fn add_to_answers(components: &mut Components) {
    for (name, schema) in &mut components.schemas {
        if let RefOr::T(Schema::Object(object)) = schema {
            object.examples.extend(example(&ANSWERS, name));
        }
    }
}
