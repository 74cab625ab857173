use std::collections::HashMap;

use tokio::{
    io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader},
    net::TcpListener,
    task::JoinSet,
};

use super::*;

const LIST: &str = r#"{"object":"list","data":[{"id":"one","owned_by":"x"},{"id":"models/two"}]}"#;

/// The first byte of a TLS handshake.
const TLS_HANDSHAKE: u8 = 0x16;

/// Serves `answers`: a status line, a content type and a body for each path; 404 for other paths.
async fn server(answers: &[(&str, &str, &str, &str)]) -> (u16, JoinSet<()>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let answer = |(path, status, kind, body): &(&str, &str, &str, &str)| {
        let length = body.len();
        let head = format!("HTTP/1.1 {status}\r\ncontent-type: {kind}\r\nconnection: close\r\n");
        ((*path).to_owned(), format!("{head}content-length: {length}\r\n\r\n{body}"))
    };
    let answers: HashMap<String, String> = answers.iter().map(answer).collect();
    let mut tasks = JoinSet::new();
    tasks.spawn(async move {
        let absent = "HTTP/1.1 404 Not Found\r\nconnection: close\r\ncontent-length: 0\r\n\r\n";
        loop {
            let (stream, _) = listener.accept().await.unwrap();
            let mut stream = BufReader::new(stream);
            let mut lines = Vec::new();
            while !lines.ends_with(b"\r\n\r\n") && lines.first() != Some(&TLS_HANDSHAKE) {
                assert_ne!(stream.read_until(b'\n', &mut lines).await.unwrap(), 0);
            }
            let path = String::from_utf8_lossy(&lines).split(' ').nth(1).map(str::to_owned);
            let answer = path.and_then(|path| answers.get(&path)).map_or(absent, String::as_str);
            stream.write_all(answer.as_bytes()).await.unwrap();
        }
    });
    (port, tasks)
}

/// Returns the verdict on `http://127.0.0.1:PORT{base}`.
async fn verdict(answers: &[(&str, &str, &str, &str)], base: &str, models: &[&str]) -> String {
    let (port, _tasks) = server(answers).await;
    let models: Vec<String> = models.iter().map(|model| (*model).to_owned()).collect();
    let verdict =
        UpstreamClient::of(&format!("http://127.0.0.1:{port}{base}"), None).check(&models).await;
    verdict.to_string().replace(&port.to_string(), "PORT")
}

#[tokio::test]
async fn an_upstream_with_its_models_is_good() {
    let answers = [("/v1/models", "200 OK", "application/json", LIST)];
    assert_eq!(verdict(&answers, "/v1", &["one", "two"]).await, "good: it lists 2 models");
}

#[tokio::test]
async fn missing_models_are_named() {
    let answers = [("/v1/models", "200 OK", "application/json", LIST)];
    let result = verdict(&answers, "/v1", &["one", "three"]).await;
    assert_eq!(result, "wrong: it does not list three; it lists one, models/two");
}

#[tokio::test]
async fn a_base_without_v1_is_corrected() {
    for (status, body) in [("200 OK", LIST), ("401 Unauthorized", "{}")] {
        let answers = [("/v1/models", status, "application/json", body)];
        let result = verdict(&answers, "", &[]).await;
        assert_eq!(
            result,
            "wrong: there is no API at http://127.0.0.1:PORT, but at http://127.0.0.1:PORT/v1: set \
             `upstream` to that"
        );
    }
    let answers = [("/x/models", "200 OK", "application/json", LIST)];
    assert!(verdict(&answers, "/x/v1", &[]).await.contains("but at http://127.0.0.1:PORT/x:"));
}

#[tokio::test]
async fn a_web_page_is_no_api() {
    let page = ("/models", "200 OK", "text/html; charset=utf-8", "<html>");
    assert!(verdict(&[page], "", &[]).await.contains("web page, not as an API"));
    let list = ("/v1/models", "200 OK", "application/json", LIST);
    assert!(verdict(&[page, list], "", &[]).await.contains("but at http://127.0.0.1:PORT/v1"));
}

#[tokio::test]
async fn wrong_and_missing_keys_differ() {
    let body = r#"{"error":{"message":"Incorrect API key sk-12345"}}"#;
    let (port, _tasks) =
        server(&[("/v1/models", "401 Unauthorized", "application/json", body)]).await;
    let address = format!("http://127.0.0.1:{port}/v1");
    let result = UpstreamClient::of(&address, Some("sk-12345")).check(&[]).await.to_string();
    assert!(
        result.contains("401 Unauthorized (Incorrect API key ***): the key is not"),
        "{result}"
    );
    let result = UpstreamClient::of(&address, None).check(&[]).await.to_string();
    assert!(result.contains("it requires a key"), "{result}");
    let (port, _tasks) = server(&[("/v1/models", "403 Forbidden", "application/json", "{}")]).await;
    let result =
        UpstreamClient::of(&format!("http://127.0.0.1:{port}/v1"), Some("k")).check(&[]).await;
    assert!(
        result.to_string().contains("cannot tell: it answers GET /models with 403"),
        "{result}"
    );
}

#[tokio::test]
async fn a_missing_list_is_inconclusive() {
    assert!(verdict(&[], "/v1", &["one"]).await.starts_with("cannot tell: it answers GET /models"));
    let answers = [("/v1/models", "200 OK", "application/json", "{}")];
    assert!(verdict(&answers, "/v1", &["one"]).await.starts_with("cannot tell: "));
}

#[tokio::test]
async fn a_redirect_names_its_target_without_secrets() {
    let head = "301 Moved\r\nlocation: https://me:secret@h.example/v1/models?key=secret";
    let result = verdict(&[("/v1/models", head, "text/html", "")], "/v1", &[]).await;
    assert!(result.contains("301 Moved Permanently to https://h.example/v1/models,"), "{result}");
}

#[tokio::test]
async fn a_key_in_a_cut_message_is_masked() {
    let body =
        format!(r#"{{"error":{{"message":"{}sk-12345678"}}}}"#, "x".repeat(MAX_QUOTED_CHARS - 7));
    let (port, _tasks) =
        server(&[("/v1/models", "401 Unauthorized", "application/json", &body)]).await;
    let client = UpstreamClient::of(&format!("http://127.0.0.1:{port}/v1"), Some("sk-12345678"));
    let result = client.check(&[]).await.to_string();
    assert!(result.contains("xxx***") && !result.contains("sk-"), "{result}");
}

#[tokio::test]
async fn an_unreachable_upstream_is_wrong() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    drop(listener);
    let verdict = UpstreamClient::of(&format!("http://127.0.0.1:{port}/v1"), None).check(&[]).await;
    assert!(verdict.to_string().contains("wrong: it cannot be reached: "), "{verdict}");
    let (port, _tasks) = server(&[]).await;
    let verdict =
        UpstreamClient::of(&format!("https://127.0.0.1:{port}/v1"), None).check(&[]).await;
    assert!(verdict.to_string().contains("one side speaks TLS"), "{verdict}");
}

#[test]
fn all_forms_of_model_lists_are_parsed() {
    let ids = |text: &str| {
        let models = list::read(serde_json::from_str(text).unwrap())?;
        Some(models.into_iter().map(|model| model.id).collect::<Vec<_>>())
    };
    let one = Some(vec!["m".to_owned()]);
    assert_eq!(ids(r#"{"data":[{"id":"m"}]}"#), one);
    assert_eq!(ids(r#"[{"id":"m"}]"#), one);
    assert_eq!(ids(r#"{"models":[{"name":"m"}]}"#), one);
    for other in ["{}", "[1]", "3", r#"{"data":{}}"#, r#"{"data":[{}]}"#] {
        assert_eq!(ids(other), None, "{other}");
    }
}

#[test]
fn short_names_of_models_count() {
    assert!(list::is_named("llama3:latest", "llama3"));
    assert!(list::is_named("models/gemini", "gemini"));
    assert!(!list::is_named("my-gemini", "gemini") && !list::is_named("llama3:8b", "llama3"));
}
