//! The webhook event of an ended job. It is thin, in the format that OpenAI's SDKs and Standard Webhooks verifiers
//! accept: receivers fetch the job for its answer.

#![warn(clippy::wildcard_enum_match_arm)]

use std::collections::BTreeMap;

use bytes::Bytes;
use causeway_queue::{
    Job, Status,
    clock::Millis,
    job::{Output, State, Usage},
    webhook::{End, Subject},
};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

/// Largest event in bytes, as Standard Webhooks limits it for receivers. A larger event is sent without metadata.
const MAX_BYTES: usize = 20_000;

/// A webhook event, ready to be delivered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct WebhookEvent {
    /// The id: equal for all events of one outbox entry, so receivers can drop duplicates.
    pub(crate) id: String,
    /// The type, e.g. `job.succeeded`.
    pub(crate) kind: String,
    /// The JSON body.
    pub(crate) body: Bytes,
}

/// The JSON of an event.
#[derive(Debug, Serialize)]
struct EventBody<'a> {
    id: &'a str,
    object: &'static str,
    created_at: i64,
    timestamp: String,
    #[serde(rename = "type")]
    kind: &'a str,
    data: EventData<'a>,
}

/// The object that an event describes.
#[derive(Debug, Serialize)]
struct EventData<'a> {
    id: &'a str,
    object: &'static str,
    status: &'static str,
    metadata: &'a BTreeMap<String, String>,
    usage: Option<Value>,
}

impl WebhookEvent {
    /// Builds the event of `end`. The job may have been retried since then.
    ///
    /// # Errors
    /// If the event cannot be written as JSON.
    pub(crate) fn of(end: &End, job: &Job, subject: &Subject) -> Result<Self, serde_json::Error> {
        // A retried job has another state now: its present output does not belong to this end.
        let output = match &job.state {
            State::Ended { status, at, output } if (*status, *at) == (end.status, end.at) => {
                output.as_ref()
            }
            State::Ended { .. }
            | State::Queued { .. }
            | State::Scheduled { .. }
            | State::Running { .. } => None,
        };
        let id = format!("evt_{}", end.name());
        let usage = output.and_then(|output| output.usage);
        let job_id = end.job.to_string();
        let (subject_id, object, status, usage) = match subject {
            Subject::Job => (&job_id, "job", end.status.as_str(), usage.map(job_usage)),
            Subject::Response(id) => {
                (id, "response", response_status(end.status, output), usage.map(response_usage))
            }
        };
        let kind = format!("{object}.{status}");
        let at = timestamp_of(end.at);
        let write = |metadata| {
            serde_json::to_vec(&EventBody {
                id: &id,
                object: "event",
                created_at: at.as_second(),
                timestamp: format!("{at:.3}"),
                kind: &kind,
                data: EventData { id: subject_id, object, status, metadata, usage: usage.clone() },
            })
        };
        let mut body = write(&job.spec.metadata)?;
        // Only the metadata can make an event too large: clients choose their size.
        if body.len() > MAX_BYTES {
            body = write(&BTreeMap::new())?;
        }
        Ok(Self { body: body.into(), id, kind })
    }
}

fn timestamp_of(at: Millis) -> Timestamp {
    let ms = i64::try_from(at.0).ok();
    ms.and_then(|ms| Timestamp::from_millisecond(ms).ok()).unwrap_or_default()
}

/// Returns the tokens with the names of `/v1/jobs`.
fn job_usage(usage: Usage) -> Value {
    json!({
        "prompt_tokens": usage.prompt_tokens, "completion_tokens": usage.completion_tokens,
        "total_tokens": usage.total(),
    })
}

/// Returns the tokens with the names of `/v1/responses`.
fn response_usage(usage: Usage) -> Value {
    json!({
        "input_tokens": usage.prompt_tokens, "output_tokens": usage.completion_tokens,
        "total_tokens": usage.total(),
    })
}

/// Returns the status of a response after its job has ended with `status`.
fn response_status(status: Status, output: Option<&Output>) -> &'static str {
    #[derive(Deserialize)]
    struct StoredResponse {
        status: Option<String>,
    }
    match status {
        Status::Cancelled => "cancelled",
        Status::Failed | Status::Expired => "failed",
        // Only ended jobs have events; the other statuses are treated as success.
        Status::Queued | Status::Scheduled | Status::Running | Status::Succeeded => {
            let response = output.and_then(|output| output.response.as_ref());
            let stored = response.and_then(|response| response.body.read::<StoredResponse>().ok());
            match stored.and_then(|stored| stored.status).as_deref() {
                Some("incomplete") => "incomplete",
                Some("failed") => "failed",
                _ => "completed",
            }
        }
    }
}

#[cfg(test)]
mod tests;
