//! Translates the chunks of a chat to the events of a response. The API numbers the events later.

use causeway_queue::json::{RawObject, items};

use super::answer::{
    ChatFields, call_item, item_id, message_item, raw_content, raw_text, reasoning, reasoning_item,
    summary_part, text_part, whole,
};
use crate::{
    assembly::{calls::ToolCalls, raw::TooMany},
    failure::Failure,
};

/// The translator of one stream.
#[derive(Debug)]
pub(super) struct EventTranslator {
    /// The base name of the response for the ids of its items.
    name: String,
    chat_fields: ChatFields,
    finish_reason: Option<String>,
    /// The items of the output, in order. A text is open while it is the last item; a call is open until the end,
    /// because parts of several calls may alternate.
    items: Vec<Item>,
    calls: ToolCalls,
    events: Vec<String>,
}

/// An item of the output so far.
#[derive(Debug)]
enum Item {
    /// A text, JSON-escaped.
    Text { kind: TextKind, text: String, is_open: bool },
    /// A call, by its position among the calls.
    Call(usize),
}

/// The kind of a text item.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum TextKind {
    Message,
    Reasoning,
}

impl TextKind {
    /// Returns the prefixes of its event types: for the part, and for the text in it.
    fn events(self) -> [&'static str; 2] {
        match self {
            Self::Message => ["content_part", "output_text"],
            Self::Reasoning => ["reasoning_summary_part", "reasoning_summary_text"],
        }
    }

    /// Returns the field with the index of its only part, and the remaining fields of its text events.
    fn fields(self) -> (&'static str, &'static str) {
        match self {
            Self::Message => (r#""content_index":0"#, r#","logprobs":[]"#),
            Self::Reasoning => (r#""summary_index":0"#, ""),
        }
    }

    fn part(self, text: &str) -> String {
        match self {
            Self::Message => text_part(text),
            Self::Reasoning => summary_part(text),
        }
    }
}

impl EventTranslator {
    /// Returns the translator for the response `name`.
    pub(super) fn new(name: &str) -> Self {
        Self {
            name: name.to_owned(),
            chat_fields: ChatFields::default(),
            finish_reason: None,
            items: Vec::new(),
            calls: ToolCalls::default(),
            events: Vec::new(),
        }
    }

    /// Translates a chunk, and returns the resulting events.
    pub(super) fn translate(&mut self, chunk: &RawObject<'_>) -> Result<Vec<String>, TooMany> {
        for (name, value) in chunk.iter() {
            if name != "choices" && !matches!(value, "null" | "\"\"") {
                self.chat_fields.insert(name.to_owned(), value.to_owned());
            }
        }
        let choice = chunk.get("choices").and_then(items);
        let choice = choice.and_then(|choices| RawObject::parse(choices.first()?).ok());
        if let Some(choice) = choice {
            let reason = choice.get("finish_reason");
            if let Some(reason) = reason.filter(|reason| !matches!(*reason, "null" | "\"\"")) {
                self.finish_reason = Some(reason.to_owned());
            }
            let delta = choice.object("delta").unwrap_or_default();
            if let Some(text) = reasoning(&delta) {
                self.add_text(TextKind::Reasoning, text);
            }
            let text = delta.get("content").and_then(raw_content);
            if let Some(text) = text.filter(|text| !text.is_empty()) {
                self.add_text(TextKind::Message, &text);
            }
            for part in delta.get("tool_calls").and_then(items).unwrap_or_default() {
                self.add_call(part)?;
            }
        }
        Ok(std::mem::take(&mut self.events))
    }

    /// True if the chat has a finish reason.
    pub(super) fn is_complete(&self) -> bool {
        self.finish_reason.is_some()
    }

    /// Returns the last events. `is_done`: the stream had its end marker.
    pub(super) fn end(mut self, is_done: bool) -> Result<Vec<String>, Failure> {
        let is_answer = self.is_complete() || (is_done && !self.items.is_empty());
        if !is_answer {
            return Err(Failure::Cut("the stream ended before the answer was complete".to_owned()));
        }
        self.close_text();
        for position in 0..self.items.len() {
            if let Some(Item::Call(call)) = self.items.get(position) {
                let texts = self.calls.texts(*call);
                let (about, name, arguments) = (self.about(position), texts.name, texts.arguments);
                self.events.push(format!(
                    r#"{{"type":"response.function_call_arguments.done",{about},"name":"{name}","arguments":"{arguments}"}}"#
                ));
                self.push_item("done", position, true);
            }
        }
        let output: Vec<String> =
            (0..self.items.len()).map(|position| self.item(position, true)).collect();
        let (status, response) = whole(&self.chat_fields, self.finish_reason.as_deref(), &output);
        self.events.push(format!(r#"{{"type":"response.{status}","response":{response}}}"#));
        Ok(self.events)
    }

    fn add_text(&mut self, kind: TextKind, more: &str) {
        let continues = matches!(self.items.last(), Some(Item::Text { kind: last, is_open: true, .. }) if *last == kind);
        if !continues {
            self.close_text();
            self.items.push(Item::Text { kind, text: String::new(), is_open: true });
            let position = self.items.len() - 1;
            self.push_item("added", position, false);
            self.push_part("added", kind, position, "");
        }
        let position = self.items.len() - 1;
        if let Some(Item::Text { text, .. }) = self.items.last_mut() {
            text.push_str(more);
        }
        self.push_text("delta", kind, position, &format!(r#""delta":"{more}""#));
    }

    fn add_call(&mut self, part: &str) -> Result<(), TooMany> {
        let known = self.calls.len();
        let Some(call) = self.calls.add(part)? else { return Ok(()) };
        if call == known {
            self.close_text();
            self.items.push(Item::Call(call));
            self.push_item("added", self.items.len() - 1, false);
        }
        let of_call = |item: &Item| matches!(item, Item::Call(other) if *other == call);
        let position = self.items.iter().position(of_call).unwrap_or_default();
        let more = RawObject::parse(part).ok().and_then(|part| part.object("function"));
        let more = more.as_ref().and_then(|function| raw_text(function.get("arguments")?));
        if let Some(more) = more.filter(|more| !more.is_empty()) {
            let about = self.about(position);
            self.events.push(format!(
                r#"{{"type":"response.function_call_arguments.delta",{about},"delta":"{more}"}}"#
            ));
        }
        Ok(())
    }

    /// Closes the last item if it is an open text.
    fn close_text(&mut self) {
        let Some(Item::Text { kind, text, is_open }) = self.items.last_mut() else { return };
        if !std::mem::take(is_open) {
            return;
        }
        let (kind, text, position) = (*kind, text.clone(), self.items.len() - 1);
        self.push_text("done", kind, position, &format!(r#""text":"{text}""#));
        self.push_part("done", kind, position, &text);
        self.push_item("done", position, true);
    }

    /// Adds the event that an item was added or is done.
    fn push_item(&mut self, what: &str, position: usize, is_complete: bool) {
        let item = self.item(position, is_complete);
        self.events.push(format!(
            r#"{{"type":"response.output_item.{what}","output_index":{position},"item":{item}}}"#
        ));
    }

    /// Adds the event that the part of a text was added or is done.
    fn push_part(&mut self, what: &str, kind: TextKind, position: usize, text: &str) {
        let ([name, _], (index, _)) = (kind.events(), kind.fields());
        let (about, part) = (self.about(position), kind.part(text));
        self.events
            .push(format!(r#"{{"type":"response.{name}.{what}",{about},{index},"part":{part}}}"#));
    }

    /// Adds an event of a text.
    fn push_text(&mut self, what: &str, kind: TextKind, position: usize, more: &str) {
        let ([_, name], (index, rest)) = (kind.events(), kind.fields());
        let about = self.about(position);
        self.events
            .push(format!(r#"{{"type":"response.{name}.{what}",{about},{index},{more}{rest}}}"#));
    }

    /// Returns the fields that identify the item of an event.
    fn about(&self, position: usize) -> String {
        format!(r#""item_id":"{}","output_index":{position}"#, self.id(position))
    }

    fn id(&self, position: usize) -> String {
        let kind = match self.items.get(position) {
            Some(Item::Call(_)) => "fc",
            Some(Item::Text { kind: TextKind::Reasoning, .. }) => "rs",
            Some(Item::Text { kind: TextKind::Message, .. }) | None => "msg",
        };
        item_id(kind, &self.name, &self.chat_fields, position)
    }

    fn item(&self, position: usize, is_complete: bool) -> String {
        let id = self.id(position);
        match self.items.get(position) {
            Some(Item::Call(call)) => call_item(&id, &self.calls.texts(*call), is_complete),
            Some(Item::Text { kind: TextKind::Message, text, .. }) => {
                message_item(&id, text, is_complete)
            }
            Some(Item::Text { kind: TextKind::Reasoning, text, .. }) => {
                reasoning_item(&id, text, is_complete)
            }
            None => String::new(),
        }
    }
}
