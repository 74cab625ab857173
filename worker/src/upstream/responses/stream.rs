//! The chunks of a chat, as the events of a response, which have no numbers yet.

use serde_json::{Map, Value, json};

use super::answer::{call_item, item_id, message_item, text_part, whole};
use crate::upstream::Failure;

/// Turns chunks into events.
#[derive(Debug, Default)]
pub(super) struct Teller {
    /// What the chunks have in common.
    common: Map<String, Value>,
    finish_reason: Option<Value>,
    /// The items of the output, in order; only the last one is open.
    items: Vec<Item>,
}

/// An item as far as it was told.
#[derive(Debug)]
enum Item {
    Message {
        text: String,
    },
    /// In the shape of a `tool_calls` of a chat.
    Call {
        index: u64,
        call: Value,
    },
}

impl Teller {
    /// The events that a chunk brings.
    pub(super) fn hear(&mut self, chunk: &Value) -> Vec<Value> {
        for (name, value) in chunk.as_object().into_iter().flatten() {
            if name != "choices" && !value.is_null() {
                self.common.insert(name.clone(), value.clone());
            }
        }
        let Some(choice) = chunk.get("choices").and_then(|choices| choices.get(0)) else {
            return Vec::new();
        };
        if let Some(reason) = choice.get("finish_reason").filter(|reason| !reason.is_null()) {
            self.finish_reason = Some(reason.clone());
        }
        let mut events = Vec::new();
        let delta = &choice["delta"];
        if let Some(text) = delta["content"].as_str().filter(|text| !text.is_empty()) {
            self.add_text(text, &mut events);
        }
        for part in delta["tool_calls"].as_array().into_iter().flatten() {
            self.add_call(part, &mut events);
        }
        events
    }

    /// The last events.
    pub(super) fn end(&mut self) -> Result<Vec<Value>, Failure> {
        if self.finish_reason.is_none() {
            return Err(Failure::Cut("the stream ended before the answer did".to_owned()));
        }
        let mut events = Vec::new();
        self.close(&mut events);
        let output: Vec<Value> =
            (0..self.items.len()).map(|place| self.item(place, "completed")).collect();
        let common = Value::Object(self.common.clone());
        let response = whole(&common, self.finish_reason.as_ref(), &output);
        let kind = format!("response.{}", response["status"].as_str().unwrap_or("completed"));
        events.push(json!({ "type": kind, "response": response }));
        Ok(events)
    }

    fn add_text(&mut self, more: &str, events: &mut Vec<Value>) {
        if !matches!(self.items.last(), Some(Item::Message { .. })) {
            self.close(events);
            self.items.push(Item::Message { text: String::new() });
            self.open(events);
            let mut event = self.about_text("response.content_part.added");
            event["part"] = text_part("");
            events.push(event);
        }
        if let Some(Item::Message { text }) = self.items.last_mut() {
            text.push_str(more);
        }
        let mut event = self.about_text("response.output_text.delta");
        event["delta"] = more.into();
        event["logprobs"] = json!([]);
        events.push(event);
    }

    fn add_call(&mut self, part: &Value, events: &mut Vec<Value>) {
        let at = part.get("index").and_then(Value::as_u64).unwrap_or(0);
        let is_open = matches!(self.items.last(), Some(Item::Call { index, .. }) if *index == at);
        let more = part.pointer("/function/arguments").and_then(Value::as_str).unwrap_or_default();
        if !is_open {
            self.close(events);
            let name = part.pointer("/function/name");
            let function = json!({ "name": name, "arguments": "" });
            let call = json!({ "id": part.get("id"), "function": function });
            self.items.push(Item::Call { index: at, call });
            self.open(events);
        }
        if let Some(Item::Call { call, .. }) = self.items.last_mut() {
            let so_far = call["function"]["arguments"].as_str().unwrap_or_default();
            call["function"]["arguments"] = format!("{so_far}{more}").into();
        }
        if !more.is_empty() {
            let mut event = self.about("response.function_call_arguments.delta");
            event["delta"] = more.into();
            events.push(event);
        }
    }

    fn open(&self, events: &mut Vec<Value>) {
        let place = self.items.len().saturating_sub(1);
        events.push(json!({
            "type": "response.output_item.added", "output_index": place,
            "item": self.item(place, "in_progress"),
        }));
    }

    /// Closes the open item, if there is one.
    fn close(&self, events: &mut Vec<Value>) {
        let Some(place) = self.items.len().checked_sub(1) else { return };
        match &self.items[place] {
            Item::Message { text } => {
                let mut event = self.about_text("response.output_text.done");
                event["text"] = text.as_str().into();
                event["logprobs"] = json!([]);
                events.push(event);
                let mut event = self.about_text("response.content_part.done");
                event["part"] = text_part(text);
                events.push(event);
            }
            Item::Call { call, .. } => {
                let mut event = self.about("response.function_call_arguments.done");
                event["name"] = call["function"]["name"].clone();
                event["arguments"] = call["function"]["arguments"].clone();
                events.push(event);
            }
        }
        events.push(json!({
            "type": "response.output_item.done", "output_index": place,
            "item": self.item(place, "completed"),
        }));
    }

    /// An event about the open item.
    fn about(&self, kind: &str) -> Value {
        let place = self.items.len().saturating_sub(1);
        json!({ "type": kind, "item_id": self.id(place), "output_index": place })
    }

    fn about_text(&self, kind: &str) -> Value {
        let mut event = self.about(kind);
        event["content_index"] = 0.into();
        event
    }

    fn id(&self, place: usize) -> String {
        let kind = match self.items.get(place) {
            Some(Item::Call { .. }) => "fc",
            Some(Item::Message { .. }) | None => "msg",
        };
        let id = self.common.get("id").cloned();
        item_id(kind, &json!({ "id": id }), place)
    }

    fn item(&self, place: usize, status: &str) -> Value {
        match &self.items[place] {
            Item::Message { text } => message_item(&self.id(place), text, status),
            Item::Call { call, .. } => call_item(&self.id(place), call, status),
        }
    }
}
