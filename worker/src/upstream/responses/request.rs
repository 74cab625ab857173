//! Translates a request for a response to a request for a chat. Values stay as they are written.

use causeway_queue::json::{RawObject, items};

use super::{
    answer::field,
    input::{beyond, messages},
};

/// Fields that are not copied: a chat has no use for them, or they are translated.
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

/// Fields that a chat cannot express.
const IMPOSSIBLE: [&str; 2] = ["previous_response_id", "prompt"];

/// Returns the body of the equivalent chat; the error says which part a chat cannot express.
pub(super) fn chat(body: &[u8]) -> Result<Vec<u8>, String> {
    let body = String::from_utf8_lossy(body);
    let request =
        RawObject::parse(&body).map_err(|error| format!("the body is not an object: {error}"))?;
    let given = |name: &str| request.get(name).filter(|value| *value != "null");
    if let Some(name) = IMPOSSIBLE.iter().find(|name| given(name).is_some()) {
        return Err(beyond(name));
    }
    let mut fields: Vec<(&str, String)> = Vec::new();
    for (name, value) in request.iter().filter(|(name, _)| !LEFT_OUT.contains(name)) {
        let value = match (name, value.as_bytes().first()) {
            ("messages" | "max_tokens" | "reasoning_effort", _) | (_, Some(b'n')) => continue,
            ("tools", Some(b'[')) => {
                let tools: Result<Vec<String>, String> =
                    items(value).unwrap_or_default().into_iter().map(tool).collect();
                format!("[{}]", tools?.join(","))
            }
            ("tool_choice", Some(b'{')) => {
                let choice = RawObject::parse(value).unwrap_or_default();
                let name = choice.get("name").unwrap_or("null");
                format!(r#"{{"type":"function","function":{{"name":{name}}}}}"#)
            }
            ("stream_options", _) if given("stream") == Some("true") => continue,
            _ => value.to_owned(),
        };
        fields.push((name, value));
    }
    fields.push(("messages", messages(&request)?));
    let below = |name: &str, field: &str| RawObject::parse(given(name)?).ok()?.get(field);
    let placed = [
        ("max_tokens", given("max_output_tokens").or_else(|| given("max_tokens"))),
        ("reasoning_effort", below("reasoning", "effort").or_else(|| given("reasoning_effort"))),
    ];
    for (name, value) in placed {
        fields.extend(value.filter(|value| *value != "null").map(|value| (name, value.to_owned())));
    }
    let format = below("text", "format").filter(|format| *format != "null");
    fields.extend(format.map(|format| ("response_format", format_of_chat(format))));
    // Without this option a stream has no usage, and the response needs one.
    if given("stream") == Some("true") {
        fields.push(("stream_options", r#"{"include_usage":true}"#.to_owned()));
    }
    let fields: Vec<String> = fields.iter().map(|(name, value)| field(name, value)).collect();
    Ok(format!("{{{}}}", fields.join(",")).into_bytes())
}

/// Returns the id of the conversation that a request names.
pub(super) fn conversation(body: &[u8]) -> Option<String> {
    let body = String::from_utf8_lossy(body);
    let request = RawObject::parse(&body).ok()?;
    let id = request.object("conversation").and_then(|named| named.text("id"));
    id.or_else(|| request.text("conversation"))
}

fn tool(json: &str) -> Result<String, String> {
    let tool = RawObject::parse(json).unwrap_or_default();
    match tool.text("type").as_deref() {
        Some("function") => {
            let function = fields_but_type(&tool, |value| value != "null");
            Ok(format!(r#"{{"type":"function","function":{{{function}}}}}"#))
        }
        other => Err(beyond(&format!("tool {}", other.unwrap_or("without a type")))),
    }
}

/// Translates the format of an answer to that of a chat.
fn format_of_chat(format: &str) -> String {
    let known = RawObject::parse(format).unwrap_or_default();
    if known.text("type").as_deref() != Some("json_schema") {
        return format.to_owned();
    }
    let schema = fields_but_type(&known, |_| true);
    format!(r#"{{"type":"json_schema","json_schema":{{{schema}}}}}"#)
}

/// Returns the fields of an object without its `type`, and without braces.
fn fields_but_type(object: &RawObject<'_>, is_kept: impl Fn(&str) -> bool) -> String {
    let fields = object.iter().filter(|(name, value)| *name != "type" && is_kept(value));
    fields.map(|(name, value)| field(name, value)).collect::<Vec<_>>().join(",")
}
