//! Inserts the turns of a conversation into its next request.

use bytes::Bytes;
use causeway_queue::{
    json::{RawObject, items},
    session::Turn,
};

/// Returns `body` with `turns` inserted as messages before its last user message. Returns it unchanged if there
/// are no turns, or if the request has no messages.
pub(crate) fn recall(body: &Bytes, turns: &[Turn]) -> Bytes {
    let recalled = || {
        let text = std::str::from_utf8(body).ok()?;
        let request = RawObject::parse(text).ok()?;
        let messages = items(request.get("messages")?)?;
        let (before, behind) = messages.split_at(messages.iter().rposition(is_from_user)?);
        let message = |role: &str, text: &str| {
            serde_json::json!({ "role": role, "content": text }).to_string()
        };
        let mut whole: Vec<String> = before.iter().map(|message| (*message).to_owned()).collect();
        for turn in turns {
            whole.extend([message("user", &turn.user), message("assistant", &turn.assistant)]);
        }
        whole.extend(behind.iter().map(|message| (*message).to_owned()));
        let whole = format!("[{}]", whole.join(","));
        // Names and values are copied as they are written: the upstream gets the client's own numbers and escapes.
        let fields = request.iter().map(|(name, value)| match name {
            "messages" => format!("\"{name}\":{whole}"),
            _ => format!("\"{name}\":{value}"),
        });
        Some(format!("{{{}}}", fields.collect::<Vec<_>>().join(",")))
    };
    if turns.is_empty() { body.clone() } else { recalled().map_or(body.clone(), Bytes::from) }
}

/// Returns the text of the last user message in `body`.
pub(crate) fn last_said(body: &[u8]) -> Option<String> {
    let messages = items(RawObject::parse(std::str::from_utf8(body).ok()?).ok()?.get("messages")?)?;
    let last = messages.iter().rev().find(|message| is_from_user(message))?;
    RawObject::parse(last).ok()?.text("content")
}

fn is_from_user(message: &&str) -> bool {
    RawObject::parse(message).is_ok_and(|message| message.get("role") == Some("\"user\""))
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    #[test]
    fn turns_precede_the_last_user_message() {
        let body = json!({ "model": "m", "messages": [
            { "role": "system", "content": "s" }, { "role": "user", "content": "now" },
        ] });
        let body = Bytes::from(body.to_string());
        let turns = [Turn { user: "then".to_owned(), assistant: "ah".to_owned() }];
        let recalled: Value = serde_json::from_slice(&recall(&body, &turns)).unwrap();
        let contents: Vec<&str> = recalled["messages"]
            .as_array()
            .unwrap()
            .iter()
            .map(|message| message["content"].as_str().unwrap())
            .collect();
        assert_eq!(contents, ["s", "then", "ah", "now"]);
        assert_eq!(last_said(&body).as_deref(), Some("now"));
    }

    #[test]
    fn a_body_without_turns_is_unchanged() {
        let body = Bytes::from_static(b"{ \"messages\" : [] }");
        assert_eq!(recall(&body, &[]), body);
        let turn = Turn { user: "a".to_owned(), assistant: "b".to_owned() };
        assert_eq!(recall(&body, &[turn]), body);
    }
}
