//! A response as OpenAI's clients see it, made from its job.

use std::collections::BTreeMap;

use causeway_queue::{
    Job, JobId, RawJson, Status,
    job::{AttemptError, State},
};
use serde_json::{Map, Value, json};

/// What of a request a response says again.
const ECHOED: [&str; 17] = [
    "instructions",
    "max_output_tokens",
    "metadata",
    "parallel_tool_calls",
    "previous_response_id",
    "prompt_cache_key",
    "reasoning",
    "safety_identifier",
    "service_tier",
    "store",
    "background",
    "temperature",
    "text",
    "tool_choice",
    "tools",
    "top_p",
    "truncation",
];

/// What the queue knows better than the upstream.
const OURS: [&str; 6] =
    ["id", "object", "background", "created_at", "metadata", "previous_response_id"];

/// The part of a request that is kept with its job for [`object`].
pub(super) fn echo(request: &BTreeMap<String, RawJson>) -> BTreeMap<&str, &RawJson> {
    ECHOED.iter().filter_map(|name| Some((*name, request.get(*name)?))).collect()
}

/// The id of the response that the job `id` is.
pub(super) fn id(id: &JobId) -> String {
    id.to_string().replacen("job_", "resp_", 1)
}

/// The response as it is now.
pub(crate) fn object(job: &Job) -> Value {
    let mut response = skeleton(job, status(job));
    if let State::Ended { at, output, .. } = &job.state {
        let answer = output.as_ref().and_then(|output| output.response.as_ref());
        let said: Option<Map<String, Value>> = answer.and_then(|answer| answer.body.read().ok());
        let said = said.unwrap_or_default();
        if job.status() == Status::Succeeded {
            for (name, value) in said {
                if !value.is_null() && !OURS.contains(&name.as_str()) {
                    response.insert(name, value);
                }
            }
            response.insert("completed_at".to_owned(), (at.0 / 1000).into());
        } else {
            let error = output.as_ref().and_then(|output| output.error.as_ref());
            let words = said.get("error").and_then(|error| error.get("message")?.as_str());
            response.insert("error".to_owned(), failure(job, error, words));
        }
    }
    Value::Object(response)
}

/// The response as it was when it was `status`, before anything came of it.
pub(in crate::gateway) fn skeleton(job: &Job, status: &str) -> Map<String, Value> {
    let mut response = Map::new();
    let echo: Option<Map<String, Value>> = job.spec.api.as_ref().and_then(|api| api.read().ok());
    let defaults = json!({
        "background": false, "error": null, "incomplete_details": null, "instructions": null,
        "max_output_tokens": null, "metadata": {}, "output": [], "parallel_tool_calls": true,
        "previous_response_id": null, "temperature": null, "tool_choice": "auto", "tools": [],
        "top_p": null, "usage": null,
    });
    if let Value::Object(defaults) = defaults {
        response.extend(defaults);
    }
    response.extend(echo.into_iter().flatten().filter(|(_, value)| !value.is_null()));
    let known = json!({
        "id": id(&job.id), "object": "response", "created_at": job.created_at.0 / 1000,
        "model": job.spec.model.as_deref().unwrap_or(""), "status": status,
    });
    if let Value::Object(known) = known {
        response.extend(known);
    }
    response
}

/// One of the six words that clients know: they poll on at the first two.
fn status(job: &Job) -> &'static str {
    match job.status() {
        Status::Queued => "queued",
        Status::Scheduled if job.attempts == 0 => "queued",
        Status::Scheduled | Status::Running => "in_progress",
        Status::Succeeded => "completed",
        Status::Failed | Status::Expired => "failed",
        Status::Cancelled => "cancelled",
    }
}

/// Why it failed, in the upstream's `words` where it said any.
fn failure(job: &Job, error: Option<&AttemptError>, words: Option<&str>) -> Value {
    let (code, message) = match (job.status(), error) {
        (Status::Cancelled, _) => return Value::Null,
        (_, Some(error)) => {
            let code = match error.status_code {
                Some(429) => "rate_limit_exceeded",
                Some(400 | 413 | 422) => "invalid_prompt",
                _ => "server_error",
            };
            (code, words.unwrap_or(&error.message).to_owned())
        }
        (Status::Expired, None) => {
            ("server_error", "the response did not end before its deadline".to_owned())
        }
        (_, None) => ("server_error", "there is no answer".to_owned()),
    };
    json!({ "code": code, "message": message })
}
