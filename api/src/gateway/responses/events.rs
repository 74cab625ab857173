//! The events of a response, made from the log of its job.
//!
//! The same log gives the same events with the same numbers, whoever reads it and when: a reader
//! that comes back names the last number it has. An attempt that broke off after something of it was
//! told cannot be taken back: an `error` event says so and ends the stream; who resumes behind it
//! hears the end, with the whole answer.

use causeway_queue::{Event, EventKind, Job, Status};
use serde_json::{Map, Value, json};

use super::object::{object, skeleton};

/// What is told of an attempt that broke off in its middle.
const BROKEN: &str = "the model's answer broke off and begins anew; what was told of it is void";

/// Turns a log into blocks of a stream.
#[derive(Debug, Default)]
pub(in crate::gateway) struct Renderer {
    next: u64,
    /// What the reader has: up to this number, included.
    has: Option<u64>,
    stage: Stage,
    ended: bool,
}

/// How far the log has gone.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
enum Stage {
    #[default]
    Waiting,
    InProgress,
    /// Something of the answer was told.
    Telling,
    /// What was told is void.
    Broken,
}

impl Renderer {
    /// For a reader that has all events up to number `has`.
    pub(in crate::gateway) fn after(has: Option<u64>) -> Self {
        Self { has, ..Self::default() }
    }

    /// Whether nothing is to be told any more.
    pub(in crate::gateway) fn has_ended(&self) -> bool {
        self.ended
    }

    /// Whether `blocks` needs the job for an event of this kind.
    pub(in crate::gateway) fn needs_job(&self, kind: EventKind) -> bool {
        match kind {
            EventKind::Queued => self.next == 0,
            EventKind::Started => self.stage == Stage::Waiting,
            EventKind::Delta | EventKind::Retrying | EventKind::Reset => false,
            EventKind::Succeeded
            | EventKind::Failed
            | EventKind::Cancelled
            | EventKind::Expired => true,
        }
    }

    /// What the reader is told of an event.
    pub(in crate::gateway) fn blocks(&mut self, event: &Event, job: Option<&Job>) -> String {
        let mut told = String::new();
        match event.kind {
            EventKind::Queued if self.next == 0 => {
                for kind in ["response.created", "response.queued"] {
                    self.tell(&mut told, kind, about(job.map(|job| skeleton(job, "queued"))));
                }
            }
            EventKind::Started if self.stage == Stage::Waiting => {
                self.stage = Stage::InProgress;
                let response = job.map(|job| skeleton(job, "in_progress"));
                self.tell(&mut told, "response.in_progress", about(response));
            }
            EventKind::Retrying | EventKind::Reset if self.stage == Stage::Telling => {
                self.stage = Stage::Broken;
                self.ended = self.is_new();
                self.tell(&mut told, "error", error(BROKEN));
            }
            EventKind::Queued | EventKind::Started | EventKind::Retrying | EventKind::Reset => {}
            EventKind::Delta if self.stage == Stage::Broken => {}
            EventKind::Delta => {
                self.stage = Stage::Telling;
                let chunks: Vec<Map<String, Value>> = event.data.read().unwrap_or_default();
                for chunk in chunks {
                    let kind = chunk.get("type").and_then(Value::as_str).unwrap_or("error");
                    let kind = kind.to_owned();
                    self.tell(&mut told, &kind, chunk);
                }
            }
            EventKind::Succeeded
            | EventKind::Failed
            | EventKind::Cancelled
            | EventKind::Expired => {
                let response = job.map(object);
                let kind = match (job.map(Job::status), &response) {
                    (Some(Status::Succeeded), Some(said)) if said["status"] == "incomplete" => {
                        "response.incomplete"
                    }
                    (Some(Status::Succeeded), _) => "response.completed",
                    (_, _) => "response.failed",
                };
                let response = response.and_then(|value| value.as_object().cloned());
                self.tell(&mut told, kind, about(response));
                self.ended = true;
            }
        }
        told
    }

    /// Ends the stream with an error that is not in the log: it has no number of its own, so that
    /// who resumes behind it misses nothing.
    pub(in crate::gateway) fn interrupt(&mut self, message: &str) -> String {
        self.ended = true;
        let mut data = error(message);
        data.insert("type".to_owned(), "error".into());
        data.insert("sequence_number".to_owned(), self.next.saturating_sub(1).into());
        format!("event: error\ndata: {}\n\n", Value::Object(data))
    }

    /// Whether the reader does not have the event that comes next.
    fn is_new(&self) -> bool {
        self.has.is_none_or(|has| self.next > has)
    }

    fn tell(&mut self, told: &mut String, kind: &str, mut data: Map<String, Value>) {
        if self.is_new() {
            data.insert("type".to_owned(), kind.into());
            data.insert("sequence_number".to_owned(), self.next.into());
            let data = Value::Object(data);
            told.push_str(&format!("event: {kind}\ndata: {data}\n\n"));
        }
        self.next += 1;
    }
}

/// The data of an error event, without type and number.
fn error(message: &str) -> Map<String, Value> {
    let error = json!({ "code": "server_error", "message": message, "param": null });
    error.as_object().cloned().unwrap_or_default()
}

fn about(response: Option<Map<String, Value>>) -> Map<String, Value> {
    let response = response.map_or(Value::Null, Value::Object);
    [("response".to_owned(), response)].into_iter().collect()
}
