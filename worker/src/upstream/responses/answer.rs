//! The answer of a chat, as a response.

use serde_json::{Map, Value, json};

use crate::upstream::Failure;

/// The response that says what the chat's answer says.
pub(super) fn response(body: &[u8]) -> Result<Vec<u8>, Failure> {
    let broken = |why: String| Failure::Cut(format!("the answer is no chat completion: {why}"));
    let chat: Value = serde_json::from_slice(body).map_err(|error| broken(error.to_string()))?;
    let choice = chat.get("choices").and_then(|choices| choices.get(0));
    let choice = choice.ok_or_else(|| broken("it has no choice".to_owned()))?;
    let message = &choice["message"];
    let mut output = Vec::new();
    if let Some(text) = message.get("content").and_then(Value::as_str) {
        output.push(message_item(&item_id("msg", &chat, output.len()), text, "completed"));
    }
    for call in message.get("tool_calls").and_then(Value::as_array).into_iter().flatten() {
        let id = item_id("fc", &chat, output.len());
        output.push(call_item(&id, call, "completed"));
    }
    let whole = whole(&chat, choice.get("finish_reason"), &output);
    serde_json::to_vec(&whole).map_err(|error| broken(error.to_string()))
}

/// A response with this output; `chat` is the answer, or what its chunks had in common.
pub(super) fn whole(chat: &Value, finish_reason: Option<&Value>, output: &[Value]) -> Value {
    let reason = match finish_reason.and_then(Value::as_str) {
        Some("length") => Some("max_output_tokens"),
        Some("content_filter") => Some("content_filter"),
        _ => None,
    };
    let mut response = json!({
        "id": chat.get("id"), "object": "response", "created_at": chat.get("created"),
        "model": chat.get("model"), "output": output, "error": null,
        "status": if reason.is_some() { "incomplete" } else { "completed" },
        "incomplete_details": reason.map(|reason| json!({ "reason": reason })),
        "usage": chat.get("usage").filter(|usage| !usage.is_null()).map(usage),
    });
    if let Some(tier) = chat.get("service_tier").filter(|tier| !tier.is_null()) {
        response["service_tier"] = tier.clone();
    }
    response
}

/// The tokens of a chat in the words of responses.
fn usage(chat: &Value) -> Value {
    let count = |name: &str| chat.get(name).and_then(Value::as_u64).unwrap_or(0);
    let detail = |place: &str| chat.pointer(place).and_then(Value::as_u64).unwrap_or(0);
    let (input, output) = (count("prompt_tokens"), count("completion_tokens"));
    json!({
        "input_tokens": input,
        "input_tokens_details": {
            "cached_tokens": detail("/prompt_tokens_details/cached_tokens"),
            "cache_write_tokens": detail("/prompt_tokens_details/cache_write_tokens"),
        },
        "output_tokens": output,
        "output_tokens_details": {
            "reasoning_tokens": detail("/completion_tokens_details/reasoning_tokens"),
        },
        "total_tokens": input + output,
    })
}

/// The id of an item, after that of the chat.
pub(super) fn item_id(kind: &str, chat: &Value, place: usize) -> String {
    format!("{kind}_{}_{place}", chat.get("id").and_then(Value::as_str).unwrap_or("chat"))
}

/// A message in an output.
pub(super) fn message_item(id: &str, text: &str, status: &str) -> Value {
    let content = if status == "completed" { vec![text_part(text)] } else { Vec::new() };
    json!({
        "id": id, "type": "message", "role": "assistant", "status": status, "content": content,
    })
}

/// The text in a message.
pub(super) fn text_part(text: &str) -> Value {
    json!({ "type": "output_text", "text": text, "annotations": [], "logprobs": [] })
}

/// A function call in an output, from a `tool_calls` of a chat.
pub(super) fn call_item(id: &str, call: &Value, status: &str) -> Value {
    let said = |at: &str| call.pointer(at).and_then(Value::as_str).unwrap_or_default();
    let item = json!({
        "id": id, "type": "function_call", "status": status, "call_id": said("/id"),
        "name": said("/function/name"), "arguments": said("/function/arguments"),
    });
    Value::Object(item.as_object().cloned().unwrap_or_else(Map::new))
}
