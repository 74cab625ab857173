use serde_json::{Value, json};

use super::*;

mod calls;
mod convert;
mod ends;
mod fields;
mod messages;
mod properties;

const CHAT: &str = "/v1/chat/completions";
const TEXT: &str = "/v1/completions";
const MESSAGES: &str = "/v1/messages";
const RESPONSES: &str = "/v1/responses";

/// Largest answer in bytes.
const MAX: usize = 1 << 20;

/// Returns the answer of a stream of `events` as text.
fn assembled<T: AsRef<str>>(url: &str, events: &[T]) -> Result<String, Failure> {
    let mut assembly = Assembly::new(url, MAX);
    for event in events {
        if assembly.take(StreamEvent::unnamed(event.as_ref()))?.is_break() {
            break;
        }
    }
    assembly.finish().map(|whole| whole.as_str().to_owned())
}

/// Returns the answer of a stream of `events` as JSON.
fn assemble<T: AsRef<str>>(url: &str, events: &[T]) -> Result<Value, Failure> {
    assembled(url, events).map(|whole| serde_json::from_str(&whole).unwrap())
}

/// Returns a chunk with one part of the choice `index`.
fn part(index: u64, delta: &str, finish: &str) -> String {
    format!(
        r#"{{"id":"c","object":"chat.completion.chunk","created":1,"model":"m","choices":[{{"index":{index},"delta":{delta},"finish_reason":{finish}}}]}}"#
    )
}

fn delta(delta: &str) -> String {
    part(0, delta, "null")
}

/// Returns the message that results from `deltas`.
fn message(deltas: &[&str]) -> Value {
    let mut events: Vec<String> = deltas.iter().map(|one| delta(one)).collect();
    events.push(part(0, "{}", "\"stop\""));
    assemble(CHAT, &events).unwrap()["choices"][0]["message"].take()
}
