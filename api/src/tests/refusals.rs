//! Refused requests: status, a helpful message, and no submitted job.

use std::convert::Infallible;

use axum::{body::Body, http::Request};
use futures_util::{StreamExt as _, stream};
use serde_json::json;

use super::{Api, ann_and_bob, post, signed};
use crate::Settings;

const JOB: &str = "/v1/jobs";
const CHAT: &str = "/bridge/chat";
const GATEWAY: &str = "/v1/chat/completions";

/// Checks that a message is short and contains no terms of serde.
#[track_caller]
fn assert_plain(message: &str) {
    assert!(message.len() < 500, "{message}");
    for word in
        ["invalid type", "missing field", "unknown field", "at line 1 column", "u64", "struct "]
    {
        assert!(!message.contains(word), "{message}");
    }
}

#[tokio::test]
async fn wrong_bodies_are_refused() {
    let api = Api::new();
    let job = |more: &str| format!(r#"{{"body":{{"messages":[]}}{more}}}"#);
    let long = format!(r#"{{"user_id":"u","message":"{}"}}"#, "x".repeat(40_000));
    for (path, body, status, code, part) in [
        (JOB, String::new(), 400, "invalid_json", "empty"),
        (
            JOB,
            r#"{"body":{"#.to_owned(),
            400,
            "invalid_json",
            "ends too early, at line 1, column 9",
        ),
        (JOB, "[]".to_owned(), 400, "invalid_value", "object"),
        (JOB, r#""text""#.to_owned(), 400, "invalid_value", "object"),
        (JOB, "text".to_owned(), 400, "invalid_json", "not JSON"),
        (JOB, r#" [{"messages":[]}]"#.to_owned(), 400, "invalid_value", "is an array"),
        (JOB, r#"{"jobs":[[{"messages":[]}]]}"#.to_owned(), 400, "invalid_value", "jobs[0]"),
        (JOB, r#"{"jobs":[[{"messages":[]}]]}"#.to_owned(), 400, "invalid_value", "is an array"),
        (JOB, "{}".to_owned(), 400, "missing_field", "body"),
        (JOB, r#"{"body":[]}"#.to_owned(), 400, "invalid_value", "JSON object"),
        (
            JOB,
            r#"{"body":{"stream":"yes"}}"#.to_owned(),
            400,
            "invalid_value",
            "boolean; it is \"yes\"",
        ),
        (JOB, job(r#","klass":"batch""#), 400, "unknown_parameter", "klass"),
        (JOB, job(r#","class":"urgent""#), 400, "invalid_value", "interactive"),
        (JOB, job(r#","url":"/v1/images""#), 400, "invalid_value", "/v1/chat/completions"),
        (JOB, job(r#","session":"""#), 400, "invalid_value", "session"),
        (JOB, job(r#","delay_ms":-4"#), 400, "invalid_value", "whole number"),
        (JOB, job(r#","delay_ms":1e30"#), 400, "invalid_value", "whole number"),
        (JOB, job(r#","delay_ms":99999999999"#), 400, "invalid_value", "2592000000"),
        (JOB, job(r#","deadline_ms":0"#), 400, "invalid_value", "1 to"),
        (JOB, job(r#","delay_ms":1.5"#), 400, "invalid_value", "whole number"),
        (
            JOB,
            job(r#","deadline_ms":5000,"delay_ms":5000"#),
            400,
            "invalid_value",
            "more than delay_ms",
        ),
        (JOB, job(r#","max_attempts":0"#), 400, "invalid_value", "1 to 100"),
        (JOB, job(r#","max_attempts":1000000000"#), 400, "invalid_value", "1 to 100"),
        (JOB, job(r#","metadata":{"a":1}"#), 400, "invalid_value", "string"),
        (JOB, r#"{"jobs":[]}"#.to_owned(), 400, "invalid_value", "1 to 10000"),
        (JOB, format!(r#"{{"jobs":[{},{{"body":3}}]}}"#, job("")), 400, "invalid_value", "jobs[1]"),
        (CHAT, r#"["u","m"]"#.to_owned(), 400, "invalid_value", "is an array"),
        (GATEWAY, r#"["m"]"#.to_owned(), 400, "invalid_value", "is an array"),
        (CHAT, "{}".to_owned(), 400, "missing_field", "user_id"),
        (CHAT, r#"{"user_id":"u"}"#.to_owned(), 400, "missing_field", "message"),
        (CHAT, r#"{"user_id":"u","message":"  "}"#.to_owned(), 400, "invalid_value", "empty"),
        (
            CHAT,
            r#"{"user_id":7,"message":"m"}"#.to_owned(),
            400,
            "invalid_value",
            "a string; it is 7",
        ),
        (CHAT, r#"{"user_id":"","message":"m"}"#.to_owned(), 400, "invalid_value", "user_id"),
        (CHAT, long, 400, "invalid_value", "32000"),
    ] {
        let answer = api.ask(post(path, &body)).await;
        let message = answer.refused(status, code);
        assert!(message.contains(part), "{body}: {message}");
        assert_plain(message);
        assert_eq!(api.unfinished().await, 0, "{body} was accepted all the same");
    }
}

#[tokio::test]
async fn a_wrong_field_is_named() {
    let api = Api::new();
    for (field, wrong, part) in [
        ("deadline_ms", "-1", "from 1 to 2592000000; it is -1"),
        ("deadline_ms", "1.5", "from 1 to 2592000000; it is 1.5"),
        ("delay_ms", r#""soon""#, r#"from 0 to 2592000000; it is "soon""#),
        ("max_attempts", "-1", "from 1 to 100; it is -1"),
        ("class", r#""urgent""#, "interactive, standard, batch"),
        ("class", "5", "interactive, standard, batch"),
        ("session", "5", "expected a string"),
        ("url", "[]", "expected a string"),
        ("metadata", "5", "expected an object"),
        ("metadata.order", "5", "expected a string"),
        ("webhook.url", "5", "expected a string"),
        ("webhook.uri", "5", "there is no `uri`; known: `url`"),
        ("body.model", "5", "expected a string"),
    ] {
        let (outer, inner) = field.split_once('.').unwrap_or((field, ""));
        let value =
            if inner.is_empty() { wrong.to_owned() } else { format!(r#"{{"{inner}":{wrong}}}"#) };
        let body = if outer == "body" { "" } else { r#","body":{}"# };
        let job = format!(r#"{{"{outer}":{value}{body}}}"#);
        let many = format!(r#"{{"jobs":[{{"body":{{}}}},{job}]}}"#);
        for (sent, param) in [(job, field.to_owned()), (many, format!("jobs[1].{field}"))] {
            let answer = api.ask(post(JOB, &sent)).await;
            assert_eq!(answer.status.as_u16(), 400, "{sent}: {answer:?}");
            let error = &answer.body["error"];
            assert_eq!(error["param"], param, "{sent}: {answer:?}");
            let message = error["message"].as_str().unwrap();
            let name = if inner.is_empty() { outer } else { inner };
            assert!(message.contains(part) && message.contains(name), "{sent}: {message}");
            assert_plain(message);
        }
    }
    let answer = api.ask(post(JOB, r#"{"jobs":[{"body":{}},{"class":"batch"}]}"#)).await;
    answer.refused(400, "missing_field");
    assert_eq!(answer.body["error"]["param"], "jobs[1].body");
    assert_eq!(api.unfinished().await, 0);
}

#[tokio::test]
async fn an_unknown_route_names_similar_ones() {
    let api = Api::new();
    for (path, part) in [
        ("/v1/nonsense", "no route /v1/nonsense; GET /openapi.json"),
        ("/v1/chat/completion", "did you mean /v1/chat/completions? GET /openapi.json"),
        // Only the listed endpoints of audio and images exist.
        ("/v1/audio/nope", "no route /v1/audio/nope"),
    ] {
        let message = api.ask(post(path, "{}")).await.refused(404, "unknown_route").to_owned();
        assert!(message.contains(part) && message.len() < 200, "{path}: {message}");
    }

    let answer = api.ask(Request::delete("/v1/jobs").body(Body::empty()).unwrap()).await;
    let message = answer.refused(405, "method_not_allowed");
    assert!(message.contains("DELETE") && message.contains("POST"), "{message}");
    assert_eq!(answer.header("allow"), Some("GET, HEAD, POST"));

    for kind in [Some("text/plain"), None] {
        let mut request = post(JOB, r#"{"body":{}}"#);
        match kind {
            Some(kind) => request.headers_mut().insert("content-type", kind.parse().unwrap()),
            None => request.headers_mut().remove("content-type"),
        };
        let answer = api.ask(request).await;
        let message = answer.refused(415, "unsupported_media_type");
        assert!(message.contains("application/json"), "{message}");
    }
    assert_eq!(api.unfinished().await, 0);
}

#[tokio::test]
async fn a_too_long_body_learns_the_limit() {
    let settings = Settings { max_body_bytes: 1000, ..Settings::default() };
    let api = Api::with(settings, crate::Tenants::open());
    let body = json!({ "body": { "text": "x".repeat(2000) } });
    let answer = api.post(JOB, &body).await;
    let message = answer.refused(413, "body_too_large");
    assert!(message.contains("1000 bytes") && message.contains("api.max_body_bytes"), "{message}");
    assert_eq!(api.unfinished().await, 0);
}

#[tokio::test]
async fn refusals_of_axum_have_the_envelope() {
    let settings = Settings { max_body_bytes: 1000, ..Settings::default() };
    let api = Api::with(settings, crate::Tenants::open());
    for path in ["/v1/jobs/%FF", "/v1/jobs/%FF/events", "/bridge/sessions/%FF", "/docs/%FF"] {
        api.get(path).await.refused(404, "unknown_route");
    }
    let pause = "/v1/lanes/default/pause";
    api.post(pause, &json!({ "tenant": "x".repeat(2000) })).await.refused(413, "body_too_large");
    let mut request = post(pause, r#"{"tenant":"ann"}"#);
    request.headers_mut().remove("content-type");
    api.ask(request).await.refused(415, "unsupported_media_type");
    let bare = Request::post(pause).body(Body::empty()).unwrap();
    assert_eq!(api.ask(bare).await.ok(200)["paused"], true);
}

#[tokio::test]
async fn counts_may_be_written_as_whole_decimals() {
    let api = Api::new();
    let job = r#"{"body":{"max_tokens":7.0},"delay_ms":2e3,"max_attempts":3.0}"#;
    let answer = api.ask(post(JOB, job)).await;
    assert_eq!(
        (answer.ok(202)["max_attempts"].as_u64(), &answer.body["status"]),
        (Some(3), &json!("scheduled"))
    );
}

#[tokio::test]
async fn wrong_queries_and_headers_are_refused() {
    let api = Api::new();
    let id = api.post(JOB, &json!({ "body": {} })).await.id();
    for (path, code, part) in [
        (format!("/v1/jobs/{id}?wait=-1"), "invalid_value", "0 to 120"),
        (format!("/v1/jobs/{id}?wait=1e9"), "invalid_value", "0 to 120"),
        (format!("/v1/jobs/{id}?wait=soon"), "invalid_value", "seconds"),
        (format!("/v1/jobs/{id}?weight=1"), "invalid_query", "no `weight`; known: `wait`"),
        (format!("/v1/jobs/{id}/events?after=x"), "invalid_value", "number"),
        ("/v1/jobs?limit=0".to_owned(), "invalid_value", "1 to"),
        ("/v1/jobs?limit=100000".to_owned(), "invalid_value", "1 to"),
        ("/v1/jobs?status=done".to_owned(), "invalid_value", "succeeded"),
        ("/v1/jobs?class=fast".to_owned(), "invalid_value", "batch"),
        ("/v1/jobs?after=job_1".to_owned(), "invalid_value", "id of a job"),
    ] {
        let answer = api.get(&path).await;
        let message = answer.refused(400, code);
        assert!(message.contains(part), "{path}: {message}");
    }
    for (name, value, code) in [
        ("prefer", "wait=abc", "invalid_value"),
        ("idempotency-key", "", "invalid_idempotency_key"),
        ("idempotency-key", &"k".repeat(300), "invalid_idempotency_key"),
    ] {
        let mut request = post(JOB, r#"{"body":{}}"#);
        request.headers_mut().insert(name, value.parse().unwrap());
        api.ask(request).await.refused(400, code);
    }
    assert_eq!(api.unfinished().await, 1);
}

#[tokio::test]
async fn a_foreign_job_is_not_found() {
    let api = Api::with(Settings::default(), ann_and_bob());
    let id = api.ask(signed(post(JOB, r#"{"body":{}}"#), "key-of-ann")).await.id();
    let mut unknown = id.clone();
    unknown.replace_range(id.len() - 4.., "0000");
    for path in ["", "/events", "/result"] {
        let mut answers = Vec::new();
        for id in [&id, &unknown] {
            let request = Request::get(format!("/v1/jobs/{id}{path}")).body(Body::empty()).unwrap();
            let answer = api.ask(signed(request, "key-of-bob")).await;
            answers.push(answer.refused(404, "job_not_found").replace(id, "ID"));
        }
        assert_eq!(answers[0], answers[1]);
    }
    for action in ["cancel", "retry"] {
        let request = signed(post(&format!("/v1/jobs/{id}/{action}"), ""), "key-of-bob");
        api.ask(request).await.refused(404, "job_not_found");
    }
    api.get("/v1/jobs/job_default_0_none").await.refused(401, "invalid_api_key");
    assert_eq!(api.unfinished().await, 1, "bob cancelled ann's job");
}

#[tokio::test]
async fn an_invalid_key_is_refused() {
    let api = Api::with(Settings::default(), ann_and_bob());
    api.post(JOB, &json!({ "body": {} })).await.refused(401, "invalid_api_key");
    let request = signed(post(JOB, r#"{"body":{}}"#), "key-of-cem");
    let answer = api.ask(request).await;
    let message = answer.refused(401, "invalid_api_key");
    assert_eq!(message, "this API key is unknown");
    assert_eq!(api.unfinished().await, 0);
    api.get("/healthz").await.ok(200);
}

#[tokio::test]
async fn a_compressed_body_is_refused() {
    let api = Api::new();
    let mut request = post(JOB, r#"{"body":{}}"#);
    request.headers_mut().insert("content-encoding", "gzip".parse().unwrap());
    let answer = api.ask(request).await;
    answer.refused(415, "unsupported_content_encoding");
    assert_eq!(answer.header("accept-encoding"), Some("identity"));
}

#[tokio::test]
async fn an_unreadable_body_is_refused() {
    let api = Api::new();
    let nested = format!(r#"{{"body":{{"a":{}{}}}}}"#, "[".repeat(600), "]".repeat(600));
    let answer = api.ask(post(JOB, &nested)).await;
    assert!(answer.refused(400, "invalid_json").contains("512 levels"));
    let mut request = post(JOB, "");
    *request.body_mut() = Body::from(b"{\"body\":{\"a\":\"\xff\"}}".to_vec());
    assert!(api.ask(request).await.refused(400, "invalid_json").contains("byte 14"));
}

/// Returns a body without a declared length, in pieces.
fn in_pieces(piece: &'static str, count: usize) -> Request<Body> {
    let pieces = stream::iter(vec![Ok::<_, Infallible>(piece); count]);
    let request = Request::post(JOB).header("content-type", "application/json");
    request.body(Body::from_stream(pieces)).unwrap()
}

#[tokio::test]
async fn a_body_in_tiny_pieces_is_refused() {
    let api = Api::new();
    let answer = api.ask(in_pieces(" ", 70_000)).await;
    assert!(answer.refused(400, "unreadable_body").contains("send longer ones"));
}

#[tokio::test(start_paused = true)]
async fn bodies_beyond_the_budget_are_refused() {
    let settings =
        Settings { max_body_bytes: 200_000, max_body_memory: 300_000, ..Settings::default() };
    let api = Api::with(settings, crate::Tenants::open());
    let never =
        stream::iter(vec![Ok::<_, Infallible>(" ".repeat(100_000))]).chain(stream::pending());
    let request = Request::post(JOB).header("content-type", "application/json");
    let unfinished = api.ask(request.body(Body::from_stream(never)).unwrap());
    let mut unfinished = std::pin::pin!(unfinished);
    let held = futures_util::FutureExt::now_or_never(&mut unfinished);
    assert!(held.is_none(), "{held:?}");
    let large = json!({ "body": { "text": "x".repeat(190_000) } });
    let answer = api.post(JOB, &large).await;
    assert!(answer.refused(503, "server_is_overloaded").contains("api.max_body_memory"));
    assert_eq!(answer.header("retry-after"), Some("1"));
    api.post(JOB, &json!({ "body": {} })).await.ok(202);
    unfinished.await.refused(408, "body_too_slow");
    api.post(JOB, &large).await.ok(202);
}
