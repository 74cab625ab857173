//! Reconstruction of the whole answer from the events of a stream.
//!
//! The result equals the answer that the same call would have given without a stream. Deltas are merged by the
//! rules of the reference accumulators: OpenAI's SDKs for Python and node, Anthropic's SDK for Python. Values
//! stay as they are written, so numbers keep every digit, and the halves of a surrogate pair are joined where
//! they are adjacent. The cost of an event depends on its own length, not on the choices and calls before it.

pub(crate) mod calls;
mod choices;
pub(crate) mod chunk;
mod content;
pub(crate) mod convert;
mod error;
mod message;
mod node;
pub(crate) mod raw;
mod usage;

use std::ops::ControlFlow;

use causeway_queue::{
    RawJson,
    json::{RawObject, repair_surrogates},
};

pub(crate) use self::usage::{text, usage};
use self::{choices::Choices, chunk::StreamChunk, message::MessageAccumulator, raw::TooMany};
use crate::{
    failure::Failure,
    upstream::call::{Sink, StreamEvent},
};

/// The data of the event that ends an OpenAI stream.
const DONE: &str = "[DONE]";

/// The accumulator of one kind of stream.
#[derive(Debug)]
enum Accumulator {
    /// Chat and text completions: chunks with choices.
    Choices(Choices),
    /// A message of Anthropic's API.
    Message(MessageAccumulator),
    /// A response: its last event carries the whole object.
    Response(Option<String>),
    /// Any other endpoint: the events as a list, separated by commas.
    Events(String),
}

/// The accumulator of one stream.
#[derive(Debug)]
pub(crate) struct Assembly {
    kind: Accumulator,
    is_done: bool,
    /// Bytes of event data so far, at most `max_bytes`.
    bytes: usize,
    max_bytes: usize,
}

/// The chunk of an event that readers of the stream get; `Break` after the last event of the answer.
type Taken = ControlFlow<Option<StreamChunk>, Option<StreamChunk>>;

impl Assembly {
    /// Returns an assembly for a call to `url` with an answer of at most `max_bytes` bytes.
    pub(crate) fn new(url: &str, max_bytes: usize) -> Self {
        let kind = if url.ends_with("/completions") {
            Accumulator::Choices(Choices::new(url.ends_with("/chat/completions")))
        } else if url.ends_with("/messages") {
            Accumulator::Message(MessageAccumulator::default())
        } else if url.ends_with("/responses") {
            Accumulator::Response(None)
        } else {
            Accumulator::Events(String::new())
        };
        Self { kind, is_done: false, bytes: 0, max_bytes }
    }

    /// Merges one event and returns its chunk for the readers of the stream.
    ///
    /// # Errors
    /// If the event reports an error or is not JSON, or if the answer exceeds its limits.
    pub(crate) fn take(&mut self, event: StreamEvent<'_>) -> Result<Taken, Failure> {
        let data = event.data.trim();
        self.bytes += data.len();
        if self.bytes > self.max_bytes {
            return Err(Failure::TooLarge(self.max_bytes));
        }
        // Fast path: most events of a chat differ from the one before in their text only.
        if let Accumulator::Choices(choices) = &mut self.kind
            && event.name != "error"
            && let Some(chunk) = choices.take_text(data)
        {
            return Ok(ControlFlow::Continue(Some(chunk)));
        }
        match read(event)? {
            Read::Nothing => Ok(ControlFlow::Continue(None)),
            Read::Done => {
                self.is_done = true;
                Ok(ControlFlow::Break(None))
            }
            Read::Object(object) => {
                let taken = self.merge(data, event.name, &object);
                taken.map_err(Failure::from)
            }
        }
    }

    /// Merges the object of an event into the answer.
    fn merge(&mut self, data: &str, name: &str, object: &RawObject<'_>) -> Result<Taken, TooMany> {
        let chunk = Some(StreamChunk::other(data));
        // Some servers name the type in the `event` field only.
        let kind = object.text("type").unwrap_or_else(|| name.to_owned());
        match &mut self.kind {
            Accumulator::Choices(choices) => {
                return Ok(ControlFlow::Continue(choices.take(data, object)?));
            }
            Accumulator::Message(message) => {
                message.take(&kind, object)?;
                if kind == "message_stop" {
                    return Ok(ControlFlow::Break(chunk));
                }
            }
            Accumulator::Response(whole) => match kind.as_str() {
                // The API derives these events from the state of the job.
                "response.created" | "response.queued" | "response.in_progress" => {
                    return Ok(ControlFlow::Continue(None));
                }
                "response.completed" | "response.incomplete" => {
                    *whole = object.get("response").map(str::to_owned);
                    return Ok(ControlFlow::Break(None));
                }
                _ => {}
            },
            Accumulator::Events(events) => {
                if !events.is_empty() {
                    events.push(',');
                }
                events.push_str(data);
            }
        }
        Ok(ControlFlow::Continue(chunk))
    }

    /// True if the answer is complete, although the stream may continue.
    pub(crate) fn is_complete(&self) -> bool {
        match &self.kind {
            Accumulator::Choices(choices) => choices.is_complete(),
            Accumulator::Message(message) => message.is_complete(),
            Accumulator::Response(whole) => whole.is_some(),
            Accumulator::Events(events) => self.is_done && !events.is_empty(),
        }
    }

    /// Returns the whole answer.
    ///
    /// # Errors
    /// If the stream broke off before its end, or consists of its end marker only.
    pub(crate) fn finish(self) -> Result<RawJson, Failure> {
        let is_complete = self.is_complete();
        let cut = |why: &str| Failure::Cut(why.to_owned());
        let whole = match self.kind {
            Accumulator::Choices(choices) if choices.is_empty() && self.is_done => {
                return Err(cut("the stream ended without a choice"));
            }
            Accumulator::Message(message) if message.is_empty() && self.is_done => {
                return Err(cut("the stream ended without a message"));
            }
            Accumulator::Choices(choices) if is_complete || self.is_done => choices.finish(),
            Accumulator::Message(message) if is_complete || self.is_done => message.finish(),
            Accumulator::Response(Some(whole)) => whole,
            Accumulator::Events(events) if is_complete => format!("[{events}]"),
            Accumulator::Choices(_)
            | Accumulator::Message(_)
            | Accumulator::Response(None)
            | Accumulator::Events(_) => {
                return Err(cut("the stream ended before the answer was complete"));
            }
        };
        // A text that was cut within a surrogate pair has a lone half, which JSON parsers reject.
        let whole = repair_surrogates(&whole).into_owned();
        RawJson::parse(whole).map_err(|error| cut(&format!("the answer is not JSON: {error}")))
    }
}

impl Sink for Assembly {
    fn event(&mut self, event: StreamEvent<'_>) -> Result<ControlFlow<()>, Failure> {
        Ok(match self.take(event)? {
            ControlFlow::Break(_) => ControlFlow::Break(()),
            ControlFlow::Continue(_) => ControlFlow::Continue(()),
        })
    }

    fn is_complete(&self) -> bool {
        self.is_complete()
    }

    fn held(&self) -> usize {
        self.bytes
    }
}

/// A parsed event.
pub(crate) enum Read<'a> {
    /// An event without content, such as a keep-alive.
    Nothing,
    /// The end marker of the stream.
    Done,
    /// An event with a JSON object as its data.
    Object(RawObject<'a>),
}

/// Parses one event.
///
/// # Errors
/// If the event reports an error, or if its data are not JSON.
pub(crate) fn read(event: StreamEvent<'_>) -> Result<Read<'_>, Failure> {
    let data = event.data.trim();
    if event.name == "error" {
        return Err(Failure::InStream(error::named(data)));
    }
    if data.is_empty() {
        return Ok(Read::Nothing);
    }
    if data.starts_with(DONE) {
        return Ok(Read::Done);
    }
    let object = match RawObject::parse(data) {
        Ok(object) => object,
        // The reference accumulators ignore data that are JSON but not an object.
        Err(error) if error.is_data() => return Ok(Read::Nothing),
        Err(error) => return Err(Failure::Cut(format!("an event is not JSON: {error}"))),
    };
    if error::is_error(&object) {
        return Err(Failure::InStream(RawJson::parse(data.to_owned()).unwrap_or_default()));
    }
    Ok(Read::Object(object))
}

#[cfg(test)]
mod tests;
