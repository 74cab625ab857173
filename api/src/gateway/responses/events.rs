//! The events of a response, made from the log of its job.
//!
//! The same log gives the same events with the same numbers, whoever reads it and when: a reader
//! that comes back names the last number it has. An attempt that broke off after something of it was
//! told cannot be taken back: an `error` event says so and ends the stream; who resumes behind it
//! hears the end, with the whole answer.

use causeway_queue::{
    Event, EventKind, Job, RawJson, Status,
    json::{RawObject, items, text},
};

use super::object::{Response, object, skeleton};

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
                    let response = job.map(|job| skeleton(job, "queued"));
                    self.tell_about(&mut told, kind, response.as_ref());
                }
            }
            EventKind::Started if self.stage == Stage::Waiting => {
                self.stage = Stage::InProgress;
                let response = job.map(|job| skeleton(job, "in_progress"));
                self.tell_about(&mut told, "response.in_progress", response.as_ref());
            }
            EventKind::Retrying | EventKind::Reset if self.stage == Stage::Telling => {
                self.stage = Stage::Broken;
                self.ended = self.is_new();
                let error = error(BROKEN);
                self.tell(&mut told, "error", fields(&error));
            }
            EventKind::Queued | EventKind::Started | EventKind::Retrying | EventKind::Reset => {}
            EventKind::Delta if self.stage == Stage::Broken => {}
            EventKind::Delta => {
                self.stage = Stage::Telling;
                for chunk in items(event.data.as_str()).unwrap_or_default() {
                    let chunk = RawObject::parse(chunk).unwrap_or_default();
                    let kind = chunk.text("type").unwrap_or_else(|| "error".to_owned());
                    self.tell(&mut told, &kind, chunk.iter());
                }
            }
            EventKind::Succeeded
            | EventKind::Failed
            | EventKind::Cancelled
            | EventKind::Expired => {
                let response = job.map(object);
                let status = response.as_ref().and_then(|said| text(said.get("status")?.as_str()));
                let kind = match (job.map(Job::status), status.as_deref()) {
                    (Some(Status::Succeeded), Some("incomplete")) => "response.incomplete",
                    (Some(Status::Succeeded), _) => "response.completed",
                    (_, _) => "response.failed",
                };
                self.tell_about(&mut told, kind, response.as_ref());
                self.ended = true;
            }
        }
        told
    }

    /// Ends the stream with an error that is not in the log: it has no number of its own, so that
    /// who resumes behind it misses nothing.
    pub(in crate::gateway) fn interrupt(&mut self, message: &str) -> String {
        self.ended = true;
        let number = self.next.saturating_sub(1);
        block("error", number, fields(&error(message)))
    }

    /// Whether the reader does not have the event that comes next.
    fn is_new(&self) -> bool {
        self.has.is_none_or(|has| self.next > has)
    }

    /// Tells what the response is now.
    fn tell_about(&mut self, told: &mut String, kind: &str, response: Option<&Response>) {
        let response = response.and_then(|response| RawJson::of(response).ok()).unwrap_or_default();
        self.tell(told, kind, [("response", response.as_str())].into_iter());
    }

    fn tell<'a>(
        &mut self,
        told: &mut String,
        kind: &str,
        fields: impl Iterator<Item = (&'a str, &'a str)>,
    ) {
        if self.is_new() {
            told.push_str(&block(kind, self.next, fields));
        }
        self.next += 1;
    }
}

/// An event with these fields, its type and its number.
fn block<'a>(kind: &str, number: u64, fields: impl Iterator<Item = (&'a str, &'a str)>) -> String {
    let name = RawJson::string(kind);
    let mut data = format!("{{\"type\":{},\"sequence_number\":{number}", name.as_str());
    for (name, value) in fields.filter(|(name, _)| !matches!(*name, "type" | "sequence_number")) {
        data.extend([",\"", name, "\":"]);
        // A line end inside the data would end the field: JSON has none that it needs.
        data.extend(value.chars().map(|one| if matches!(one, '\n' | '\r') { ' ' } else { one }));
    }
    format!("event: {kind}\ndata: {data}}}\n\n")
}

/// The data of an error event, without type and number.
fn error(message: &str) -> [(&'static str, RawJson); 3] {
    [
        ("code", RawJson::string("server_error")),
        ("message", RawJson::string(message)),
        ("param", RawJson::default()),
    ]
}

fn fields<'a>(of: &'a [(&'static str, RawJson)]) -> impl Iterator<Item = (&'a str, &'a str)> {
    of.iter().map(|(name, value)| (*name, value.as_str()))
}
