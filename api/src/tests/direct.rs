//! Direct calls, with the test as the upstream.

use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

use axum::{
    body::Body,
    http::{HeaderValue, Request},
};
use bytes::Bytes;
use causeway_queue::{LaneName, RawJson};
use futures_util::{FutureExt as _, StreamExt as _, stream};
use serde_json::{Value, json};

use super::{Api, post};
use crate::{
    DirectAnswer, DirectFailure, DirectResult, DirectSource, Settings, Tenants, direct::MAX_CALLS,
};

const URL: &str = "/v1/moderations";

pub(super) type Calls = Arc<Mutex<Vec<(LaneName, crate::DirectCall)>>>;

/// Returns a source that answers with `answer` and records its calls.
pub(super) fn source(
    answer: impl Fn() -> DirectResult + Send + Sync + 'static,
    calls: &Calls,
) -> DirectSource {
    let seen = Arc::clone(calls);
    DirectSource::new(move |lane, call| {
        seen.lock().unwrap().push((lane.clone(), call));
        Some(std::future::ready(answer()).boxed())
    })
}

/// Returns an API with such a source.
fn api(answer: impl Fn() -> DirectResult + Send + Sync + 'static) -> (Api, Calls) {
    let calls = Calls::default();
    let source = source(answer, &calls);
    let settings = Settings { direct: Some(source), ..Settings::default() };
    (Api::with(settings, Tenants::open()), calls)
}

pub(super) fn good(pieces: &[&'static [u8]]) -> DirectAnswer {
    let pieces: Vec<_> = pieces.iter().map(|piece| Ok(Bytes::from_static(piece))).collect();
    let content_type = Some(HeaderValue::from_static("audio/mpeg"));
    DirectAnswer { status_code: 200, content_type, body: stream::iter(pieces).boxed() }
}

fn refused(status_code: u16, body: &Value) -> DirectResult {
    let body = RawJson::of(body).unwrap();
    Err(DirectFailure::Refused { status_code, retry_after: Some(Duration::from_secs(7)), body })
}

#[tokio::test]
async fn forms_and_answers_pass_unchanged() {
    let (api, calls) = api(|| Ok(good(&[b"\x00\xff", b"\x01"])));
    let form = "--b\r\ncontent-disposition: form-data; name=\"file\"\r\n\r\n\u{1}\r\n--b\r\n\
                content-disposition: form-data; name=\"model\"\r\n\r\nm\r\n--b--\r\n";
    let kind = "multipart/form-data; boundary=b";
    let request = Request::post("/v1/audio/transcriptions").header("content-type", kind);
    let response = api.send(request.body(Body::from(form)).unwrap()).await;
    assert_eq!(
        (response.status().as_u16(), &response.headers()["content-type"]),
        (200, &HeaderValue::from_static("audio/mpeg"))
    );
    let body = axum::body::to_bytes(response.into_body(), usize::MAX).await.unwrap();
    assert_eq!(&body[..], b"\x00\xff\x01");
    let calls = calls.lock().unwrap();
    let (lane, call) = &calls[0];
    assert_eq!((lane.as_str(), call.path.as_str()), ("default", "/v1/audio/transcriptions"));
    assert_eq!(
        (&call.content_type, &call.body[..]),
        (&HeaderValue::from_static(kind), form.as_bytes())
    );
}

#[tokio::test]
async fn readable_errors_pass_unchanged() {
    let error_json = json!({ "error": { "message": "m", "code": "c", "more": 1 } });
    let body = error_json.clone();
    let (api, _) = api(move || refused(422, &body));
    let answer = api.post(URL, &json!({ "input": "x" })).await;
    assert_eq!((answer.ok(422), answer.header("retry-after")), (&error_json, Some("7")));
}

#[tokio::test]
async fn a_missing_endpoint_is_not_found() {
    let (api, _) = api(|| refused(404, &json!({ "detail": "Not Found" })));
    let answer = api.post(URL, &json!({ "input": "x" })).await;
    assert!(answer.refused(404, "unsupported_by_upstream").contains("404: Not Found"));
    let answer = api.post("/v1/messages/count_tokens", &json!({})).await;
    assert_eq!(answer.ok(404)["type"], "error");
    assert_eq!(answer.body["error"]["type"], "not_found_error");
}

#[tokio::test]
async fn a_refused_upstream_key_is_a_502() {
    let (api, _) = api(|| refused(401, &json!({ "error": { "message": "bad key" } })));
    api.post(URL, &json!({ "input": "x" })).await.refused(502, "upstream_error");
}

#[tokio::test]
async fn without_an_upstream_the_setting_is_named() {
    let answer = Api::new().post(URL, &json!({ "input": "x" })).await;
    assert!(answer.refused(404, "unsupported_by_upstream").contains("--upstream"));
}

#[tokio::test]
async fn a_call_keeps_its_slot_throughout() {
    let (api, _) = api(|| Ok(good(&[b"x"])));
    let request = || post(URL, &json!({ "input": "x" }).to_string());
    let mut held = Vec::new();
    for _ in 0..MAX_CALLS {
        held.push(api.send(request()).await);
    }
    let answer = api.ask(request()).await;
    answer.refused(429, "too_many_direct_calls");
    assert_eq!(answer.header("retry-after"), Some("1"));
    held.clear();
    assert_eq!(api.send(request()).await.status(), 200);
}

#[tokio::test]
async fn an_incomplete_body_occupies_no_slot() {
    let (api, _) = api(|| Ok(good(&[b"x"])));
    let mut reading = Vec::new();
    for _ in 0..MAX_CALLS {
        let body = Body::from_stream(stream::pending::<Result<Bytes, std::io::Error>>());
        let request = Request::post(URL).header("content-type", "application/json");
        let mut call = Box::pin(api.send(request.body(body).unwrap()));
        assert!(futures_util::poll!(&mut call).is_pending());
        reading.push(call);
    }
    assert_eq!(api.send(post(URL, r#"{"input":"x"}"#)).await.status(), 200);
}

#[tokio::test]
async fn a_body_above_the_limit_is_refused() {
    let (api, calls) = api(|| Ok(good(&[b"x"])));
    let large = "x".repeat(Settings::default().max_body_bytes + 1);
    let request = Request::post("/v1/images/edits").header("content-type", "image/png");
    let answer = api.ask(request.body(Body::from(large)).unwrap()).await;
    answer.refused(413, "body_too_large");
    assert!(calls.lock().unwrap().is_empty());
}
