//! Access to a Redis: by TLS, and as a user with limited rights.

use crate::support::{
    certificates::Certificates,
    process::Causeway,
    redis::{RedisCluster, RedisServer, free_port},
};

const FAST: (&str, &str) = ("CAUSEWAY_SIMULATED_CALL", "1ms");

/// Returns the arguments of an `up` over the Redis at `url`.
fn up(url: &str) -> [&str; 6] {
    ["up", "--bind", "127.0.0.1:0", "--simulate", "--redis", url]
}

async fn assert_serves(url: &str, settings: &[(&str, &str)]) {
    let causeway = Causeway::start(&up(url), settings).await;
    causeway.client().await.chat("ann", "hello").await.ok();
}

/// Returns the output of a process that does not start.
async fn refusal(url: &str, settings: &[(&str, &str)]) -> String {
    let mut causeway = Causeway::launch(&up(url), settings);
    assert_eq!(causeway.ended().await.code(), Some(1), "{}", causeway.text());
    causeway.text()
}

fn server_with(certificates: &Certificates, name: &str) -> (RedisServer, String) {
    let port = free_port();
    let options = certificates.options(name, port);
    let options: Vec<&str> = options.iter().map(String::as_str).collect();
    (RedisServer::start_with(&options), format!("rediss://127.0.0.1:{port}"))
}

#[tokio::test]
async fn a_trusted_certificate_opens_a_tls_store() {
    let certificates = Certificates::of("127.0.0.1");
    for (name, trusted) in [("server", "ca.pem"), ("own", "own.pem")] {
        let (_server, url) = server_with(&certificates, name);
        assert_serves(&url, &[("SSL_CERT_FILE", &certificates.path(trusted)), FAST]).await;
    }
}

#[tokio::test]
async fn a_refused_certificate_is_named() {
    let certificates = Certificates::of("127.0.0.1");
    let elsewhere = Certificates::of("db.example");
    let (server, url) = server_with(&certificates, "server");
    let stranger = [("SSL_CERT_FILE", elsewhere.path("ca.pem"))];
    let stranger = stranger.each_ref().map(|(name, value)| (*name, value.as_str()));
    let said = refusal(&url, &stranger).await;
    assert!(said.contains("certificate") && said.contains("SSL_CERT_FILE"), "{said}");
    let plain = format!("rediss://127.0.0.1:{}", server.port());
    let said = refusal(&plain, &stranger).await;
    assert!(said.contains("redis:// is without TLS"), "{said}");
    for name in ["server", "own"] {
        let (_other, url) = server_with(&elsewhere, name);
        let trusted = elsewhere.path(if name == "own" { "own.pem" } else { "ca.pem" });
        let said = refusal(&url, &[("SSL_CERT_FILE", &trusted)]).await;
        assert!(said.contains("not valid for name") && said.contains("db.example"), "{said}");
    }
}

#[tokio::test]
async fn a_cluster_is_reached_by_tls() {
    let certificates = Certificates::of("127.0.0.1");
    let cluster = RedisCluster::start_tls(&certificates);
    assert_serves(&cluster.url(), &[("SSL_CERT_FILE", &certificates.path("ca.pem")), FAST]).await;
}

#[tokio::test]
async fn a_user_with_minimal_rights_suffices() {
    let server = RedisServer::start();
    let rights = ["~cw:*", "&cw:*", "+@all", "-@admin", "-@dangerous"];
    let user = [["ACL", "SETUSER", "app", "on", ">p@ss:w/rd#1"].as_slice(), &rights].concat();
    server.ask::<()>(&user).await;
    let url = format!("redis://app:p%40ss%3Aw%2Frd%231@127.0.0.1:{}/7", server.port());
    assert_serves(&url, &[FAST]).await;
}

#[tokio::test]
async fn a_missing_right_is_named() {
    let server = RedisServer::start();
    for (user, rights, part) in [
        ("mute", vec!["~*", "+@all"], "&cw:*"),
        ("deaf", vec!["~*", "&cw:{*}:news", "+@all"], "&cw:*"),
        ("plain", vec!["~*", "&*", "+@all", "-function"], "function|load"),
        ("keyless", vec!["~other:*", "&*", "+@all"], "~cw:*"),
    ] {
        let user_set = [["ACL", "SETUSER", user, "on", ">x"].as_slice(), &rights].concat();
        server.ask::<()>(&user_set).await;
        let said = refusal(&format!("redis://{user}:x@127.0.0.1:{}", server.port()), &[]).await;
        assert!(said.contains(part) && said.contains("lacks a right"), "{user}: {said}");
    }
}

#[tokio::test]
async fn a_store_without_persistence_is_reported() {
    for (appends, warns) in [("no", true), ("yes", false)] {
        let server = RedisServer::start_with(&["--appendonly", appends]);
        let causeway = Causeway::start(&up(&server.url()), &[]).await;
        let said = causeway.text();
        assert_eq!(said.contains("no append-only file"), warns, "{said}");
    }
}

#[tokio::test]
async fn an_evicting_store_is_reported() {
    for (rights, policy, warns) in [
        ("+@all", "allkeys-lru", true),
        ("+@all -info", "volatile-ttl", true),
        ("+@all", "noeviction", false),
    ] {
        let server = RedisServer::start();
        server.ask::<()>(&["CONFIG", "SET", "maxmemory-policy", policy]).await;
        let user: Vec<&str> = ["ACL", "SETUSER", "app", "on", ">x", "~*", "&*"]
            .into_iter()
            .chain(rights.split(' '))
            .collect();
        server.ask::<()>(&user).await;
        let url = format!("redis://app:x@127.0.0.1:{}", server.port());
        let causeway = Causeway::start(&up(&url), &[]).await;
        let said = causeway.text();
        assert_eq!(said.contains("evicts keys") && said.contains(policy), warns, "{said}");
    }
}
