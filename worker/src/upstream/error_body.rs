//! Errors as upstreams write them: one reader for every shape and place.
//!
//! Upstreams put an error under `error`, under `errors`, at the top or into a list; name it by `code`, `type`,
//! `status` or `reason`, as a number or as text; or answer with plain text or a web page. This module reads
//! facts only. Their meaning is decided in `cause`.

mod names;
mod repair;

use std::time::Duration;

use causeway_queue::RawJson;
use serde_json::{Map, Value};

use self::names::{is_budget_name, is_budget_words, status_of_name, status_of_number};

/// Most bytes of an error that are read; the beginning of a longer one is kept.
pub(crate) const MAX_ERROR_BYTES: usize = 64 << 10;

/// Most characters that are kept of the upstream's own words.
pub(crate) const MAX_WORDS: usize = 1000;

/// Most names and objects that are read of one error: enough for every known shape.
const MAX_NAMES: usize = 32;

/// Deepest nesting of errors in errors that is followed.
const MAX_DEPTH: usize = 6;

/// The facts that one error states.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct ErrorBody {
    /// Its codes, types and reasons in lower case, the innermost error's first.
    names: Vec<String>,
    /// The HTTP status that it states by a number.
    number: Option<u16>,
    /// The request field that it blames.
    param: Option<String>,
    /// The time after which it asks to be called again.
    pub(crate) retry_after: Option<Duration>,
    /// The upstream's own words, at most [`MAX_WORDS`] characters.
    pub(crate) words: Option<String>,
}

impl ErrorBody {
    /// Reads a body or event that was kept as JSON; text that was not JSON is kept as a JSON string.
    pub(crate) fn read(body: &RawJson) -> Self {
        let text = body.as_str();
        if text.starts_with('"') {
            let text = body.read::<String>().unwrap_or_default();
            return Self::of_text(beginning(&text, MAX_ERROR_BYTES));
        }
        Self::of_text(beginning(text, MAX_ERROR_BYTES))
    }

    /// Reads an error from text: JSON, the beginning of JSON, a web page or plain words.
    fn of_text(text: &str) -> Self {
        if let Some(value) = repair::parse(text) {
            return Self::of_value(&value);
        }
        let words = if is_markup(text) { title(text) } else { Some(text) };
        Self { words: words.and_then(clean), ..Self::default() }
    }

    fn of_value(value: &Value) -> Self {
        let mut objects = Vec::new();
        collect(value, MAX_DEPTH, &mut objects);
        let mut body = Self::default();
        for object in &objects {
            body.add(object);
        }
        if body.words.is_none() {
            body.words = objects.iter().find_map(|object| said(object, &SHORT_WORD_FIELDS));
        }
        body
    }

    /// Adds what `object` states; earlier objects win.
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
        self.words = self.words.take().or_else(|| words(object));
    }

    /// The HTTP status that the error states: by a number, else by a name.
    pub(crate) fn status(&self) -> Option<u16> {
        self.number.or_else(|| self.names.iter().find_map(|name| status_of_name(name)))
    }

    /// True if one of its names is `name`, which is in lower case.
    pub(crate) fn is_named(&self, name: &str) -> bool {
        self.names.iter().any(|own| own == name)
    }

    /// Its most precise name.
    pub(crate) fn code(&self) -> Option<String> {
        self.names.first().cloned()
    }

    /// The request field that it blames.
    pub(crate) fn param(&self) -> Option<&str> {
        self.param.as_deref()
    }

    /// True if it says that the upstream's budget is spent. Its words count only under `status` 402, 403 or 429
    /// and only where no time is named: Google uses OpenAI's words for a rate, with a time.
    pub(crate) fn is_budget(&self, status: Option<u16>) -> bool {
        if self.names.iter().any(|name| is_budget_name(name)) {
            return true;
        }
        let words = self.words.as_deref().unwrap_or_default().to_lowercase();
        match status {
            Some(402) => true,
            Some(403 | 429) => self.retry_after.is_none() && is_budget_words(&words),
            // Errors of validation quote the request, so only the first words count.
            Some(_) | None => words.starts_with("your credit balance is too low"),
        }
    }

    /// True if its words begin with one of `beginnings`, which are in lower case.
    pub(crate) fn begins_with(&self, beginnings: &[&str]) -> bool {
        let words = self.words.as_deref().unwrap_or_default().to_lowercase();
        beginnings.iter().any(|beginning| words.starts_with(beginning))
    }
}

/// Fields that name an error, the most precise first.
const NAME_FIELDS: [&str; 7] =
    ["code", "error_code", "reason", "type", "error_type", "status", "kind"];

/// Fields that may state an HTTP status.
const NUMBER_FIELDS: [&str; 7] =
    ["code", "status_code", "statusCode", "status", "http_code", "http_status", "error_code"];

/// Fields with words for a person, the most precise first.
const WORD_FIELDS: [&str; 8] = [
    "message",
    "error_message",
    "msg",
    "detail",
    "error_description",
    "error",
    "Message",
    "faultstring",
];

/// Fields that say less: read only where no object has better words.
const SHORT_WORD_FIELDS: [&str; 2] = ["title", "reason"];

/// Lists the objects that may describe the error, the innermost first.
fn collect<'a>(value: &'a Value, depth: usize, objects: &mut Vec<&'a Map<String, Value>>) {
    if depth == 0 || objects.len() >= MAX_NAMES {
        return;
    }
    match value {
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

/// A number that is written as a number or as its digits.
fn number(value: &Value) -> Option<u64> {
    value.as_u64().or_else(|| value.as_str()?.trim().parse().ok())
}

/// The words in the first of `fields` that has any.
fn said(object: &Map<String, Value>, fields: &[&str]) -> Option<String> {
    fields.iter().find_map(|field| clean(object.get(*field)?.as_str()?))
}

fn words(object: &Map<String, Value>) -> Option<String> {
    let listed = || clean(object.get("errors")?.get(0)?.as_str()?);
    let said = said(object, &WORD_FIELDS).or_else(listed)?;
    // OpenRouter says "Provider returned error", and passes on what the provider said.
    let raw = object.get("metadata").and_then(|metadata| metadata.get("raw")?.as_str());
    match raw.and_then(clean) {
        Some(raw) => clean(&format!("{said}: {raw}")),
        None => Some(said),
    }
}

/// The time that a body names: Google's `retryDelay`, a `retry_after`, Hugging Face's `estimated_time`.
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

/// The title of a web page, which is what such a page says to a person.
pub(crate) fn title(page: &str) -> Option<&str> {
    let lower = page.to_ascii_lowercase();
    let from = lower.find("<title")?;
    let from = from + lower.get(from..)?.find('>')? + 1;
    let to = from + lower.get(from..)?.find('<')?;
    page.get(from..to).map(str::trim).filter(|title| !title.is_empty())
}

/// `text` on one line, without control characters, at most [`MAX_WORDS`] characters; `None` where that is empty.
pub(crate) fn clean(text: &str) -> Option<String> {
    let mut line = String::new();
    let words = text.split(|c: char| c.is_whitespace() || c.is_control());
    for word in words.filter(|word| !word.is_empty()) {
        if !line.is_empty() {
            line.push(' ');
        }
        line.push_str(word);
        if line.len() > 4 * MAX_WORDS {
            break;
        }
    }
    let cut = line.char_indices().nth(MAX_WORDS).map_or(line.len(), |(at, _)| at);
    line.truncate(cut);
    (!line.is_empty()).then_some(line)
}

/// The first `bytes` bytes of `text`, or fewer where that would split a character.
pub(crate) fn beginning(text: &str, bytes: usize) -> &str {
    let end = (0..=bytes.min(text.len())).rev().find(|end| text.is_char_boundary(*end));
    text.get(..end.unwrap_or(0)).unwrap_or_default()
}

#[cfg(test)]
mod tests;
