use bytes::Bytes;
use causeway_queue::TenantId;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpListener,
};

use super::*;
use crate::{
    assembly::Assembly,
    settings::CallTimeouts,
    upstream::{call::Upstream as _, memory::Share, openai::OpenAi},
};

const ANSWER: &[u8] = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\nconnection: close\r\n\r\n{}";

fn call(headers: &[(&str, &str)]) -> Call {
    let own = |(name, value): &(&str, &str)| ((*name).to_owned(), (*value).to_owned().into());
    Call {
        id: "job_1-2".to_owned(),
        tenant: TenantId::default_tenant(),
        url: "/v1/chat/completions".to_owned(),
        body: Bytes::from_static(b"{}"),
        headers: headers.iter().map(own).collect(),
        stream: false,
        max_bytes: 0,
        memory: Share::default(),
    }
}

fn settings(address: &str) -> UpstreamSettings {
    UpstreamSettings {
        address: Address::parse(address).unwrap(),
        api_key: None,
        proxy: None,
        tls: TlsFiles::default(),
    }
}

/// Sends `call`; returns the request that the server at `listener` receives, in lower case.
async fn received(listener: TcpListener, settings: UpstreamSettings, call: &Call) -> String {
    let client = UpstreamClient::new(&settings, Duration::from_secs(5)).unwrap();
    let serve = async {
        let (mut stream, _) = listener.accept().await.unwrap();
        let mut head = Vec::new();
        while !head.ends_with(b"{}") {
            assert_ne!(stream.read_buf(&mut head).await.unwrap(), 0);
        }
        stream.write_all(ANSWER).await.unwrap();
        String::from_utf8(head).unwrap().to_lowercase()
    };
    let (head, answer) = tokio::join!(serve, client.send(call));
    assert_eq!(answer.unwrap().status(), 200);
    assert!(client.was_called());
    head
}

async fn listener() -> (TcpListener, u16) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    (listener, port)
}

#[tokio::test]
async fn a_call_has_ids_and_user_agent() {
    let (listener, port) = listener().await;
    let head =
        received(listener, settings(&format!("http://127.0.0.1:{port}/d?v=1")), &call(&[])).await;
    for line in [
        "post /d/chat/completions?v=1 http/1.1",
        concat!("user-agent: causeway/", env!("CARGO_PKG_VERSION")),
        "content-type: application/json",
        "accept-encoding: identity",
        "idempotency-key: job_1-2",
        "x-request-id: job_1-2",
    ] {
        assert!(head.contains(&format!("{line}\r\n")), "{line}: {head}");
    }
    assert!(!head.contains("authorization"), "{head}");
}

#[tokio::test]
async fn the_headers_of_a_job_come_first() {
    let (listener, port) = listener().await;
    let call = call(&[("idempotency-key", "own"), ("user-agent", "mine"), ("x-request-id", "r")]);
    let head = received(listener, settings(&format!("http://127.0.0.1:{port}")), &call).await;
    for line in ["idempotency-key: own", "user-agent: mine", "x-request-id: r"] {
        assert!(head.contains(&format!("{line}\r\n")), "{line}: {head}");
    }
    assert!(!head.contains("job_1") && !head.contains("causeway/"), "{head}");
}

#[tokio::test]
async fn user_info_goes_before_the_key() {
    let (listener, port) = listener().await;
    let api_key = Some(UpstreamSecret::new("k"));
    let address = format!("http://user:pa%24s@127.0.0.1:{port}");
    let head =
        received(listener, UpstreamSettings { api_key, ..settings(&address) }, &call(&[])).await;
    assert!(head.contains("authorization: basic dxnlcjpwysrz\r\n"), "{head}");
    assert!(head.contains("x-api-key: k\r\n") && !head.contains("bearer"), "{head}");
}

#[tokio::test]
async fn a_call_goes_through_its_proxy() {
    let (listener, port) = listener().await;
    let proxy = Some(Proxy::parse(&format!("http://user:pw@127.0.0.1:{port}")).unwrap());
    let settings = UpstreamSettings { proxy, ..settings("http://model.invalid/v1") };
    let head = received(listener, settings, &call(&[])).await;
    assert!(head.starts_with("post http://model.invalid/v1/chat/completions http/1.1"), "{head}");
    assert!(head.contains("proxy-authorization: basic "), "{head}");
}

#[tokio::test]
async fn a_failed_connection_names_its_proxy() {
    let (listener, port) = listener().await;
    drop(listener);
    let proxy = Some(Proxy::parse(&format!("http://user:secret@127.0.0.1:{port}")).unwrap());
    let settings = UpstreamSettings { proxy, ..settings("http://model.invalid/v1") };
    let client = UpstreamClient::new(&settings, Duration::from_secs(5)).unwrap();
    let upstream = OpenAi::new(client, &CallTimeouts::default());
    let mut sink = Assembly::new("/v1/chat/completions", 0);
    let failed = upstream.call(call(&[]), &mut sink).await;
    let why = format!("through the proxy http://127.0.0.1:{port}: connection refused");
    assert_eq!(failed, Err(Failure::Connect(why)));
}

#[tokio::test]
async fn echoed_credentials_of_a_proxy_are_masked() {
    let (listener, port) = listener().await;
    let proxy = Some(Proxy::parse(&format!("http://me:pass%2Dword@127.0.0.1:{port}")).unwrap());
    let settings = UpstreamSettings { proxy, ..settings("http://model.invalid/v1") };
    let client = UpstreamClient::new(&settings, Duration::from_secs(5)).unwrap();
    let upstream = OpenAi::new(client, &CallTimeouts::default());
    let mut sink = Assembly::new("/v1/chat/completions", 0);
    // me:pass-word
    let body = r#"{"error":"pass%2Dword pass-word bWU6cGFzcy13b3Jk"}"#;
    let head = format!("HTTP/1.1 407 X\r\ncontent-length: {}\r\n\r\n", body.len());
    let serve = async {
        let (mut stream, _) = listener.accept().await.unwrap();
        let mut request = Vec::new();
        while !request.ends_with(b"{}") {
            assert_ne!(stream.read_buf(&mut request).await.unwrap(), 0);
        }
        stream.write_all(format!("{head}{body}").as_bytes()).await.unwrap();
        stream
    };
    let (_stream, failed) = tokio::join!(serve, upstream.call(call(&[]), &mut sink));
    let Err(Failure::Refused(refusal)) = failed else { panic!("{failed:?}") };
    assert_eq!(refusal.body.as_str(), r#"{"error":"*** *** ***"}"#);
}

#[test]
fn an_unsendable_key_is_refused() {
    let api_key = Some(UpstreamSecret::new("a\nb"));
    let refused = UpstreamClient::new(
        &UpstreamSettings { api_key, ..settings("http://h/v1") },
        Duration::from_secs(5),
    );
    assert!(matches!(refused, Err(InvalidUpstream::Key)));
}
