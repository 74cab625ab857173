use super::*;
use crate::assembly::convert::events_of;

/// Returns whole answers, one per endpoint.
fn answers() -> [(&'static str, Value); 5] {
    let call =
        json!({ "id": "t", "type": "function", "function": { "name": "f", "arguments": "{}" } });
    let chat = json!({
        "id": "c", "object": "chat.completion", "created": 1, "model": "m",
        "choices": [
            { "index": 0, "message": { "role": "assistant", "content": "a", "refusal": null },
              "logprobs": { "content": [{ "token": "a", "logprob": -0.5 }] }, "finish_reason": "stop" },
            { "index": 1, "message": { "role": "assistant", "content": null, "tool_calls": [call, call] },
              "logprobs": null, "finish_reason": "tool_calls" },
        ],
        "usage": { "prompt_tokens": 1, "completion_tokens": 2 },
    });
    let text = json!({ "id": "c", "object": "text_completion",
        "choices": [{ "index": 0, "text": "a", "finish_reason": "stop" }] });
    let message = json!({
        "id": "m", "type": "message", "role": "assistant", "model": "m",
        "content": [
            { "type": "thinking", "thinking": "h", "signature": "s" },
            { "type": "text", "text": "a", "citations": null },
            { "type": "tool_use", "id": "t", "name": "f", "input": { "n": [1] } },
            { "type": "redacted_thinking", "data": "d" },
        ],
        "stop_reason": "end_turn", "stop_sequence": null,
        "usage": { "input_tokens": 1, "output_tokens": 2 },
    });
    let response = json!({
        "id": "r", "object": "response", "status": "completed",
        "output": [
            { "type": "reasoning", "id": "rs", "summary": [] },
            { "type": "message", "id": "msg", "role": "assistant", "status": "completed",
              "content": [{ "type": "output_text", "text": "a", "annotations": [] },
                          { "type": "refusal", "refusal": "no" }] },
            { "type": "function_call", "id": "fc", "call_id": "t", "name": "f", "arguments": "{}" },
        ],
    });
    let incomplete = json!({ "id": "r", "status": "incomplete", "output": [] });
    [
        (CHAT, chat),
        (TEXT, text),
        (MESSAGES, message),
        (RESPONSES, response),
        (RESPONSES, incomplete),
    ]
}

#[test]
fn events_rebuild_the_whole_answer() {
    for (url, whole) in answers() {
        let raw = RawJson::parse(whole.to_string()).unwrap();
        let events = events_of(url, &raw).unwrap();
        assert_eq!(assemble(url, &events).unwrap(), whole, "{url}: {events:#?}");
    }
}

#[test]
fn response_events_match_the_api() {
    let [.., (url, response), _] = answers();
    let events = events_of(url, &RawJson::parse(response.to_string()).unwrap()).unwrap();
    let kinds: Vec<String> = events
        .iter()
        .map(|event| {
            RawObject::parse(event).unwrap().text("type").unwrap().replace("response.", "")
        })
        .collect();
    let item = ["output_item.added", "output_item.done"];
    let text = ["content_part.added", "output_text.delta", "output_text.done", "content_part.done"];
    let refusal = ["content_part.added", "refusal.delta", "refusal.done", "content_part.done"];
    let call = ["function_call_arguments.delta", "function_call_arguments.done"];
    let wanted = [
        &item[..],
        &item[..1],
        &text,
        &refusal,
        &item[1..],
        &item[..1],
        &call,
        &item[1..],
        &["completed"],
    ];
    assert_eq!(kinds, wanted.concat());
}

#[test]
fn invalid_answers_have_no_events() {
    for (url, json) in [
        (CHAT, "[]"),
        (CHAT, "{}"),
        (CHAT, r#"{"choices":[]}"#),
        (CHAT, r#"{"choices":[{"text":"a"}]}"#),
        (TEXT, r#"{"error":{}}"#),
        (MESSAGES, r#"{"type":"error"}"#),
        (RESPONSES, r#"{"output":null}"#),
        ("/v1/embeddings", r#"{"data":[]}"#),
    ] {
        assert_eq!(events_of(url, &RawJson::parse(json.to_owned()).unwrap()), None, "{url} {json}");
    }
}
