//! The frames of a connection in both directions. A client sends objects with an `op`:
//!
//! | `op` | with | answered by |
//! |---|---|---|
//! | `submit` | `job` as for `POST /v1/jobs`; `follow`, `idempotency_key` | `accepted` and the job |
//! | `follow` | `job`, an id; `after`, the last event that the client has | `following` |
//! | `unfollow` | `job`, an id | `unfollowed` |
//! | `cancel` | `job`, an id | `cancelling` and the current job |
//! | `ping` | | `pong` |
//!
//! Each frame may carry a `ref`, which its answer repeats. Answers have the order of their frames. A refusal is an
//! `error`. Events of followed jobs come in between: the job's id, `seq`, and kind and data as in `GET
//! /v1/jobs/{id}/events`. A frame that arrives after its client's key was revoked is not answered: the connection
//! closes.

use causeway_queue::{Event, JobId, RawJson};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::{error::ApiError, extract::parse};

/// The operation of a frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Op {
    Submit,
    Follow,
    Unfollow,
    Cancel,
    Ping,
}

/// A frame of the client.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct ClientFrame {
    pub(super) op: Op,
    #[serde(default, rename = "ref")]
    pub(super) reference: Option<String>,
    #[serde(default)]
    pub(super) job: Option<RawJson>,
    #[serde(default)]
    pub(super) follow: bool,
    #[serde(default)]
    pub(super) after: Option<u32>,
    #[serde(default)]
    pub(super) idempotency_key: Option<String>,
}

/// The `ref` of a frame that is otherwise unreadable.
#[derive(Debug, Default, Deserialize)]
struct FrameRef {
    #[serde(default, rename = "ref")]
    reference: Option<String>,
}

impl ClientFrame {
    /// Parses a frame.
    pub(super) fn read(text: &str) -> Result<Self, ApiError> {
        parse(text.as_bytes())
    }

    /// Returns the `ref` of an unreadable frame.
    pub(super) fn name_of(text: &str) -> Option<String> {
        serde_json::from_str::<FrameRef>(text).unwrap_or_default().reference
    }
}

/// A frame of the server.
#[derive(Debug, Serialize)]
pub(super) struct ServerFrame<'a> {
    #[serde(rename = "ref", skip_serializing_if = "Option::is_none")]
    pub(super) reference: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) job: Option<RawJson>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) seq: Option<u64>,
    pub(super) r#type: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) data: Option<RawJson>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) replayed: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) error: Option<Value>,
}

impl<'a> ServerFrame<'a> {
    pub(super) fn new(kind: &'static str) -> Self {
        let (reference, job, seq, data, replayed, error) = Default::default();
        Self { reference, job, seq, r#type: kind, data, replayed, error }
    }

    /// Returns the frame of an event.
    pub(super) fn event(id: &JobId, event: &Event, data: RawJson) -> Self {
        let job = RawJson::of(id).ok();
        Self { job, seq: Some(event.seq), data: Some(data), ..Self::new(event.kind.as_str()) }
    }

    /// Returns the frame of an error.
    pub(super) fn error(error: &ApiError) -> Self {
        Self { error: error.body().get("error").cloned(), ..Self::new("error") }
    }

    pub(super) fn about(self, job: RawJson) -> Self {
        Self { job: Some(job), ..self }
    }

    pub(super) fn answering(self, reference: Option<&'a str>) -> Self {
        Self { reference, ..self }
    }

    /// Returns the frame as JSON.
    pub(super) fn text(&self) -> String {
        serde_json::to_string(self).unwrap_or_default()
    }
}
