use serde_json::{Value, json};

use super::*;

/// An upstream with chat only that answers with these bodies, or events.
#[derive(Debug)]
struct ChatOnly {
    says: Vec<Value>,
    requests: std::sync::Mutex<Vec<(String, Value)>>,
}

#[derive(Debug, Default)]
struct CollectedEvents(Vec<Value>);

impl Sink for CollectedEvents {
    fn event(&mut self, event: StreamEvent<'_>) -> Result<ControlFlow<()>, Failure> {
        self.0.push(serde_json::from_str(event.data).unwrap());
        Ok(ControlFlow::Continue(()))
    }
}

#[async_trait]
impl Upstream for ChatOnly {
    async fn call(&self, call: Call, sink: &mut dyn Sink) -> Result<Answer, Failure> {
        let body = serde_json::from_slice(&call.body).unwrap();
        self.requests.lock().unwrap().push((call.url.clone(), body));
        assert_eq!(call.id.ends_with("-chat"), call.url == CHAT, "each request has its own name");
        if call.url == CHAT {
            sink.simulated();
        } else {
            let refusal = ErrorResponse { status_code: 404, ..ErrorResponse::default() };
            return Err(Failure::Refused(Box::new(refusal)));
        }
        if !call.stream && self.says.len() == 1 {
            return Ok(Answer { status_code: 200, body: self.says[0].to_string().into() });
        }
        for event in &self.says {
            if event.is_null() {
                // The connection ends here.
                return Ok(Answer { status_code: 200, body: Bytes::new() });
            }
            assert!(sink.event(StreamEvent::unnamed(&event.to_string()))?.is_continue());
        }
        assert!(sink.event(StreamEvent::unnamed("[DONE]"))?.is_break());
        Ok(Answer { status_code: 200, body: Bytes::new() })
    }
}

fn call(body: &Value) -> Call {
    Call {
        id: "job_1-1".to_owned(),
        tenant: causeway_queue::TenantId::default_tenant(),
        url: RESPONSES.to_owned(),
        body: body.to_string().into(),
        headers: std::collections::BTreeMap::default(),
        stream: body["stream"] == true,
        max_bytes: 10_000,
        memory: super::super::Share::default(),
    }
}

async fn answered(
    says: &[Value],
    body: &Value,
) -> (Result<Value, Failure>, Vec<Value>, Vec<(String, Value)>) {
    let chat = Arc::new(ChatOnly { says: says.to_vec(), requests: std::sync::Mutex::default() });
    let upstream = WithResponses::new(Arc::clone(&chat) as Arc<dyn Upstream>);
    let mut events = CollectedEvents::default();
    let answer = upstream.call(call(body), &mut events).await;
    let answer = answer.map(|answer| serde_json::from_slice(&answer.body).unwrap_or(Value::Null));
    let requests = chat.requests.lock().unwrap().clone();
    (answer, events.0, requests)
}

/// A sink that records the mark of a simulated answer.
#[derive(Debug, Default)]
struct Mark(bool);

impl Sink for Mark {
    fn event(&mut self, _: StreamEvent<'_>) -> Result<ControlFlow<()>, Failure> {
        Ok(ControlFlow::Continue(()))
    }

    fn simulated(&mut self) {
        self.0 = true;
    }
}

#[tokio::test]
async fn a_simulated_chat_marks_its_response() {
    let message = json!({ "role": "assistant", "content": "Hello" });
    let choice =
        json!({ "index": 0, "message": message, "delta": message, "finish_reason": "stop" });
    for stream in [false, true] {
        let says = vec![json!({ "id": "c", "model": "m", "choices": [choice] })];
        let upstream =
            WithResponses::new(Arc::new(ChatOnly { says, requests: std::sync::Mutex::default() }));
        let body = json!({ "model": "m", "input": "hi", "stream": stream });
        let mut mark = Mark::default();
        upstream.call(call(&body), &mut mark).await.unwrap();
        assert!(mark.0, "stream: {stream}");
    }
}

#[tokio::test]
async fn a_chat_answer_becomes_a_response() {
    let says = json!({ "id": "c", "created": 7, "model": "m", "choices": [{ "index": 0,
        "message": { "role": "assistant", "content": "Hello" }, "finish_reason": "length" }],
        "usage": { "prompt_tokens": 3, "completion_tokens": 4 } });
    let body = json!({ "model": "m", "instructions": "be short", "ignore_eos": true, "max_output_tokens": 9,
        "input": [{ "role": "developer", "content": "d" },
            { "role": "user", "content": [{ "type": "input_text", "text": "hi" }] }] });
    let (answer, _, requests) = answered(&[says], &body).await;
    assert_eq!(requests[0].0, RESPONSES);
    let chat = json!({ "model": "m", "ignore_eos": true, "max_tokens": 9, "messages": [
        { "role": "system", "content": "be short" }, { "role": "system", "content": "d" },
        { "role": "user", "content": "hi" }] });
    assert_eq!(requests[1], (CHAT.to_owned(), chat));
    let response = answer.unwrap();
    assert_eq!(response["status"], "incomplete");
    assert_eq!(response["incomplete_details"]["reason"], "max_output_tokens");
    assert_eq!(response["output"][0]["content"][0]["text"], "Hello");
    assert_eq!(response["usage"]["total_tokens"], 7);
}

#[tokio::test]
async fn chunks_become_events_in_order() {
    let chunk = |delta: Value, finish: Value| json!({ "id": "c", "model": "m", "choices": [{ "delta": delta, "finish_reason": finish }] });
    let part = |arguments: &str| json!({ "index": 0, "function": { "arguments": arguments } });
    let first = json!({ "index": 0, "id": "t", "function": { "name": "f", "arguments": "" } });
    let says = [
        chunk(json!({ "role": "assistant", "content": "" }), Value::Null),
        chunk(json!({ "content": "Hel" }), Value::Null),
        chunk(json!({ "content": "lo" }), Value::Null),
        chunk(json!({ "tool_calls": [first] }), Value::Null),
        chunk(json!({ "tool_calls": [part("{}")] }), Value::Null),
        chunk(json!({}), json!("tool_calls")),
        json!({ "choices": [], "usage": { "prompt_tokens": 1, "completion_tokens": 2 } }),
    ];
    let (answer, events, requests) =
        answered(&says, &json!({ "model": "m", "input": "hi", "stream": true })).await;
    answer.unwrap();
    assert_eq!(requests[1].1["stream_options"]["include_usage"], true);
    let kinds: Vec<&str> = events.iter().map(|event| event["type"].as_str().unwrap()).collect();
    let expected = [
        "output_item.added",
        "content_part.added",
        "output_text.delta",
        "output_text.delta",
        "output_text.done",
        "content_part.done",
        "output_item.done",
        "output_item.added",
        "function_call_arguments.delta",
        "function_call_arguments.done",
        "output_item.done",
        "completed",
    ];
    assert_eq!(kinds, expected.map(|kind| format!("response.{kind}")));
    let response = &events.last().unwrap()["response"];
    assert_eq!(response["output"][0]["content"][0]["text"], "Hello");
    assert_eq!(response["output"][1]["arguments"], "{}");
    assert_eq!(response["output"][1]["call_id"], "t");
    assert_eq!(response["usage"]["output_tokens"], 2);
}

/// Returns the function calls in an output: call id, name, arguments.
fn calls(response: &Value) -> Vec<[&str; 3]> {
    let items = response["output"].as_array().unwrap().iter();
    items
        .map(|item| ["call_id", "name", "arguments"].map(|name| item[name].as_str().unwrap()))
        .collect()
}

#[tokio::test]
async fn parallel_calls_are_separated() {
    let call = |id: &str, name: &str, arguments: &str| json!({ "id": id, "function": { "name": name, "arguments": arguments } });
    let chunk =
        |calls: Value| json!({ "id": "c", "choices": [{ "delta": { "tool_calls": calls } }] });
    let says = [
        chunk(json!([call("a", "f", "{"), call("b", "g", "{2}")])),
        chunk(json!([call("a", "", "1}")])),
        chunk(json!([call("", "h", "{}")])),
        json!({ "choices": [{ "delta": {}, "finish_reason": "tool_calls" }] }),
    ];
    let (answer, events, _) = answered(&says, &json!({ "input": "hi", "stream": true })).await;
    answer.unwrap();
    let last = &events.last().unwrap()["response"];
    let wanted = [["a", "f", "{1}"], ["b", "g", "{2}"], ["call_1_2", "h", "{}"]];
    assert_eq!(calls(last), wanted);
    let done = events.iter().filter(|event| event["type"] == "response.output_item.done");
    assert_eq!(done.count(), 3);
}

#[tokio::test]
async fn numbers_and_surrogates_are_preserved() {
    let chat = request::chat(
        br#"{"model":"m","input":"\ud83d","zz":12345678901234567890123,"metadata":null,
            "tools":[{"type":"function","name":"f","strict":null,"parameters":{"maximum":18446744073709551616}}]}"#,
    );
    let wanted = concat!(
        r#"{"model":"m","zz":12345678901234567890123,"tools":[{"type":"function","function":"#,
        r#"{"name":"f","parameters":{"maximum":18446744073709551616}}}],"#,
        r#""messages":[{"role":"user","content":"\ud83d"}]}"#,
    );
    assert_eq!(String::from_utf8(chat.unwrap()).unwrap(), wanted);
    let answer = answer::response(
        br#"{"id":"c","created":1e400,"choices":[{"message":{"content":"\ud83d"}}]}"#,
        "1",
    );
    let answer = String::from_utf8(answer.unwrap()).unwrap();
    assert!(answer.contains("1e400") && answer.contains(r#""text":"\ud83d""#), "{answer}");
}

#[tokio::test]
async fn an_unrequested_stream_becomes_a_response() {
    let says = [
        json!({ "id": "c", "choices": [{ "delta": { "content": "Hel" } }] }),
        json!({ "choices": [{ "delta": { "content": "lo" }, "finish_reason": "stop" }] }),
    ];
    let (answer, events, _) = answered(&says, &json!({ "input": "hi" })).await;
    assert_eq!(answer.unwrap()["output"][0]["content"][0]["text"], "Hello");
    assert!(events.is_empty());
}

#[tokio::test]
async fn untranslatable_requests_are_refused() {
    for body in [
        json!({ "model": "m", "input": "x", "tools": [{ "type": "web_search" }] }),
        json!({ "model": "m", "input": [{ "type": "input_image" }] }),
        json!({ "model": "m", "input": [{ "role": "user", "content": [{ "type": "input_image", "file_id": "f" }] }] }),
        json!({ "model": "m" }),
    ] {
        let (answer, ..) = answered(&[], &body).await;
        let Err(Failure::Refused(refusal)) = answer else { panic!("{body}") };
        assert_eq!(refusal.status_code, 400, "{body}");
    }
}

#[tokio::test]
async fn missing_objects_are_named() {
    for (body, status_code, wanted) in [
        (
            json!({ "input": "x", "conversation": "conv_1" }),
            404,
            "Conversation with id 'conv_1' not found.",
        ),
        (
            json!({ "input": "x", "conversation": { "id": "conv_1" } }),
            404,
            "Conversation with id 'conv_1' not found.",
        ),
        (
            json!({ "input": [{ "type": "item_reference", "id": "msg_1" }] }),
            400,
            "Item with id 'msg_1' not found.",
        ),
    ] {
        let (answer, ..) = answered(&[], &body).await;
        let Err(Failure::Refused(refusal)) = answer else { panic!("{body}") };
        assert_eq!(refusal.status_code, status_code, "{body}");
        assert!(refusal.body.as_str().contains(wanted), "{}", refusal.body.as_str());
    }
}

/// Returns the messages of the chat that an input is translated to.
fn messages(input: &Value) -> Value {
    let request = json!({ "model": "m", "input": input }).to_string();
    let chat: Value = serde_json::from_slice(&request::chat(request.as_bytes()).unwrap()).unwrap();
    chat["messages"].clone()
}

#[test]
fn images_and_files_are_translated() {
    let parts = json!([
        { "type": "input_text", "text": "what is this?" },
        { "type": "input_image", "image_url": "data:image/png;base64,AA==", "detail": "low" },
        { "type": "input_image", "image_url": "https://h/i.png", "file_id": null },
        { "type": "input_file", "filename": "a.pdf", "file_data": "data:application/pdf;base64,AA==" },
    ]);
    let wanted = json!([
        { "type": "text", "text": "what is this?" },
        { "type": "image_url", "image_url": { "url": "data:image/png;base64,AA==", "detail": "low" } },
        { "type": "image_url", "image_url": { "url": "https://h/i.png" } },
        { "type": "file", "file": { "filename": "a.pdf", "file_data": "data:application/pdf;base64,AA==" } },
    ]);
    let translated = messages(&json!([{ "role": "user", "content": parts }]));
    assert_eq!(translated, json!([{ "role": "user", "content": wanted }]));
}

#[test]
fn an_assistants_turn_is_one_message() {
    let call = |id: &str| json!({ "type": "function_call", "call_id": id, "name": "f", "arguments": "{}" });
    let translated = messages(&json!([
        { "role": "user", "content": "hi" },
        { "type": "reasoning", "id": "rs_1", "summary": [{ "type": "summary_text", "text": "hm" }] },
        { "type": "message", "role": "assistant", "content": [{ "type": "output_text", "text": "let me see" }] },
        call("a"),
        call("b"),
        { "type": "function_call_output", "call_id": "a", "output": "1" },
        { "type": "function_call_output", "call_id": "b", "output": [{ "type": "input_text", "text": "2" }] },
        { "type": "message", "role": "assistant", "content": "done" },
        { "type": "reasoning", "id": "rs_2", "summary": [], "encrypted_content": "x" },
    ]));
    let called = |id: &str| json!({ "id": id, "type": "function", "function": { "name": "f", "arguments": "{}" } });
    let wanted = json!([
        { "role": "user", "content": "hi" },
        { "role": "assistant", "content": "let me see", "reasoning_content": "hm",
          "tool_calls": [called("a"), called("b")] },
        { "role": "tool", "tool_call_id": "a", "content": "1" },
        { "role": "tool", "tool_call_id": "b", "content": "2" },
        { "role": "assistant", "content": "done" },
    ]);
    assert_eq!(translated, wanted);
}

#[tokio::test]
async fn reasoning_is_an_item_before_the_text() {
    for name in ["reasoning", "reasoning_content"] {
        let message = json!({ "role": "assistant", "content": "Hello", name: "hm" });
        let says =
            json!({ "id": "c", "choices": [{ "message": message, "finish_reason": "stop" }] });
        let (answer, ..) = answered(&[says], &json!({ "input": "hi" })).await;
        let output = &answer.unwrap()["output"];
        assert_eq!(output[0]["summary"][0]["text"], "hm");
        assert_eq!((&output[0]["id"], &output[1]["id"]), (&json!("rs_1_0"), &json!("msg_1_1")));
    }
}

#[tokio::test]
async fn reasoning_streams_before_the_text() {
    let chunk = |delta: Value| json!({ "id": "c", "choices": [{ "delta": delta }] });
    let says = [
        chunk(json!({ "role": "assistant", "reasoning_content": "h" })),
        chunk(json!({ "reasoning_content": "m" })),
        chunk(json!({ "content": "Hello" })),
        json!({ "choices": [{ "delta": {}, "finish_reason": "stop" }] }),
    ];
    let (answer, events, _) = answered(&says, &json!({ "input": "hi", "stream": true })).await;
    answer.unwrap();
    let kinds: Vec<&str> = events.iter().map(|event| event["type"].as_str().unwrap()).collect();
    let expected = [
        "output_item.added",
        "reasoning_summary_part.added",
        "reasoning_summary_text.delta",
        "reasoning_summary_text.delta",
        "reasoning_summary_text.done",
        "reasoning_summary_part.done",
        "output_item.done",
        "output_item.added",
        "content_part.added",
        "output_text.delta",
        "output_text.done",
        "content_part.done",
        "output_item.done",
        "completed",
    ];
    assert_eq!(kinds, expected.map(|kind| format!("response.{kind}")));
    assert_eq!(events[4]["text"], "hm");
    let output = &events.last().unwrap()["response"]["output"];
    assert_eq!((&output[0]["type"], &output[1]["type"]), (&json!("reasoning"), &json!("message")));
}

#[tokio::test]
async fn continued_responses_are_never_translated() {
    let body = json!({ "model": "m", "input": "x", "previous_response_id": "resp_1" });
    let (answer, _, requests) = answered(&[], &body).await;
    let Err(Failure::Refused(refusal)) = answer else { panic!("{answer:?}") };
    assert_eq!(refusal.status_code, 404);
    assert_eq!(requests.len(), 1);
}

#[test]
fn a_missing_conversation_is_no_missing_route() {
    for (message, is_route) in
        [("Not Found", true), ("Conversation with id 'conv_1' not found.", false)]
    {
        let body = json!({ "error": { "message": message } });
        let body = causeway_queue::RawJson::of(&body).unwrap();
        let refusal = ErrorResponse { status_code: 404, body, ..ErrorResponse::default() };
        assert_eq!(is_no_route(&refusal), is_route, "{message}");
    }
}

#[tokio::test]
async fn a_stream_without_its_end_is_cut() {
    let first = json!({ "choices": [{ "delta": { "content": "Hel" } }] });
    let (answer, ..) =
        answered(&[first, Value::Null], &json!({ "input": "hi", "stream": true })).await;
    assert!(matches!(answer, Err(Failure::Cut(_))));
}
