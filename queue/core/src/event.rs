//! The events of a job, as its readers see them.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::{attempt::AttemptError, clock::millis, json::RawJson, state::Status};

/// One entry of a job's event log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Event {
    /// The index in the log, from 0 without gaps.
    pub seq: u64,
    /// The kind of the event.
    pub kind: EventKind,
    /// Further data; `null` if the kind is enough.
    ///
    /// `Delta`: an array of the upstream's stream objects, in order. `Retrying`: `{"in_ms", "code",
    /// "message"}`. `Started`: `{"attempt"}`.
    pub data: RawJson,
}

/// The kind of an event.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum EventKind {
    /// The job was accepted, requeued or retried.
    #[serde(rename = "job.queued")]
    Queued,
    /// An attempt started.
    #[serde(rename = "job.started")]
    Started,
    /// The upstream sent more output.
    #[serde(rename = "output.delta")]
    Delta,
    /// An attempt ended without an answer, and another will follow.
    #[serde(rename = "job.retrying")]
    Retrying,
    /// A new attempt starts from the beginning: earlier output is void.
    #[serde(rename = "output.reset")]
    Reset,
    /// The job succeeded; always the last event.
    #[serde(rename = "job.succeeded")]
    Succeeded,
    /// The job failed; always the last event.
    #[serde(rename = "job.failed")]
    Failed,
    /// The job was cancelled; always the last event.
    #[serde(rename = "job.cancelled")]
    Cancelled,
    /// The job expired; always the last event.
    #[serde(rename = "job.expired")]
    Expired,
}

impl EventKind {
    /// Returns the kind of the event of a job's end; `None` for a status that is not terminal.
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

    /// Returns true if no event follows.
    #[must_use]
    pub fn is_last(self) -> bool {
        match self {
            Self::Queued | Self::Started | Self::Delta | Self::Retrying | Self::Reset => false,
            Self::Succeeded | Self::Failed | Self::Cancelled | Self::Expired => true,
        }
    }

    /// Returns the name that clients see.
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

/// Returns the data of [`EventKind::Started`].
pub fn started(attempt: u32) -> RawJson {
    RawJson::of(&serde_json::json!({ "attempt": attempt })).unwrap_or_default()
}

/// Returns the event of an attempt that ended without an answer and will be retried.
pub fn retrying(delay: Duration, error: &AttemptError) -> (EventKind, RawJson) {
    let data = serde_json::json!({
        "in_ms": millis(delay),
        "code": error.code,
        "message": error.message,
    });
    (EventKind::Retrying, RawJson::of(&data).unwrap_or_default())
}
