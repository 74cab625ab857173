//! One row: the answers of an upstream, and the expected result.

use std::collections::BTreeMap;

use figment::{
    Figment,
    providers::{Format as _, Toml},
};
use serde::Deserialize;
use serde_json::{Value, json};

/// One misbehaving upstream.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Row {
    /// The name of the row, of its model and of its lane.
    pub(super) name: String,
    /// The source of the expectation: a standard or an SDK.
    pub(super) source: String,
    pub(super) url: Option<String>,
    /// Further fields of the request.
    #[serde(default)]
    pub(super) request: BTreeMap<String, Value>,
    pub(super) max_attempts: Option<u32>,
    answers: Vec<Answer>,
    wants: Wants,
}

/// An answer of the upstream.
#[derive(Debug, Deserialize)]
#[serde(untagged)]
enum Answer {
    /// `fine` for a good completion, else the bytes of an answer.
    Raw(String),
    Response(Response),
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Response {
    #[serde(default = "ok")]
    status: u16,
    #[serde(default = "json_type", rename = "type")]
    content_type: String,
    #[serde(default)]
    headers: Vec<String>,
    #[serde(default)]
    body: String,
    /// The events of a stream, in place of a body. `text:…` is a chunk with that text, `end:…` one
    /// with that `finish_reason`; a text that starts with `{` or `[` is the data of an event; all
    /// other texts are sent unchanged.
    sse: Option<Vec<String>>,
}

/// The expected result; absent members are not checked.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Wants {
    #[serde(default = "succeeded")]
    status: String,
    /// The spent attempts of the job.
    attempts: Option<u64>,
    /// The number of calls of the upstream.
    calls: Option<usize>,
    /// The text of the first choice.
    text: Option<String>,
    /// Values in the body of the response, by JSON pointer.
    #[serde(default)]
    at: BTreeMap<String, Value>,
    /// The code and parts of the message of the job's error, or of its first attempt's.
    code: Option<String>,
    #[serde(default)]
    says: Vec<String>,
}

fn ok() -> u16 {
    200
}

fn json_type() -> String {
    "application/json".to_owned()
}

fn succeeded() -> String {
    "succeeded".to_owned()
}

impl Row {
    /// Reads the rows of a file.
    pub(super) fn read(file: &str) -> Vec<Self> {
        #[derive(Deserialize)]
        struct File {
            row: Vec<Row>,
        }
        let file: File = Figment::from(Toml::string(file)).extract().expect("rows");
        file.row
    }

    /// Returns the bytes of each answer.
    pub(super) fn answers(&self) -> Vec<Vec<u8>> {
        self.answers.iter().map(Answer::bytes).collect()
    }

    /// Returns the differences between the ended job and the expected result.
    pub(super) fn differences(&self, job: &Value, calls: usize) -> Vec<String> {
        let wants = &self.wants;
        let mut found = Vec::new();
        let mut check = |what: &str, wanted: Value, seen: &Value| {
            if wanted != *seen {
                found.push(format!("{what} is {seen}, not {wanted}; {job}"));
            }
        };
        check("status", json!(wants.status), &job["status"]);
        if let Some(attempts) = wants.attempts {
            check("attempts", json!(attempts), &job["attempts"]);
        }
        if let Some(wanted) = wants.calls {
            check("calls", json!(wanted), &json!(calls));
        }
        let body = &job["response"]["body"];
        if let Some(text) = &wants.text {
            check("text", json!(text), &body["choices"][0]["message"]["content"]);
        }
        for (pointer, wanted) in &wants.at {
            check(pointer, wanted.clone(), body.pointer(pointer).unwrap_or(&Value::Null));
        }
        let error = if job["error"].is_null() { &job["attempt_errors"][0] } else { &job["error"] };
        if let Some(code) = &wants.code {
            check("code", json!(code), &error["code"]);
        }
        let message = error["message"].as_str().unwrap_or_default();
        for part in wants.says.iter().filter(|part| !message.contains(part.as_str())) {
            found.push(format!("{message:?} does not say {part:?}"));
        }
        found
    }
}

impl Answer {
    fn bytes(&self) -> Vec<u8> {
        match self {
            Self::Raw(name) if name == "fine" => Response {
                status: ok(),
                content_type: json_type(),
                headers: Vec::new(),
                body: completion("fine").to_string(),
                sse: None,
            }
            .bytes(),
            Self::Raw(text) => text.clone().into_bytes(),
            Self::Response(response) => response.bytes(),
        }
    }
}

impl Response {
    fn bytes(&self) -> Vec<u8> {
        let Self { status, content_type, headers, body, sse } = self;
        let (content_type, body) = match sse {
            Some(events) => ("text/event-stream", events.iter().map(|one| event(one)).collect()),
            None => (content_type.as_str(), body.clone()),
        };
        let headers: String = headers.iter().map(|line| format!("{line}\r\n")).collect();
        let length = body.len();
        format!(
            "HTTP/1.1 {status} X\r\ncontent-type: {content_type}\r\ncontent-length: {length}\r\n\
             connection: close\r\n{headers}\r\n{body}"
        )
        .into_bytes()
    }
}

fn event(written: &str) -> String {
    let data = match written.split_once(':') {
        Some(("text", text)) => chunk(&json!({ "content": text }), &Value::Null).to_string(),
        Some(("end", reason)) => chunk(&json!({}), &json!(reason)).to_string(),
        _ if written.starts_with(['{', '[']) => written.to_owned(),
        _ => return written.to_owned(),
    };
    format!("data: {data}\n\n")
}

fn chunk(delta: &Value, finish_reason: &Value) -> Value {
    json!({
        "id": "c1", "object": "chat.completion.chunk", "created": 1, "model": "m",
        "choices": [{ "index": 0, "delta": delta, "finish_reason": finish_reason }],
    })
}

fn completion(text: &str) -> Value {
    let message = json!({ "role": "assistant", "content": text });
    json!({
        "id": "c1", "object": "chat.completion", "created": 1, "model": "m",
        "choices": [{ "index": 0, "message": message, "finish_reason": "stop" }],
        "usage": { "prompt_tokens": 1, "completion_tokens": 1, "total_tokens": 2 },
    })
}
