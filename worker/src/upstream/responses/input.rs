//! Translates the instructions and the input of a response request to the messages of a chat. Values stay as they
//! are written.

use causeway_queue::json::{RawObject, items};

use super::answer::{field, raw_text};

/// A message of a chat.
enum ChatItem {
    /// A message as JSON.
    Whole(String),
    /// An assistant's turn. Its items are adjacent in the input and form one message of a chat, because the chat
    /// templates of some models refuse two assistant messages in a row.
    Turn(AssistantTurn),
}

/// The parts of an assistant's turn as JSON; texts without their quotes.
#[derive(Default)]
struct AssistantTurn {
    reasoning: String,
    text: Option<String>,
    calls: Vec<String>,
}

impl AssistantTurn {
    fn is_empty(&self) -> bool {
        self.text.is_none() && self.calls.is_empty()
    }

    fn message(&self) -> String {
        let content = self.text.as_ref().map(|text| format!("\"{text}\""));
        let mut fields = vec![field("role", "\"assistant\"")];
        fields.push(field("content", content.as_deref().unwrap_or("null")));
        if !self.reasoning.is_empty() {
            fields.push(field("reasoning_content", &format!("\"{}\"", self.reasoning)));
        }
        if !self.calls.is_empty() {
            fields.push(field("tool_calls", &format!("[{}]", self.calls.join(","))));
        }
        format!("{{{}}}", fields.join(","))
    }
}

/// Returns the messages that are equivalent to the instructions and the input.
pub(super) fn messages(request: &RawObject<'_>) -> Result<String, String> {
    let message = |role: &str, text: &str| {
        ChatItem::Whole(format!(r#"{{"role":"{role}","content":{text}}}"#))
    };
    let mut messages = Vec::new();
    if let Some(text) = request.get("instructions").filter(|text| text.starts_with('"')) {
        messages.push(message("system", text));
    }
    match request.get("input") {
        Some(text) if text.starts_with('"') => messages.push(message("user", text)),
        Some(list) if list.starts_with('[') => {
            let items = items(list).unwrap_or_default();
            items.into_iter().try_for_each(|item| add(&mut messages, item))?;
        }
        Some(_) | None => return Err("`input` must be a text or a list of items".to_owned()),
    }
    let messages = messages.into_iter().filter_map(|message| match message {
        ChatItem::Whole(message) => Some(message),
        // Reasoning without an answer: its turn was cut.
        ChatItem::Turn(turn) if turn.is_empty() => None,
        ChatItem::Turn(turn) => Some(turn.message()),
    });
    Ok(format!("[{}]", messages.collect::<Vec<_>>().join(",")))
}

/// Adds an item of the input to the messages.
fn add(messages: &mut Vec<ChatItem>, item: &str) -> Result<(), String> {
    let item = RawObject::parse(item).unwrap_or_default();
    let value = |name: &str| item.get(name).unwrap_or("null");
    match item.text("type").as_deref().unwrap_or("message") {
        "message" => add_message(messages, &item)?,
        "reasoning" => {
            in_turn(messages, false, |turn| turn.reasoning.push_str(&reasoning(&item)));
        }
        "function_call" => {
            let (id, name, arguments) = (value("call_id"), value("name"), value("arguments"));
            let function = format!(r#"{{"name":{name},"arguments":{arguments}}}"#);
            let call = format!(r#"{{"id":{id},"type":"function","function":{function}}}"#);
            in_turn(messages, true, |turn| turn.calls.push(call));
        }
        "function_call_output" => {
            let (id, content) = (value("call_id"), content(value("output"))?);
            messages.push(ChatItem::Whole(format!(
                r#"{{"role":"tool","tool_call_id":{id},"content":{content}}}"#
            )));
        }
        "item_reference" => {
            let id = item.text("id").unwrap_or_default();
            return Err(format!(
                "Item with id '{id}' not found. This upstream has no /v1/responses, so only items of Causeway's own \
                 responses can be referred to; send the item itself instead of its id"
            ));
        }
        other => return Err(beyond(&format!("input item {other}"))),
    }
    Ok(())
}

fn add_message(messages: &mut Vec<ChatItem>, item: &RawObject<'_>) -> Result<(), String> {
    // Many servers know `system` only; `developer` is its newer name.
    let role = match item.get("role") {
        Some("\"developer\"") => "\"system\"",
        Some(role) if role.starts_with('"') => role,
        Some(_) | None => return Err("a message in `input` must have a `role`".to_owned()),
    };
    let content = content(item.get("content").unwrap_or("null"))?;
    match raw_text(&content).filter(|_| role == "\"assistant\"") {
        Some(text) => in_turn(messages, false, |turn| turn.text = Some(text.to_owned())),
        None => messages.push(ChatItem::Whole(format!(r#"{{"role":{role},"content":{content}}}"#))),
    }
    Ok(())
}

/// Adds an item to the assistant's turn that it belongs to. A call continues the turn of the preceding text; a text or
/// reasoning after a text starts another turn.
fn in_turn(messages: &mut Vec<ChatItem>, is_call: bool, add: impl FnOnce(&mut AssistantTurn)) {
    match messages.last_mut() {
        Some(ChatItem::Turn(turn)) if is_call || turn.is_empty() => add(turn),
        Some(ChatItem::Turn(_) | ChatItem::Whole(_)) | None => {
            let mut turn = AssistantTurn::default();
            add(&mut turn);
            messages.push(ChatItem::Turn(turn));
        }
    }
}

/// Returns the text of a reasoning item: its content, else its summary. Encrypted reasoning has none.
fn reasoning(item: &RawObject<'_>) -> String {
    let texts = |name: &str| -> String {
        let parts = item.get(name).and_then(items).unwrap_or_default();
        let text_of = |part| raw_text(RawObject::parse(part).ok()?.get("text")?);
        parts.into_iter().filter_map(text_of).collect()
    };
    Some(texts("content")).filter(|text| !text.is_empty()).unwrap_or_else(|| texts("summary"))
}

/// Returns the content of a message for a chat: one text if all parts are texts, because servers without vision
/// accept no list; otherwise the list of the parts.
fn content(content: &str) -> Result<String, String> {
    if content.starts_with('"') {
        return Ok(content.to_owned());
    }
    let parts = items(content)
        .ok_or_else(|| "the content of a message must be a text or a list of parts".to_owned())?;
    let parts: Vec<RawObject<'_>> =
        parts.into_iter().map(|part| RawObject::parse(part).unwrap_or_default()).collect();
    let texts: Option<String> = parts.iter().map(text_of).collect();
    if let Some(text) = texts {
        return Ok(format!("\"{text}\""));
    }
    let parts: Result<Vec<String>, String> = parts.iter().map(part).collect();
    Ok(format!("[{}]", parts?.join(",")))
}

/// Returns the text of a part without its quotes; `None` if it is not a text.
fn text_of<'a>(part: &RawObject<'a>) -> Option<&'a str> {
    let name = if part.get("type") == Some("\"refusal\"") { "refusal" } else { "text" };
    raw_text(part.get(name)?)
}

/// Translates a part of a message to a part of a chat message.
fn part(part: &RawObject<'_>) -> Result<String, String> {
    if let Some(text) = text_of(part) {
        return Ok(format!(r#"{{"type":"text","text":"{text}"}}"#));
    }
    let kind = part.text("type").unwrap_or_else(|| "content".to_owned());
    let value = |name: &str| part.get(name).filter(|value| *value != "null");
    let fields = |names: &[&str]| -> String {
        let fields = names.iter().filter_map(|name| Some(field(name, value(name)?)));
        fields.collect::<Vec<_>>().join(",")
    };
    match (kind.as_str(), value("image_url"), value("file_data").or(value("file_id"))) {
        ("input_image", Some(url), _) => {
            let detail = value("detail").map(|detail| format!(",{}", field("detail", detail)));
            let detail = detail.unwrap_or_default();
            Ok(format!(r#"{{"type":"image_url","image_url":{{"url":{url}{detail}}}}}"#))
        }
        ("input_image", None, _) => Err(beyond("input_image without image_url")),
        ("input_file", _, Some(_)) => {
            let file = fields(&["filename", "file_data", "file_id"]);
            Ok(format!(r#"{{"type":"file","file":{{{file}}}}}"#))
        }
        ("input_file", _, None) => Err(beyond("input_file without file_data or file_id")),
        ("input_audio", ..) => {
            Ok(format!(r#"{{"type":"input_audio",{}}}"#, fields(&["input_audio"])))
        }
        (kind, ..) => Err(beyond(kind)),
    }
}

/// Returns the message of a refusal: a chat cannot express `what`.
pub(super) fn beyond(what: &str) -> String {
    format!(
        "this upstream has no /v1/responses; Causeway translates the request to a chat, which cannot \
         express `{what}`: send texts, images, files, function tools and their outputs only"
    )
}
