//! Translates the answer of a chat to a response. Texts and numbers stay as they are written.

use std::collections::HashMap;

use causeway_queue::json::{self, RawObject, items};

use crate::{
    assembly::calls::{CallTexts, ToolCalls},
    failure::Failure,
    upstream::call::SIMULATED_ID,
};

/// The fields of a chat other than its choices, as they are written.
pub(super) type ChatFields = HashMap<String, String>;

/// Returns the response that is equivalent to a chat's answer; the ids of its items contain `name`.
pub(super) fn response(body: &[u8], name: &str) -> Result<Vec<u8>, Failure> {
    let broken = |why: &str| Failure::Cut(format!("the answer is not a chat completion: {why}"));
    let body = String::from_utf8_lossy(body);
    let chat = RawObject::parse(&body).map_err(|error| broken(&error.to_string()))?;
    let choice = json::at(&body, &["choices", "0"]).and_then(|json| RawObject::parse(json).ok());
    let choice = choice.ok_or_else(|| broken("it has no choice"))?;
    let message = choice.object("message").unwrap_or_default();
    let chat_fields: ChatFields = chat
        .iter()
        .filter(|(name, _)| *name != "choices")
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .collect();
    let mut output = Vec::new();
    let id = |kind, position| item_id(kind, name, &chat_fields, position);
    if let Some(text) = reasoning(&message) {
        output.push(reasoning_item(&id("rs", output.len()), text, true));
    }
    if let Some(text) = message.get("content").and_then(raw_content) {
        output.push(message_item(&id("msg", output.len()), &text, true));
    }
    let mut calls = ToolCalls::default();
    let list = message.get("tool_calls").unwrap_or("null");
    calls.merge(list).map_err(|_| broken("it has too many tool calls"))?;
    for position in 0..calls.len() {
        let id = id("fc", output.len());
        output.push(call_item(&id, &calls.texts(position), true));
    }
    Ok(whole(&chat_fields, choice.get("finish_reason"), &output).1.into_bytes())
}

/// Returns the status and the response with this output.
pub(super) fn whole(
    chat_fields: &ChatFields,
    finish_reason: Option<&str>,
    output: &[String],
) -> (&'static str, String) {
    let reason = match finish_reason {
        Some("\"length\"") => Some("max_output_tokens"),
        Some("\"content_filter\"") => Some("content_filter"),
        Some(_) | None => None,
    };
    let status = if reason.is_some() { "incomplete" } else { "completed" };
    let value = |name: &str| chat_fields.get(name).map_or("null", String::as_str);
    let details = reason.map(|reason| format!(r#"{{"reason":"{reason}"}}"#));
    let usage = RawObject::parse(value("usage")).ok().map(|counts| usage(&counts));
    let null = || "null".to_owned();
    let mut fields = vec![
        field("id", value("id")),
        field("object", "\"response\""),
        field("created_at", value("created")),
        field("model", value("model")),
        field("output", &format!("[{}]", output.join(","))),
        field("error", "null"),
        field("status", &format!("\"{status}\"")),
        field("incomplete_details", &details.unwrap_or_else(null)),
        field("usage", &usage.unwrap_or_else(null)),
    ];
    if value("service_tier") != "null" {
        fields.push(field("service_tier", value("service_tier")));
    }
    (status, format!("{{{}}}", fields.join(",")))
}

/// Translates the usage of a chat to that of a response.
fn usage(chat: &RawObject<'_>) -> String {
    let number = |object: &RawObject<'_>, name: &str| object.get(name)?.parse::<u64>().ok();
    let count = |name: &str| number(chat, name).unwrap_or(0);
    let detail = |of: &str, name: &str| {
        chat.object(of).and_then(|details| number(&details, name)).unwrap_or(0)
    };
    let (input, output) = (count("prompt_tokens"), count("completion_tokens"));
    serde_json::json!({
        "input_tokens": input,
        "input_tokens_details": {
            "cached_tokens": detail("prompt_tokens_details", "cached_tokens"),
            "cache_write_tokens": detail("prompt_tokens_details", "cache_write_tokens"),
        },
        "output_tokens": output,
        "output_tokens_details": {
            "reasoning_tokens": detail("completion_tokens_details", "reasoning_tokens"),
        },
        "total_tokens": input.saturating_add(output),
    })
    .to_string()
}

/// Returns a field of a JSON object.
pub(super) fn field(name: &str, value: &str) -> String {
    format!("\"{name}\":{value}")
}

/// Returns the inside of a JSON string as it is written; `None` if `json` is not a string.
pub(super) fn raw_text(json: &str) -> Option<&str> {
    json.strip_prefix('"')?.strip_suffix('"')
}

/// Returns the JSON-escaped text of a content; parts are joined.
pub(super) fn raw_content(content: &str) -> Option<String> {
    if let Some(text) = raw_text(content) {
        return Some(text.to_owned());
    }
    let text_of = |part| raw_text(RawObject::parse(part).ok()?.get("text")?).map(str::to_owned);
    Some(items(content)?.into_iter().filter_map(text_of).collect())
}

/// Returns the reasoning in a message or a delta, without its quotes. Servers use two names for it.
pub(super) fn reasoning<'a>(message: &RawObject<'a>) -> Option<&'a str> {
    let texts = ["reasoning_content", "reasoning"];
    let mut texts = texts.into_iter().filter_map(|name| raw_text(message.get(name)?));
    texts.find(|text| !text.is_empty())
}

/// Returns the id of an item. The API finds the item by it: `name` is that of its response. The mark of a simulated
/// chat is repeated in it.
pub(super) fn item_id(kind: &str, name: &str, chat_fields: &ChatFields, position: usize) -> String {
    let is_simulated = chat_fields.get("id").is_some_and(|id| id.contains(SIMULATED_ID));
    let mark = if is_simulated { SIMULATED_ID } else { "" };
    format!("{kind}{mark}_{name}_{position}")
}

/// Returns reasoning as an item of the output; its text is JSON-escaped. It is represented as a summary, the only form
/// that all SDKs show.
pub(super) fn reasoning_item(id: &str, text: &str, is_complete: bool) -> String {
    let summary = if is_complete { summary_part(text) } else { String::new() };
    format!(r#"{{"id":"{id}","type":"reasoning","summary":[{summary}]}}"#)
}

/// Returns the text part of reasoning.
pub(super) fn summary_part(text: &str) -> String {
    format!(r#"{{"type":"summary_text","text":"{text}"}}"#)
}

/// Returns a message as an item of the output; its text is JSON-escaped.
pub(super) fn message_item(id: &str, text: &str, is_complete: bool) -> String {
    let status = status(is_complete);
    let content = if is_complete { text_part(text) } else { String::new() };
    format!(
        r#"{{"id":"{id}","type":"message","role":"assistant","status":"{status}","content":[{content}]}}"#
    )
}

/// Returns the text part of a message.
pub(super) fn text_part(text: &str) -> String {
    format!(r#"{{"type":"output_text","text":"{text}","annotations":[],"logprobs":[]}}"#)
}

/// Returns a function call as an item of the output. A call without an id gets one derived from its item's.
pub(super) fn call_item(id: &str, call: &CallTexts<'_>, is_complete: bool) -> String {
    let (status, CallTexts { name, arguments, .. }) = (status(is_complete), call);
    let call_id =
        if call.id.is_empty() { id.replacen("fc_", "call_", 1) } else { call.id.to_owned() };
    let arguments = if is_complete { arguments } else { "" };
    format!(
        r#"{{"id":"{id}","type":"function_call","status":"{status}","call_id":"{call_id}","name":"{name}","arguments":"{arguments}"}}"#
    )
}

fn status(is_complete: bool) -> &'static str {
    if is_complete { "completed" } else { "in_progress" }
}
