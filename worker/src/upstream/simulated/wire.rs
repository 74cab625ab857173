//! The wire formats of the simulation.

use std::borrow::Cow;

use serde_json::{Value, json};

use crate::upstream::call::SIMULATED_ID;

/// Dimensions of its embeddings.
const DIMENSIONS: usize = 8;

/// The format of an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum WireFormat {
    /// OpenAI's chat, whole or in chunks.
    Chat,
    ChatChunk,
    /// OpenAI's text completion.
    Completion,
    /// Anthropic's message.
    Message,
}

impl WireFormat {
    /// Returns the format of the endpoint `url`.
    pub(super) fn of(url: &str, stream: bool) -> Self {
        if url.ends_with("/messages") {
            Self::Message
        } else if !url.ends_with("/chat/completions") {
            Self::Completion
        } else if stream {
            Self::ChatChunk
        } else {
            Self::Chat
        }
    }
}

/// A piece of an answer before it is written.
#[derive(Debug, Clone)]
pub(super) enum Piece {
    Whole(String),
    /// The start of a message, and of its text block.
    Start,
    Block,
    Opening(String),
    Text(Cow<'static, str>),
    Last,
    Usage,
    Done,
}

/// The parts that all pieces of an answer share.
#[derive(Debug, Clone)]
pub(super) struct AnswerFrame {
    format: WireFormat,
    id: String,
    model: String,
    usage: Value,
    /// The JSON before and after the text of a text chunk, cached after the first one.
    around: Option<(String, String)>,
}

/// Returns the first token, which identifies the answer as simulated.
pub(super) fn opening(prompt: &str) -> String {
    // Answers stay short, whatever the prompt.
    let prompt: String = prompt.chars().take(80).collect();
    format!("Simulated answer to: {prompt}")
}

impl AnswerFrame {
    /// Returns the shared parts of the answer `number`; `usage` has OpenAI's field names.
    pub(super) fn new(format: WireFormat, number: u64, model: String, usage: Value) -> Self {
        let kind = if format == WireFormat::Message { "msg" } else { "chatcmpl" };
        Self { format, id: format!("{kind}{SIMULATED_ID}{number}"), model, usage, around: None }
    }

    /// Returns a whole answer with the text `text`.
    pub(super) fn whole(&self, text: &str) -> String {
        let choice = match self.format {
            WireFormat::Message => {
                let content = json!([{ "type": "text", "text": text }]);
                return self.message(&content, &json!("end_turn"), true).to_string();
            }
            WireFormat::Chat | WireFormat::ChatChunk => {
                let message = json!({ "role": "assistant", "content": text, "refusal": null });
                json!({ "index": 0, "message": message, "logprobs": null, "finish_reason": "stop" })
            }
            WireFormat::Completion => {
                json!({ "index": 0, "text": text, "logprobs": null, "finish_reason": "stop" })
            }
        };
        self.choices(&json!([choice]), Some(&self.usage))
    }

    /// Returns one embedding for each input.
    pub(super) fn embeddings(&self, request: &Value) -> String {
        let inputs = match request.get("input") {
            Some(Value::Array(inputs)) => inputs.len(),
            _ => 1,
        };
        let one = |index: usize| {
            let value = 1.0 / (index + 1) as f64;
            json!({ "object": "embedding", "index": index, "embedding": vec![value; DIMENSIONS] })
        };
        let data: Vec<Value> = (0..inputs).map(one).collect();
        let prompt = &self.usage["prompt_tokens"];
        let usage = json!({ "prompt_tokens": prompt, "total_tokens": prompt });
        json!({ "object": "list", "data": data, "model": self.model, "usage": usage }).to_string()
    }

    /// Writes one piece as the data of an event, or as the body.
    pub(super) fn write(&mut self, piece: Piece) -> String {
        match (piece, self.format) {
            (Piece::Whole(text), _) => text,
            (Piece::Start, _) => {
                let message = self.message(&json!([]), &Value::Null, false);
                json!({ "type": "message_start", "message": message }).to_string()
            }
            (Piece::Block, _) => {
                let block = json!({ "type": "text", "text": "" });
                json!({ "type": "content_block_start", "index": 0, "content_block": block })
                    .to_string()
            }
            (Piece::Opening(text), WireFormat::Message) => text_delta(&text),
            (Piece::Text(word), WireFormat::Message) => text_delta(&format!(" {word}")),
            (Piece::Last, WireFormat::Message) => {
                json!({ "type": "content_block_stop", "index": 0 }).to_string()
            }
            (Piece::Usage, WireFormat::Message) => {
                let delta = json!({ "stop_reason": "end_turn", "stop_sequence": null });
                let usage = json!({ "output_tokens": self.usage["completion_tokens"] });
                json!({ "type": "message_delta", "delta": delta, "usage": usage }).to_string()
            }
            (Piece::Done, WireFormat::Message) => json!({ "type": "message_stop" }).to_string(),
            (Piece::Opening(text), _) => {
                self.chunk(&json!({ "role": "assistant", "content": text }), None)
            }
            (Piece::Text(word), _) => self.text(&word),
            (Piece::Last, _) => self.chunk(&json!({}), Some("stop")),
            (Piece::Usage, _) => self.choices(&json!([]), Some(&self.usage)),
            (Piece::Done, _) => "[DONE]".to_owned(),
        }
    }

    /// Returns a chunk with one more word, which must not need JSON escapes.
    fn text(&mut self, word: &str) -> String {
        const MARK: &str = " @@";
        if self.around.is_none() {
            let chunk = self.chunk(&json!({ "content": MARK }), None);
            let around = chunk.rsplit_once(MARK);
            self.around = around.map(|(front, back)| (front.to_owned(), back.to_owned()));
        }
        match &self.around {
            Some((front, back)) => format!("{front} {word}{back}"),
            None => self.chunk(&json!({ "content": format!(" {word}") }), None),
        }
    }

    fn chunk(&self, delta: &Value, finish_reason: Option<&str>) -> String {
        let choice = if self.format == WireFormat::ChatChunk {
            json!({ "index": 0, "delta": delta, "finish_reason": finish_reason })
        } else {
            let text = delta.get("content").cloned().unwrap_or_else(|| "".into());
            json!({ "index": 0, "text": text, "finish_reason": finish_reason })
        };
        self.choices(&json!([choice]), None)
    }

    fn choices(&self, choices: &Value, usage: Option<&Value>) -> String {
        let object = match self.format {
            WireFormat::Chat => "chat.completion",
            WireFormat::ChatChunk => "chat.completion.chunk",
            WireFormat::Completion | WireFormat::Message => "text_completion",
        };
        let mut chunk = json!({
            "id": self.id, "object": object, "created": 0, "model": self.model,
            "choices": choices,
        });
        if let Some(usage) = usage {
            chunk["usage"] = usage.clone();
        }
        chunk.to_string()
    }

    fn message(&self, content: &Value, stop_reason: &Value, is_whole: bool) -> Value {
        let output = if is_whole { &self.usage["completion_tokens"] } else { &json!(0) };
        json!({
            "id": self.id, "type": "message", "role": "assistant", "model": self.model,
            "content": content, "stop_reason": stop_reason, "stop_sequence": null,
            "usage": { "input_tokens": self.usage["prompt_tokens"], "output_tokens": output },
        })
    }
}

fn text_delta(text: &str) -> String {
    let delta = json!({ "type": "text_delta", "text": text });
    json!({ "type": "content_block_delta", "index": 0, "delta": delta }).to_string()
}
