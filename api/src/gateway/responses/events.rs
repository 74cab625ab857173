//! The events of a response, rendered from the log of its job.
//!
//! The same log always gives the same events with the same numbers. A reader that reconnects names the last number
//! that it received. An attempt that broke off after a part of its answer was sent cannot be undone: an `error`
//! event ends the stream, and a reader that resumes after it receives the final event with the complete answer.

use causeway_queue::{
    Event, EventKind, Job, RawJson, Status,
    json::{RawObject, items, text},
};

use super::object::{ResponseObject, object, skeleton};

/// The message about an attempt that broke off in its middle.
const BROKEN: &str = "the model's answer broke off and starts again; the part sent so far is void";

/// A renderer of the log as SSE blocks.
#[derive(Debug, Default)]
pub(crate) struct Renderer {
    next: u64,
    /// The last number that the reader has received.
    has: Option<u64>,
    stage: Stage,
    ended: bool,
}

/// The progress of the log.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
enum Stage {
    #[default]
    Waiting,
    InProgress,
    /// A part of the answer was sent.
    Sending,
    /// The part that was sent is void.
    Broken,
}

impl Renderer {
    /// Returns a renderer for a reader that has all events up to number `has`.
    pub(crate) fn after(has: Option<u64>) -> Self {
        Self { has, ..Self::default() }
    }

    /// True if the stream has ended.
    pub(crate) fn has_ended(&self) -> bool {
        self.ended
    }

    /// True if [`blocks`](Self::blocks) needs the job for an event of this kind.
    pub(crate) fn needs_job(&self, kind: EventKind) -> bool {
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

    /// Renders an event.
    pub(crate) fn blocks(&mut self, event: &Event, job: Option<&Job>) -> String {
        let mut blocks = String::new();
        match event.kind {
            EventKind::Queued if self.next == 0 => {
                for kind in ["response.created", "response.queued"] {
                    let response = job.map(|job| skeleton(job, "queued"));
                    self.push_response(&mut blocks, kind, response.as_ref());
                }
            }
            EventKind::Started if self.stage == Stage::Waiting => {
                self.stage = Stage::InProgress;
                let response = job.map(|job| skeleton(job, "in_progress"));
                self.push_response(&mut blocks, "response.in_progress", response.as_ref());
            }
            EventKind::Retrying | EventKind::Reset if self.stage == Stage::Sending => {
                self.stage = Stage::Broken;
                self.ended = self.is_new();
                let error = error(BROKEN);
                self.push(&mut blocks, "error", fields(&error));
            }
            EventKind::Queued | EventKind::Started | EventKind::Retrying | EventKind::Reset => {}
            EventKind::Delta if self.stage == Stage::Broken => {}
            EventKind::Delta => {
                self.stage = Stage::Sending;
                for chunk in items(event.data.as_str()).unwrap_or_default() {
                    let chunk = RawObject::parse(chunk).unwrap_or_default();
                    let kind = chunk.text("type").unwrap_or_else(|| "error".to_owned());
                    self.push(&mut blocks, &kind, chunk.iter());
                }
            }
            EventKind::Succeeded
            | EventKind::Failed
            | EventKind::Cancelled
            | EventKind::Expired => {
                let response = job.map(object);
                let status =
                    response.as_ref().and_then(|response| text(response.get("status")?.as_str()));
                let kind = match (job.map(Job::status), status.as_deref()) {
                    (Some(Status::Succeeded), Some("incomplete")) => "response.incomplete",
                    (Some(Status::Succeeded), _) => "response.completed",
                    (_, _) => "response.failed",
                };
                self.push_response(&mut blocks, kind, response.as_ref());
                self.ended = true;
            }
        }
        blocks
    }

    /// Ends the stream with an error that is not in the log. It reuses the latest number, so a reader that resumes
    /// after it misses no event.
    pub(crate) fn interrupt(&mut self, message: &str) -> String {
        self.ended = true;
        let number = self.next.saturating_sub(1);
        block("error", number, fields(&error(message)))
    }

    /// True if the reader does not have the next event yet.
    fn is_new(&self) -> bool {
        self.has.is_none_or(|has| self.next > has)
    }

    /// Renders an event that carries the response object.
    fn push_response(
        &mut self,
        blocks: &mut String,
        kind: &str,
        response: Option<&ResponseObject>,
    ) {
        let response = response.and_then(|response| RawJson::of(response).ok()).unwrap_or_default();
        self.push(blocks, kind, [("response", response.as_str())].into_iter());
    }

    fn push<'a>(
        &mut self,
        blocks: &mut String,
        kind: &str,
        fields: impl Iterator<Item = (&'a str, &'a str)>,
    ) {
        if self.is_new() {
            blocks.push_str(&block(kind, self.next, fields));
        }
        self.next += 1;
    }
}

/// Renders an event with these fields, its type and its number.
fn block<'a>(kind: &str, number: u64, fields: impl Iterator<Item = (&'a str, &'a str)>) -> String {
    let name = RawJson::string(kind);
    let mut data = format!("{{\"type\":{},\"sequence_number\":{number}", name.as_str());
    for (name, value) in fields.filter(|(name, _)| !matches!(*name, "type" | "sequence_number")) {
        data.extend([",\"", name, "\":"]);
        // A line break would end the SSE field. JSON never needs one outside of strings, and escapes it inside.
        data.extend(value.chars().map(|one| if matches!(one, '\n' | '\r') { ' ' } else { one }));
    }
    format!("event: {kind}\ndata: {data}}}\n\n")
}

/// Returns the data of an error event, without type and number.
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
