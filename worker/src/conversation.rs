//! What a conversation remembers, put into the request.

use bytes::Bytes;
use causeway_queue::session::Turn;
use serde_json::{Value, json};

/// `body` with `turns` as messages before its last user message; unchanged without turns, or when
/// it has no messages.
pub(crate) fn recall(body: &Bytes, turns: &[Turn]) -> Bytes {
    let recalled = || {
        let mut request: Value = serde_json::from_slice(body).ok()?;
        let messages = request.get_mut("messages")?.as_array_mut()?;
        let last = messages.iter().rposition(is_from_user)?;
        let remembered = turns.iter().flat_map(|turn| {
            [
                json!({ "role": "user", "content": turn.user }),
                json!({ "role": "assistant", "content": turn.assistant }),
            ]
        });
        messages.splice(last..last, remembered);
        serde_json::to_vec(&request).ok()
    };
    if turns.is_empty() { body.clone() } else { recalled().map_or(body.clone(), Bytes::from) }
}

/// The last thing that the user says in `body`.
pub(crate) fn last_said(body: &[u8]) -> Option<String> {
    let request: Value = serde_json::from_slice(body).ok()?;
    let messages = request.get("messages")?.as_array()?;
    let last = messages.iter().rev().find(|message| is_from_user(message))?;
    last.get("content")?.as_str().map(str::to_owned)
}

fn is_from_user(message: &Value) -> bool {
    message.get("role").and_then(Value::as_str) == Some("user")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn turns_stand_before_the_last_thing_said() {
        let body = json!({ "model": "m", "messages": [
            { "role": "system", "content": "s" }, { "role": "user", "content": "now" },
        ] });
        let body = Bytes::from(body.to_string());
        let turns = [Turn { user: "then".to_owned(), assistant: "ah".to_owned() }];
        let recalled: Value = serde_json::from_slice(&recall(&body, &turns)).unwrap();
        let said: Vec<&str> = recalled["messages"]
            .as_array()
            .unwrap()
            .iter()
            .map(|message| message["content"].as_str().unwrap())
            .collect();
        assert_eq!(said, ["s", "then", "ah", "now"]);
        assert_eq!(last_said(&body).as_deref(), Some("now"));
    }

    #[test]
    fn a_body_without_memories_is_sent_as_it_came() {
        let body = Bytes::from_static(b"{ \"messages\" : [] }");
        assert_eq!(recall(&body, &[]), body);
        let turn = Turn { user: "a".to_owned(), assistant: "b".to_owned() };
        assert_eq!(recall(&body, &[turn]), body);
    }
}
