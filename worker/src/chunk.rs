//! One chunk of a stream, on its way into the event log.
//!
//! Most chunks of a chat differ from the one before in nothing but their text. They share a
//! [`Frame`], what stands around the text, so that a chunk is known by comparing bytes instead of
//! reading JSON, and texts that follow one another become one chunk. A chunk stays as the upstream
//! wrote it.

use std::{ops::Range, sync::Arc};

use causeway_queue::RawJson;
use serde::Deserialize;
use serde_json::{Value, value::RawValue};

/// A chunk of the upstream's.
#[derive(Debug)]
pub(crate) enum Chunk {
    /// One that carries nothing but text, as JSON writes it between quotes.
    Text { frame: Arc<Frame>, text: String },
    /// Any other.
    Other(RawJson),
}

/// What a chunk that carries nothing but text has around it.
#[derive(Debug)]
pub(crate) struct Frame {
    front: String,
    back: String,
    /// Of the choice whose text it is.
    pub(crate) index: u64,
}

impl Frame {
    /// The frame of a chunk, when it carries nothing but text; and the text.
    pub(crate) fn of(data: &str) -> Option<(Self, &str)> {
        let Shape { choices: [choice], usage } = serde_json::from_str(data).ok()?;
        let is_more = |more: Option<&RawValue>| more.is_some_and(|more| more.get() != "null");
        if is_more(usage) || is_more(choice.finish_reason) || is_more(choice.logprobs) {
            return None;
        }
        let content = choice.delta.content;
        let place = place(data, content.get())?;
        let text = content.get().strip_prefix('"')?.strip_suffix('"')?;
        let front = data.get(..place.start + 1)?.to_owned();
        let back = data.get(place.end - 1..)?.to_owned();
        Some((Self { front, back, index: choice.index }, text))
    }

    /// The text of a chunk that has this very frame, as long as it needs no reading.
    pub(crate) fn text_in<'a>(&self, data: &'a str) -> Option<&'a str> {
        let text = data.strip_prefix(self.front.as_str())?.strip_suffix(self.back.as_str())?;
        is_plain(text.as_bytes()).then_some(text)
    }
}

/// What is read of a chunk to know it: one choice, and in it a delta of one text.
#[derive(Deserialize)]
struct Shape<'a> {
    #[serde(borrow)]
    choices: [Choice<'a>; 1],
    #[serde(borrow)]
    usage: Option<&'a RawValue>,
}

#[derive(Deserialize)]
struct Choice<'a> {
    #[serde(default)]
    index: u64,
    #[serde(borrow)]
    delta: Delta<'a>,
    #[serde(borrow)]
    finish_reason: Option<&'a RawValue>,
    #[serde(borrow)]
    logprobs: Option<&'a RawValue>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Delta<'a> {
    #[serde(borrow)]
    content: &'a RawValue,
}

/// Where in `whole` its part stands.
fn place(whole: &str, part: &str) -> Option<Range<usize>> {
    let start = part.as_ptr().addr().checked_sub(whole.as_ptr().addr())?;
    (whole.get(start..start + part.len())? == part).then_some(start..start + part.len())
}

/// Whether this is the inside of a JSON string whose escapes are short ones.
fn is_plain(mut text: &[u8]) -> bool {
    loop {
        match text {
            [] => return true,
            [b'\\', b'"' | b'\\' | b'/' | b'b' | b'f' | b'n' | b'r' | b't', rest @ ..] => {
                text = rest;
            }
            [b'\\' | b'"' | 0..0x20, ..] => return false,
            [_, rest @ ..] => text = rest,
        }
    }
}

impl Chunk {
    /// The chunk that `data` is, where its frame is not known.
    pub(crate) fn other(data: &str) -> Self {
        // Whoever asks has read it.
        Self::Other(RawJson::parse(data.to_owned()).unwrap_or_default())
    }

    /// Takes `next` in when both are text of one choice; else gives it back.
    pub(crate) fn join(&mut self, next: Self) -> Option<Self> {
        match (self, next) {
            (Self::Text { frame, text }, Self::Text { frame: other, text: more })
                if frame.index == other.index =>
            {
                text.push_str(&more);
                None
            }
            (_, next) => Some(next),
        }
    }

    /// Appends the chunk as it is written.
    fn write(&self, into: &mut String) {
        match self {
            Self::Text { frame, text } => {
                into.extend([frame.front.as_str(), text.as_str(), frame.back.as_str()]);
            }
            Self::Other(data) => into.push_str(data.as_str()),
        }
    }
}

/// The chunks as one array.
pub(crate) fn array(chunks: &[Chunk]) -> RawJson {
    let mut all = String::from("[");
    for (place, chunk) in chunks.iter().enumerate() {
        if place > 0 {
            all.push(',');
        }
        chunk.write(&mut all);
    }
    all.push(']');
    RawJson::parse(all).unwrap_or_default()
}

/// What JSON writes as `text` between quotes.
pub(crate) fn unescaped(text: &str) -> Option<String> {
    match serde_json::from_str(&format!("\"{text}\"")) {
        Ok(Value::String(text)) => Some(text),
        Ok(_) | Err(_) => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chunk(delta: &str, more: &str) -> String {
        format!(
            r#"{{"id":"c", "choices":[{{"index":0,"delta":{delta},"finish_reason":null}}]{more}}}"#
        )
    }

    #[test]
    fn only_chunks_of_nothing_but_text_have_a_frame() {
        let data = chunk(r#"{"content":"a\n\"é"}"#, "");
        let (frame, text) = Frame::of(&data).unwrap();
        assert_eq!((frame.index, text), (0, r#"a\n\"é"#));
        assert!(Frame::of(&chunk(r#"{"content":"a"}"#, r#","usage":null"#)).is_some());
        for other in [
            chunk(r#"{"content":"a","role":"assistant"}"#, ""),
            chunk(r#"{"content":null}"#, ""),
            chunk(r#"{"tool_calls":[]}"#, ""),
            chunk(r#"{"content":"a"}"#, r#","usage":{}"#),
            chunk(r#"{"content":"a"}"#, "").replace("null", "\"stop\""),
            r#"{"choices":[],"usage":{}}"#.to_owned(),
        ] {
            assert!(Frame::of(&other).is_none(), "{other}");
        }
    }

    #[test]
    fn a_frame_knows_its_like() {
        let data = chunk(r#"{"content":"a"}"#, "");
        let (frame, _) = Frame::of(&data).unwrap();
        assert_eq!(frame.text_in(&chunk(r#"{"content":" b\t"}"#, "")), Some(r" b\t"));
        for other in [
            chunk(r#"{"content":"b","role":"x"}"#, ""),
            chunk(r#"{"content":"b"}"#, r#","usage":{}"#),
            chunk(r#"{"content":"\u00e9"}"#, ""),
            chunk(r#"{"content":"\x"}"#, ""),
            chunk(r#"{"content":"\"}"#, ""),
            chunk("{\"content\":\"\n\"}", ""),
            r#"{"id":"c", "choices":[{"index":0,"delta":{"content":"#.to_owned(),
        ] {
            assert_eq!(frame.text_in(&other), None, "{other}");
        }
    }

    #[test]
    fn texts_of_one_choice_become_one_chunk() {
        let (first, second) = (chunk(r#"{"content":"a"}"#, ""), chunk(r#"{"content":"b"}"#, ""));
        let text = |data: &str| {
            let (frame, text) = Frame::of(data).unwrap();
            Chunk::Text { frame: Arc::new(frame), text: text.to_owned() }
        };
        let mut joined = text(&first);
        assert!(joined.join(text(&second)).is_none());
        let apart = joined.join(text(&second.replace(r#""index":0"#, r#""index":1"#)));
        assert!(apart.is_some());
        assert!(joined.join(Chunk::other("{}")).is_some());
        let wanted = format!("[{},{{}}]", chunk(r#"{"content":"ab"}"#, ""));
        assert_eq!(array(&[joined, Chunk::other("{}")]).as_str(), wanted);
    }
}
