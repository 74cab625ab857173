use std::collections::BTreeMap;

use causeway_queue::TenantId;
use futures_util::TryStreamExt as _;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpListener,
    task::JoinSet,
};

use super::*;
use crate::{
    settings::CallTimeouts,
    upstream::{client::UpstreamClient, memory::Share},
};

/// Calls a server with this answer; returns the answer, and the request in lower case.
async fn forwarded(answer: &[u8]) -> (Result<ForwardedAnswer, ForwardFailure>, String) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let base = format!("http://{}/v1", listener.local_addr().unwrap());
    let (mut server, answer) = (JoinSet::new(), answer.to_vec());
    server.spawn(async move {
        let (mut stream, _) = listener.accept().await.unwrap();
        let mut received = Vec::new();
        while !received.ends_with(b"--b--") {
            assert_ne!(stream.read_buf(&mut received).await.unwrap(), 0);
        }
        stream.write_all(&answer).await.unwrap();
        String::from_utf8(received).unwrap().to_lowercase()
    });
    let upstream =
        OpenAi::new(UpstreamClient::of(&base, Some("sk-12345678")), &CallTimeouts::default());
    let kind = "multipart/form-data; boundary=b".to_owned();
    let call = Call {
        id: "direct-1".to_owned(),
        tenant: TenantId::default_tenant(),
        url: "/v1/audio/transcriptions".to_owned(),
        body: Bytes::from_static(b"--b--"),
        headers: BTreeMap::from([("content-type".to_owned(), kind.into())]),
        stream: false,
        max_bytes: usize::MAX,
        memory: Share::default(),
    };
    let forwarded = upstream.forward(call).await;
    (forwarded, server.join_next().await.unwrap().unwrap())
}

async fn body(forwarded: ForwardedAnswer) -> io::Result<Vec<u8>> {
    let pieces: Vec<Bytes> = forwarded.body.try_collect().await?;
    Ok(pieces.concat())
}

#[tokio::test]
async fn an_answer_of_any_kind_passes() {
    let answer =
        b"HTTP/1.1 200 OK\r\ncontent-type: audio/mpeg\r\ncontent-length: 3\r\n\r\n\x00\xff\x01";
    let (forwarded, received) = forwarded(answer).await;
    let forwarded = forwarded.unwrap();
    assert_eq!(forwarded.content_type.as_ref().unwrap(), "audio/mpeg");
    assert_eq!(body(forwarded).await.unwrap(), b"\x00\xff\x01");
    assert!(received.starts_with("post /v1/audio/transcriptions "), "{received}");
    assert!(received.contains("content-type: multipart/form-data; boundary=b"), "{received}");
    assert!(received.contains("authorization: bearer sk-12345678"), "{received}");
}

#[tokio::test]
async fn a_cut_answer_ends_with_an_error() {
    let (forwarded, _) = forwarded(b"HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\nhalf").await;
    assert!(body(forwarded.unwrap()).await.is_err());
}

#[tokio::test]
async fn a_refusal_shows_no_key() {
    let text = r#"{"error":{"message":"bad key sk-12345678"}}"#;
    let answer = format!("HTTP/1.1 401 X\r\ncontent-length: {}\r\n\r\n{text}", text.len());
    let (refused, _) = forwarded(answer.as_bytes()).await;
    let Err(ForwardFailure::Refused(refusal)) = refused else { panic!("{refused:?}") };
    assert_eq!(refusal.status_code, 401);
    assert!(!refusal.body.as_str().contains("sk-12345678"), "{refusal:?}");
}

#[tokio::test]
async fn a_redirect_is_no_answer() {
    let answer = b"HTTP/1.1 302 X\r\nlocation: http://h/\r\ncontent-length: 0\r\n\r\n";
    let (refused, _) = forwarded(answer).await;
    let Err(ForwardFailure::NoAnswer { message, is_timeout }) = refused else {
        panic!("{refused:?}")
    };
    assert!(message.contains("redirect") && !is_timeout, "{message}");
}

#[test]
fn a_missing_connection_is_no_timeout() {
    let second = Duration::from_secs(1);
    for (failure, expected) in [
        (Failure::Connect("refused".to_owned()), false),
        (Failure::ConnectTimeout, false),
        (Failure::FirstByteTimeout(second), true),
        (Failure::TotalTimeout(second), true),
    ] {
        let forward_failure = forward_failure(failure, String::new(), "/v1/moderations");
        let ForwardFailure::NoAnswer { is_timeout, .. } = forward_failure else {
            panic!("{forward_failure:?}")
        };
        assert_eq!(is_timeout, expected);
    }
}
