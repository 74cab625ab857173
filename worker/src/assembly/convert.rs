//! Conversion of a whole answer into the events of an equivalent stream.
//!
//! It serves calls that request a stream from a server that only sends whole answers.

use causeway_queue::{
    RawJson,
    json::{RawObject, items},
};

use super::{
    node::{Fields, Node},
    raw::is_empty,
};

/// Returns the data of the events, without `[DONE]`, that are equivalent to the answer `whole` of a call to `url`;
/// `None` if it is not an answer of that endpoint.
pub(crate) fn events_of(url: &str, whole: &RawJson) -> Option<Vec<String>> {
    let object = RawObject::parse(whole.as_str()).ok()?;
    if url.ends_with("/chat/completions") {
        chat(&object)
    } else if url.ends_with("/completions") {
        // A text completion has the same form as a whole and as a chunk.
        let choices = items(object.get("choices")?)?;
        (!choices.is_empty()).then(|| vec![whole.as_str().to_owned()])
    } else if url.ends_with("/messages") {
        message(&object)
    } else if url.ends_with("/responses") {
        response(&object, whole.as_str())
    } else {
        None
    }
}

/// Converts a chat into two chunks: one with the messages of all choices, one with their ends and the usage.
fn chat(whole: &RawObject<'_>) -> Option<Vec<String>> {
    let choices: Option<Vec<RawObject<'_>>> = items(whole.get("choices")?)?
        .into_iter()
        .map(|choice| RawObject::parse(choice).ok())
        .collect();
    let choices = choices.filter(|choices| !choices.is_empty())?;
    let mut starts = Vec::new();
    let mut ends = Vec::new();
    for (position, choice) in choices.iter().enumerate() {
        let index = position.to_string();
        let index = choice.get("index").unwrap_or(&index);
        let mut first = without(choice, "message");
        first.set("index", raw(index));
        first.set("delta", raw(&braced(&delta(&choice.object("message")?)?)));
        first.set("finish_reason", raw("null"));
        starts.push(braced(&first));
        let reason = choice.get("finish_reason").filter(|reason| !is_empty(reason));
        let reason = reason.unwrap_or("\"stop\"");
        ends.push(format!(r#"{{"index":{index},"delta":{{}},"finish_reason":{reason}}}"#));
    }
    let chunk = |choices: &[String], usage: Option<&str>| {
        let mut fields = without(whole, "usage");
        fields.set("object", raw("\"chat.completion.chunk\""));
        fields.set("choices", raw(&format!("[{}]", choices.join(","))));
        if let Some(usage) = usage {
            fields.set("usage", raw(usage));
        }
        braced(&fields)
    };
    Some(vec![chunk(&starts, None), chunk(&ends, whole.get("usage"))])
}

/// Returns the delta with a whole message. Its tool calls get indexes, which only deltas have.
fn delta(message: &RawObject<'_>) -> Option<Fields> {
    let mut delta = Fields::of(message);
    if let Some(calls) = message.get("tool_calls").filter(|calls| *calls != "null") {
        let numbered: Option<Vec<String>> = items(calls)?
            .into_iter()
            .enumerate()
            .map(|(index, call)| {
                let mut call = Fields::of(&RawObject::parse(call).ok()?);
                call.set("index", raw(&index.to_string()));
                Some(braced(&call))
            })
            .collect();
        delta.set("tool_calls", raw(&format!("[{}]", numbered?.join(","))));
    }
    Some(delta)
}

/// Converts a message of Anthropic's API: its start, each block of content, and its end.
fn message(whole: &RawObject<'_>) -> Option<Vec<String>> {
    let mut start = Fields::of(whole);
    start.set("content", raw("[]"));
    for name in ["stop_reason", "stop_sequence"] {
        start.set(name, raw("null"));
    }
    let mut events = vec![format!(r#"{{"type":"message_start","message":{}}}"#, braced(&start))];
    for (index, block) in items(whole.get("content")?)?.into_iter().enumerate() {
        let block_start = |block: &Fields| {
            let block = braced(block);
            format!(r#"{{"type":"content_block_start","index":{index},"content_block":{block}}}"#)
        };
        let delta = |kind: &str, name: &str, value: &str| {
            let delta = format!(r#"{{"type":"{kind}_delta","{name}":{value}}}"#);
            format!(r#"{{"type":"content_block_delta","index":{index},"delta":{delta}}}"#)
        };
        let block = RawObject::parse(block).ok()?;
        let mut started = Fields::of(&block);
        let mut deltas = Vec::new();
        for (kind, name) in [("text", "text"), ("thinking", "thinking"), ("signature", "signature")]
        {
            if let Some(value) = block.get(name).filter(|value| value.starts_with('"')) {
                started.set(name, raw("\"\""));
                deltas.push(delta(kind, name, value));
            }
        }
        // Deltas carry the input of a tool as JSON within a string.
        if let Some(input) = block.get("input") {
            started.set("input", raw("{}"));
            deltas.push(delta("input_json", "partial_json", RawJson::string(input).as_str()));
        }
        events.push(block_start(&started));
        events.extend(deltas);
        events.push(format!(r#"{{"type":"content_block_stop","index":{index}}}"#));
    }
    let value = |name: &str| whole.get(name).unwrap_or("null");
    events.push(format!(
        r#"{{"type":"message_delta","delta":{{"stop_reason":{},"stop_sequence":{}}},"usage":{}}}"#,
        value("stop_reason"),
        value("stop_sequence"),
        whole.get("usage").unwrap_or("{}"),
    ));
    events.push(r#"{"type":"message_stop"}"#.to_owned());
    Some(events)
}

/// Converts a response: each item of its output with its texts, and the end.
fn response(whole: &RawObject<'_>, json: &str) -> Option<Vec<String>> {
    let mut events = Vec::new();
    for (position, item) in items(whole.get("output")?)?.into_iter().enumerate() {
        output_item(position, item, &mut events)?;
    }
    let kind = match whole.text("status").as_deref() {
        Some("incomplete") => "incomplete",
        Some("failed") => "failed",
        Some(_) | None => "completed",
    };
    events.push(format!(r#"{{"type":"response.{kind}","response":{json}}}"#));
    Some(events)
}

/// Converts one item of the output: its start without content, its parts, and its end.
fn output_item(position: usize, json: &str, events: &mut Vec<String>) -> Option<()> {
    let item = RawObject::parse(json).ok()?;
    let id = item.get("id").unwrap_or("\"\"");
    let about = format!(r#""item_id":{id},"output_index":{position}"#);
    let mut started = Fields::of(&item);
    started.set("status", raw("\"in_progress\""));
    let mut parts = Vec::new();
    match item.text("type").as_deref() {
        Some("message") => {
            started.set("content", raw("[]"));
            for (index, part) in items(item.get("content")?)?.into_iter().enumerate() {
                let about = format!(r#"{about},"content_index":{index}"#);
                content_part(&about, part, &mut parts)?;
            }
        }
        Some("function_call") => {
            started.set("arguments", raw("\"\""));
            let arguments = item.get("arguments")?;
            let kind = "response.function_call_arguments";
            let name = item.get("name").unwrap_or("\"\"");
            parts.push(format!(r#"{{"type":"{kind}.delta",{about},"delta":{arguments}}}"#));
            let done = format!(r#""name":{name},"arguments":{arguments}"#);
            parts.push(format!(r#"{{"type":"{kind}.done",{about},{done}}}"#));
        }
        Some(_) | None => {}
    }
    let event = |kind: &str, item: &str| {
        format!(
            r#"{{"type":"response.output_item.{kind}","output_index":{position},"item":{item}}}"#
        )
    };
    events.push(event("added", &braced(&started)));
    events.extend(parts);
    events.push(event("done", json));
    Some(())
}

/// Converts one part of a message: its start without text, the text as one delta, and its end.
fn content_part(about: &str, json: &str, events: &mut Vec<String>) -> Option<()> {
    let part = RawObject::parse(json).ok()?;
    let mut started = Fields::of(&part);
    let (field, kind) = match part.text("type").as_deref() {
        Some("refusal") => ("refusal", "refusal"),
        Some(_) | None => ("text", "output_text"),
    };
    started.set(field, raw("\"\""));
    let value = part.get(field)?;
    let logprobs = if kind == "refusal" { "" } else { ",\"logprobs\":[]" };
    let event = |kind: &str, more: &str| format!(r#"{{"type":"response.{kind}",{about},{more}}}"#);
    events.push(event("content_part.added", &format!(r#""part":{}"#, braced(&started))));
    events.push(event(&format!("{kind}.delta"), &format!(r#""delta":{value}{logprobs}"#)));
    events.push(event(&format!("{kind}.done"), &format!(r#""{field}":{value}{logprobs}"#)));
    events.push(event("content_part.done", &format!(r#""part":{json}"#)));
    Some(())
}

/// Returns the fields of `object` without the field `left_out`.
fn without(object: &RawObject<'_>, left_out: &str) -> Fields {
    let mut fields = Fields::default();
    for (name, value) in object.iter().filter(|(name, _)| *name != left_out) {
        fields.set(name, raw(value));
    }
    fields
}

fn raw(json: &str) -> Node {
    Node::Raw(json.to_owned())
}

/// Returns the fields as a JSON object.
fn braced(fields: &Fields) -> String {
    let mut out = String::from("{");
    fields.write(&mut out);
    out.push('}');
    out
}
