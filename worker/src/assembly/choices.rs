//! Chat and text completions: streams of chunks with choices.

use std::{collections::HashMap, sync::Arc};

use causeway_queue::json::{RawObject, items};

use super::{
    calls::ToolCalls,
    chunk::{StreamChunk, TextFrame},
    content,
    node::{Fields, Node},
    raw::{MAX_ENTRIES, Rule, TooMany, index_of, inside, is_empty},
};

/// The accumulator of a completion.
#[derive(Debug)]
pub(super) struct Choices {
    is_chat: bool,
    /// The fields of the chunks other than `choices`.
    other_fields: Fields,
    choices: Vec<Choice>,
    by_index: HashMap<u64, usize>,
    /// The frame of the last chunk that carried text only, and the JSON-escaped text of such chunks since then.
    /// That text is merged into its choice when another chunk arrives.
    frame: Option<Arc<TextFrame>>,
    pending_text: String,
}

/// One choice so far.
#[derive(Debug, Default)]
struct Choice {
    index: u64,
    message: Fields,
    calls: ToolCalls,
    other_fields: Fields,
    is_finished: bool,
}

impl Choices {
    pub(super) fn new(is_chat: bool) -> Self {
        let (other_fields, choices, by_index, frame, pending_text) = Default::default();
        Self { is_chat, other_fields, choices, by_index, frame, pending_text }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.choices.is_empty()
    }

    /// True if every choice that was started has a finish reason.
    pub(super) fn is_complete(&self) -> bool {
        !self.choices.is_empty() && self.choices.iter().all(|choice| choice.is_finished)
    }

    /// Merges a chunk that differs from the one before in its text only; `None` if it differs in more.
    pub(super) fn take_text(&mut self, data: &str) -> Option<StreamChunk> {
        let frame = self.frame.as_ref()?;
        let text = frame.text_in(data)?;
        self.pending_text.push_str(text);
        Some(StreamChunk::Text { frame: Arc::clone(frame), text: text.to_owned() })
    }

    /// Merges any chunk, and returns it as readers get it.
    pub(super) fn take(
        &mut self,
        data: &str,
        object: &RawObject<'_>,
    ) -> Result<Option<StreamChunk>, TooMany> {
        self.settle()?;
        if !is_chunk(object) {
            return Ok(Some(StreamChunk::other(data)));
        }
        for (name, value) in object.iter() {
            if name == "choices" {
                for part in items(value).unwrap_or_default() {
                    self.merge(part)?;
                }
            } else {
                self.merge_other_field(name, value)?;
            }
        }
        let Some((frame, text)) = TextFrame::of(data) else {
            return Ok(Some(StreamChunk::other(data)));
        };
        let (frame, text) = (Arc::new(frame), text.to_owned());
        self.frame = Some(Arc::clone(&frame));
        Ok(Some(StreamChunk::Text { frame, text }))
    }

    /// Merges the pending text into its choice, which exists since the first chunk of the frame was merged.
    fn settle(&mut self) -> Result<(), TooMany> {
        let pending_text = std::mem::take(&mut self.pending_text);
        let Some(frame) = self.frame.take().filter(|_| !pending_text.is_empty()) else {
            return Ok(());
        };
        let position = self.by_index.get(&frame.index);
        match position.and_then(|position| self.choices.get_mut(*position)) {
            Some(choice) => content::merge(&mut choice.message, &format!("\"{pending_text}\"")),
            None => Ok(()),
        }
    }

    /// Merges a field other than `choices`.
    fn merge_other_field(&mut self, name: &str, value: &str) -> Result<(), TooMany> {
        match (name, self.other_fields.get_mut(name)) {
            // Padding that hides the length of the tokens from eavesdroppers; it is not part of the answer.
            ("obfuscation", _) => {}
            // The first chunk counts: a gateway may change its provider in the middle of a stream.
            ("id" | "object" | "created" | "model", _) => {
                self.other_fields.set_missing(name, value);
            }
            // Each usage counts from the beginning, so it replaces the previous one.
            ("usage", Some(_)) if value == "null" => {}
            ("usage", _) => self.other_fields.set(name, Node::new(value)),
            // Some servers repeat a list with each chunk, with or without new items at its end.
            (_, Some(Node::List(list))) if value.starts_with('[') => {
                let rest = inside(value).strip_prefix(list.as_str());
                if rest.is_some_and(|rest| {
                    list.is_empty() || matches!(rest.trim_start().as_bytes(), [] | [b',', ..])
                }) {
                    inside(value).clone_into(list);
                } else {
                    self.other_fields.merge(name, value, Rule::Beside)?;
                }
            }
            (_, _) => self.other_fields.merge(name, value, Rule::Beside)?,
        }
        Ok(())
    }

    fn merge(&mut self, part: &str) -> Result<(), TooMany> {
        let Ok(part) = RawObject::parse(part) else { return Ok(()) };
        let index = index_of(&part).unwrap_or(0);
        let position = match self.by_index.get(&index) {
            Some(position) => *position,
            None if self.choices.len() == MAX_ENTRIES => return Err(TooMany),
            None => {
                self.by_index.insert(index, self.choices.len());
                self.choices.push(Choice { index, ..Choice::default() });
                self.choices.len() - 1
            }
        };
        match self.choices.get_mut(position) {
            Some(choice) => choice.merge(&part),
            None => Ok(()),
        }
    }

    /// Returns the whole completion as JSON.
    pub(super) fn finish(mut self) -> String {
        // Fails only if there are too many parts already.
        drop(self.settle());
        let object = if self.is_chat { "\"chat.completion\"" } else { "\"text_completion\"" };
        match self.other_fields.text("object").map(|name| name.trim_end_matches(".chunk")) {
            Some(name) if !name.is_empty() => {
                let object = Node::Text(name.to_owned());
                self.other_fields.set("object", object);
            }
            Some(_) | None => self.other_fields.set("object", Node::Raw(object.to_owned())),
        }
        self.choices.sort_by_key(|choice| choice.index);
        let mut out = String::from("{");
        self.other_fields.write(&mut out);
        out.push_str(",\"choices\":[");
        for (position, choice) in self.choices.into_iter().enumerate() {
            if position > 0 {
                out.push(',');
            }
            choice.write(self.is_chat, &mut out);
        }
        out.push_str("]}");
        out
    }
}

/// True for a part of the answer; false for a keep-alive.
fn is_chunk(object: &RawObject<'_>) -> bool {
    let says = |name: &str| object.get(name).is_some_and(|value| value != "null");
    says("choices")
        || says("usage")
        || object.text("object").is_some_and(|of| of.ends_with("chunk"))
}

impl Choice {
    fn merge(&mut self, part: &RawObject<'_>) -> Result<(), TooMany> {
        for (name, value) in part.iter() {
            match name {
                "index" => {}
                "delta" => self.merge_delta(value)?,
                // Some servers send a whole message instead of a delta, some of them after the deltas.
                "message" if self.is_silent() => self.merge_delta(value)?,
                "message" => {}
                "text" => self.other_fields.merge(name, value, Rule::Delta)?,
                "finish_reason" => {
                    self.is_finished |= !is_empty(value);
                    self.other_fields.merge(name, value, Rule::Beside)?;
                }
                _ => self.other_fields.merge(name, value, Rule::Beside)?,
            }
        }
        Ok(())
    }

    fn is_silent(&self) -> bool {
        let content = self.message.get("content");
        self.calls.is_empty() && content.is_none_or(|node| node.text().is_some_and(str::is_empty))
    }

    fn merge_delta(&mut self, delta: &str) -> Result<(), TooMany> {
        for (name, value) in RawObject::parse(delta).unwrap_or_default().iter() {
            match name {
                "tool_calls" => self.calls.merge(value)?,
                "content" => content::merge(&mut self.message, value)?,
                _ => self.message.merge(name, value, Rule::Delta)?,
            }
        }
        Ok(())
    }

    fn write(mut self, is_chat: bool, out: &mut String) {
        *out += &format!("{{\"index\":{},", self.index);
        if is_chat {
            // SDKs require these fields of a whole answer, but streams may omit them.
            self.message.set_missing("role", "\"assistant\"");
            if self.message.get("content").is_none() {
                self.message.set("content", Node::Raw("null".to_owned()));
            }
            out.push_str("\"message\":{");
            self.message.write(out);
            if !self.calls.is_empty() {
                out.push_str(",\"tool_calls\":");
                self.calls.write(out);
            }
            out.push_str("},");
        } else if self.other_fields.get("text").is_none() {
            self.other_fields.set("text", Node::Text(String::new()));
        }
        if self.other_fields.get("finish_reason").is_none() {
            self.other_fields.set("finish_reason", Node::Raw("null".to_owned()));
        }
        self.other_fields.write(out);
        out.push('}');
    }
}
