//! Connections to upstreams: proxies, TLS, keepalive, and the check of an upstream.

use std::{io::Write as _, sync::Arc};

use rcgen::{BasicConstraints, CertificateParams, IsCa, KeyPair};
use serde_json::Value;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
    task::JoinSet,
};
use tokio_rustls::{
    TlsAcceptor,
    rustls::{ServerConfig, pki_types::PrivateKeyDer},
};

use crate::support::{
    process::Causeway,
    redis::{RedisServer, free_port},
    soon,
    upstream::Upstream,
};

const LIST: &str = r#"{"object":"list","data":[{"id":"m"}]}"#;

/// Runs `causeway upstream check`; returns its output and its exit code.
async fn checked(upstream: &str, settings: &[(&str, &str)]) -> (String, Option<i32>) {
    let arguments = ["upstream", "check", "--upstream", upstream];
    let mut causeway = Causeway::launch(&arguments, settings);
    let status = causeway.ended().await;
    (causeway.text(), status.code())
}

#[tokio::test]
async fn a_check_suggests_a_correction() {
    let upstream = Upstream::echo().await;
    let (text, code) = checked(&upstream.url(), &[]).await;
    assert!(text.contains("good: it lists 1 model") && code == Some(0), "{text}");
    let (text, code) = checked(upstream.url().trim_end_matches("/v1"), &[]).await;
    assert!(text.contains(&format!("but at {}: set", upstream.url())), "{text}");
    assert_eq!(code, Some(1));
    let nowhere = format!("http://user:secret@127.0.0.1:{}/v1?key=secret", free_port());
    let (text, code) = checked(&nowhere, &[]).await;
    assert!(text.contains("cannot be reached") && code == Some(1), "{text}");
    assert!(!text.contains("secret"), "{text}");
}

#[tokio::test]
async fn a_worker_warns_of_a_wrong_upstream() {
    let upstream = Upstream::echo().await;
    let up = Causeway::up(upstream.url().trim_end_matches("/v1"), &[]).await;
    let line = up.says("will not answer jobs").await;
    assert!(line.contains("WARN") && line.contains(&upstream.url()), "{line}");
    assert!(upstream.seen().is_empty(), "a check is no call");
}

#[tokio::test]
async fn a_404_warns_of_a_wrong_upstream() {
    let mut upstream = Upstream::held().await;
    let up = Causeway::up(upstream.url().trim_end_matches("/v1"), &[]).await;
    let client = up.client().await;
    client.submit("x").await;
    upstream.call().await.fail(404, "no such route");
    up.says("will not answer jobs").await;
}

#[tokio::test]
async fn the_environments_proxy_is_used() {
    let mut upstream = Upstream::held().await;
    let proxy = upstream.url().replace("http://", "http://user:secret@").replace("/v1", "");
    let up = Causeway::up("http://model.invalid/v1", &[("HTTP_PROXY", &proxy)]).await;
    let shown = upstream.url().replace("/v1", "");
    let line = up.says("  upstream ").await;
    assert!(line.contains(&format!("through the proxy {shown} (HTTP_PROXY)")), "{line}");
    up.says("is called through a proxy").await;
    let client = up.client().await;
    let (answer, ()) = tokio::join!(client.chat("ann", "hello"), async {
        let call = upstream.call().await;
        assert!(call.headers.contains_key("proxy-authorization"));
        assert_eq!(call.headers["host"], "model.invalid");
        call.answer("through");
    });
    assert_eq!(answer.ok()["response"], "through");
    assert!(!up.text().contains("secret"), "{}", up.text());
}

/// Returns the time until the first probe of the silent connection to `port`, in hundredths of a
/// second, from the system's table of connections (see `proc_pid_net(5)`).
async fn probed_in(port: u16) -> u32 {
    loop {
        let table = std::fs::read_to_string("/proc/net/tcp").unwrap();
        let rows = table.lines().map(|line| line.split_whitespace().collect::<Vec<_>>());
        let mut timers = rows.filter_map(|row| {
            let is_it = row.get(2)?.ends_with(&format!(":{port:04X}")) && row[3] == ESTABLISHED;
            row[5].strip_prefix(KEEPALIVE).filter(|_| is_it).map(str::to_owned)
        });
        if let Some(timer) = timers.next_back() {
            return u32::from_str_radix(&timer, 16).unwrap();
        }
        // While data is unacknowledged, the timer is that of its retransmission.
        tokio::task::yield_now().await;
    }
}

const ESTABLISHED: &str = "01";
const KEEPALIVE: &str = "02:";

#[tokio::test]
async fn silent_connections_are_probed() {
    let mut upstream = Upstream::held().await;
    let up = Causeway::up(&upstream.url(), &[]).await;
    up.client().await.submit("x").await;
    let _silent = upstream.call().await;
    let port = |url: &str| url.trim_end_matches("/v1").rsplit(':').next().unwrap().parse().unwrap();
    let within = 1600..=3000;
    let timer = soon("a probe of the call", probed_in(port(&upstream.url()))).await;
    assert!(within.contains(&timer), "{timer}: 15 s are the library's, 30 s ours");
    let api: u16 = port(&up.url().await);
    let caller = TcpStream::connect(("127.0.0.1", api)).await.unwrap();
    let timer = probed_in(caller.local_addr().unwrap().port());
    let timer = soon("a probe of the caller", timer).await;
    assert!(within.contains(&timer), "{timer}");
}

/// Starts a TLS server with a self-signed certificate like those of `openssl req -x509`; returns
/// its URL and the certificate's file.
async fn self_signed() -> (String, tempfile::NamedTempFile, JoinSet<()>) {
    let mut params = CertificateParams::new(vec!["localhost".to_owned()]).unwrap();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let key = KeyPair::generate().unwrap();
    let certificate = params.self_signed(&key).unwrap();
    let mut file = tempfile::NamedTempFile::new().unwrap();
    file.write_all(certificate.pem().as_bytes()).unwrap();
    let provider = Arc::new(tokio_rustls::rustls::crypto::ring::default_provider());
    let key = PrivateKeyDer::try_from(key.serialize_der()).unwrap();
    let config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![certificate.der().clone()], key)
        .unwrap();
    let acceptor = TlsAcceptor::from(Arc::new(config));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let mut server = JoinSet::new();
    server.spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            // A client that does not trust the certificate ends the handshake.
            let Ok(mut stream) = acceptor.accept(stream).await else { continue };
            let mut head = Vec::new();
            while !head.ends_with(b"\r\n\r\n") && stream.read_buf(&mut head).await.unwrap() > 0 {}
            let length = LIST.len();
            let answer = format!("HTTP/1.1 200 OK\r\ncontent-length: {length}\r\n\r\n{LIST}");
            stream.write_all(answer.as_bytes()).await.unwrap();
            stream.shutdown().await.ok();
        }
    });
    (format!("https://localhost:{port}/v1"), file, server)
}

#[tokio::test]
async fn a_configured_certificate_is_trusted() {
    let (url, file, _server) = self_signed().await;
    let path = file.path().to_str().unwrap();
    let (text, code) = checked(&url, &[]).await;
    assert!(text.contains("UnknownIssuer") && text.contains("`ca_file`"), "{text}");
    assert_eq!(code, Some(1));
    for variable in ["SSL_CERT_FILE", "CAUSEWAY_CA_FILE"] {
        let (text, code) = checked(&url, &[(variable, path)]).await;
        assert!(text.contains("good: it lists 1 model") && code == Some(0), "{variable}: {text}");
    }
}

#[tokio::test]
async fn models_are_those_of_the_upstream() {
    let upstream = Upstream::echo().await;
    let up = Causeway::up(&upstream.url(), &[]).await;
    let client = up.client().await;
    let models: Value = client.get("/v1/models").await.ok();
    assert_eq!(models["data"][0]["id"], "test", "{models:#}");
    assert_eq!(client.get("/v1/models/test").await.ok()["owned_by"], "default");
}

#[tokio::test]
async fn an_api_denies_unknown_models_only() {
    let (redis, upstream) = (RedisServer::start(), Upstream::echo().await);
    let store = redis.url();
    let url = upstream.url();
    let arguments = ["api", "--bind", "127.0.0.1:0", "--redis", &store, "--upstream", &url];
    let knowing = Causeway::start(&arguments, &[]).await;
    let client = knowing.client().await;
    let models = client.get("/v1/models").await.ok();
    assert_eq!(models["data"][0]["id"], "test", "{models:#}");
    client.get("/v1/models/gpt-x").await.error(404);
    let unknowing = Causeway::api(&store, &[]).await;
    let client = unknowing.client().await;
    assert_eq!(client.get("/v1/models/gpt-x").await.ok()["id"], "gpt-x");
}

#[tokio::test]
async fn an_unusable_file_is_named() {
    let settings = [("CAUSEWAY_CA_FILE", "/no/such/ca.pem")];
    let arguments = ["up", "--bind", "127.0.0.1:0", "--upstream", "http://h/v1"];
    let mut causeway = Causeway::launch(&arguments, &settings);
    assert_eq!(causeway.ended().await.code(), Some(1));
    let text = causeway.text();
    assert!(
        text.contains("cannot use the upstream http://h/v1: cannot read /no/such/ca.pem"),
        "{text}"
    );
}
