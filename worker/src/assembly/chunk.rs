//! One chunk of a stream, on its way into the event log.
//!
//! Most chunks of a chat differ from the one before in their text only. Such chunks share a [`TextFrame`], the JSON
//! around the text: they are recognized by comparing bytes instead of parsing JSON, and adjacent texts are
//! joined into one chunk. A chunk stays as the upstream wrote it: texts are joined only if readers lose nothing.

use std::{ops::Range, sync::Arc};

use causeway_queue::{
    RawJson,
    json::{RawObject, items},
};

/// One chunk of the upstream.
#[derive(Debug)]
pub(crate) enum StreamChunk {
    /// A chunk with text only; the text is JSON-escaped, without its quotes.
    Text { frame: Arc<TextFrame>, text: String },
    /// Any other chunk.
    Other(RawJson),
}

/// The JSON around the text of a chunk that carries text only.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct TextFrame {
    front: String,
    back: String,
    /// Index of the choice that the text belongs to.
    pub(crate) index: u64,
}

impl TextFrame {
    /// Splits a chunk into its frame and its text; `None` if the chunk carries more than text.
    pub(crate) fn of(data: &str) -> Option<(Self, &str)> {
        let chunk = RawObject::parse(data).ok()?;
        // A list or an object may belong to this text, such as the ids of its tokens: then the chunk is not joined.
        let is_plain = chunk.iter().all(|(name, value)| match name {
            "choices" => true,
            "usage" => says_nothing(value),
            _ => says_nothing(value) || !value.starts_with(['{', '[']),
        });
        let choices = items(chunk.get("choices").filter(|_| is_plain)?)?;
        let [choice] = choices.as_slice() else { return None };
        let choice = RawObject::parse(choice).ok()?;
        let is_plain = choice.iter().all(|(name, value)| match name {
            "index" | "delta" => true,
            _ => says_nothing(value),
        });
        let index = choice.get("index").map_or(Ok(0), str::parse).ok().filter(|_| is_plain)?;
        let delta = choice.object("delta")?;
        let content = delta.get("content").filter(|_| delta.iter().count() == 1)?;
        let range = range_of(data, content)?;
        let text = content.strip_prefix('"')?.strip_suffix('"')?;
        let front = data.get(..range.start + 1)?.to_owned();
        let back = data.get(range.end - 1..)?.to_owned();
        Some((Self { front, back, index }, text))
    }

    /// Returns the text of a chunk that has this frame.
    pub(crate) fn text_in<'a>(&self, data: &'a str) -> Option<&'a str> {
        let text = data.strip_prefix(self.front.as_str())?.strip_suffix(self.back.as_str())?;
        // The text may contain a quote that ends it early: then the chunk has other fields.
        is_plain(text.as_bytes()).then_some(text)
    }
}

/// True if a value is null or empty: readers lose nothing if two chunks with it are joined.
fn says_nothing(value: &str) -> bool {
    match value.as_bytes() {
        [b'{', inside @ .., b'}'] | [b'[', inside @ .., b']'] => inside.trim_ascii().is_empty(),
        value => matches!(value, b"null" | b"\"\""),
    }
}

/// Returns the byte range of `part` in `whole`; `part` must be borrowed from `whole`.
fn range_of(whole: &str, part: &str) -> Option<Range<usize>> {
    let start = part.as_ptr().addr().checked_sub(whole.as_ptr().addr())?;
    (whole.get(start..start + part.len())? == part).then_some(start..start + part.len())
}

/// True if `text` is the inside of one JSON string: no unescaped quote, no control character.
fn is_plain(mut text: &[u8]) -> bool {
    loop {
        match text {
            [] => return true,
            [b'\\', b'u', a, b, c, d, rest @ ..]
                if [a, b, c, d].iter().all(|digit| digit.is_ascii_hexdigit()) =>
            {
                text = rest;
            }
            [b'\\', b'"' | b'\\' | b'/' | b'b' | b'f' | b'n' | b'r' | b't', rest @ ..] => {
                text = rest;
            }
            [b'\\' | b'"' | 0..0x20, ..] => return false,
            [_, rest @ ..] => text = rest,
        }
    }
}

impl StreamChunk {
    /// Returns the chunk with these JSON data.
    pub(crate) fn other(data: &str) -> Self {
        Self::Other(RawJson::parse(data.to_owned()).unwrap_or_default())
    }

    /// Appends the text of `next` if both chunks have the same frame; otherwise returns `next`.
    pub(crate) fn join(&mut self, next: Self) -> Option<Self> {
        match (self, next) {
            (Self::Text { frame, text }, Self::Text { frame: other, text: more })
                // Comparing pointers first: consecutive chunks usually share the frame itself.
                if Arc::ptr_eq(frame, &other) || *frame == other =>
            {
                text.push_str(&more);
                None
            }
            (_, next) => Some(next),
        }
    }

    /// Appends the chunk as the upstream wrote it.
    fn write(&self, into: &mut String) {
        match self {
            Self::Text { frame, text } => {
                into.extend([frame.front.as_str(), text.as_str(), frame.back.as_str()]);
            }
            Self::Other(data) => into.push_str(data.as_str()),
        }
    }
}

/// Returns the chunks as one JSON array.
pub(crate) fn array(chunks: &[StreamChunk]) -> RawJson {
    let mut all = String::from("[");
    for (position, chunk) in chunks.iter().enumerate() {
        if position > 0 {
            all.push(',');
        }
        chunk.write(&mut all);
    }
    all.push(']');
    RawJson::parse(all).unwrap_or_default()
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
    fn only_text_chunks_have_a_frame() {
        let data = chunk(r#"{"content":"a\n\"é"}"#, "");
        let (frame, text) = TextFrame::of(&data).unwrap();
        assert_eq!((frame.index, text), (0, r#"a\n\"é"#));
        for more in [r#","usage":null,"created":1"#, r#","prompt_filter_results":[],"x":{}"#] {
            assert!(TextFrame::of(&chunk(r#"{"content":"a"}"#, more)).is_some(), "{more}");
        }
        for other in [
            chunk(r#"{"content":"a","role":"assistant"}"#, ""),
            chunk(r#"{"content":null}"#, ""),
            chunk(r#"{"tool_calls":[]}"#, ""),
            chunk(r#"{"content":"a"}"#, r#","usage":{"n":1}"#),
            chunk(r#"{"content":"a"}"#, r#","citations":["u"]"#),
            chunk(r#"{"content":"a"}"#, "").replace("null", "\"stop\""),
            chunk(r#"{"content":"a"}"#, "").replace("null", r#"null,"token_ids":[11]"#),
            chunk(r#"{"content":"a"}"#, "").replace("null", r#"null,"token_id":11"#),
            r#"{"choices":[],"usage":{}}"#.to_owned(),
        ] {
            assert!(TextFrame::of(&other).is_none(), "{other}");
        }
    }

    #[test]
    fn a_frame_matches_similar_chunks() {
        let data = chunk(r#"{"content":"a"}"#, "");
        let (frame, _) = TextFrame::of(&data).unwrap();
        for text in [r" b\t", r"\u00e9\ud83d", "ü", ""] {
            let other = chunk(&format!("{{\"content\":\"{text}\"}}"), "");
            assert_eq!(frame.text_in(&other), Some(text));
        }
        for other in [
            chunk(r#"{"content":"b","role":"x"}"#, ""),
            chunk(r#"{"content":"b"}"#, r#","usage":{}"#),
            chunk(r#"{"content":"\u00eg"}"#, ""),
            chunk(r#"{"content":"\u00"}"#, ""),
            chunk(r#"{"content":"\x"}"#, ""),
            chunk(r#"{"content":"\"}"#, ""),
            chunk("{\"content\":\"\n\"}", ""),
            r#"{"id":"c", "choices":[{"index":0,"delta":{"content":"#.to_owned(),
        ] {
            assert_eq!(frame.text_in(&other), None, "{other}");
        }
    }

    #[test]
    fn chunks_with_one_frame_are_joined() {
        let (first, second) = (chunk(r#"{"content":"a"}"#, ""), chunk(r#"{"content":"b"}"#, ""));
        let text = |data: &str| {
            let (frame, text) = TextFrame::of(data).unwrap();
            StreamChunk::Text { frame: Arc::new(frame), text: text.to_owned() }
        };
        let mut joined = text(&first);
        assert!(joined.join(text(&second)).is_none());
        for (from, to) in [(r#""index":0"#, r#""index":1"#), (r#""id":"c""#, r#""id":"d""#)] {
            assert!(joined.join(text(&second.replace(from, to))).is_some(), "{to}");
        }
        assert!(joined.join(StreamChunk::other("{}")).is_some());
        let wanted = format!("[{},{{}}]", chunk(r#"{"content":"ab"}"#, ""));
        assert_eq!(array(&[joined, StreamChunk::other("{}")]).as_str(), wanted);
    }
}
