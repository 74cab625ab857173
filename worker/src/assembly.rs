//! From the pieces of a stream to the answer that the same call would have given without one.

use std::{ops::ControlFlow, sync::Arc};

use causeway_queue::{RawJson, job::Usage};
use serde_json::{Map, Value, json};

use crate::{
    chunk::{Chunk, Frame, unescaped},
    upstream::Failure,
};

/// What kind of stream is put together.
#[derive(Debug)]
enum Kind {
    /// Chat and text completions: chunks with choices.
    Choices,
    /// A response, which comes whole with the last event.
    Response(RawJson),
    /// Anything else: the events are kept as they came.
    Events(Vec<RawJson>),
}

/// Puts a stream together.
#[derive(Debug)]
pub(crate) struct Assembly {
    kind: Kind,
    whole: Map<String, Value>,
    choices: Vec<Value>,
    /// Of the last chunk that carried nothing but text, and what such chunks said since, as JSON
    /// writes it: it is not yet part of its choice.
    frame: Option<Arc<Frame>>,
    said: String,
    finished: bool,
    bytes: usize,
    max_bytes: usize,
}

impl Assembly {
    /// For a call to `url` whose answer may have `max_bytes`.
    pub(crate) fn new(url: &str, max_bytes: usize) -> Self {
        let kind = if url.ends_with("/completions") {
            Kind::Choices
        } else if url.ends_with("/responses") {
            Kind::Response(RawJson::default())
        } else {
            Kind::Events(Vec::new())
        };
        let (whole, choices, frame, said) = Default::default();
        Self { kind, whole, choices, frame, said, finished: false, bytes: 0, max_bytes }
    }

    /// Takes the data of one event; answers with what a reader is to be told of it. `Break`: that
    /// was all.
    pub(crate) fn take(&mut self, data: &str) -> Result<ControlFlow<(), Option<Chunk>>, Failure> {
        if data == "[DONE]" {
            self.finished = true;
            return Ok(ControlFlow::Break(()));
        }
        self.bytes += data.len();
        if self.bytes > self.max_bytes {
            return Err(Failure::TooLarge(self.max_bytes));
        }
        if let Some(frame) = &self.frame
            && let Some(text) = frame.text_in(data)
        {
            self.said.push_str(text);
            let chunk = Chunk::Text { frame: Arc::clone(frame), text: text.to_owned() };
            return Ok(ControlFlow::Continue(Some(chunk)));
        }
        let event: Value = serde_json::from_str(data)
            .map_err(|error| Failure::Cut(format!("an event is not JSON: {error}")))?;
        if event.get("error").is_some_and(|error| !error.is_null()) {
            return Err(Failure::InStream(RawJson::of(&event).unwrap_or_default()));
        }
        match &mut self.kind {
            Kind::Choices => {
                self.merge(&event);
                if let Some((frame, text)) = Frame::of(data) {
                    let (frame, text) = (Arc::new(frame), text.to_owned());
                    self.frame = Some(Arc::clone(&frame));
                    return Ok(ControlFlow::Continue(Some(Chunk::Text { frame, text })));
                }
            }
            Kind::Response(whole) => {
                let kind = event.get("type").and_then(Value::as_str).unwrap_or_default();
                match kind {
                    // These are told from the state of the job.
                    "response.created" | "response.queued" | "response.in_progress" => {
                        return Ok(ControlFlow::Continue(None));
                    }
                    "response.completed" | "response.incomplete" => {
                        *whole = RawJson::of(&event["response"]).unwrap_or_default();
                        self.finished = true;
                        return Ok(ControlFlow::Continue(None));
                    }
                    "response.failed" | "error" => {
                        return Err(Failure::InStream(RawJson::of(&event).unwrap_or_default()));
                    }
                    _ => {}
                }
            }
            Kind::Events(events) => {
                events.push(RawJson::parse(data.to_owned()).unwrap_or_default());
                let kind = event.get("type").and_then(Value::as_str).unwrap_or_default();
                self.finished |= kind == "message_stop";
            }
        }
        Ok(ControlFlow::Continue(Some(Chunk::other(data))))
    }

    /// Adds what was said to its choice, which is there since a chunk of this frame was merged.
    fn settle(&mut self) {
        let said = std::mem::take(&mut self.said);
        let Some(frame) = self.frame.as_ref().filter(|_| !said.is_empty()) else { return };
        let choice = self.choices.iter_mut().find(|choice| choice["index"] == frame.index);
        if let (Some(choice), Some(said)) = (choice, unescaped(&said)) {
            append(&mut choice["message"]["content"], "content", &Value::String(said));
        }
    }

    fn merge(&mut self, chunk: &Value) {
        self.settle();
        for (name, value) in chunk.as_object().into_iter().flatten() {
            let is_known = self.whole.get(name) == Some(value);
            if name != "choices" && !value.is_null() && !is_known {
                self.whole.insert(name.clone(), value.clone());
            }
        }
        for part in chunk.get("choices").and_then(Value::as_array).into_iter().flatten() {
            let index = part.get("index").and_then(Value::as_u64).unwrap_or(0);
            let known = self.choices.iter().position(|choice| choice["index"] == index);
            let place = known.unwrap_or_else(|| {
                self.choices.push(json!({ "index": index }));
                self.choices.len() - 1
            });
            self.finished |= merge_choice(&mut self.choices[place], part);
        }
    }

    /// The whole answer.
    ///
    /// # Errors
    /// When the stream broke off before its end.
    pub(crate) fn finish(mut self) -> Result<RawJson, Failure> {
        if !self.finished {
            return Err(Failure::Cut("the stream ended before the answer did".to_owned()));
        }
        self.settle();
        let whole = match self.kind {
            Kind::Events(events) => return Ok(RawJson::of(&events).unwrap_or_default()),
            Kind::Response(whole) => return Ok(whole),
            Kind::Choices => {
                self.choices.sort_by_key(|choice| choice["index"].as_u64());
                if self.whole.get("object") == Some(&json!("chat.completion.chunk")) {
                    self.whole.insert("object".to_owned(), json!("chat.completion"));
                }
                self.whole.insert("choices".to_owned(), Value::Array(self.choices));
                self.whole
            }
        };
        Ok(RawJson::of(&whole).unwrap_or_default())
    }
}

/// Adds a part to its choice; whether the choice is complete.
fn merge_choice(choice: &mut Value, part: &Value) -> bool {
    for (name, value) in part.as_object().into_iter().flatten() {
        match (name.as_str(), value) {
            ("index", _) => {}
            ("delta", Value::Object(delta)) => {
                let message = &mut choice["message"];
                for (field, value) in delta {
                    append(&mut message[field.as_str()], field, value);
                }
            }
            ("text", value) => append(&mut choice["text"], "text", value),
            (name, value) if !value.is_null() || choice.get(name).is_none() => {
                choice[name] = value.clone();
            }
            _ => {}
        }
    }
    part.get("finish_reason").is_some_and(|reason| !reason.is_null())
}

/// Appends `value` to what stands there: texts grow, lists of indexed parts merge by index.
fn append(whole: &mut Value, field: &str, value: &Value) {
    match (&mut *whole, value) {
        (Value::String(text), Value::String(more)) if is_text(field) => text.push_str(more),
        (Value::Object(fields), Value::Object(more)) => {
            for (field, value) in more {
                append(fields.entry(field.clone()).or_insert(Value::Null), field, value);
            }
        }
        (Value::Array(items), Value::Array(more)) => {
            for part in more {
                let same = |item: &&mut Value| {
                    part.get("index").is_some() && item.get("index") == part.get("index")
                };
                match items.iter_mut().find(same) {
                    Some(item) => append(item, "", part),
                    None => items.push(part.clone()),
                }
            }
        }
        (_, Value::Null) => {}
        (whole, value) => *whole = value.clone(),
    }
}

/// Whether pieces of this field follow one another; others are said once, or again.
fn is_text(field: &str) -> bool {
    !matches!(field, "role" | "id" | "type" | "name" | "object")
}

/// What a complete body, or all events of a stream, say about tokens.
pub(crate) fn usage(body: &str) -> Option<Usage> {
    let body: Value = serde_json::from_str(body).ok()?;
    let events = body.as_array().map_or(std::slice::from_ref(&body), Vec::as_slice);
    let places = ["/usage", "/response/usage", "/message/usage"];
    let said = events.iter().flat_map(|event| places.iter().filter_map(|at| event.pointer(at)));
    let (mut prompt, mut completion) = (None, 0);
    for usage in said {
        let count = |names: [&str; 2]| names.iter().find_map(|name| usage.get(*name)?.as_u64());
        // An event that comes later knows more, and need not say all.
        prompt = count(["prompt_tokens", "input_tokens"]).or(prompt);
        completion = count(["completion_tokens", "output_tokens"]).unwrap_or(completion);
    }
    Some(Usage { prompt_tokens: prompt?, completion_tokens: completion })
}

/// The text of a complete chat answer.
pub(crate) fn text(body: &str) -> Option<String> {
    let body: Value = serde_json::from_str(body).ok()?;
    let content = body.get("choices")?.get(0)?.get("message")?.get("content")?;
    content.as_str().map(str::to_owned)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn assemble(url: &str, events: &[&str]) -> Result<Value, Failure> {
        let mut assembly = Assembly::new(url, 10_000);
        for event in events {
            if assembly.take(event)?.is_break() {
                break;
            }
        }
        Ok(serde_json::from_str(assembly.finish()?.as_str()).unwrap())
    }

    const CHAT: &str = "/v1/chat/completions";

    #[test]
    fn texts_calls_and_usage_come_together() {
        let whole = assemble(
            CHAT,
            &[
                r#"{"id":"c","object":"chat.completion.chunk","model":"m","choices":[{"index":0,"delta":{"role":"assistant","content":"Hel"},"finish_reason":null}],"usage":null}"#,
                r#"{"id":"c","object":"chat.completion.chunk","model":"m","choices":[{"index":0,"delta":{"content":"lo"},"finish_reason":null}]}"#,
                r#"{"choices":[{"index":0,"delta":{"tool_calls":[{"index":0,"id":"t","type":"function","function":{"name":"f","arguments":"{\"a\""}}]}}]}"#,
                r#"{"choices":[{"index":0,"delta":{"tool_calls":[{"index":0,"function":{"arguments":":1}"}}]}}]}"#,
                r#"{"choices":[{"index":0,"delta":{},"finish_reason":"tool_calls"}]}"#,
                r#"{"choices":[],"usage":{"prompt_tokens":3,"completion_tokens":4}}"#,
                "[DONE]",
            ],
        )
        .unwrap();
        assert_eq!(whole["object"], "chat.completion");
        let choice = &whole["choices"][0];
        assert_eq!(choice["message"]["role"], "assistant");
        assert_eq!(choice["message"]["content"], "Hello");
        let call = &choice["message"]["tool_calls"][0];
        assert_eq!((&call["id"], &call["function"]["name"]), (&json!("t"), &json!("f")));
        assert_eq!(call["function"]["arguments"], "{\"a\":1}");
        assert_eq!(choice["finish_reason"], "tool_calls");
        let used = usage(&whole.to_string()).unwrap();
        assert_eq!((used.prompt_tokens, used.completion_tokens), (3, 4));
    }

    #[test]
    fn texts_that_differ_in_nothing_else_come_together() {
        let text = |text: &str| {
            format!(
                r#"{{"id":"c","choices":[{{"index":0,"delta":{{"content":"{text}"}},"finish_reason":null}}]}}"#
            )
        };
        let texts = ["a", r#" \"b\"\n"#, r"\u00e9", "ü", ""].map(text);
        let end = r#"{"id":"c","choices":[{"index":0,"delta":{},"finish_reason":"stop"}]}"#;
        let mut events: Vec<&str> = texts.iter().map(String::as_str).collect();
        events.extend([end, "[DONE]"]);
        let whole = assemble(CHAT, &events).unwrap();
        assert_eq!(whole["choices"][0]["message"]["content"], "a \"b\"\néü");
        assert_eq!(whole["choices"][0]["finish_reason"], "stop");
    }

    #[test]
    fn a_stream_without_its_end_is_cut() {
        let begun = r#"{"choices":[{"index":0,"delta":{"content":"Hel"},"finish_reason":null}]}"#;
        assert!(matches!(assemble(CHAT, &[begun]), Err(Failure::Cut(_))));
        assert!(matches!(assemble(CHAT, &["oops"]), Err(Failure::Cut(_))));
    }

    #[test]
    fn an_error_in_the_stream_is_a_failure() {
        let failed = assemble(CHAT, &[r#"{"error":{"message":"out of memory"}}"#]);
        assert!(matches!(failed, Err(Failure::InStream(_))));
    }

    #[test]
    fn an_answer_has_a_largest_size() {
        let large = format!("{{\"x\":\"{}\"}}", "x".repeat(10_000));
        assert_eq!(assemble(CHAT, &[&large]), Err(Failure::TooLarge(10_000)));
    }

    #[test]
    fn events_say_their_usage_bit_by_bit() {
        let events = r#"[{"type":"message_start","message":{"usage":{"input_tokens":7,"output_tokens":1}}},
            {"type":"message_delta","usage":{"output_tokens":5}},{"type":"message_stop"}]"#;
        let used = usage(events).unwrap();
        assert_eq!((used.prompt_tokens, used.completion_tokens), (7, 5));
        assert_eq!(usage(r#"[{"type":"message_stop"}]"#), None);
    }

    #[test]
    fn a_response_comes_whole_with_its_last_event() {
        let last = r#"{"type":"response.completed","response":{"id":"r"}}"#;
        let whole = assemble("/v1/responses", &[r#"{"type":"response.created"}"#, last]).unwrap();
        assert_eq!(whole, json!({ "id": "r" }));
        let failed = assemble("/v1/responses", &[r#"{"type":"response.failed"}"#]);
        assert!(matches!(failed, Err(Failure::InStream(_))));
    }

    #[test]
    fn other_streams_are_kept_as_they_came() {
        let events = [r#"{"type":"message_start"}"#, r#"{"type":"message_stop"}"#];
        assert_eq!(assemble("/v1/messages", &events).unwrap().as_array().unwrap().len(), 2);
    }
}
