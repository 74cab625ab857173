use super::*;

#[test]
fn a_chat_equals_its_unstreamed_answer() {
    let events = [
        part(0, r#"{"role":"assistant","content":""}"#, "null"),
        part(0, r#"{"content":"Hel"}"#, "null"),
        part(0, r#"{"content":"lo \"you\"\n"}"#, "null"),
        part(0, r#"{"content":"\u00e9ü"}"#, "null"),
        part(0, "{}", "\"stop\""),
        r#"{"id":"c","object":"chat.completion.chunk","created":1,"model":"m","choices":[],"usage":{"prompt_tokens":3,"completion_tokens":4}}"#.to_owned(),
        "[DONE]".to_owned(),
    ];
    let wanted = json!({
        "id": "c", "object": "chat.completion", "created": 1, "model": "m",
        "choices": [{ "index": 0, "finish_reason": "stop",
            "message": { "role": "assistant", "content": "Hello \"you\"\néü" } }],
        "usage": { "prompt_tokens": 3, "completion_tokens": 4 },
    });
    assert_eq!(assemble(CHAT, &events).unwrap(), wanted);
}

#[test]
fn texts_and_lists_are_appended() {
    let grown = message(&[
        r#"{"role":"assistant","refusal":"I ","reasoning":"a","reasoning_content":"x","audio":{"id":"u","data":"AA"}}"#,
        r#"{"role":"assistant","refusal":"won't","reasoning":"b","reasoning_content":null,"annotations":[{"type":"url_citation"}]}"#,
        r#"{"audio":{"data":"BB","transcript":"t","expires_at":7},"annotations":[{"type":"file"}],"function_call":{"name":"f","arguments":"{"}}"#,
        r#"{"function_call":{"arguments":"}"},"reasoning_details":[{"type":"r","text":"p","index":0,"format":"v1"},{"type":"r","text":"q","index":0,"format":"v1"}]}"#,
        r#"{"reasoning_details":[{"type":"r","text":"s","index":0,"format":"v1"},{"type":"r","text":"z","index":1}]}"#,
    ]);
    let wanted = json!({
        "role": "assistant", "content": null, "refusal": "I won't",
        "reasoning": "ab", "reasoning_content": "x",
        "audio": { "id": "u", "data": "AABB", "transcript": "t", "expires_at": 7 },
        "annotations": [{ "type": "url_citation" }, { "type": "file" }],
        "function_call": { "name": "f", "arguments": "{}" },
        "reasoning_details": [{ "type": "r", "text": "pqs", "index": 0, "format": "v1" },
            { "type": "r", "text": "z", "index": 1 }],
    });
    assert_eq!(grown, wanted);
}

#[test]
fn content_parts_are_merged() {
    let content = |deltas: &[&str]| message(deltas)["content"].take();
    let mixed = content(&[
        r#"{"content":""}"#,
        r#"{"content":[{"type":"thinking","thinking":[{"type":"text","text":"a"}]}]}"#,
        r#"{"content":[{"type":"text","text":"b"}]}"#,
        r#"{"content":[{"type":"text","text":"c"},{"type":"image_url","image_url":{"url":"u"}}]}"#,
        r#"{"content":"d"}"#,
    ]);
    let wanted = json!([
        { "type": "thinking", "thinking": [{ "type": "text", "text": "a" }] },
        { "type": "text", "text": "bc" }, { "type": "image_url", "image_url": { "url": "u" } },
        { "type": "text", "text": "d" },
    ]);
    assert_eq!(mixed, wanted);
    let after_text =
        content(&[r#"{"content":"a"}"#, r#"{"content":[{"type":"text","text":"b"}]}"#]);
    assert_eq!(after_text, json!([{ "type": "text", "text": "ab" }]));
}

#[test]
fn logprobs_of_all_tokens_are_kept() {
    let chunk = |choice: &str| format!(r#"{{"id":"c","choices":[{{"index":0,{choice}}}]}}"#);
    let chat = [
        chunk(r#""delta":{"content":"a"},"logprobs":null"#),
        chunk(
            r#""delta":{"content":"b"},"logprobs":{"content":[{"token":"b","logprob":-0.10000000149011612}],"refusal":null},"token_ids":[11]"#,
        ),
        chunk(
            r#""delta":{"content":"c"},"logprobs":{"content":[{"token":"c"}],"refusal":null},"token_ids":[11,12]"#,
        ),
        chunk(r#""delta":{},"logprobs":{"content":[]},"finish_reason":"stop""#),
    ];
    let whole = assemble(CHAT, &chat).unwrap();
    let choice = &whole["choices"][0];
    assert_eq!(
        choice["logprobs"]["content"],
        json!([{ "token": "b", "logprob": -0.10000000149011612 }, { "token": "c" }])
    );
    assert_eq!(choice["token_ids"], json!([11, 11, 12]));
    let text = [
        chunk(r#""text":"a","logprobs":{"tokens":["a"],"text_offset":[0]}"#),
        chunk(r#""text":"b","logprobs":{"tokens":["b"],"text_offset":[1]}"#),
        chunk(r#""text":"","logprobs":null,"finish_reason":"length""#),
    ];
    let whole = assemble(TEXT, &text).unwrap();
    assert_eq!(whole["object"], "text_completion");
    let logprobs = json!({ "tokens": ["a", "b"], "text_offset": [0, 1] });
    let choice =
        json!({ "index": 0, "text": "ab", "logprobs": logprobs, "finish_reason": "length" });
    assert_eq!(whole["choices"], json!([choice]));
}

#[test]
fn fields_beside_the_choices_follow_the_sdks() {
    let chunk = |more: &str| {
        format!(r#"{{"choices":[{{"delta":{{"content":"a"}},"finish_reason":"stop"}}],{more}}}"#)
    };
    let whole = assemble(
        CHAT,
        &[
            r#"{"choices":[],"id":"","object":"","model":"","created":0,"prompt_filter_results":[]}"#.to_owned(),
            chunk(r#""id":"c","object":"chat.completion.chunk","model":"m","created":5,"citations":["u"],"obfuscation":"xx","usage":{"prompt_tokens":1}"#),
            chunk(r#""id":"d","model":"n","created":6,"citations":["u"],"x_groq":{"id":"g"},"usage":{"prompt_tokens":1,"completion_tokens":2}"#),
            chunk(r#""citations":["u","v"],"x_groq":{"n":1},"usage":null,"system_fingerprint":"f""#),
            chunk(r#""citations":["w"],"system_fingerprint":null,"timings":{"n":1}"#),
            chunk(r#""timings":{"n":2}"#),
        ],
    )
    .unwrap();
    for (name, wanted) in [
        ("id", json!("c")),
        ("object", json!("chat.completion")),
        ("model", json!("m")),
        ("created", json!(5)),
        ("citations", json!(["u", "v", "w"])),
        ("obfuscation", Value::Null),
        ("x_groq", json!({ "id": "g", "n": 1 })),
        ("usage", json!({ "prompt_tokens": 1, "completion_tokens": 2 })),
        ("system_fingerprint", json!("f")),
        ("timings", json!({ "n": 2 })),
    ] {
        assert_eq!(whole[name], wanted, "{name}");
    }
}

#[test]
fn numbers_keep_every_digit() {
    let chunk = r#"{"id":"c","big":12345678901234567890123,"e":1e400,"choices":[{"index":0,"delta":{},"p":-0.30000000000000004,"t":0.10,"finish_reason":"stop"}]}"#;
    let whole = assembled(CHAT, &[chunk]).unwrap();
    for number in ["12345678901234567890123", "1e400", "-0.30000000000000004", "0.10"] {
        assert!(whole.contains(number), "{number} in {whole}");
    }
}

#[test]
fn surrogate_halves_are_joined() {
    let content = message(&[
        r#"{"content":"Hi "}"#,
        r#"{"content":"\ud83d"}"#,
        r#"{"content":"\ude00"}"#,
        r#"{"content":" \ud83d there \\ud83d"}"#,
    ]);
    assert_eq!(content["content"], "Hi \u{1f600} \u{fffd} there \\ud83d");
}

#[test]
fn the_last_event_holds_the_response() {
    let last = r#"{"type":"response.completed","response":{"id":"r","n":1e400}}"#;
    let first = r#"{"type":"response.created"}"#;
    assert_eq!(assembled(RESPONSES, &[first, last]).unwrap(), r#"{"id":"r","n":1e400}"#);
}

#[test]
fn the_cost_of_merging_is_linear() {
    let many: Vec<String> =
        (0..MAX_ENTRIES_OF_A_TEST).map(|index| part(index, "{}", "null")).collect();
    let calls: Vec<String> = (0..MAX_ENTRIES_OF_A_TEST)
        .map(|index| delta(&format!(r#"{{"tool_calls":[{{"index":{index},"id":"t{index}"}}]}}"#)))
        .collect();
    for events in [many, calls] {
        let (most, more) = events.split_at(raw::MAX_ENTRIES);
        let mut assembly = Assembly::new(CHAT, MAX);
        for event in most {
            assert!(assembly.take(StreamEvent::unnamed(event)).unwrap().is_continue());
        }
        let refused = assembly.take(StreamEvent::unnamed(&more[0]));
        assert_eq!(refused.unwrap_err(), Failure::TooMany(raw::MAX_ENTRIES));
    }
}

/// One entry more than the limit.
const MAX_ENTRIES_OF_A_TEST: u64 = raw::MAX_ENTRIES as u64 + 1;

#[test]
fn the_size_of_an_answer_is_bounded() {
    let large = format!("{{\"x\":\"{}\"}}", "x".repeat(MAX));
    assert_eq!(assemble(CHAT, &[&large]), Err(Failure::TooLarge(MAX)));
}

#[test]
fn usage_of_whole_answers_is_parsed() {
    let used = |body: &str| usage(body).map(|usage| (usage.prompt_tokens, usage.completion_tokens));
    let of_chat =
        r#"{"t":"\ud83d","usage":{"prompt_tokens":3,"completion_tokens":4.0,"cost":1e-9}}"#;
    assert_eq!(used(of_chat), Some((3, 4)));
    assert_eq!(used(r#"{"usage":{"input_tokens":7,"output_tokens":5}}"#), Some((7, 5)));
    let groq = r#"{"x_groq":{"id":"r","usage":{"prompt_tokens":8,"completion_tokens":6}}}"#;
    assert_eq!(used(groq), Some((8, 6)));
    for none in [r#"{"usage":null}"#, r#"{"usage":{"total_tokens":1}}"#, "[]", "{}", "oops"] {
        assert_eq!(used(none), None, "{none}");
    }
}

#[test]
fn the_text_of_an_answer_is_parsed() {
    let of =
        |content: &str| text(&format!(r#"{{"choices":[{{"message":{{"content":{content}}}}}]}}"#));
    assert_eq!(of(r#""a \ud83d""#).as_deref(), Some("a \u{fffd}"));
    assert_eq!(
        of(r#"[{"type":"text","text":"a"},{"type":"text","text":"b"}]"#).as_deref(),
        Some("ab")
    );
    assert_eq!(of("null"), None);
}
