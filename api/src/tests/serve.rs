//! The server over real sockets: connections, their limits, and the drain.

use std::{net::SocketAddr, time::Duration};

use serde_json::json;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
    task::JoinSet,
    time::Instant,
};
use tokio_util::sync::CancellationToken;

use super::{Api, ann_and_bob, tenant};
use crate::{Settings, Tenants, serve};

/// The headers of a call of ann that closes its connection.
const ANN: &str = "authorization: Bearer key-of-ann\r\nconnection: close\r\n";

/// An API that listens on a socket.
struct Server {
    api: Api,
    address: SocketAddr,
    drain: CancellationToken,
    running: JoinSet<()>,
}

/// A client that reads raw bytes.
struct Client(TcpStream);

impl Server {
    async fn start(settings: Settings, tenants: Tenants) -> Self {
        let api = Api::with(settings, tenants);
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let drain = CancellationToken::new();
        let mut running = JoinSet::new();
        running.spawn(serve(listener, api.state.clone(), drain.clone().cancelled_owned()));
        Self { api, address, drain, running }
    }

    async fn open() -> Self {
        Self::start(Settings::default(), Tenants::open()).await
    }

    async fn client(&self) -> Client {
        Client(TcpStream::connect(self.address).await.unwrap())
    }

    /// Sends one request; returns all bytes until the connection closes.
    async fn ask(&self, request: &str) -> String {
        let mut client = self.client().await;
        client.send(request).await;
        client.rest().await
    }

    /// Submits a job of ann; returns its id.
    async fn job_of_ann(&self) -> String {
        let answer = self.ask(&post("/v1/jobs", ANN, r#"{"body":{}}"#)).await;
        let id = answer.split("\"id\":\"").nth(1).and_then(|rest| rest.split('"').next());
        id.unwrap().to_owned()
    }

    /// Waits until `count` jobs are accepted and have not ended.
    async fn jobs(&self, count: u64) {
        while self.api.unfinished().await < count {
            tokio::task::yield_now().await;
        }
    }

    /// Returns the status of `GET path` over a new connection.
    async fn status(&self, path: &str, key: &str) -> String {
        let answer = self.ask(&get(path, key, "connection: close\r\n")).await;
        answer.split(' ').nth(1).unwrap_or_default().to_owned()
    }
}

impl Client {
    async fn send(&mut self, text: &str) {
        self.0.write_all(text.as_bytes()).await.unwrap();
    }

    /// Returns all bytes until the connection ends, regularly or not.
    async fn rest(&mut self) -> String {
        let mut read = Vec::new();
        drop(self.0.read_to_end(&mut read).await);
        String::from_utf8(read).unwrap()
    }

    /// Returns all bytes up to `part`.
    async fn until(&mut self, part: &str) -> String {
        let mut read = String::new();
        let mut piece = [0; 1024];
        while !read.contains(part) {
            let count = self.0.read(&mut piece).await.unwrap();
            assert!(count > 0, "the connection ended before {part:?}: {read}");
            read.push_str(std::str::from_utf8(&piece[..count]).unwrap());
        }
        read
    }
}

fn get(path: &str, key: &str, more: &str) -> String {
    format!("GET {path} HTTP/1.1\r\nhost: localhost\r\nauthorization: Bearer {key}\r\n{more}\r\n")
}

fn post(path: &str, more: &str, body: &str) -> String {
    let length = body.len();
    format!(
        "POST {path} HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\n{more}\
         content-length: {length}\r\n\r\n{body}"
    )
}

#[tokio::test]
async fn needless_slashes_are_served() {
    let server = Server::open().await;
    for path in ["/v1/queue/", "//v1/queue", "/v1//queue?"] {
        assert_eq!(server.status(path, "").await, "200", "{path}");
    }
    assert!(server.ask(&get("/docs/", "", "connection: close\r\n")).await.contains("../docs"));
}

#[tokio::test]
async fn a_loopback_server_checks_the_host() {
    let hosts = Some(vec!["causeway.internal".to_owned()]);
    let server = Server::start(Settings { hosts, ..Settings::default() }, Tenants::open()).await;
    let ask = async |host: &str| {
        let request =
            format!("GET /v1/queue HTTP/1.1\r\nhost: {host}\r\nconnection: close\r\n\r\n");
        server.ask(&request).await
    };
    for host in ["localhost:4004", "127.0.0.1", "[::1]:9", "a.localhost", "causeway.internal:80"] {
        assert!(ask(host).await.starts_with("HTTP/1.1 200"), "{host}");
    }
    for host in ["rebind.example", "localhost.evil.example", "10.0.0.1", "evil-localhost"] {
        let answer = ask(host).await;
        assert!(answer.starts_with("HTTP/1.1 403") && answer.contains("api.hosts"), "{answer}");
    }
}

#[tokio::test]
async fn ambiguous_requests_are_refused() {
    let server = Server::open().await;
    for (head, status) in [
        ("host: localhost\r\nhost: other\r\n", "400"),
        ("", "400"),
        ("host: localhost\r\ntransfer-encoding: gzip, chunked\r\n", "501"),
    ] {
        let request = format!("POST /v1/jobs HTTP/1.1\r\n{head}connection: close\r\n\r\n0\r\n\r\n");
        let answer = server.ask(&request).await;
        assert!(answer.starts_with(&format!("HTTP/1.1 {status}")), "{head:?}: {answer}");
    }
    // The preface of HTTP/2 with prior knowledge.
    let answer = server.ask("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n").await;
    assert!(!answer.contains("200"), "{answer}");
}

#[tokio::test]
async fn a_declared_long_body_is_refused_early() {
    let server =
        Server::start(Settings { max_body_bytes: 10, ..Settings::default() }, Tenants::open())
            .await;
    let more = "expect: 100-continue\r\n";
    let head = post("/v1/jobs", more, &"x".repeat(11));
    let head = head.trim_end_matches('x');
    let answer = server.ask(head).await;
    assert!(answer.starts_with("HTTP/1.1 413"), "{answer}");
    assert!(answer.contains("api.max_body_bytes"), "{answer}");
}

#[tokio::test(start_paused = true)]
async fn an_incomplete_head_ends_its_connection() {
    let server = Server::open().await;
    for part in ["", "GET /v1", "GET /v1/queue HTTP/1.1\r\nhost: "] {
        let (mut client, start) = (server.client().await, Instant::now());
        client.send(part).await;
        assert_eq!(client.rest().await, "");
        assert!(start.elapsed() < Duration::from_secs(20), "{part:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn idle_connections_close_after_75_s() {
    let server = Server::open().await;
    let (mut client, start) = (server.client().await, Instant::now());
    client.send(&get("/healthz", "", "")).await;
    assert!(client.rest().await.ends_with("{\"status\":\"ok\"}"));
    assert!((70..90).contains(&start.elapsed().as_secs()), "{:?}", start.elapsed());
}

#[tokio::test(start_paused = true)]
async fn a_slow_body_is_refused() {
    let server = Server::open().await;
    let whole = post("/v1/jobs", "", &"x".repeat(1000));
    let answer = server.ask(whole.strip_suffix('x').unwrap()).await;
    assert!(answer.starts_with("HTTP/1.1 408") && answer.contains("body_too_slow"), "{answer}");
}

#[tokio::test]
async fn strangers_keep_no_caller_out() {
    let settings = Settings { max_connections: 2, ..Settings::default() };
    let server = Server::start(settings, ann_and_bob()).await;
    let mut strangers = Vec::new();
    for _ in 0..4 {
        strangers.push(server.client().await);
    }
    assert_eq!(server.status("/v1/queue", "key-of-ann").await, "200");
    let refusal = strangers[0].rest().await;
    assert!(
        refusal.starts_with("HTTP/1.1 503") && refusal.contains("api.max_connections"),
        "{refusal}"
    );
}

#[tokio::test]
async fn a_tenant_leaves_connections_to_others() {
    let settings = Settings { max_connections: 5, ..Settings::default() };
    let server = Server::start(settings, ann_and_bob()).await;
    let id = server.job_of_ann().await;
    let mut waiting = Vec::new();
    for _ in 0..4 {
        let mut client = server.client().await;
        client.send(&get(&format!("/v1/jobs/{id}/events"), "key-of-ann", "")).await;
        client.until("job.queued").await;
        waiting.push(client);
    }
    assert_eq!(server.status("/v1/queue", "key-of-ann").await, "429");
    assert_eq!(server.status("/v1/queue", "key-of-bob").await, "200");
}

#[tokio::test]
async fn a_slow_body_yields_its_place() {
    for (most, tenants, key) in [(3, Tenants::open(), ""), (5, ann_and_bob(), "key-of-ann")] {
        let server =
            Server::start(Settings { max_connections: most, ..Settings::default() }, tenants).await;
        let mut dribbling = Vec::new();
        // The number of connections for all callers, or for one tenant.
        for _ in 0..if most == 3 { 3 } else { 4 } {
            let mut client = server.client().await;
            let more = format!("authorization: Bearer {key}\r\nexpect: 100-continue\r\n");
            let whole = post("/v1/jobs", &more, "{}");
            client.send(whole.strip_suffix("{}").unwrap()).await;
            client.until("100 Continue").await;
            dribbling.push(client);
        }
        let status = server.status("/v1/queue", key).await;
        assert!(["503", "429"].contains(&status.as_str()), "none is slow yet: {status}");
        tokio::time::pause();
        tokio::time::advance(Duration::from_secs(2)).await;
        tokio::time::resume();
        assert_eq!(server.status("/v1/queue", key).await, "200");
        let answer = dribbling[0].rest().await;
        assert!(answer.starts_with("HTTP/1.1 408"), "{answer}");
        assert!(answer.contains("api.max_connections"), "{answer}");
    }
}

#[tokio::test]
async fn a_revoked_key_ends_what_it_opened() {
    let tenants = ann_and_bob();
    let server = Server::start(Settings::default(), tenants.clone()).await;
    let id = server.job_of_ann().await;
    let (mut events, mut poll) = (server.client().await, server.client().await);
    events.send(&get(&format!("/v1/jobs/{id}/events"), "key-of-ann", "")).await;
    events.until("job.queued").await;
    poll.send(&get(&format!("/v1/jobs/{id}?wait=60"), "key-of-ann", "connection: close\r\n")).await;
    let mut call = server.client().await;
    call.send(&post("/v1/chat/completions", ANN, r#"{"stream":true}"#)).await;
    call.until(": queued").await;
    let mut held = server.client().await;
    held.send(&post("/v1/chat/completions", ANN, "{}")).await;
    server.jobs(3).await;
    tenants.replace(vec![tenant("bob")]);
    for mut client in [events, call] {
        let rest = client.rest().await;
        // A chunked answer that was cut has no last chunk.
        assert!(!rest.contains("0\r\n\r\n"), "{rest}");
    }
    for mut client in [poll, held] {
        let rest = client.rest().await;
        assert!(rest.contains("401") && rest.contains("x-causeway-job-id: job_"), "{rest}");
    }
}

#[tokio::test]
async fn a_draining_process_hands_readers_over() {
    let settings = Settings {
        hands_over: true,
        drain_pause: Duration::from_millis(300),
        ..Settings::default()
    };
    let mut server = Server::start(settings, Tenants::open()).await;
    let id = server.api.post("/v1/jobs", &json!({ "body": {} })).await.id();
    let (mut events, mut poll) = (server.client().await, server.client().await);
    events.send(&get(&format!("/v1/jobs/{id}/events"), "", "")).await;
    events.until("job.queued").await;
    poll.send(&get(&format!("/v1/jobs/{id}?wait=60"), "", "")).await;
    let mut preferring = server.client().await;
    preferring.send(&post("/v1/jobs", "prefer: wait=60\r\n", r#"{"body":{}}"#)).await;
    server.jobs(2).await;
    let mut call = server.client().await;
    call.send(&post("/v1/chat/completions", "", r#"{"stream":true}"#)).await;
    call.until(": queued").await;
    let mut kept = server.client().await;
    kept.send(&get("/healthz", "", "")).await;
    kept.until("ok").await;

    server.drain.cancel();
    kept.send(&get("/readyz", "", "")).await;
    let answer = kept.rest().await;
    assert!(answer.starts_with("HTTP/1.1 503") && answer.contains("connection: close"), "{answer}");
    assert!(
        events.until("0\r\n\r\n").await.contains("retry: 500"),
        "the client is asked to resume"
    );
    assert!(poll.rest().await.contains("\"status\":\"queued\""), "the poll answers early");
    let preferred = preferring.rest().await;
    assert!(preferred.starts_with("HTTP/1.1 202") && preferred.contains("location: /v1/jobs/job_"));
    assert!(TcpStream::connect(server.address).await.is_err(), "new connections are refused");

    // The call continues to its end.
    for text in ["first", "second", "third"] {
        let lease = server.api.claim().await;
        server.api.answer(lease, text).await;
    }
    let rest = call.rest().await;
    assert!(rest.contains("[DONE]"), "{rest}");
    server.running.join_next().await.unwrap().unwrap();
}
