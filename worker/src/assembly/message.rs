//! A message of Anthropic's API: events start, continue and end its blocks of content.

use std::{borrow::Cow, collections::HashMap};

use causeway_queue::json::{RawObject, text};
use serde_json::value::RawValue;

use super::{
    node::{Fields, Node},
    raw::{MAX_ENTRIES, Rule, TooMany, index_of, raw_text},
};

/// The accumulator of a message.
#[derive(Debug, Default)]
pub(super) struct MessageAccumulator {
    /// The fields other than the content; `None` before the message has started.
    other_fields: Option<Fields>,
    blocks: Vec<Block>,
    by_index: HashMap<u64, usize>,
    is_stopped: bool,
}

/// One block of content so far.
#[derive(Debug)]
struct Block {
    index: u64,
    fields: Fields,
    /// The input of a tool so far: JSON, escaped as the inside of a string.
    input: String,
}

impl MessageAccumulator {
    pub(super) fn is_empty(&self) -> bool {
        self.other_fields.is_none()
    }

    /// True if the message has stopped or has a stop reason.
    pub(super) fn is_complete(&self) -> bool {
        let reason = self.other_fields.as_ref().and_then(|fields| fields.text("stop_reason"));
        !self.is_empty() && (self.is_stopped || reason.is_some_and(|reason| !reason.is_empty()))
    }

    /// Merges an event of the type `kind`.
    pub(super) fn take(&mut self, kind: &str, event: &RawObject<'_>) -> Result<(), TooMany> {
        match (kind, &mut self.other_fields) {
            ("message_start", None) => {
                self.other_fields = event.object("message").map(|message| Fields::of(&message));
            }
            // Events before the start do not belong to the message.
            (_, None) => {}
            ("content_block_start", Some(_)) => self.begin(event)?,
            ("content_block_delta", Some(_)) => {
                let index = index_of(event).unwrap_or(0);
                let block =
                    self.by_index.get(&index).and_then(|position| self.blocks.get_mut(*position));
                if let (Some(block), Some(delta)) = (block, event.object("delta")) {
                    block.merge(&delta)?;
                }
            }
            ("message_delta", Some(other_fields)) => change(other_fields, event)?,
            ("message_stop", Some(_)) => self.is_stopped = true,
            (_, Some(_)) => {}
        }
        Ok(())
    }

    fn begin(&mut self, event: &RawObject<'_>) -> Result<(), TooMany> {
        if self.blocks.len() == MAX_ENTRIES {
            return Err(TooMany);
        }
        let position = self.blocks.len();
        let index = index_of(event).unwrap_or(position as u64);
        self.by_index.insert(index, position);
        let fields = Fields::of(&event.object("content_block").unwrap_or_default());
        self.blocks.push(Block { index, fields, input: String::new() });
        Ok(())
    }

    /// Returns the whole message as JSON.
    pub(super) fn finish(mut self) -> String {
        self.blocks.sort_by_key(|block| block.index);
        let mut content = String::new();
        for block in self.blocks {
            if !content.is_empty() {
                content.push(',');
            }
            block.write(&mut content);
        }
        let mut other_fields = self.other_fields.unwrap_or_default();
        // Blocks within the start event come first.
        match other_fields.get_mut("content").map(Node::open) {
            Some(Node::List(list)) if !list.is_empty() && !content.is_empty() => {
                list.push(',');
                list.push_str(&content);
            }
            Some(Node::List(list)) if !list.is_empty() => {}
            Some(_) | None => other_fields.set("content", Node::List(content)),
        }
        let mut out = String::from("{");
        other_fields.write(&mut out);
        out.push('}');
        out
    }
}

/// Merges a `message_delta`: its totals and reasons replace the previous ones.
fn change(other_fields: &mut Fields, event: &RawObject<'_>) -> Result<(), TooMany> {
    for (name, value) in event.object("delta").unwrap_or_default().iter() {
        if value != "null" || other_fields.get(name).is_none() {
            other_fields.set(name, Node::Raw(value.to_owned()));
        }
    }
    let other = event.iter().filter(|(name, _)| !matches!(*name, "type" | "delta" | "usage"));
    for (name, value) in other {
        other_fields.set(name, Node::Raw(value.to_owned()));
    }
    match other_fields.get_mut("usage").map(Node::open) {
        Some(Node::Object(usage)) => {
            for (name, value) in event.object("usage").unwrap_or_default().iter() {
                if value != "null" {
                    usage.set(name, Node::Raw(value.to_owned()));
                }
            }
            Ok(())
        }
        Some(_) | None => {
            other_fields.merge("usage", event.get("usage").unwrap_or("null"), Rule::Beside)
        }
    }
}

impl Block {
    fn merge(&mut self, delta: &RawObject<'_>) -> Result<(), TooMany> {
        for (name, value) in delta.iter() {
            match name {
                "type" => {}
                // The escaped JSON is only joined here; `write` decodes and completes it once.
                "partial_json" => self.input.push_str(raw_text(value).unwrap_or_default()),
                // A signature comes whole, so it replaces the empty one of the block's start.
                "signature" => self.fields.set(name, Node::Raw(value.to_owned())),
                "citation" => self.fields.merge("citations", &format!("[{value}]"), Rule::Delta)?,
                _ => self.fields.merge(name, value, Rule::Delta)?,
            }
        }
        Ok(())
    }

    fn write(mut self, out: &mut String) {
        if !self.input.is_empty() {
            let input = text(&format!("\"{}\"", self.input)).unwrap_or_default();
            self.fields.set("input", Node::Raw(whole_json(&input).into_owned()));
        }
        out.push('{');
        self.fields.write(out);
        out.push('}');
    }
}

/// Returns `json` if it is complete, otherwise its complete part, as Anthropic's SDK reads it.
fn whole_json(json: &str) -> Cow<'_, str> {
    if is_whole(json) {
        return Cow::Borrowed(json);
    }
    let closed = close(json);
    Cow::Owned(if is_whole(&closed) { closed } else { "{}".to_owned() })
}

fn is_whole(json: &str) -> bool {
    serde_json::from_str::<&RawValue>(json).is_ok()
}

/// Returns the beginning of `json` up to its last complete value, with the open brackets closed.
fn close(json: &str) -> String {
    let (mut end, mut behind, mut is_value) = (0, 0, true);
    structure(json, |at, byte, open| {
        match byte {
            b'{' | b'[' | b'}' | b']' => end = at + 1,
            b'"' if is_value => end = at + 1,
            // The value before a comma is complete.
            b',' => end = at,
            _ => {}
        }
        let is_list = open.last() == Some(&']');
        is_value = byte == b':' || (is_list && matches!(byte, b'[' | b','));
        behind = at + 1;
    });
    // A number at the end may be cut, but nothing shows that: it counts as complete.
    let tail = json.get(behind..).unwrap_or_default();
    if is_value && !tail.contains('"') && is_whole(tail) {
        end = json.len();
    }
    let mut closed = json.get(..end).unwrap_or_default().to_owned();
    let brackets = structure(&closed, |_, _, _| {});
    closed.extend(brackets.iter().rev());
    closed
}

/// Calls `visit` for every bracket, colon and comma of `json` outside of strings, and for every quote that ends
/// a string, with its position and the closing brackets that are due after it. Returns those due at the end.
fn structure(json: &str, mut visit: impl FnMut(usize, u8, &[char])) -> Vec<char> {
    let (mut open, mut is_text, mut is_escaped) = (Vec::new(), false, false);
    for (at, byte) in json.bytes().enumerate() {
        if is_text {
            is_text = is_escaped || byte != b'"';
            is_escaped = !is_escaped && byte == b'\\';
            if is_text {
                continue;
            }
        } else {
            match byte {
                b'"' => {
                    is_text = true;
                    continue;
                }
                b'{' => open.push('}'),
                b'[' => open.push(']'),
                b'}' | b']' => drop(open.pop()),
                b':' | b',' => {}
                _ => continue,
            }
        }
        visit(at, byte, &open);
    }
    open
}
