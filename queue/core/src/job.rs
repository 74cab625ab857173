//! The job: the submitted request, and its view from outside.

use std::{collections::BTreeMap, time::Duration};

use bytes::Bytes;
use serde::{Deserialize, Serialize};

pub use crate::attempt::{AttemptError, ChargedTo, FailedAttempt, worker_lost};
use crate::{
    clock::Millis,
    fair::Estimate,
    headers::Headers,
    id::{IdempotencyKey, JobId, SessionKey, TenantId},
    json::RawJson,
    session::Memory,
    state::{Class, Status},
    waiting::WaitingFor,
    webhook::Webhook,
};

/// The request of a job to its upstream, without the body. It is written once, at acceptance. The engine reads only
/// the webhook and the idempotency key. `u` and `m` are written first, in this order: a list looks for the model there without
/// parsing the rest.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Spec {
    /// The path of the upstream endpoint; the usual one, `/v1/chat/completions`, is not written.
    #[serde(rename = "u", default = "usual_url", skip_serializing_if = "is_usual")]
    pub url: String,
    /// The body's `model`, which selected the lane.
    #[serde(rename = "m", default, skip_serializing_if = "Option::is_none")]
    pub model: Option<String>,
    /// True if the body asks for a stream.
    #[serde(rename = "s", default, skip_serializing_if = "is_false")]
    pub stream: bool,
    /// The client's own labels.
    #[serde(rename = "d", default, skip_serializing_if = "BTreeMap::is_empty")]
    pub metadata: BTreeMap<String, String>,
    /// The settings of the conversation that the job belongs to.
    #[serde(rename = "y", default, skip_serializing_if = "Option::is_none")]
    pub memory: Option<Memory>,
    /// Headers for the upstream, e.g. `anthropic-version`.
    #[serde(rename = "h", default, skip_serializing_if = "BTreeMap::is_empty")]
    pub headers: Headers,
    /// Opaque data of the API, returned with the job; the engine and the worker do not read it.
    #[serde(rename = "a", default, skip_serializing_if = "Option::is_none")]
    pub api: Option<RawJson>,
    /// The client's deadline, in milliseconds from acceptance; set by [`Queue::submit`](crate::Queue::submit). The
    /// engine's own deadline, `give_up_after`, is not written here.
    #[serde(rename = "t", default, skip_serializing_if = "Option::is_none")]
    pub deadline_ms: Option<u64>,
    /// The idempotency key, if it lives as long as the job; set by [`Queue::submit`](crate::Queue::submit). A store
    /// with expiring keys extends it when the job is retried.
    #[serde(rename = "k", default, skip_serializing_if = "Option::is_none")]
    pub idempotency_key: Option<IdempotencyKey>,
    /// The receiver of the job's webhook event.
    #[serde(rename = "w", default, skip_serializing_if = "Option::is_none")]
    pub webhook: Option<Webhook>,
}

/// The endpoint of most jobs. It is left out of records, because Redis hashes every byte of a record each time that a
/// script holds it as a string.
const USUAL_URL: &str = "/v1/chat/completions";

fn usual_url() -> String {
    USUAL_URL.to_owned()
}

fn is_usual(url: &str) -> bool {
    url == USUAL_URL
}

impl Spec {
    /// Returns true if `deadline` was set by the client.
    pub fn set_deadline(&self, created_at: Millis, deadline: Option<Millis>) -> bool {
        let own = self.deadline_ms.map(|ms| created_at.after(Duration::from_millis(ms)));
        own.is_some() && own == deadline
    }
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "the signature that serde calls")]
fn is_false(flag: &bool) -> bool {
    !flag
}

/// The idempotency key of a submission, to recognise repetitions.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Idempotency {
    /// The client's key, unique within its tenant.
    pub key: IdempotencyKey,
    /// The SHA-256 of the request. A repetition with another digest is refused.
    pub digest: [u8; 32],
    /// The time until the key expires, from the time in its job's id.
    pub ttl: Duration,
    /// True if the key lives at least as long as its job is retained.
    pub spans_job: bool,
}

/// A job to accept. Created by [`Queue::draft`](crate::Queue::draft), which selects the lane.
#[derive(Debug, Clone)]
pub struct NewJob {
    /// The id.
    pub id: JobId,
    /// The owner.
    pub tenant: TenantId,
    /// The urgency.
    pub class: Class,
    /// The session; its jobs run in order.
    pub session: Option<SessionKey>,
    /// The request to the upstream.
    pub spec: Spec,
    /// The JSON body for the upstream.
    pub body: Bytes,
    /// The expected cost, in tokens.
    pub cost: Estimate,
    /// The wait before the first attempt.
    pub delay: Duration,
    /// The time, from acceptance, within which the job must end.
    pub deadline: Option<Duration>,
    /// The number of attempts that the job may spend, from 1.
    pub max_attempts: u32,
    /// The idempotency key, if the client sent one.
    pub idempotency: Option<Idempotency>,
    /// True if its events are kept: the job streams, or a reader may connect late.
    pub keeps_events: bool,
}

/// The result of submitting one [`NewJob`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Accepted {
    /// The job is in the queue.
    New(JobId),
    /// An equal request was accepted before, as this job.
    Replayed(JobId),
}

impl Accepted {
    /// Returns the job that answers the request.
    #[must_use]
    pub fn id(&self) -> &JobId {
        match self {
            Self::New(id) | Self::Replayed(id) => id,
        }
    }
}

/// A job as clients see it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Job {
    /// The id.
    pub id: JobId,
    /// The owner.
    pub tenant: TenantId,
    /// The urgency.
    pub class: Class,
    /// The session; its jobs run in order.
    pub session: Option<SessionKey>,
    /// The request to the upstream.
    pub spec: Spec,
    /// The number of spent attempts, with the running one.
    pub attempts: u32,
    /// The number of attempts that the job may spend.
    pub max_attempts: u32,
    /// The number of lost workers.
    pub stalls: u32,
    /// The time of acceptance.
    pub created_at: Millis,
    /// The start of the latest attempt.
    pub started_at: Option<Millis>,
    /// The time by which the job must end.
    pub deadline: Option<Millis>,
    /// True if its events are kept.
    pub keeps_events: bool,
    /// The state.
    pub state: State,
    /// The failed attempts after which the job continued, oldest first; the last [`MAX_ERRORS`].
    pub errors: Vec<FailedAttempt>,
}

/// The most failed attempts that are kept with a job.
pub const MAX_ERRORS: usize = 20;

/// The state of a job, with the data that exists only in that state.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum State {
    /// See [`Status::Queued`].
    Queued {
        /// The number of jobs of its flow that run before it; `None` behind an earlier job of its session.
        position: Option<u64>,
        /// The reason why it does not run.
        waiting_for: WaitingFor,
        /// The estimated time until its start, in milliseconds; `None` if unknown.
        estimated_wait_ms: Option<u64>,
    },
    /// See [`Status::Scheduled`].
    Scheduled {
        /// The end of the wait.
        until: Millis,
        /// The reason why it does not run: its time, or a block on its lane.
        waiting_for: WaitingFor,
    },
    /// See [`Status::Running`].
    Running {
        /// True if the job was cancelled and its worker has not settled yet.
        cancelling: bool,
    },
    /// It has ended.
    Ended {
        /// The terminal status.
        status: Status,
        /// The time of the end.
        at: Millis,
        /// The output; `None` if a cancel or the deadline ended the job.
        output: Option<Output>,
    },
}

impl State {
    /// Returns true if the job waits for an attempt.
    pub fn is_waiting(&self) -> bool {
        match self {
            Self::Queued { .. } | Self::Scheduled { .. } => true,
            Self::Running { .. } | Self::Ended { .. } => false,
        }
    }

    /// Changes the reason of a waiting job to the lack of a live worker for its lane.
    pub fn lose_workers(&mut self) {
        match self {
            Self::Queued { waiting_for, estimated_wait_ms, .. } => {
                *waiting_for = std::mem::take(waiting_for).without_worker();
                *estimated_wait_ms = None;
            }
            Self::Scheduled { waiting_for, .. } => {
                *waiting_for = std::mem::take(waiting_for).without_worker();
            }
            Self::Running { .. } | Self::Ended { .. } => {}
        }
    }
}

impl Job {
    /// Returns the status.
    #[must_use]
    pub fn status(&self) -> Status {
        match &self.state {
            State::Queued { .. } => Status::Queued,
            State::Scheduled { .. } => Status::Scheduled,
            State::Running { .. } => Status::Running,
            State::Ended { status, .. } => *status,
        }
    }

    /// Returns true if the job expired by `give_up_after` and not by its client's deadline.
    #[must_use]
    pub fn gave_up(&self) -> bool {
        let has_own = self.spec.set_deadline(self.created_at, self.deadline);
        self.status() == Status::Expired && !has_own
    }
}

/// Returns the error code of a job that was ended by a cancel, its deadline or `give_up_after`, and not by an
/// attempt.
#[must_use]
pub fn code_of_plain_end(status: Status, gave_up: bool) -> Option<&'static str> {
    match status {
        Status::Cancelled => Some("cancelled"),
        Status::Expired if gave_up => Some("gave_up"),
        Status::Expired => Some("deadline_exceeded"),
        Status::Queued
        | Status::Scheduled
        | Status::Running
        | Status::Succeeded
        | Status::Failed => None,
    }
}

/// The output of an ended job.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Output {
    /// The error, if there is no good answer. It is written first, so that a list finds the code at the start of a
    /// long output.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<AttemptError>,
    /// The upstream's answer; also that of a refused request.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub response: Option<Response>,
    /// The used tokens.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub usage: Option<Usage>,
    /// True if the answer is simulated and no model was called.
    #[serde(default, skip_serializing_if = "is_false")]
    pub simulated: bool,
}

/// The answer of an upstream.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Response {
    /// The HTTP status.
    pub status_code: u16,
    /// The body as the upstream sent it; a text that is not JSON becomes a JSON string.
    pub body: RawJson,
}

/// Tokens that an attempt used, as the upstream counted them.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Usage {
    /// Tokens of the prompt.
    pub prompt_tokens: u64,
    /// Tokens of the completion.
    pub completion_tokens: u64,
}

impl Usage {
    /// Returns the sum of both, which fair queueing charges.
    #[must_use]
    pub fn total(self) -> u64 {
        self.prompt_tokens.saturating_add(self.completion_tokens)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_usual_endpoint_is_not_written() {
        for (url, written) in
            [(USUAL_URL, "{}"), ("/v1/messages", r#"{"u":"/v1/messages"}"#), ("", r#"{"u":""}"#)]
        {
            let spec = Spec { url: url.to_owned(), ..Spec::default() };
            assert_eq!(serde_json::to_string(&spec).unwrap(), written);
            assert_eq!(serde_json::from_str::<Spec>(written).unwrap(), spec);
        }
    }
}
