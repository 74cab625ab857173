//! From the events of a stream to the answer that the same call would have given without one.
//!
//! Deltas are put together by the rules of the reference accumulators: those of OpenAI's SDKs for
//! Python and node, and of Anthropic's for Python. Values stay as they are written, so numbers keep
//! every digit, and halves of surrogate pairs meet where they follow one another. Every step costs
//! what its event is long, however many choices and calls came before.

pub(crate) mod calls;
mod choices;
mod content;
pub(crate) mod convert;
mod entries;
mod error;
mod fields;
mod message;
pub(crate) mod node;
mod usage;

use std::ops::ControlFlow;

use causeway_queue::{
    RawJson,
    json::{RawObject, repair_surrogates},
};

pub(crate) use self::usage::{text, usage};
use self::{choices::Choices, message::Message, node::TooMany};
use crate::{
    chunk::Chunk,
    upstream::{Failure, Sink, StreamEvent},
};

/// The data of the event after which OpenAI's streams say nothing more.
const DONE: &str = "[DONE]";

/// The sink of one kind of stream.
#[derive(Debug)]
enum Kind {
    /// Chat and text completions: chunks with choices.
    Choices(Choices),
    /// A message of Anthropic's.
    Message(Message),
    /// A response, which comes whole with its last event.
    Response(Option<String>),
    /// Any other: the events as a list, joined by commas.
    Events(String),
}

/// Puts a stream together.
#[derive(Debug)]
pub(crate) struct Assembly {
    kind: Kind,
    is_done: bool,
    bytes: usize,
    max_bytes: usize,
}

/// `Break`: the stream has said all. The chunk is what a reader of the stream gets.
type Taken = ControlFlow<Option<Chunk>, Option<Chunk>>;

impl Assembly {
    /// An assembly for a call to `url` whose answer may have `max_bytes`.
    pub(crate) fn new(url: &str, max_bytes: usize) -> Self {
        let kind = if url.ends_with("/completions") {
            Kind::Choices(Choices::new(url.ends_with("/chat/completions")))
        } else if url.ends_with("/messages") {
            Kind::Message(Message::default())
        } else if url.ends_with("/responses") {
            Kind::Response(None)
        } else {
            Kind::Events(String::new())
        };
        Self { kind, is_done: false, bytes: 0, max_bytes }
    }

    /// Takes one event and returns the chunk of it that readers get.
    ///
    /// # Errors
    /// When the event reports an error, is no JSON, or the answer exceeds its bounds.
    pub(crate) fn take(&mut self, event: StreamEvent<'_>) -> Result<Taken, Failure> {
        let data = event.data.trim();
        self.bytes += data.len();
        if self.bytes > self.max_bytes {
            return Err(Failure::TooLarge(self.max_bytes));
        }
        if let Kind::Choices(choices) = &mut self.kind
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

    fn merge(&mut self, data: &str, name: &str, object: &RawObject<'_>) -> Result<Taken, TooMany> {
        let chunk = Some(Chunk::other(data));
        let kind = object.text("type").unwrap_or_else(|| name.to_owned());
        match &mut self.kind {
            Kind::Choices(choices) => {
                return Ok(ControlFlow::Continue(choices.take(data, object)?));
            }
            Kind::Message(message) => {
                message.take(&kind, object)?;
                if kind == "message_stop" {
                    return Ok(ControlFlow::Break(chunk));
                }
            }
            Kind::Response(whole) => match kind.as_str() {
                // The API makes these from the state of the job.
                "response.created" | "response.queued" | "response.in_progress" => {
                    return Ok(ControlFlow::Continue(None));
                }
                "response.completed" | "response.incomplete" => {
                    *whole = object.get("response").map(str::to_owned);
                    return Ok(ControlFlow::Break(None));
                }
                _ => {}
            },
            Kind::Events(events) => {
                if !events.is_empty() {
                    events.push(',');
                }
                events.push_str(data);
            }
        }
        Ok(ControlFlow::Continue(chunk))
    }

    /// True if nothing of the answer is missing, though the stream goes on.
    pub(crate) fn is_complete(&self) -> bool {
        match &self.kind {
            Kind::Choices(choices) => choices.is_complete(),
            Kind::Message(message) => message.is_complete(),
            Kind::Response(whole) => whole.is_some(),
            Kind::Events(events) => self.is_done && !events.is_empty(),
        }
    }

    /// The whole answer.
    ///
    /// # Errors
    /// When the stream broke off before its end, or said nothing but that it ends.
    pub(crate) fn finish(self) -> Result<RawJson, Failure> {
        let is_complete = self.is_complete();
        let cut = |why: &str| Failure::Cut(why.to_owned());
        let whole = match self.kind {
            Kind::Choices(choices) if choices.is_empty() && self.is_done => {
                return Err(cut("the stream has no choice, only its end"));
            }
            Kind::Message(message) if message.is_empty() && self.is_done => {
                return Err(cut("the stream has no message, only its end"));
            }
            Kind::Choices(choices) if is_complete || self.is_done => choices.finish(),
            Kind::Message(message) if is_complete || self.is_done => message.finish(),
            Kind::Response(Some(whole)) => whole,
            Kind::Events(events) if is_complete => format!("[{events}]"),
            Kind::Choices(_) | Kind::Message(_) | Kind::Response(None) | Kind::Events(_) => {
                return Err(cut("the stream ended before the answer did"));
            }
        };
        let whole = repair_surrogates(&whole).into_owned();
        RawJson::parse(whole).map_err(|error| cut(&format!("the answer is no JSON: {error}")))
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

/// An event that was read.
pub(crate) enum Read<'a> {
    /// It says nothing, and keeps the connection alive.
    Nothing,
    /// It says that the stream ends.
    Done,
    /// Its data.
    Object(RawObject<'a>),
}

/// Reads one event.
///
/// # Errors
/// When it reports an error, or is no JSON.
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
        // No accumulator knows any other value.
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
