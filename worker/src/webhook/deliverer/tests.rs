use std::{collections::HashMap, ops::ControlFlow};

use causeway_queue::TenantId;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpListener,
    task::JoinSet,
};

use super::*;
use crate::{upstream::call::StreamEvent, webhook::secret::WebhookSecret};

const SECRET: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";

struct Nowhere;

impl Sink for Nowhere {
    fn event(&mut self, _: StreamEvent<'_>) -> Result<ControlFlow<()>, Failure> {
        panic!("a delivery is no stream")
    }
}

fn deliverer(allowed: &[&str]) -> Deliverer {
    let signing = Signing::new(vec![WebhookSecret::parse(SECRET).unwrap()], HashMap::new());
    let allowed = Allowed::new(allowed.iter().copied()).unwrap();
    Deliverer::new(signing, allowed, Duration::from_secs(15)).unwrap()
}

fn call(url: &str) -> Call {
    Call {
        id: "job_1-1".to_owned(),
        tenant: TenantId::default_tenant(),
        url: url.to_owned(),
        body: Bytes::from_static(b"{\"a\":1}"),
        headers: [(EVENT_ID.to_owned(), "evt_1".to_owned().into())].into(),
        stream: false,
        max_bytes: 0,
        memory: crate::upstream::Share::default(),
    }
}

/// Answers one request with `answer`; returns the port and the request.
async fn receiver(answer: &'static str) -> (u16, JoinSet<String>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let mut server = JoinSet::new();
    server.spawn(async move {
        let (mut stream, _) = listener.accept().await.unwrap();
        let mut received = Vec::new();
        while !received.ends_with(b"{\"a\":1}") {
            assert_ne!(stream.read_buf(&mut received).await.unwrap(), 0);
        }
        stream.write_all(answer.as_bytes()).await.unwrap();
        String::from_utf8(received).unwrap()
    });
    (port, server)
}

async fn deliver(answer: &'static str, host: &str) -> (Result<Answer, Failure>, String) {
    let (port, mut server) = receiver(answer).await;
    let deliverer = deliverer(&["127.0.0.0/8"]);
    let url = format!("http://{host}:{port}/hook?x=1");
    let answered = deliverer.call(call(&url), &mut Nowhere).await;
    (answered, server.join_next().await.unwrap().unwrap())
}

#[tokio::test]
async fn an_event_is_sent_signed() {
    for host in ["127.0.0.1", "localhost"] {
        let (answered, received) =
            deliver("HTTP/1.1 204 No Content\r\n\r\n{\"usage\":1}", host).await;
        assert_eq!(answered, Ok(Answer { status_code: 204, body: Bytes::new() }));
        assert!(received.starts_with("POST /hook?x=1 HTTP/1.1\r\n"), "{received}");
        let header = |name: &str| {
            let line = received.lines().find_map(|line| line.strip_prefix(&format!("{name}: ")));
            line.unwrap_or_else(|| panic!("no {name} in {received}")).to_owned()
        };
        assert_eq!(header("webhook-id"), "evt_1");
        assert_eq!(header("content-type"), "application/json");
        let signing = deliverer(&[]).signing;
        let timestamp = header("webhook-timestamp").parse().unwrap();
        let tenant = TenantId::default_tenant();
        let wanted = signing.signature(&tenant, "evt_1", timestamp, b"{\"a\":1}");
        assert_eq!(Some(header("webhook-signature")), wanted);
    }
}

#[tokio::test]
async fn any_status_but_2xx_fails() {
    let refused = |answered| match answered {
        Err(Failure::Refused(refusal)) => (refusal.status_code, refusal.retry_after),
        other => panic!("{other:?}"),
    };
    let elsewhere =
        "HTTP/1.1 302 Found\r\nlocation: http://127.0.0.1/\r\ncontent-length: 0\r\n\r\n";
    assert_eq!(refused(deliver(elsewhere, "127.0.0.1").await.0), (302, None));
    let busy = "HTTP/1.1 429 Busy\r\nretry-after: 7\r\ncontent-length: 0\r\n\r\n";
    let after = Some(Duration::from_secs(7));
    assert_eq!(refused(deliver(busy, "127.0.0.1").await.0), (429, after));
}

#[tokio::test]
async fn a_forbidden_address_is_not_connected_to() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    for host in ["127.0.0.1", "[::ffff:127.0.0.1]", "0x7f.1", "localhost"] {
        let failed =
            deliverer(&[]).call(call(&format!("http://{host}:{port}/")), &mut Nowhere).await;
        let Err(Failure::Unsendable(why)) = failed else { panic!("{host}: {failed:?}") };
        assert!(why.contains("no public address"), "{why}");
    }
    // A name that is not refused by its spelling is refused by its address.
    let resolved = Guarded(Arc::default()).resolve("localhost".parse().unwrap()).await;
    let why = resolved.err().expect("nothing is permitted").to_string();
    assert!(why.contains("no public address") && why.contains("webhooks.allow"), "{why}");
    // The error reveals neither the address nor the existence of the name.
    let unknown = Guarded(Arc::default()).resolve("no-such-name.invalid".parse().unwrap()).await;
    assert_eq!(unknown.err().expect("it does not exist").to_string(), why);
    let named = Allowed::new(["localhost"]).unwrap();
    assert!(Guarded(Arc::new(named)).resolve("localhost".parse().unwrap()).await.is_ok());
    assert!(tokio::time::timeout(Duration::ZERO, listener.accept()).await.is_err());
}

#[tokio::test]
async fn nothing_is_sent_unsigned() {
    let deliverer =
        Deliverer::new(Signing::default(), Allowed::default(), Duration::from_secs(15)).unwrap();
    let failed = deliverer.call(call("https://example.com/"), &mut Nowhere).await;
    let Err(Failure::Unsendable(why)) = failed else { panic!("{failed:?}") };
    assert!(why.contains("no webhook secret for tenant default"), "{why}");
}
