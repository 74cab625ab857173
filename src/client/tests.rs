use std::sync::{Arc, Mutex};

use axum::{
    Json, Router,
    extract::{Path, State},
    http::{HeaderMap, StatusCode},
    response::{IntoResponse as _, Response},
    routing::{get, post},
};
use serde_json::json;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpListener,
    task::JoinSet,
};

use super::*;
use crate::follow::{Screen, Show, follow};

/// The `Last-Event-ID` of each reader, in order.
type Readers = Arc<Mutex<Vec<Option<String>>>>;

/// A server with a first stream that ends in the middle of an event.
async fn events(State(readers): State<Readers>, headers: HeaderMap) -> Response {
    let last = headers.get("last-event-id").map(|id| id.to_str().unwrap().to_owned());
    let mut readers = readers.lock().unwrap();
    readers.push(last);
    if readers.len() == 1 {
        let text = "event: job.started\nid: 0\ndata: {\"attempt\":1}\n\n\
            event: output.delta\nid: 1\ndata: {\"text\":\"Hel\"}\n\nevent: output.delta\nid: 2\n";
        return text.into_response();
    }
    let text = "event: output.delta\nid: 2\ndata: {\"text\":\"lo\"}\n\n\
        event: job.succeeded\nid: 3\ndata: {}\n\n";
    text.into_response()
}

/// Serves one job, and refuses all other ids.
async fn job(Path(id): Path<String>, headers: HeaderMap) -> Response {
    if !headers.contains_key("authorization") {
        let error = json!({"error": {"message": "this server needs an API key", "code": "key"}});
        return (StatusCode::UNAUTHORIZED, Json(error)).into_response();
    }
    if id != "job_1" {
        let error = json!({"error": {"message": "there is no such job", "code": "job_not_found"}});
        return (StatusCode::NOT_FOUND, Json(error)).into_response();
    }
    Json(json!({"id": id, "status": "succeeded"})).into_response()
}

async fn submit(headers: HeaderMap, body: String) -> Response {
    let key = headers["idempotency-key"].to_str().unwrap().to_owned();
    let auth = headers["authorization"].to_str().unwrap().to_owned();
    (StatusCode::ACCEPTED, Json(json!({"key": key, "auth": auth, "body": body}))).into_response()
}

/// Starts a server that runs as long as the returned set; returns its client.
async fn start_server(readers: Readers) -> (Client, JoinSet<()>) {
    drop(rustls::crypto::ring::default_provider().install_default());
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let mut config = Config::default();
    config.client.url = format!("http://{}/behind/", listener.local_addr().unwrap());
    config.client_key = Some(HiddenText::new("sk-1"));
    let routes = Router::new()
        .route("/v1/jobs", post(submit))
        .route("/v1/jobs/{id}", get(job))
        .route("/v1/jobs/{id}/events", get(events))
        .with_state(readers);
    let mut server = JoinSet::new();
    server.spawn(async {
        axum::serve(listener, Router::new().nest("/behind", routes)).await.unwrap();
    });
    (Client::new(&config).unwrap(), server)
}

#[tokio::test]
async fn a_broken_stream_resumes() {
    let readers = Readers::default();
    let (client, _server) = start_server(Arc::clone(&readers)).await;
    let (mut out, mut err) = (Vec::new(), Vec::new());
    let mut screen = Screen::new(&mut out, &mut err, Show::Text);
    let job = follow(&client, "job_1", &mut screen).await.unwrap();
    assert_eq!(job["status"], "succeeded");
    assert_eq!(String::from_utf8(out).unwrap(), "Hello\n");
    assert_eq!(*readers.lock().unwrap(), [None, Some("1".to_owned())]);
}

#[tokio::test]
async fn a_submission_carries_its_keys() {
    let (client, _server) = start_server(Readers::default()).await;
    let answer = client.submit("{}".to_owned(), Some("k")).await.unwrap();
    assert_eq!(answer, json!({"key": "k", "auth": "Bearer sk-1", "body": "{}"}));
}

#[tokio::test]
async fn a_refusal_shows_the_servers_message() {
    let (client, _server) = start_server(Readers::default()).await;
    let error = client.job("job_2").await.unwrap_err().to_string();
    assert_eq!(error, "there is no such job (404 job_not_found)");
    let error = client.act("job_1", "cancel").await.unwrap_err().to_string();
    assert!(error.contains("404") && error.contains("is this Causeway?"), "{error}");
}

#[tokio::test]
async fn a_missing_key_names_its_flag() {
    let (mut client, _server) = start_server(Readers::default()).await;
    client.key = None;
    let error = client.job("job_1").await.unwrap_err().to_string();
    assert!(error.contains("needs an API key") && error.contains("--key-env NAME"), "{error}");
}

#[tokio::test]
async fn each_command_names_an_unreachable_server() {
    let (client, mut server) = start_server(Readers::default()).await;
    server.shutdown().await;
    let wanted = format!(
        "cannot reach Causeway at {}: the connection is refused; is `causeway up` running? --url names \
         another address",
        client.base
    );
    let mut screen = Screen::new(Vec::new(), Vec::new(), Show::Text);
    for error in [
        client.submit("{}".to_owned(), None).await.unwrap_err(),
        client.get(&["lanes"]).await.unwrap_err(),
        client.retry("job_1").await.unwrap_err(),
        follow(&client, "job_1", &mut screen).await.unwrap_err(),
    ] {
        assert_eq!(format!("{error:#}"), wanted);
    }
}

#[tokio::test]
async fn a_server_without_tls_is_named() {
    let (mut client, _server) = start_server(Readers::default()).await;
    client.base.set_scheme("https").unwrap();
    let said = client.job("job_1").await.unwrap_err().to_string();
    assert!(said.contains("it does not speak TLS; try http://"), "{said}");
}

/// Returns the client's error for a server that answers the first request with `bytes` and closes
/// the connection.
async fn error_of(bytes: &'static [u8]) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let (mut client, _server) = start_server(Readers::default()).await;
    client.base = Url::parse(&format!("http://{}", listener.local_addr().unwrap())).unwrap();
    let serve = async {
        let (mut stream, _) = listener.accept().await.unwrap();
        assert!(stream.read(&mut [0; 4096]).await.unwrap() > 0);
        stream.write_all(bytes).await.unwrap();
    };
    let (error, ()) = tokio::join!(client.job("job_1"), serve);
    format!("{:#}", error.unwrap_err())
}

#[tokio::test]
async fn an_invalid_answer_is_explained() {
    for (bytes, part) in [
        (&b""[..], "the connection broke off; is"),
        (b"-ERR unknown command\r\n", "it does not speak HTTP; is"),
        (b"HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\n{", "the connection broke off; is"),
        (b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nhi", "answered without JSON: is this"),
        (b"HTTP/1.1 502 Bad\r\ncontent-length: 2\r\n\r\nhi", "answered 502: is this Causeway?"),
    ] {
        let said = error_of(bytes).await;
        assert!(said.contains(part), "{said}");
    }
}
