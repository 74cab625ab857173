use super::*;

/// Assembles a stream with the text `one two` and `noise` in its middle.
fn with(noise: &[(&str, &str)]) -> Result<Value, Failure> {
    let mut assembly = Assembly::new(CHAT, MAX);
    let first = delta(r#"{"role":"assistant","content":"one "}"#);
    let second = delta(r#"{"content":"two"}"#);
    let end = part(0, "{}", "\"stop\"");
    let noise = noise.iter().map(|(name, data)| (*name, *data));
    let events = [("", first.as_str())].into_iter().chain(noise);
    for (name, data) in events.chain([("", second.as_str()), ("", &end)]) {
        if assembly.take(StreamEvent { name, data })?.is_break() {
            break;
        }
    }
    Ok(serde_json::from_str(assembly.finish()?.as_str()).unwrap())
}

#[test]
fn noise_is_ignored() {
    let silent = with(&[]).unwrap();
    assert_eq!(silent["choices"][0]["message"]["content"], "one two");
    for noise in [
        ("", ""),
        ("ping", ""),
        ("", " \n"),
        ("ping", r#"{"type":"ping"}"#),
        ("", r#"{"type":"ping"}"#),
        ("", r#"{"id":"c","object":"chat.completion.chunk","choices":null,"usage":null}"#),
        ("", r#"{"id":"c","object":"chat.completion.chunk"}"#),
        ("", "null"),
        ("", "1"),
    ] {
        let mut whole = with(&[noise]).unwrap();
        whole.as_object_mut().unwrap().remove("usage");
        assert_eq!(whole, silent, "{noise:?}");
    }
}

#[test]
fn complete_streams_are_recognized() {
    let text = delta(r#"{"content":"a"}"#);
    let stop = part(0, "{}", "\"stop\"");
    let empty = part(0, "{}", "\"\"");
    let first = part(1, r#"{"content":"b"}"#, "null");
    let usage = r#"{"choices":[],"usage":{"prompt_tokens":1}}"#.to_owned();
    let done = |spelled: &str| spelled.to_owned();
    let rows = [
        (vec![text.clone(), stop.clone()], true),
        (vec![text.clone(), stop.clone(), usage.clone()], true),
        (vec![text.clone(), done("[DONE]")], true),
        (vec![text.clone(), stop.clone(), done(" [DONE] ")], true),
        (vec![text.clone(), stop.clone(), done("[DONE]"), done("oops")], true),
        (vec![text.clone()], false),
        (vec![text.clone(), empty], false),
        (vec![text.clone(), first.clone(), stop.clone()], false),
        (vec![text, first, stop, done("[DONE]")], true),
        (vec![usage.clone(), done("[DONE]")], false),
        (vec![done("[DONE]")], false),
        (vec![], false),
        (vec![done("oops")], false),
    ];
    for (events, is_answer) in rows {
        let whole = assemble(CHAT, &events);
        assert_eq!(whole.is_ok(), is_answer, "{events:?}: {whole:?}");
        assert!(is_answer || matches!(whole, Err(Failure::Cut(_))), "{events:?}: {whole:?}");
    }
}

#[test]
fn all_forms_of_errors_are_recognized() {
    for (name, data) in [
        ("", r#"{"error":{"message":"m","code":400}}"#),
        ("", r#"{"error":"m"}"#),
        (
            "",
            r#"{"id":"c","choices":[{"index":0,"delta":{"content":""},"finish_reason":"error"}],"error":{"code":502}}"#,
        ),
        ("", r#"{"object":"error","message":"m","code":40303}"#),
        ("", r#"{"choices":null,"error_type":"BadRequestError","error_message":"m"}"#),
        ("", r#"{"detail":"m"}"#),
        ("", r#"{"type":"error","error":{"type":"overloaded_error"}}"#),
        ("", r#"{"type":"response.failed","response":{}}"#),
        ("", r#"{"choices":[{"index":0,"delta":{},"finish_reason":"error"}]}"#),
        ("error", r#"{"detail":"m","status_code":500}"#),
    ] {
        let mut assembly = Assembly::new(CHAT, MAX);
        let failed = assembly.take(StreamEvent { name, data });
        let body = RawJson::parse(data.to_owned()).unwrap();
        assert_eq!(failed.unwrap_err(), Failure::InStream(body), "{data}");
    }
    let named = |data| Assembly::new(CHAT, MAX).take(StreamEvent { name: "error", data });
    let body = |json: &str| Failure::InStream(RawJson::parse(json.to_owned()).unwrap());
    assert_eq!(named("out of memory").unwrap_err(), body(r#"{"error":"out of memory"}"#));
    assert_eq!(named("").unwrap_err(), body(r#"{"error":""}"#));
}

#[test]
fn answers_are_not_errors() {
    for data in [
        part(0, r#"{"content":"\"error\""}"#, "null"),
        r#"{"choices":[],"error":null}"#.to_owned(),
        r#"{"choices":[],"error":{}}"#.to_owned(),
        r#"{"choices":[],"error":"","detail":"d"}"#.to_owned(),
    ] {
        assert!(Assembly::new(CHAT, MAX).take(StreamEvent::unnamed(&data)).is_ok(), "{data}");
    }
}

#[test]
fn a_response_needs_its_last_event() {
    for events in [vec![], vec![r#"{"type":"response.output_text.delta"}"#], vec!["[DONE]"]] {
        assert!(matches!(assemble(RESPONSES, &events), Err(Failure::Cut(_))), "{events:?}");
    }
}
