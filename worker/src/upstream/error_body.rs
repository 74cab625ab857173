//! Parses the errors of upstreams: one reader for every form.
//!
//! Upstreams put an error under `error`, under `errors`, at the top or into a list. They identify it by `code`, `type`,
//! `status` or `reason`, as a number or as text. Others answer with plain text or a web page. This module extracts
//! facts only; `cause` interprets them.

mod names;
mod repair;

use std::time::Duration;

use causeway_queue::RawJson;
use serde_json::{Map, Value};

use self::names::{is_budget_message, is_budget_name, status_of_name, status_of_number};

/// Most bytes of an error that are read; the rest is dropped.
pub(crate) const MAX_ERROR_BYTES: usize = 64 << 10;

/// Most characters of the upstream's message that are kept.
pub(crate) const MAX_MESSAGE_CHARS: usize = 1000;

/// Most names and objects that are read of one error: enough for every known form.
const MAX_NAMES: usize = 32;

/// Deepest nesting of errors that is followed.
const MAX_DEPTH: usize = 6;

/// The facts that one error states.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct ErrorBody {
    /// Its codes, types and reasons in lower case; those of the innermost error first.
    names: Vec<String>,
    /// The HTTP status that it states as a number.
    number: Option<u16>,
    /// The request field that caused it.
    param: Option<String>,
    /// The delay that it names for the next call.
    pub(crate) retry_after: Option<Duration>,
    /// The upstream's message, at most [`MAX_MESSAGE_CHARS`] characters.
    pub(crate) message: Option<String>,
}

impl ErrorBody {
    /// Reads a body or event that is kept as JSON; text that was not JSON is kept as a JSON string.
    pub(crate) fn read(body: &RawJson) -> Self {
        let text = body.as_str();
        if text.starts_with('"') {
            let text = body.read::<String>().unwrap_or_default();
            return Self::of_text(beginning(&text, MAX_ERROR_BYTES));
        }
        Self::of_text(beginning(text, MAX_ERROR_BYTES))
    }

    /// Reads an error from text: JSON, the beginning of JSON, a web page or plain text.
    fn of_text(text: &str) -> Self {
        if let Some(value) = repair::parse(text) {
            return Self::of_value(&value);
        }
        let message = if is_markup(text) { title(text) } else { Some(text) };
        Self { message: message.and_then(clean), ..Self::default() }
    }

    fn of_value(value: &Value) -> Self {
        let mut objects = Vec::new();
        collect(value, MAX_DEPTH, &mut objects);
        let mut body = Self::default();
        for object in &objects {
            body.add(object);
        }
        if body.message.is_none() {
            body.message =
                objects.iter().find_map(|object| message_in(object, &FALLBACK_MESSAGE_FIELDS));
        }
        body
    }

    /// Adds the facts of `object`; those of earlier objects take precedence.
    fn add(&mut self, object: &Map<String, Value>) {
        for name in NAME_FIELDS.iter().filter_map(|field| object.get(*field)?.as_str()) {
            if self.names.len() < MAX_NAMES {
                self.names.push(name.to_lowercase());
            }
        }
        let number = || {
            let stated = NUMBER_FIELDS.iter().filter_map(|field| object.get(*field));
            stated.filter_map(number).find_map(status_of_number)
        };
        self.number = self.number.or_else(number);
        let param = || object.get("param")?.as_str().map(str::to_owned);
        self.param = self.param.take().or_else(param);
        self.retry_after = self.retry_after.or_else(|| named_time(object));
        self.message = self.message.take().or_else(|| message_of(object));
    }

    /// Returns the HTTP status that the error states: by a number, else by a name.
    pub(crate) fn status(&self) -> Option<u16> {
        self.number.or_else(|| self.names.iter().find_map(|name| status_of_name(name)))
    }

    /// True if one of its names is `name`, which must be in lower case.
    pub(crate) fn is_named(&self, name: &str) -> bool {
        self.names.iter().any(|own| own == name)
    }

    /// Returns its most specific name.
    pub(crate) fn code(&self) -> Option<String> {
        self.names.first().cloned()
    }

    /// Returns the request field that caused it.
    pub(crate) fn param(&self) -> Option<&str> {
        self.param.as_deref()
    }

    /// True if the upstream's budget is exhausted. The message counts only under `status` 402, 403 or 429 and only
    /// without a named delay: Google uses OpenAI's words for a rate limit, but names a delay.
    pub(crate) fn is_budget(&self, status: Option<u16>) -> bool {
        if self.names.iter().any(|name| is_budget_name(name)) {
            return true;
        }
        let message = self.message.as_deref().unwrap_or_default().to_lowercase();
        match status {
            Some(402) => true,
            Some(403 | 429) => self.retry_after.is_none() && is_budget_message(&message),
            // Validation errors quote the request, so only the beginning of the message counts.
            Some(_) | None => message.starts_with("your credit balance is too low"),
        }
    }

    /// True if its message begins with one of `beginnings`, which must be in lower case.
    pub(crate) fn begins_with(&self, beginnings: &[&str]) -> bool {
        let message = self.message.as_deref().unwrap_or_default().to_lowercase();
        beginnings.iter().any(|beginning| message.starts_with(beginning))
    }
}

/// Fields with the name of an error, the most specific first.
const NAME_FIELDS: [&str; 7] =
    ["code", "error_code", "reason", "type", "error_type", "status", "kind"];

/// Fields that may hold an HTTP status.
const NUMBER_FIELDS: [&str; 7] =
    ["code", "status_code", "statusCode", "status", "http_code", "http_status", "error_code"];

/// Fields with a message for people, the most specific first.
const MESSAGE_FIELDS: [&str; 8] = [
    "message",
    "error_message",
    "msg",
    "detail",
    "error_description",
    "error",
    "Message",
    "faultstring",
];

/// Fields with less specific messages: read only if no object has a better one.
const FALLBACK_MESSAGE_FIELDS: [&str; 2] = ["title", "reason"];

/// Collects the objects that may describe the error, the innermost first.
fn collect<'a>(value: &'a Value, depth: usize, objects: &mut Vec<&'a Map<String, Value>>) {
    if depth == 0 || objects.len() >= MAX_NAMES {
        return;
    }
    match value {
        // The first item is enough to classify the error.
        Value::Array(items) => {
            for item in items.iter().take(1) {
                collect(item, depth - 1, objects);
            }
        }
        Value::Object(object) => {
            let inner = ["response", "choices", "error", "errors", "detail", "details", "fault"];
            for value in inner.iter().filter_map(|field| object.get(*field)) {
                collect(value, depth - 1, objects);
            }
            objects.push(object);
        }
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}

/// Parses a number that is written as a number or as a string of digits.
fn number(value: &Value) -> Option<u64> {
    value.as_u64().or_else(|| value.as_str()?.trim().parse().ok())
}

/// Returns the message in the first of `fields` that has one.
fn message_in(object: &Map<String, Value>, fields: &[&str]) -> Option<String> {
    fields.iter().find_map(|field| clean(object.get(*field)?.as_str()?))
}

fn message_of(object: &Map<String, Value>) -> Option<String> {
    // Some servers list plain messages under `errors`.
    let listed = || clean(object.get("errors")?.get(0)?.as_str()?);
    let own_message = message_in(object, &MESSAGE_FIELDS).or_else(listed)?;
    // OpenRouter's own message is "Provider returned error"; the provider's message is in `metadata.raw`.
    let raw = object.get("metadata").and_then(|metadata| metadata.get("raw")?.as_str());
    match raw.and_then(clean) {
        Some(raw) => clean(&format!("{own_message}: {raw}")),
        None => Some(own_message),
    }
}

/// Returns the delay that a body names: Google's `retryDelay`, `retry_after`, or Hugging Face's `estimated_time`.
fn named_time(object: &Map<String, Value>) -> Option<Duration> {
    let own = ["retryDelay", "retry_after", "retry_after_seconds", "estimated_time"];
    let listed = object.get("details").and_then(Value::as_array).into_iter().flatten();
    let listed = listed.filter_map(|detail| detail.get("retryDelay"));
    own.iter().filter_map(|field| object.get(*field)).chain(listed).find_map(|value| {
        let text = || value.as_str()?.trim().trim_end_matches('s').parse().ok();
        let seconds: f64 = value.as_f64().or_else(text)?;
        super::retry_after::bounded(seconds)
    })
}

fn is_markup(text: &str) -> bool {
    text.trim_start_matches('\u{feff}').trim_start().starts_with('<')
}

/// Returns the title of a web page, the part of it that serves as a message.
pub(crate) fn title(page: &str) -> Option<&str> {
    let lower = page.to_ascii_lowercase();
    let from = lower.find("<title")?;
    let from = from + lower.get(from..)?.find('>')? + 1;
    let to = from + lower.get(from..)?.find('<')?;
    page.get(from..to).map(str::trim).filter(|title| !title.is_empty())
}

/// Returns `text` on one line, without control characters, at most [`MAX_MESSAGE_CHARS`] characters; `None` if it is
/// empty.
pub(crate) fn clean(text: &str) -> Option<String> {
    let mut line = String::new();
    let words = text.split(|c: char| c.is_whitespace() || c.is_control());
    for word in words.filter(|word| !word.is_empty()) {
        if !line.is_empty() {
            line.push(' ');
        }
        line.push_str(word);
        // A character has at most four bytes, so the line is long enough.
        if line.len() > 4 * MAX_MESSAGE_CHARS {
            break;
        }
    }
    let cut = line.char_indices().nth(MAX_MESSAGE_CHARS).map_or(line.len(), |(at, _)| at);
    line.truncate(cut);
    (!line.is_empty()).then_some(line)
}

/// Returns the first `bytes` bytes of `text`, or fewer so that no character is split.
pub(crate) fn beginning(text: &str, bytes: usize) -> &str {
    let end = (0..=bytes.min(text.len())).rev().find(|end| text.is_char_boundary(*end));
    text.get(..end.unwrap_or(0)).unwrap_or_default()
}

#[cfg(test)]
mod tests;
