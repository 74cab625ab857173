//! A request for a response, as a request for a chat.

use serde_json::{Map, Value, json};

/// What is not passed on: it has no meaning to a chat, or was put elsewhere.
const LEFT_OUT: [&str; 9] = [
    "input",
    "instructions",
    "max_output_tokens",
    "include",
    "store",
    "truncation",
    "reasoning",
    "text",
    "metadata",
];

/// What a chat cannot do.
const IMPOSSIBLE: [&str; 3] = ["previous_response_id", "conversation", "prompt"];

/// The body of the chat that asks the same; else what it cannot ask.
pub(super) fn chat(body: &[u8]) -> Result<Vec<u8>, String> {
    let request: Map<String, Value> =
        serde_json::from_slice(body).map_err(|error| format!("the body is no object: {error}"))?;
    let is_asked = |name: &&str| request.get(*name).is_some_and(|value| !value.is_null());
    if let Some(name) = IMPOSSIBLE.iter().find(|name| is_asked(name)) {
        return Err(beyond(name));
    }
    let mut messages = Vec::new();
    if let Some(text) = request.get("instructions").and_then(Value::as_str) {
        messages.push(json!({ "role": "system", "content": text }));
    }
    match request.get("input") {
        Some(Value::String(text)) => messages.push(json!({ "role": "user", "content": text })),
        Some(Value::Array(items)) => items.iter().try_for_each(|item| add(&mut messages, item))?,
        _ => return Err("`input` must be a text or a list of items".to_owned()),
    }
    let mut chat: Map<String, Value> = request
        .iter()
        .filter(|(name, value)| !LEFT_OUT.contains(&name.as_str()) && !value.is_null())
        .map(|(name, value)| (name.clone(), value.clone()))
        .collect();
    chat.insert("messages".to_owned(), messages.into());
    if let Some(most) = request.get("max_output_tokens").filter(|most| !most.is_null()) {
        chat.insert("max_tokens".to_owned(), most.clone());
    }
    if let Some(effort) = request.get("reasoning").and_then(|reasoning| reasoning.get("effort")) {
        chat.insert("reasoning_effort".to_owned(), effort.clone());
    }
    if let Some(format) = request.get("text").and_then(|text| text.get("format")) {
        chat.insert("response_format".to_owned(), response_format(format));
    }
    if let Some(Value::Array(tools)) = chat.get("tools") {
        let tools: Result<Vec<Value>, String> = tools.iter().map(tool).collect();
        chat.insert("tools".to_owned(), tools?.into());
    }
    if let Some(choice @ Value::Object(_)) = chat.get("tool_choice") {
        let choice = json!({ "type": "function", "function": { "name": choice["name"] } });
        chat.insert("tool_choice".to_owned(), choice);
    }
    if chat.get("stream") == Some(&Value::Bool(true)) {
        chat.insert("stream_options".to_owned(), json!({ "include_usage": true }));
    }
    serde_json::to_vec(&chat).map_err(|error| error.to_string())
}

fn beyond(what: &str) -> String {
    format!(
        "this upstream has no /v1/responses; Causeway asks it by chat, which cannot do `{what}`: send \
         the whole conversation as text, with function tools at most"
    )
}

/// Adds an item of the input to the messages of a chat.
fn add(messages: &mut Vec<Value>, item: &Value) -> Result<(), String> {
    match item.get("type").and_then(Value::as_str).unwrap_or("message") {
        "message" => {
            let role = match item.get("role").and_then(Value::as_str) {
                Some("developer") => "system",
                Some(role) => role,
                None => return Err("a message in `input` must have a `role`".to_owned()),
            };
            let content = text(item.get("content").unwrap_or(&Value::Null))?;
            messages.push(json!({ "role": role, "content": content }));
        }
        "function_call" => {
            let call = json!({
                "id": item["call_id"], "type": "function",
                "function": { "name": item["name"], "arguments": item["arguments"] },
            });
            // Calls that stand together are one message.
            let last = messages.last_mut().and_then(|last| last.get_mut("tool_calls"));
            match last.and_then(Value::as_array_mut) {
                Some(calls) => calls.push(call),
                None => messages
                    .push(json!({ "role": "assistant", "content": null, "tool_calls": [call] })),
            }
        }
        "function_call_output" => {
            let content = text(&item["output"])?;
            let id = &item["call_id"];
            messages.push(json!({ "role": "tool", "tool_call_id": id, "content": content }));
        }
        other => return Err(beyond(&format!("input item {other}"))),
    }
    Ok(())
}

/// The text of a content: a text, or parts that are texts.
fn text(content: &Value) -> Result<String, String> {
    match content {
        Value::String(text) => Ok(text.clone()),
        Value::Array(parts) => parts
            .iter()
            .map(|part| match part.get("text").and_then(Value::as_str) {
                Some(text) => Ok(text),
                None => Err(beyond(part.get("type").and_then(Value::as_str).unwrap_or("content"))),
            })
            .collect(),
        _ => Err("the content of a message must be a text or a list of parts".to_owned()),
    }
}

fn tool(tool: &Value) -> Result<Value, String> {
    match tool.get("type").and_then(Value::as_str) {
        Some("function") => {
            let mut function = tool.as_object().cloned().unwrap_or_default();
            function.remove("type");
            function.retain(|_, value| !value.is_null());
            Ok(json!({ "type": "function", "function": function }))
        }
        other => Err(beyond(&format!("tool {}", other.unwrap_or("without a type")))),
    }
}

fn response_format(format: &Value) -> Value {
    if format.get("type").and_then(Value::as_str) != Some("json_schema") {
        return format.clone();
    }
    let mut schema = format.as_object().cloned().unwrap_or_default();
    schema.remove("type");
    json!({ "type": "json_schema", "json_schema": schema })
}
