use super::*;

const START: &str = r#"{"type":"message_start","message":{"id":"msg","type":"message","role":"assistant","model":"m","content":[],"stop_reason":null,"stop_sequence":null,"usage":{"input_tokens":7,"cache_read_input_tokens":2,"output_tokens":1}}}"#;
const END: &str = r#"{"type":"message_delta","delta":{"stop_reason":"tool_use","stop_sequence":null},"usage":{"output_tokens":9,"input_tokens":null}}"#;
const STOP: &str = r#"{"type":"message_stop"}"#;

fn begins(index: u64, block: &str) -> String {
    format!(r#"{{"type":"content_block_start","index":{index},"content_block":{block}}}"#)
}

fn continues(index: u64, delta: &str) -> String {
    format!(r#"{{"type":"content_block_delta","index":{index},"delta":{delta}}}"#)
}

fn ends(index: u64) -> String {
    format!(r#"{{"type":"content_block_stop","index":{index}}}"#)
}

/// Returns the input of a tool call that is streamed as `json`, in parts divided at `|`.
fn input_of(json: &str) -> Value {
    let mut events =
        vec![START.to_owned(), begins(0, r#"{"type":"tool_use","id":"t","name":"f","input":{}}"#)];
    for piece in json.split('|') {
        let piece = RawJson::string(piece);
        let delta = format!(r#"{{"type":"input_json_delta","partial_json":{}}}"#, piece.as_str());
        events.push(continues(0, &delta));
    }
    events.extend([END.to_owned(), STOP.to_owned()]);
    assemble(MESSAGES, &events).unwrap()["content"][0]["input"].take()
}

#[test]
fn a_message_equals_its_unstreamed_answer() {
    let events = [
        r#"{"type":"ping"}"#.to_owned(),
        START.to_owned(),
        begins(0, r#"{"type":"thinking","thinking":"","signature":""}"#),
        continues(0, r#"{"type":"thinking_delta","thinking":"hm"}"#),
        continues(0, r#"{"type":"thinking_delta","thinking":"m"}"#),
        continues(0, r#"{"type":"signature_delta","signature":"sig"}"#),
        ends(0),
        begins(1, r#"{"type":"text","text":"","citations":null}"#),
        r#"{"type":"ping"}"#.to_owned(),
        continues(1, r#"{"type":"text_delta","text":"Hel"}"#),
        continues(1, r#"{"type":"text_delta","text":"lo \ud83d"}"#),
        continues(1, r#"{"type":"text_delta","text":"\ude00"}"#),
        continues(1, r#"{"type":"citations_delta","citation":{"n":1e400}}"#),
        continues(1, r#"{"type":"citations_delta","citation":{"n":2}}"#),
        ends(1),
        END.to_owned(),
        STOP.to_owned(),
        r#"{"type":"error","error":{"message":"noise after the end"}}"#.to_owned(),
    ];
    let whole = assembled(MESSAGES, &events).unwrap();
    assert!(whole.contains("1e400"), "{whole}");
    let whole: Value = serde_json::from_str(&whole.replace("1e400", "1")).unwrap();
    let wanted = json!({
        "id": "msg", "type": "message", "role": "assistant", "model": "m",
        "content": [
            { "type": "thinking", "thinking": "hmm", "signature": "sig" },
            { "type": "text", "text": "Hello \u{1f600}", "citations": [{ "n": 1 }, { "n": 2 }] },
        ],
        "stop_reason": "tool_use", "stop_sequence": null,
        "usage": { "input_tokens": 7, "cache_read_input_tokens": 2, "output_tokens": 9 },
    });
    assert_eq!(whole, wanted);
}

#[test]
fn the_input_of_a_tool_is_parsed() {
    for (json, wanted) in [
        (r#"{"a"|: "x\"y", "b": [1|, 2]}"#, json!({ "a": "x\"y", "b": [1, 2] })),
        ("", json!({})),
        ("|", json!({})),
        // The input broke off at the token limit.
        (r#"{"a": 1, "b": "x"#, json!({ "a": 1 })),
        (r#"{"a": "x", "b"#, json!({ "a": "x" })),
        (r#"{"a": "x""#, json!({ "a": "x" })),
        (r#"{"a": [-0.1"#, json!({ "a": [-0.1] })),
        (r#"{"a": -"#, json!({})),
        (r#"{"a": tru"#, json!({})),
        (r#"{"a": {"b": [{"c": 1}, {"d"#, json!({ "a": { "b": [{ "c": 1 }, {}] } })),
        (r#"{"a": "\"},{"#, json!({})),
        ("oops", json!({})),
    ] {
        assert_eq!(input_of(json), wanted, "{json}");
    }
}

#[test]
fn a_stop_reason_completes_a_message() {
    let rows: [(&[&str], bool); 7] = [
        (&[START, END, STOP], true),
        (&[START, STOP], true),
        (&[START, END], true),
        (&[START, "[DONE]"], true),
        (&[START], false),
        (&["[DONE]"], false),
        (&[STOP], false),
    ];
    for (events, is_answer) in rows {
        let whole = assemble(MESSAGES, events);
        assert_eq!(whole.is_ok(), is_answer, "{events:?}: {whole:?}");
    }
}

#[test]
fn an_event_name_replaces_its_type() {
    let mut assembly = Assembly::new(MESSAGES, MAX);
    let start = StreamEvent { name: "message_start", data: r#"{"message":{"id":"x"}}"# };
    assert!(assembly.take(start).unwrap().is_continue());
    let last = assembly.take(StreamEvent { name: "message_stop", data: "{}" }).unwrap();
    assert!(matches!(last, ControlFlow::Break(Some(_))));
    assert!(assembly.finish().unwrap().as_str().contains("\"x\""));
}

#[test]
fn an_error_event_is_a_failure() {
    let failed = assemble(MESSAGES, &[START, r#"{"type":"error","error":{"message":"m"}}"#]);
    assert!(matches!(failed, Err(Failure::InStream(_))));
}
