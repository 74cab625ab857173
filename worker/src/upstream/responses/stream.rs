//! The chunks of a chat, as the events of a response, which have no numbers yet.

use causeway_queue::json::{RawObject, items};

use super::answer::{
    Beside, call_item, item_id, message_item, raw_content, raw_text, text_part, whole,
};
use crate::{
    assembly::{calls::Calls, node::TooMany},
    upstream::Failure,
};

/// Turns chunks into events.
#[derive(Debug, Default)]
pub(super) struct Teller {
    beside: Beside,
    finish_reason: Option<String>,
    /// The items of the output, in order. A message is open while it is the last one, a call until
    /// the end: parts of several calls may come in turns.
    items: Vec<Item>,
    calls: Calls,
    events: Vec<String>,
}

/// An item as far as it was told.
#[derive(Debug)]
enum Item {
    /// Its text, as JSON writes it.
    Message { text: String, is_open: bool },
    /// Its place among the calls.
    Call(usize),
}

impl Teller {
    /// Takes a chunk, and returns the events that it brings.
    pub(super) fn hear(&mut self, chunk: &RawObject<'_>) -> Result<Vec<String>, TooMany> {
        for (name, value) in chunk.iter() {
            if name != "choices" && !matches!(value, "null" | "\"\"") {
                self.beside.insert(name.to_owned(), value.to_owned());
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
            let text = delta.get("content").and_then(raw_content);
            if let Some(text) = text.filter(|text| !text.is_empty()) {
                self.add_text(&text);
            }
            for part in delta.get("tool_calls").and_then(items).unwrap_or_default() {
                self.add_call(part)?;
            }
        }
        Ok(std::mem::take(&mut self.events))
    }

    /// True if the chat has said why it ended.
    pub(super) fn is_complete(&self) -> bool {
        self.finish_reason.is_some()
    }

    /// The last events. `is_done`: the stream has said that it ends.
    pub(super) fn end(mut self, is_done: bool) -> Result<Vec<String>, Failure> {
        let is_answer = self.is_complete() || (is_done && !self.items.is_empty());
        if !is_answer {
            return Err(Failure::Cut("the stream ended before the answer did".to_owned()));
        }
        self.close_message();
        for place in 0..self.items.len() {
            if let Some(Item::Call(call)) = self.items.get(place) {
                let said = self.calls.said(*call);
                let (about, name, arguments) = (self.about(place), said.name, said.arguments);
                self.events.push(format!(
                    r#"{{"type":"response.function_call_arguments.done",{about},"name":"{name}","arguments":"{arguments}"}}"#
                ));
                self.tell_item("done", place, true);
            }
        }
        let output: Vec<String> =
            (0..self.items.len()).map(|place| self.item(place, true)).collect();
        let (status, response) = whole(&self.beside, self.finish_reason.as_deref(), &output);
        self.events.push(format!(r#"{{"type":"response.{status}","response":{response}}}"#));
        Ok(self.events)
    }

    fn add_text(&mut self, more: &str) {
        if !matches!(self.items.last(), Some(Item::Message { is_open: true, .. })) {
            self.items.push(Item::Message { text: String::new(), is_open: true });
            let place = self.items.len() - 1;
            self.tell_item("added", place, false);
            let part = format!(r#""part":{}"#, text_part(""));
            self.tell_text("content_part.added", place, &part);
        }
        let place = self.items.len() - 1;
        if let Some(Item::Message { text, .. }) = self.items.last_mut() {
            text.push_str(more);
        }
        self.tell_text("output_text.delta", place, &format!(r#""delta":"{more}","logprobs":[]"#));
    }

    fn add_call(&mut self, part: &str) -> Result<(), TooMany> {
        let known = self.calls.len();
        let Some(call) = self.calls.add(part)? else { return Ok(()) };
        if call == known {
            self.close_message();
            self.items.push(Item::Call(call));
            self.tell_item("added", self.items.len() - 1, false);
        }
        let of_call = |item: &Item| matches!(item, Item::Call(other) if *other == call);
        let place = self.items.iter().position(of_call).unwrap_or_default();
        let more = RawObject::parse(part).ok().and_then(|part| part.object("function"));
        let more = more.as_ref().and_then(|function| raw_text(function.get("arguments")?));
        if let Some(more) = more.filter(|more| !more.is_empty()) {
            let about = self.about(place);
            self.events.push(format!(
                r#"{{"type":"response.function_call_arguments.delta",{about},"delta":"{more}"}}"#
            ));
        }
        Ok(())
    }

    /// Closes the last item if it is a message.
    fn close_message(&mut self) {
        let Some(Item::Message { text, is_open }) = self.items.last_mut() else { return };
        if !std::mem::take(is_open) {
            return;
        }
        let text = text.clone();
        let place = self.items.len() - 1;
        self.tell_text("output_text.done", place, &format!(r#""text":"{text}","logprobs":[]"#));
        let part = format!(r#""part":{}"#, text_part(&text));
        self.tell_text("content_part.done", place, &part);
        self.tell_item("done", place, true);
    }

    /// Tells that an item was added or is done.
    fn tell_item(&mut self, what: &str, place: usize, is_complete: bool) {
        let item = self.item(place, is_complete);
        self.events.push(format!(
            r#"{{"type":"response.output_item.{what}","output_index":{place},"item":{item}}}"#
        ));
    }

    /// Tells something of the text of a message.
    fn tell_text(&mut self, kind: &str, place: usize, more: &str) {
        let about = self.about(place);
        self.events
            .push(format!(r#"{{"type":"response.{kind}",{about},"content_index":0,{more}}}"#));
    }

    /// The fields that say which item an event is about.
    fn about(&self, place: usize) -> String {
        format!(r#""item_id":"{}","output_index":{place}"#, self.id(place))
    }

    fn id(&self, place: usize) -> String {
        let kind = match self.items.get(place) {
            Some(Item::Call(_)) => "fc",
            Some(Item::Message { .. }) | None => "msg",
        };
        item_id(kind, &self.beside, place)
    }

    fn item(&self, place: usize, is_complete: bool) -> String {
        match self.items.get(place) {
            Some(Item::Call(call)) => {
                call_item(&self.id(place), &self.calls.said(*call), is_complete)
            }
            Some(Item::Message { text, .. }) => message_item(&self.id(place), text, is_complete),
            None => String::new(),
        }
    }
}
