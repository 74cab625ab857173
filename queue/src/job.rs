//! The job: what is submitted, and what is seen of it.

use std::{collections::BTreeMap, time::Duration};

use bytes::Bytes;
use serde::{Deserialize, Serialize};

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

/// What a job asks of its upstream, apart from the body. Written once, at acceptance; of all this the
/// engine heeds only whether there is a webhook. `u` and `m` are written first, in this order: lists look for the
/// model there.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Spec {
    /// Which endpoint of the upstream; the usual one, `/v1/chat/completions`, is not written.
    #[serde(rename = "u", default = "usual_url", skip_serializing_if = "is_usual")]
    pub url: String,
    /// The body's `model`, by which the lane was chosen.
    #[serde(rename = "m", default, skip_serializing_if = "Option::is_none")]
    pub model: Option<String>,
    /// Whether the body asks for a stream.
    #[serde(rename = "s", default, skip_serializing_if = "is_false")]
    pub stream: bool,
    /// The client's own labels.
    #[serde(rename = "d", default, skip_serializing_if = "BTreeMap::is_empty")]
    pub metadata: BTreeMap<String, String>,
    /// What the job's session remembers.
    #[serde(rename = "y", default, skip_serializing_if = "Option::is_none")]
    pub memory: Option<Memory>,
    /// Headers for the upstream, e.g. `anthropic-version`.
    #[serde(rename = "h", default, skip_serializing_if = "BTreeMap::is_empty")]
    pub headers: Headers,
    /// What the API wants to know again when it reads the job: its own, the engine and the worker
    /// pass it through.
    #[serde(rename = "a", default, skip_serializing_if = "Option::is_none")]
    pub api: Option<RawJson>,
    /// The deadline that its client gave it, in milliseconds from its acceptance; set by
    /// [`Queue::submit`](crate::Queue::submit). The engine's own, after `give_up_after`, is not written here.
    #[serde(rename = "t", default, skip_serializing_if = "Option::is_none")]
    pub deadline_ms: Option<u64>,
    /// The idempotency key that lives as long as the job; set by [`Queue::submit`](crate::Queue::submit). A store whose
    /// keys expire extends it when the job is retried.
    #[serde(rename = "k", default, skip_serializing_if = "Option::is_none")]
    pub idempotency_key: Option<IdempotencyKey>,
    /// Who is told when it ends: the one thing here that the engine heeds.
    #[serde(rename = "w", default, skip_serializing_if = "Option::is_none")]
    pub webhook: Option<Webhook>,
}

/// What most jobs ask: every byte of a record is hashed each time that a script holds it.
const USUAL_URL: &str = "/v1/chat/completions";

fn usual_url() -> String {
    USUAL_URL.to_owned()
}

fn is_usual(url: &str) -> bool {
    url == USUAL_URL
}

impl Spec {
    /// True if the deadline of a job is the one that its client gave it.
    pub(crate) fn set_deadline(&self, created_at: Millis, deadline: Option<Millis>) -> bool {
        let own = self.deadline_ms.map(|ms| created_at.after(Duration::from_millis(ms)));
        own.is_some() && own == deadline
    }
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "the signature that serde calls")]
fn is_false(flag: &bool) -> bool {
    !flag
}

/// By what a repeated submission is recognised.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Idempotency {
    /// The client's key; its own per tenant.
    pub key: IdempotencyKey,
    /// SHA-256 of the request. The same key with another digest is refused.
    pub digest: [u8; 32],
    /// How long the key is remembered, from the time in its job's id on.
    pub ttl: Duration,
    /// True if the key is remembered for longer than `ttl` where its job is: until that is forgotten.
    pub spans_job: bool,
}

/// A job to accept. Made by [`Queue::draft`](crate::Queue::draft), which routes it to a lane.
#[derive(Debug, Clone)]
pub struct NewJob {
    /// Its name.
    pub id: JobId,
    /// Whose it is.
    pub tenant: TenantId,
    /// How urgent it is.
    pub class: Class,
    /// The session in whose order it runs.
    pub session: Option<SessionKey>,
    /// What it asks of the upstream.
    pub spec: Spec,
    /// The JSON sent upstream.
    pub body: Bytes,
    /// What it is expected to cost.
    pub cost: Estimate,
    /// How long to wait before the first attempt.
    pub delay: Duration,
    /// After how long it must have ended.
    pub deadline: Option<Duration>,
    /// How many attempts it may spend, from 1.
    pub max_attempts: u32,
    /// By what a repetition is recognised.
    pub idempotency: Option<Idempotency>,
    /// Whether its events are kept (it streams, or its reader may come late).
    pub keeps_events: bool,
}

/// What became of one [`NewJob`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Accepted {
    /// It is in the queue.
    New(JobId),
    /// The same request was accepted before, as this job.
    Replayed(JobId),
}

impl Accepted {
    /// The job that answers the request.
    #[must_use]
    pub fn id(&self) -> &JobId {
        match self {
            Self::New(id) | Self::Replayed(id) => id,
        }
    }
}

/// A job as it is seen from outside.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Job {
    /// Its name.
    pub id: JobId,
    /// Whose it is.
    pub tenant: TenantId,
    /// How urgent it is.
    pub class: Class,
    /// The session in whose order it runs.
    pub session: Option<SessionKey>,
    /// What it asks of the upstream.
    pub spec: Spec,
    /// Attempts spent, the running one included.
    pub attempts: u32,
    /// How many attempts it may spend.
    pub max_attempts: u32,
    /// How often its worker was lost.
    pub stalls: u32,
    /// When it was accepted.
    pub created_at: Millis,
    /// When its last attempt began.
    pub started_at: Option<Millis>,
    /// By when it must have ended.
    pub deadline: Option<Millis>,
    /// Whether its events are kept.
    pub keeps_events: bool,
    /// Where it is.
    pub state: State,
    /// The failed attempts after which the job went on, oldest first; the last [`MAX_ERRORS`].
    pub errors: Vec<FailedAttempt>,
}

/// Most failed attempts that are kept with a job.
pub const MAX_ERRORS: usize = 20;

/// Where a job is, with what is known only there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum State {
    /// See [`Status::Queued`].
    Queued {
        /// How many jobs of its flow run before it; `None` behind an earlier job of its session.
        position: Option<u64>,
        /// What it waits for.
        waiting_for: WaitingFor,
        /// When it is expected to start, in milliseconds from now; `None` when that is unknown.
        estimated_wait_ms: Option<u64>,
    },
    /// See [`Status::Scheduled`].
    Scheduled {
        /// Until when it waits.
        until: Millis,
        /// What it waits for: its time, or what keeps its lane from starting jobs.
        waiting_for: WaitingFor,
    },
    /// See [`Status::Running`].
    Running {
        /// Whether its owner asked for its end.
        cancelling: bool,
    },
    /// It has ended.
    Ended {
        /// How: one of the terminal ones.
        status: Status,
        /// When.
        at: Millis,
        /// With what; `None` when its owner or its deadline ended it.
        output: Option<Output>,
    },
}

impl State {
    /// True if no attempt runs, and one may come.
    pub(crate) fn is_waiting(&self) -> bool {
        match self {
            Self::Queued { .. } | Self::Scheduled { .. } => true,
            Self::Running { .. } | Self::Ended { .. } => false,
        }
    }

    /// Reports of a waiting job that no live worker serves its lane.
    pub(crate) fn lose_workers(&mut self) {
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
    /// Where the job is, in one word.
    #[must_use]
    pub fn status(&self) -> Status {
        match &self.state {
            State::Queued { .. } => Status::Queued,
            State::Scheduled { .. } => Status::Scheduled,
            State::Running { .. } => Status::Running,
            State::Ended { status, .. } => *status,
        }
    }

    /// True if the job ended without an answer because of `give_up_after`, not by its client's deadline.
    #[must_use]
    pub fn gave_up(&self) -> bool {
        let has_own = self.spec.set_deadline(self.created_at, self.deadline);
        self.status() == Status::Expired && !has_own
    }
}

/// The error code of a job that was ended by its owner, its deadline or its age, and not by an attempt.
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

/// What a job ended with.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Output {
    /// Why there is no good answer. Written first: a list finds the code at the start, however long the
    /// answer is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<AttemptError>,
    /// What the upstream answered; also the answer to a refused request.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub response: Option<Response>,
    /// Tokens used.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub usage: Option<Usage>,
    /// Whether a simulation answered, and no model.
    #[serde(default, skip_serializing_if = "is_false")]
    pub simulated: bool,
}

/// An upstream's answer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Response {
    /// The HTTP status.
    pub status_code: u16,
    /// The body as the upstream sent it; text that is not JSON becomes a JSON string.
    pub body: RawJson,
}

/// Tokens that an attempt used, as the upstream counted them.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Usage {
    /// Tokens read.
    pub prompt_tokens: u64,
    /// Tokens written.
    pub completion_tokens: u64,
}

impl Usage {
    /// Tokens read and written: what fairness counts.
    #[must_use]
    pub fn total(self) -> u64 {
        self.prompt_tokens.saturating_add(self.completion_tokens)
    }
}

/// Why an attempt gave no answer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AttemptError {
    /// Which attempt, from 1.
    pub attempt: u32,
    /// A name that programs can match, e.g. `upstream_timeout`.
    pub code: String,
    /// What went wrong, for a person.
    pub message: String,
    /// The upstream's status, if it answered.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub status_code: Option<u16>,
}

/// A failed attempt after which its job went on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FailedAttempt {
    /// Why it gave no answer.
    #[serde(flatten)]
    pub error: AttemptError,
    /// When it was settled.
    pub at: Millis,
    /// The owner of the failure.
    #[serde(rename = "to")]
    pub charged_to: ChargedTo,
}

/// The owner of a failed attempt. Only an attempt that is charged to the job is spent: the attempt after any
/// other has the same number again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ChargedTo {
    /// The job.
    Job,
    /// The lane: its upstream failed, or refused for the rate.
    Lane,
    /// The worker, which was lost.
    Worker,
}

/// The error of an attempt whose lease expired.
pub(crate) fn worker_lost(attempt: u32) -> AttemptError {
    AttemptError {
        attempt,
        code: "worker_lost".to_owned(),
        message: "the worker stopped answering in mid-call; its lease expired".to_owned(),
        status_code: None,
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
