use super::*;

fn read(text: &str) -> ErrorBody {
    let json = RawJson::parse(text.to_owned()).unwrap_or_else(|_| RawJson::string(text));
    ErrorBody::read(&json)
}

/// A body, the status that it states, and its message.
type Row = (&'static str, Option<u16>, Option<&'static str>);

const SHAPES: [Row; 36] = [
    (
        r#"{"error":{"message":"m","type":"invalid_request_error","code":null}}"#,
        Some(400),
        Some("m"),
    ),
    (r#"{"error":{"message":"m","code":502}}"#, Some(502), Some("m")),
    (r#"{"error":{"message":"m","code":"502"}}"#, Some(502), Some("m")),
    (r#"{"error":{"message":"m","code":"rate_limit_exceeded"}}"#, Some(429), Some("m")),
    (r#"{"error":{"message":"m","type":"InternalServerError"}}"#, Some(500), Some("m")),
    (r#"{"error":"m"}"#, None, Some("m")),
    (r#"{"error":"m","status_code":503}"#, Some(503), Some("m")),
    (r#"{"code":"exhausted","error":"m"}"#, None, Some("m")),
    (r#"{"message":"m","code":404}"#, Some(404), Some("m")),
    (r#"{"object":"error","message":"m","code":40303}"#, Some(400), Some("m")),
    (r#"{"object":"error","message":"m","code":40101}"#, Some(401), Some("m")),
    (r#"{"object":"error","message":"m","code":50001}"#, Some(500), Some("m")),
    (
        r#"{"object":"error","message":"m","type":"BadRequestError","code":"400"}"#,
        Some(400),
        Some("m"),
    ),
    (r#"{"detail":"m"}"#, None, Some("m")),
    (r#"{"detail":"m","status_code":500}"#, Some(500), Some("m")),
    (r#"{"detail":[{"loc":["body"],"msg":"m","type":"missing"}]}"#, None, Some("m")),
    (r#"{"detail":{"error":{"message":"m","code":429}}}"#, Some(429), Some("m")),
    (r#"{"errors":[{"message":"m","code":1001}]}"#, None, Some("m")),
    (r#"{"errors":["m"],"error":null}"#, None, Some("m")),
    (r#"{"error_type":"BadRequestError","error_message":"m"}"#, Some(400), Some("m")),
    (
        r#"[{"error":{"code":429,"message":"m","status":"RESOURCE_EXHAUSTED"}}]"#,
        Some(429),
        Some("m"),
    ),
    (r#"{"type":"error","error":{"type":"overloaded_error","message":"m"}}"#, Some(503), Some("m")),
    (r#"{"type":"error","code":"server_error","message":"m"}"#, Some(500), Some("m")),
    (
        r#"{"type":"response.failed","response":{"error":{"code":"invalid_prompt","message":"m"}}}"#,
        Some(400),
        Some("m"),
    ),
    (
        r#"{"choices":[{"error":{"code":502,"message":"m"},"finish_reason":"error"}]}"#,
        Some(502),
        Some("m"),
    ),
    (r#"{"error":{"message":"p","code":400,"metadata":{"raw":"r"}}}"#, Some(400), Some("p: r")),
    (r#"{"error":{"error":{"message":"m","type":"authentication_error"}}}"#, Some(401), Some("m")),
    (r#"{"title":"t","detail":"m","status":422}"#, Some(422), Some("m")),
    (r#"{"fault":{"faultstring":"m"}}"#, None, Some("m")),
    (r#"{"error":{"message":"m","details":[{"reason":"R"}]}}"#, None, Some("m")),
    (r#"{"error":{"details":[{"reason":"R"}]}}"#, None, Some("R")),
    ("upstream connect error\r\n or\treset", None, Some("upstream connect error or reset")),
    ("<html><head><TITLE lang=en> 502 Bad Gateway </TITLE></head>", None, Some("502 Bad Gateway")),
    ("<p>no title</p>", None, None),
    ("", None, None),
    ("{}", None, None),
];

#[test]
fn every_form_yields_status_and_message() {
    for (text, status, message) in SHAPES {
        let body = read(text);
        assert_eq!((body.status(), body.message.as_deref()), (status, message), "{text}");
    }
}

#[test]
fn an_exhausted_budget_is_recognized() {
    let rows = [
        (429, r#"{"error":{"message":"m","type":"insufficient_quota","code":"429"}}"#, true),
        (429, r#"{"error":{"message":"m","type":"insufficient_quota","code":429}}"#, true),
        (429, r#"{"error":{"message":"m","type":"exceeded_current_quota_error"}}"#, true),
        (429, r#"{"error":{"message":"m","type":"budget_exceeded","code":"429"}}"#, true),
        (429, r#"{"code":"exhausted","error":"no credit left"}"#, true),
        (403, r#"{"code":"x","error":"Your team has used all available credits"}"#, true),
        (402, "", true),
        (
            400,
            r#"{"type":"error","error":{"type":"invalid_request_error","message":"Your credit balance is too low to access the API."}}"#,
            true,
        ),
        (400, r#"{"error":{"message":"role 'your credit balance is too low' is unknown"}}"#, false),
        (
            429,
            r#"{"error":{"message":"You exceeded your current quota","code":429,"details":[{"retryDelay":"37s"}]}}"#,
            false,
        ),
        (429, r#"{"error":{"message":"Rate limit reached","code":"rate_limit_exceeded"}}"#, false),
        (500, r#"{"error":{"message":"no credit to the author"}}"#, false),
    ];
    for (status, text, wanted) in rows {
        assert_eq!(read(text).is_budget(Some(status)), wanted, "{status} {text}");
    }
}

#[test]
fn a_body_names_its_delay() {
    let time = |text| read(text).retry_after;
    let google = r#"[{"error":{"code":429,"details":[{"@type":"Help"},{"@type":"RetryInfo","retryDelay":"37s"}]}}]"#;
    assert_eq!(time(google), Some(Duration::from_secs(37)));
    assert_eq!(time(r#"{"error":{"retry_after":1.5}}"#), Some(Duration::from_millis(1500)));
    assert_eq!(time(r#"{"error":"loading","estimated_time":20.0}"#), Some(Duration::from_secs(20)));
    assert_eq!(time(r#"{"error":{"retry_after":"soon"}}"#), None);
    assert_eq!(time(r#"{"error":{"retry_after":-1}}"#), None);
}

#[test]
fn a_cut_error_is_parsed() {
    let rows = [
        r#"{"error":{"code":400,"message":"too long: ab"#,
        r#"{"error":{"code":400,"message":"too long: ab\u00"#,
        r#"{"error":{"code":400,"message":"too long: ab\"#,
        r#"{"error":{"code":400,"message":"too long: ab","param"#,
        r#"{"error":{"code":400,"message":"too long: ab","param":"#,
        r#"{"error":{"code":400,"message":"too long: ab","list":[1,{"a":[2"#,
    ];
    for text in rows {
        let body = read(text);
        assert_eq!(
            (body.status(), body.message.as_deref()),
            (Some(400), Some("too long: ab")),
            "{text}"
        );
    }
    let huge = format!(r#"{{"error":{{"code":400,"message":"{}"}}}}"#, "ä".repeat(MAX_ERROR_BYTES));
    let body = read(&huge);
    assert_eq!(body.status(), Some(400));
    assert_eq!(body.message.unwrap().chars().count(), MAX_MESSAGE_CHARS);
}

#[test]
fn deeply_nested_json_is_plain_text() {
    let open = |depth: usize| read(&format!(r#"{{"message":"m",{}"#, "[".repeat(depth)));
    assert_eq!(open(100).message.as_deref(), Some("m"));
    assert_ne!(open(200).message.as_deref(), Some("m"));
}

#[test]
fn messages_are_cut_between_characters() {
    assert_eq!(clean(&"ü".repeat(3 * MAX_MESSAGE_CHARS)), Some("ü".repeat(MAX_MESSAGE_CHARS)));
    assert_eq!(clean(" \n\u{1b}[2J\u{0} "), Some("[2J".to_owned()));
    assert_eq!(beginning("aü", 2), "a");
}
