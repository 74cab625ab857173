//! Failed attempts.

use serde::{Deserialize, Serialize};

use crate::clock::Millis;

/// The error of an attempt without an answer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AttemptError {
    /// The number of the attempt, from 1.
    pub attempt: u32,
    /// The error code for programs, e.g. `upstream_timeout`.
    pub code: String,
    /// The message for people.
    pub message: String,
    /// The HTTP status of the upstream, if it answered.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub status_code: Option<u16>,
}

/// A failed attempt after which its job continued.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FailedAttempt {
    /// The error.
    #[serde(flatten)]
    pub error: AttemptError,
    /// The time of the settlement.
    pub at: Millis,
    /// The party that the failure is charged to.
    #[serde(rename = "to")]
    pub charged_to: ChargedTo,
}

/// The party that a failed attempt is charged to. Only an attempt that is charged to the job is spent; after any
/// other the next attempt has the same number.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ChargedTo {
    /// The job.
    Job,
    /// The lane: its upstream failed, or refused the request because of a rate.
    Lane,
    /// The worker, which was lost.
    Worker,
}

/// Returns the error of an attempt with an expired lease.
pub fn worker_lost(attempt: u32) -> AttemptError {
    AttemptError {
        attempt,
        code: "worker_lost".to_owned(),
        message: "the worker stopped during the call, so its lease expired".to_owned(),
        status_code: None,
    }
}
