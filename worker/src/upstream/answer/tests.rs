use std::{io::Cursor, ops::ControlFlow};

use async_compression::tokio::bufread::{
    BrotliEncoder, DeflateEncoder, GzipEncoder, ZlibEncoder, ZstdEncoder,
};
use causeway_queue::TenantId;
use tokio::{
    io::{AsyncRead, AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpListener,
    task::JoinSet,
};

use super::*;
use crate::{
    assembly::Assembly,
    settings::CallTimeouts,
    upstream::{
        call::{StreamEvent, Upstream as _},
        client::UpstreamClient,
        error_body::{MAX_ERROR_BYTES, MAX_MESSAGE_CHARS},
        memory::{AnswerMemory, Share},
        openai::OpenAi,
    },
};

const CHAT: &str = "/v1/chat/completions";
const COMPLETION: &str = r#"{"choices":[{"message":{"content":"fine"}}]}"#;
const MAX_BYTES: usize = 100_000;
const KEY: &str = "sk-12345678";

/// A sink that collects the data of all events.
#[derive(Debug, Default)]
struct Events(Vec<String>);

impl Sink for Events {
    fn event(&mut self, event: StreamEvent<'_>) -> Result<ControlFlow<()>, Failure> {
        let data = event.data;
        if data.contains("error") {
            return Err(Failure::InStream(RawJson::parse(data.to_owned()).unwrap()));
        }
        self.0.push(data.to_owned());
        Ok(if data == "[DONE]" { ControlFlow::Break(()) } else { ControlFlow::Continue(()) })
    }
}

/// Serves `answer` to one request; returns the URL and the request.
async fn serve(answer: Vec<u8>) -> (String, JoinSet<String>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let base = format!("http://{}/v1", listener.local_addr().unwrap());
    let mut server = JoinSet::new();
    server.spawn(async move {
        let (mut stream, _) = listener.accept().await.unwrap();
        let mut received = Vec::new();
        while !received.ends_with(b"{}") {
            assert_ne!(stream.read_buf(&mut received).await.unwrap(), 0);
        }
        // A client that has read enough closes the connection.
        drop(stream.write_all(&answer).await);
        String::from_utf8(received).unwrap()
    });
    (base, server)
}

fn call_to(url: &str, stream: bool, memory: Share) -> Call {
    Call {
        id: "job_1-1".to_owned(),
        tenant: TenantId::default_tenant(),
        url: url.to_owned(),
        body: Bytes::from_static(b"{}"),
        headers: std::collections::BTreeMap::new(),
        stream,
        max_bytes: MAX_BYTES,
        memory,
    }
}

async fn ask(url: &str, stream: bool, answer: Vec<u8>) -> (Result<String, Failure>, Vec<String>) {
    let (base, _server) = serve(answer).await;
    let upstream = OpenAi::new(UpstreamClient::of(&base, Some(KEY)), &CallTimeouts::default());
    let mut events = Events::default();
    let answered = upstream.call(call_to(url, stream, Share::default()), &mut events).await;
    let text = answered.map(|answer| String::from_utf8(answer.body.to_vec()).unwrap());
    (text, events.0)
}

fn http(status: &str, headers: &str, body: &[u8]) -> Vec<u8> {
    let length = body.len();
    let head = format!("HTTP/1.1 {status}\r\ncontent-length: {length}\r\n{headers}\r\n");
    [head.as_bytes(), body].concat()
}

fn typed(content_type: &str, body: &str) -> Vec<u8> {
    http("200 OK", &format!("content-type: {content_type}\r\n"), body.as_bytes())
}

async fn whole(answer: Vec<u8>) -> Result<String, Failure> {
    ask(CHAT, false, answer).await.0
}

fn what(failure: Result<String, Failure>) -> NoAnswer {
    match failure {
        Err(Failure::NoAnswer { what, .. }) => what,
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn any_content_type_is_accepted() {
    for content_type in
        ["application/json", "text/plain; charset=utf-8", "text/event-stream", "x/y"]
    {
        let answer = whole(typed(content_type, COMPLETION)).await;
        assert_eq!(answer.as_deref(), Ok(COMPLETION), "{content_type}");
    }
    let padded = format!("\n\n{COMPLETION}");
    assert_eq!(whole(http("201 Created", "", padded.as_bytes())).await, Ok(padded));
}

#[tokio::test]
async fn a_byte_order_mark_is_removed() {
    let answer = whole(typed("application/json", &format!("\u{feff}{COMPLETION}"))).await;
    assert_eq!(answer.as_deref(), Ok(COMPLETION));
    for status in ["200 OK", "400 X"] {
        let error = "\u{feff}{\"error\":{\"code\":\"c\"}}";
        let Err(Failure::Refused(refusal)) = whole(http(status, "", error.as_bytes())).await else {
            panic!("not refused")
        };
        assert_eq!(refusal.body.as_str(), r#"{"error":{"code":"c"}}"#, "{status}");
    }
}

#[tokio::test]
async fn blank_pieces_are_dropped_but_count() {
    // A decoder returns pieces of at most 16 KiB.
    for (blanks, is_answer) in [(80_000, true), (MAX_BYTES + 1, false)] {
        let text = format!("{}{COMPLETION}", "\n".repeat(blanks));
        let (name, body) = codings(&text).await.remove(0);
        match whole(coded(name, &body)).await {
            Ok(answer) => assert!(is_answer && answer.len() < 20_000, "{} bytes", answer.len()),
            Err(failure) => assert!(!is_answer && failure == Failure::TooLarge(MAX_BYTES)),
        }
    }
}

#[tokio::test]
async fn invalid_answers_are_described() {
    let page = "<html><head><title>Sign in</title>";
    let rows = [
        (http("200 OK", "", b""), NoAnswer::Empty),
        (http("200 OK", "", b" \n"), NoAnswer::Empty),
        (b"HTTP/1.1 204 No Content\r\n\r\n".to_vec(), NoAnswer::Empty),
        (typed("text/html", page), NoAnswer::WebPage(Some("Sign in".to_owned()))),
        (
            http("200 OK", "content-encoding: compress\r\n", b"x"),
            NoAnswer::Coding("compress".to_owned()),
        ),
        (
            typed("text/plain", "all is well"),
            NoAnswer::Unreadable("text that is not JSON: all is well".to_owned()),
        ),
        (
            typed("application/json", r#"{"choices":[]}"#),
            NoAnswer::Unreadable(
                "JSON without the `choices` with messages of this endpoint".to_owned(),
            ),
        ),
        (
            b"SSH-2.0-OpenSSH_9.2\r\n\r\n".to_vec(),
            NoAnswer::Unreadable("no HTTP (invalid HTTP version parsed)".to_owned()),
        ),
    ];
    for (answer, wanted) in rows {
        let shown = String::from_utf8_lossy(&answer).into_owned();
        assert_eq!(what(whole(answer).await), wanted, "{shown}");
    }
}

#[tokio::test]
async fn a_redirect_is_reported_without_secrets() {
    let to = |location: &str| http("307 X", &format!("location: {location}\r\n"), b"");
    let target = what(whole(to("https://me:secret@host/v2/chat?key=secret")).await);
    assert_eq!(target, NoAnswer::Redirect(Some("https://host/v2/chat".to_owned())));
    let NoAnswer::Redirect(Some(target)) = what(whole(to("/slash/")).await) else { panic!() };
    assert!(target.starts_with("http://127.0.0.1:") && target.ends_with("/slash/"), "{target}");
}

#[tokio::test]
async fn a_partial_answer_is_cut() {
    let half = typed("application/json", r#"{"choices":[{"mess"#);
    let short = b"HTTP/1.1 200 OK\r\ncontent-length: 99\r\n\r\n{\"choices\"".to_vec();
    let silent = typed("text/event-stream", "");
    for answer in [half, short, silent] {
        assert!(matches!(whole(answer).await, Err(Failure::Cut(_))));
    }
}

#[tokio::test]
async fn an_error_is_recognized_under_any_status() {
    let refusal = |answered| match answered {
        Err(Failure::Refused(refusal)) => *refusal,
        other => panic!("{other:?}"),
    };
    let body = r#"{"error":{"message":"m","code":"c"}}"#;
    for stream in [false, true] {
        let answer = http("200 OK", "retry-after: 3\r\nx-should-retry: false\r\n", body.as_bytes());
        let found = refusal(ask(CHAT, stream, answer).await.0);
        assert_eq!((found.status_code, found.body.as_str()), (200, body));
        assert_eq!(found.retry_after, Some(Duration::from_secs(3)));
        assert_eq!((found.should_retry, found.code.as_deref()), (Some(false), Some("c")));
    }
    let limit = "x-ratelimit-remaining-requests: 0\r\nx-ratelimit-reset-requests: 1m\r\n";
    let found = refusal(whole(http("429 X", limit, b"{}")).await);
    assert_eq!(found.retry_after, Some(Duration::from_secs(60)));
    assert_eq!(refusal(whole(http("500 X", limit, b"{}")).await).retry_after, None);
}

#[tokio::test]
async fn a_large_error_is_truncated() {
    let body = format!(r#"{{"error":{{"code":"c","message":"{}"}}}}"#, "x".repeat(200_000));
    let Err(Failure::Refused(refusal)) = whole(http("400 X", "", body.as_bytes())).await else {
        panic!("not refused")
    };
    let body = ErrorBody::read(&refusal.body);
    assert_eq!(refusal.code.as_deref(), Some("c"));
    assert!(body.message.is_some_and(|message| message.starts_with("xxx")));
}

#[tokio::test]
async fn an_echoed_key_is_hidden() {
    let body = format!(r#"{{"error":{{"message":"no such key: {KEY}"}}}}"#);
    let Err(Failure::Refused(refusal)) = whole(http("401 X", "", body.as_bytes())).await else {
        panic!("not refused")
    };
    assert_eq!(refusal.body.as_str(), r#"{"error":{"message":"no such key: ***"}}"#);
    let stream = format!("data: {{\"error\":\"no such key: {KEY}\"}}\n\n");
    let (failed, _) = ask(CHAT, true, typed("text/event-stream", &stream)).await;
    let event = RawJson::parse(r#"{"error":"no such key: ***"}"#.to_owned()).unwrap();
    assert_eq!(failed, Err(Failure::InStream(event)));
}

#[tokio::test]
async fn a_key_across_a_cut_is_masked() {
    let no_answer = |answered| match answered {
        Err(Failure::NoAnswer { what, .. }) => what.to_string(),
        other => panic!("{other:?}"),
    };
    let words = format!("{} {KEY}", "x".repeat(MAX_MESSAGE_CHARS - 5));
    let text = no_answer(whole(typed("text/plain", &words)).await);
    assert!(text.ends_with("x ***"), "{text}");
    let page = format!("<!doctype html><title>{words}</title>");
    let title = no_answer(whole(typed("text/html", &page)).await);
    assert!(title.contains("x ***"), "{title}");
    let body = format!("{} {KEY}", "x".repeat(MAX_ERROR_BYTES - 8));
    let Err(Failure::Refused(refusal)) = whole(http("400 X", "", body.as_bytes())).await else {
        panic!("not refused")
    };
    assert!(refusal.body.as_str().ends_with(r#"x ***""#));
}

#[tokio::test]
async fn an_unrequested_stream_is_read() {
    for (stream, content_type) in [(true, "text/plain"), (false, "text/event-stream")] {
        let answer = typed(content_type, ": hello\n\ndata: {}\n\ndata: [DONE]\n\ndata: late\n\n");
        let (answered, events) = ask(CHAT, stream, answer).await;
        assert_eq!(answered.as_deref(), Ok(""));
        assert_eq!(events, ["{}", "[DONE]"]);
    }
}

async fn packed(encoder: impl AsyncRead) -> Vec<u8> {
    let mut bytes = Vec::new();
    std::pin::pin!(encoder).read_to_end(&mut bytes).await.unwrap();
    bytes
}

/// Returns `text` in every coding, with the coding's name.
async fn codings(text: &str) -> Vec<(&'static str, Vec<u8>)> {
    let plain = || Cursor::new(text.as_bytes().to_vec());
    vec![
        ("gzip", packed(GzipEncoder::new(plain())).await),
        ("deflate", packed(ZlibEncoder::new(plain())).await),
        ("deflate", packed(DeflateEncoder::new(plain())).await),
        ("br", packed(BrotliEncoder::new(plain())).await),
        ("zstd", packed(ZstdEncoder::new(plain())).await),
    ]
}

fn coded(name: &str, body: &[u8]) -> Vec<u8> {
    http("200 OK", &format!("content-encoding: {name}\r\n"), body)
}

#[tokio::test]
async fn compressed_answers_are_decoded() {
    for (name, body) in codings(COMPLETION).await {
        assert_eq!(whole(coded(name, &body)).await.as_deref(), Ok(COMPLETION), "{name}");
        let half = body.get(..body.len() / 2).unwrap();
        let cut = whole(coded(name, half)).await;
        assert!(matches!(cut, Err(Failure::Cut(_))), "{name}: {cut:?}");
    }
    for (name, body) in codings("data: {\"a\":1}\n\ndata: [DONE]\n\n").await {
        let (answered, events) = ask(CHAT, true, coded(name, &body)).await;
        assert_eq!((answered.as_deref(), events.len()), (Ok(""), 2), "{name}");
    }
    let twice = packed(GzipEncoder::new(Cursor::new(codings(COMPLETION).await.remove(3).1))).await;
    assert_eq!(whole(coded("br, gzip", &twice)).await.as_deref(), Ok(COMPLETION));
    let wrong = what(whole(coded("gzip", b"no gzip at all, but some words")).await);
    assert!(matches!(wrong, NoAnswer::Unreadable(_)));
}

#[tokio::test]
async fn a_decompression_bomb_is_refused() {
    let bomb = format!("[{}]", " ".repeat(50 << 20));
    for (name, body) in codings(&bomb).await {
        assert!(body.len() < MAX_BYTES, "{name}: {} bytes", body.len());
        let answered = ask("/v1/other", false, coded(name, &body)).await.0;
        assert_eq!(answered, Err(Failure::TooLarge(MAX_BYTES)), "{name}");
    }
}

/// Returns a response with the stream `stream` and a connection that breaks.
fn broken(stream: &str) -> Vec<u8> {
    let head = "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ncontent-length: 9999\r\n\r\n";
    format!("{head}{stream}").into_bytes()
}

#[tokio::test]
async fn a_complete_stream_may_break_off() {
    let text = r#"{"choices":[{"index":0,"delta":{"content":"a"},"finish_reason":null}]}"#;
    let stop = r#"{"choices":[{"index":0,"delta":{},"finish_reason":"stop"}]}"#;
    for (events, is_answer) in [(vec![text], false), (vec![text, stop], true)] {
        let stream: String = events.iter().map(|event| format!("data: {event}\n\n")).collect();
        let (base, _server) = serve(broken(&stream)).await;
        let upstream = OpenAi::new(UpstreamClient::of(&base, None), &CallTimeouts::default());
        let mut assembly = Assembly::new(CHAT, MAX_BYTES);
        let answered = upstream.call(call_to(CHAT, true, Share::default()), &mut assembly).await;
        assert_eq!(answered.is_ok(), is_answer, "{events:?}: {answered:?}");
        assert_eq!(assembly.finish().is_ok(), is_answer, "{events:?}");
    }
}

#[tokio::test]
async fn a_whole_answer_becomes_a_stream() {
    let (answered, events) = ask(CHAT, true, typed("application/json", COMPLETION)).await;
    assert_eq!(answered.as_deref(), Ok(""));
    let [first, second, done] = events.as_slice() else { panic!("{events:?}") };
    assert!(first.contains(r#""delta":{"content":"fine"}"#), "{first}");
    assert!(second.contains(r#""finish_reason":"stop""#), "{second}");
    assert_eq!(done, "[DONE]");
}

#[tokio::test]
async fn a_compressed_stream_is_not_delayed() {
    // The encoder is flushed after the first event, and the stream stays open.
    let (base, mut server) = open_stream().await;
    let upstream = OpenAi::new(UpstreamClient::of(&base, None), &CallTimeouts::default());
    let (sender, mut first_event) = tokio::sync::mpsc::channel(1);
    struct NotifyingSink(tokio::sync::mpsc::Sender<String>);
    impl Sink for NotifyingSink {
        fn event(&mut self, event: StreamEvent<'_>) -> Result<ControlFlow<()>, Failure> {
            self.0.try_send(event.data.to_owned()).unwrap();
            Ok(ControlFlow::Continue(()))
        }
    }
    let mut sink = NotifyingSink(sender);
    let call = upstream.call(call_to(CHAT, true, Share::default()), &mut sink);
    let first = tokio::select! {
        first_event = first_event.recv() => first_event,
        ended = call => panic!("it ended: {ended:?}"),
    };
    assert_eq!(first.as_deref(), Some("1"));
    server.abort_all();
}

/// Starts a server that sends one event of a gzip stream and then stalls.
async fn open_stream() -> (String, JoinSet<()>) {
    use async_compression::tokio::write::GzipEncoder as Writer;
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let base = format!("http://{}/v1", listener.local_addr().unwrap());
    let mut server = JoinSet::new();
    server.spawn(async move {
        let (mut stream, _) = listener.accept().await.unwrap();
        let mut received = Vec::new();
        while !received.ends_with(b"{}") {
            assert_ne!(stream.read_buf(&mut received).await.unwrap(), 0);
        }
        let head =
            "HTTP/1.1 200 OK\r\ncontent-encoding: gzip\r\ncontent-type: text/event-stream\r\n\r\n";
        stream.write_all(head.as_bytes()).await.unwrap();
        let mut writer = Writer::new(stream);
        writer.write_all(b"data: 1\n\n").await.unwrap();
        writer.flush().await.unwrap();
        std::future::pending::<()>().await;
    });
    (base, server)
}

#[tokio::test]
async fn an_answer_returns_its_memory() {
    let memory = AnswerMemory::new(200_000, MAX_BYTES);
    let large = format!("{COMPLETION}{}", " ".repeat(80_000));
    let (base, _server) = serve(typed("application/json", &large)).await;
    let upstream = OpenAi::new(UpstreamClient::of(&base, None), &CallTimeouts::default());
    let share = memory.share();
    let call = call_to(CHAT, false, share.clone());
    upstream.call(call, &mut Events::default()).await.unwrap();
    assert!((80_000..90_000).contains(&share.held()), "{}", share.held());
    drop(share);
    // The reserve does not count as held.
    let other = memory.share();
    other.hold(200_000 - MAX_BYTES - 4096).await.unwrap();
    assert!(other.held() >= 200_000 - MAX_BYTES - 4096, "{}", other.held());
}

#[tokio::test]
async fn calls_with_scarce_memory_all_end() {
    let memory = AnswerMemory::new(200_000, MAX_BYTES);
    let large = format!("{COMPLETION}{}", " ".repeat(90_000));
    let calls = (0..20).map(|_| async {
        let (base, _server) = serve(typed("application/json", &large)).await;
        let upstream = OpenAi::new(UpstreamClient::of(&base, None), &CallTimeouts::default());
        let call = call_to(CHAT, false, memory.share());
        upstream.call(call, &mut Events::default()).await
    });
    let ended = futures_util::future::join_all(calls).await;
    assert!(ended.iter().all(Result::is_ok), "{ended:?}");
}

#[tokio::test]
async fn requests_accept_no_compression() {
    let (base, mut server) = serve(typed("application/json", COMPLETION)).await;
    let upstream = OpenAi::new(UpstreamClient::of(&base, None), &CallTimeouts::default());
    upstream.call(call_to(CHAT, false, Share::default()), &mut Events::default()).await.unwrap();
    let received = server.join_next().await.unwrap().unwrap();
    assert!(received.contains("accept-encoding: identity\r\n"), "{received}");
}
