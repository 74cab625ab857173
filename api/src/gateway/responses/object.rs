//! The response object of OpenAI's API, built from a job.

use std::collections::BTreeMap;

use causeway_queue::{
    Job, JobId, RawJson, Status,
    job::{AttemptError, State},
    json::RawObject,
};
use serde_json::{Value, json};

use crate::job_view;

/// The members of a request that its response repeats.
const ECHOED: [&str; 18] = [
    "conversation",
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

/// The members for which the queue's value replaces the upstream's.
const OURS: [&str; 6] =
    ["id", "object", "background", "created_at", "metadata", "previous_response_id"];

/// The members of a response before any is known.
const DEFAULTS: [(&str, &str); 14] = [
    ("background", "false"),
    ("error", "null"),
    ("incomplete_details", "null"),
    ("instructions", "null"),
    ("max_output_tokens", "null"),
    ("metadata", "{}"),
    ("output", "[]"),
    ("parallel_tool_calls", "true"),
    ("previous_response_id", "null"),
    ("temperature", "null"),
    ("tool_choice", "\"auto\""),
    ("tools", "[]"),
    ("top_p", "null"),
    ("usage", "null"),
];

/// Returns the part of a request that is stored with its job for [`object`].
pub(super) fn echo(request: &BTreeMap<String, RawJson>) -> BTreeMap<&str, &RawJson> {
    ECHOED.iter().filter_map(|name| Some((*name, request.get(*name)?))).collect()
}

/// Returns the response id of the job `id`.
pub(super) fn id(id: &JobId) -> String {
    id.to_string().replacen("job_", "resp_", 1)
}

/// A response object: the JSON of its members.
pub(crate) type ResponseObject = BTreeMap<String, RawJson>;

/// Returns the current response object.
pub(crate) fn object(job: &Job) -> ResponseObject {
    let mut response = skeleton(job, status(job));
    if let State::Ended { at, output, .. } = &job.state {
        let answer = output.as_ref().and_then(|output| output.response.as_ref());
        let answered = answer.and_then(|answer| RawObject::parse(answer.body.as_str()).ok());
        let answered = answered.unwrap_or_default();
        if job.status() == Status::Succeeded {
            // The upstream's members win, except those that the queue knows better.
            let theirs =
                answered.iter().filter(|(name, value)| *value != "null" && !OURS.contains(name));
            response.extend(theirs.map(|(name, value)| (name.to_owned(), raw(value))));
            response.insert("completed_at".to_owned(), raw((at.0 / 1000).to_string()));
        } else {
            let error = output.as_ref().and_then(|output| output.error.as_ref());
            let words = answered.object("error").and_then(|error| error.text("message"));
            let failure = failure(job, error, words.as_deref());
            response.insert("error".to_owned(), raw(failure.to_string()));
        }
    }
    response
}

/// Returns the response object without any output, in the state `status`.
pub(crate) fn skeleton(job: &Job, status: &str) -> ResponseObject {
    let echo: Option<ResponseObject> = job.spec.api.as_ref().and_then(|api| api.read().ok());
    let mut response: ResponseObject =
        DEFAULTS.iter().map(|(name, value)| ((*name).to_owned(), raw(*value))).collect();
    let echo = echo.into_iter().flatten();
    response.extend(echo.filter(|(_, value)| value.as_str() != "null"));
    if let Some(id) = response.get_mut("conversation").filter(|id| id.as_str().starts_with('"')) {
        *id = json_object([("id", id.as_str())].into_iter());
    }
    let known = [
        ("id", RawJson::string(&id(&job.id))),
        ("object", RawJson::string("response")),
        ("created_at", raw((job.created_at.0 / 1000).to_string())),
        ("model", RawJson::string(job.spec.model.as_deref().unwrap_or(""))),
        ("status", RawJson::string(status)),
    ];
    response.extend(known.map(|(name, value)| (name.to_owned(), value)));
    response
}

/// Wraps text that is known to be JSON.
pub(super) fn raw(json: impl Into<String>) -> RawJson {
    RawJson::parse(json.into()).unwrap_or_default()
}

/// Returns an object of fields that are written as JSON, the names without their quotes.
pub(super) fn json_object<'a>(fields: impl Iterator<Item = (&'a str, &'a str)>) -> RawJson {
    let fields: Vec<String> = fields.map(|(name, value)| format!("\"{name}\":{value}")).collect();
    raw(format!("{{{}}}", fields.join(",")))
}

/// Returns the status by OpenAI's names. Clients continue to poll in the first two.
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

/// Returns the error of a failed response, with the upstream's message if there is one.
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
        (status, None) => {
            let end = job_view::plain_end(job, status).map(|(_, message)| message);
            ("server_error", end.unwrap_or_else(|| "there is no answer".to_owned()))
        }
    };
    json!({ "code": code, "message": message })
}
