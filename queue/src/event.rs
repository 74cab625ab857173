//! What happens to a job, as its readers see it.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::{clock::millis, job::AttemptError, json::RawJson, state::Status};

/// One entry of a job's event log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Event {
    /// Its place in the log, from 0 without gaps.
    pub seq: u64,
    /// What happened.
    pub kind: EventKind,
    /// More about it; `null` where the kind says all.
    ///
    /// `Delta`: an array of the upstream's stream objects, in order. `Retrying`: `{"in_ms", "code",
    /// "message"}`. `Started`: `{"attempt"}`.
    pub data: RawJson,
}

/// What happened.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum EventKind {
    /// The job was accepted, or put back.
    #[serde(rename = "job.queued")]
    Queued,
    /// An attempt began.
    #[serde(rename = "job.started")]
    Started,
    /// The upstream sent more of its answer.
    #[serde(rename = "output.delta")]
    Delta,
    /// An attempt ended without an answer, another will follow.
    #[serde(rename = "job.retrying")]
    Retrying,
    /// A new attempt begins from the start: what was sent so far is void.
    #[serde(rename = "output.reset")]
    Reset,
    /// The job ended so; always the last event.
    #[serde(rename = "job.succeeded")]
    Succeeded,
    /// The job ended so; always the last event.
    #[serde(rename = "job.failed")]
    Failed,
    /// The job ended so; always the last event.
    #[serde(rename = "job.cancelled")]
    Cancelled,
    /// The job ended so; always the last event.
    #[serde(rename = "job.expired")]
    Expired,
}

impl EventKind {
    /// The kind that tells of a job's end as `status`; `None` for a status that is not terminal.
    #[must_use]
    pub fn of_end(status: Status) -> Option<Self> {
        match status {
            Status::Queued | Status::Scheduled | Status::Running => None,
            Status::Succeeded => Some(Self::Succeeded),
            Status::Failed => Some(Self::Failed),
            Status::Cancelled => Some(Self::Cancelled),
            Status::Expired => Some(Self::Expired),
        }
    }

    /// Whether no event follows.
    #[must_use]
    pub fn is_last(self) -> bool {
        match self {
            Self::Queued | Self::Started | Self::Delta | Self::Retrying | Self::Reset => false,
            Self::Succeeded | Self::Failed | Self::Cancelled | Self::Expired => true,
        }
    }

    /// The name that clients see.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Queued => "job.queued",
            Self::Started => "job.started",
            Self::Delta => "output.delta",
            Self::Retrying => "job.retrying",
            Self::Reset => "output.reset",
            Self::Succeeded => "job.succeeded",
            Self::Failed => "job.failed",
            Self::Cancelled => "job.cancelled",
            Self::Expired => "job.expired",
        }
    }
}

/// The data of [`EventKind::Started`].
pub(crate) fn started(attempt: u32) -> RawJson {
    RawJson::of(&serde_json::json!({ "attempt": attempt })).unwrap_or_default()
}

/// The event of an attempt that ended without an answer and will be repeated.
pub(crate) fn retrying(delay: Duration, error: &AttemptError) -> (EventKind, RawJson) {
    let data = serde_json::json!({
        "in_ms": millis(delay),
        "code": error.code,
        "message": error.message,
    });
    (EventKind::Retrying, RawJson::of(&data).unwrap_or_default())
}
