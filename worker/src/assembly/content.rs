//! The content of a message: a growing text, or a list of parts.

use causeway_queue::json::{RawObject, items};

use super::{
    node::{Entries, Fields, Node},
    raw::{Rule, TooMany, raw_text},
};

/// The name of the field of a message.
const CONTENT: &str = "content";

/// Merges the content of a delta into the content of its message.
pub(super) fn merge(message: &mut Fields, more: &str) -> Result<(), TooMany> {
    let Some(content) = message.get_mut(CONTENT) else {
        let is_parts = more.starts_with('[');
        message
            .set(CONTENT, if is_parts { parts(None, more)? } else { Node::Raw(more.to_owned()) });
        return Ok(());
    };
    match (content.open(), more.as_bytes().first()) {
        (Node::Entries(entries), Some(b'[')) => add(entries, more)?,
        (Node::Entries(entries), Some(b'"')) => {
            if let Some(text) = raw_text(more).filter(|text| !text.is_empty()) {
                add_part(entries, &text_part(text))?;
            }
        }
        // The content was a text and is continued as parts: the text becomes the first part.
        (Node::Text(text), Some(b'[')) => {
            let text = std::mem::take(text);
            *content = parts(Some(&text), more)?;
        }
        (Node::Raw(_), Some(b'[')) => *content = parts(None, more)?,
        (content, _) => content.merge(CONTENT, more, Rule::Delta)?,
    }
    Ok(())
}

/// Returns content as parts: the text `before`, then the parts of `list`.
fn parts(before: Option<&str>, list: &str) -> Result<Node, TooMany> {
    let mut entries = Entries::default();
    if let Some(text) = before.filter(|text| !text.is_empty()) {
        entries.push(&text_part(text))?;
    }
    add(&mut entries, list)?;
    Ok(Node::Entries(entries))
}

fn add(entries: &mut Entries, list: &str) -> Result<(), TooMany> {
    items(list).unwrap_or_default().into_iter().try_for_each(|part| add_part(entries, part))
}

/// Merges a part by its index. A part without one continues the part before it if both are texts.
fn add_part(entries: &mut Entries, part: &str) -> Result<(), TooMany> {
    if entries.add_indexed(part)? {
        return Ok(());
    }
    let kind = RawObject::parse(part).ok().and_then(|part| part.get("type"));
    let goes_on = matches!(kind, Some("\"text\"" | "\"output_text\"" | "\"thinking\""));
    match entries.last_mut().map(Node::open).filter(|_| goes_on) {
        Some(last) if last.field("type").and_then(Node::text) == kind.and_then(raw_text) => {
            last.merge("", part, Rule::Delta)
        }
        Some(_) | None => entries.push(part),
    }
}

/// Returns a part with the JSON-escaped `text`.
fn text_part(text: &str) -> String {
    format!(r#"{{"type":"text","text":"{text}"}}"#)
}
