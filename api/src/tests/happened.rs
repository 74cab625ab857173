//! Listing of jobs, their requests and their errors.

use std::time::Duration;

use axum::{body::Body, http::Request};
use causeway_queue::{
    Fault, Outcome,
    backend::MAX_LOOKED_AT,
    job::{AttemptError, Output},
};
use serde_json::{Value, json};

use super::{Api, signed, tenant};
use crate::{Settings, Tenant, Tenants};

/// Returns a failure that is charged to the job or to its lane.
fn failed(fault: Fault) -> Outcome {
    let (code, message) = ("upstream_error".to_owned(), "500 from http://h: words".to_owned());
    let error = AttemptError { attempt: 1, code, message, status_code: Some(500) };
    let output = Output { error: Some(error.clone()), ..Output::default() };
    Outcome::Faulted { fault, delay: Duration::ZERO, unit: 0.0, output, error }
}

async fn ids(api: &Api, path: &str) -> Vec<String> {
    let page = api.get(path).await.ok(200).clone();
    let jobs = page["data"].as_array().unwrap();
    jobs.iter().map(|job| job["id"].as_str().unwrap().to_owned()).collect()
}

#[tokio::test]
async fn lists_filter_by_model_code_and_time() {
    let api = Api::new();
    let job = |model: &str| json!({ "body": { "model": model }, "max_attempts": 1 });
    let first = api.post("/v1/jobs", &job("m")).await.id();
    let lease = api.claim().await;
    api.settle(lease, failed(Fault::Unclear)).await;
    api.clock.advance(Duration::from_secs(3600));
    let second = api.post("/v1/jobs", &job("a&b")).await.id();
    for (filter, found) in [
        ("model=m", vec![&first]),
        ("model=a%26b", vec![&second]),
        ("error_code=upstream_error", vec![&first]),
        ("since=1970-01-01T01:00:00Z", vec![&second]),
        ("since=1970-01-01T00:00:00Z", vec![&second, &first]),
    ] {
        let listed = ids(&api, &format!("/v1/jobs?{filter}")).await;
        assert_eq!(listed.iter().collect::<Vec<_>>(), found, "{filter}");
    }
    api.get("/v1/jobs?since=yesterday").await.refused(400, "invalid_value");
}

#[tokio::test]
async fn an_empty_page_has_a_cursor() {
    let api = Api::new();
    let job = json!({ "body": {} });
    let jobs: Vec<&Value> = (0..=MAX_LOOKED_AT).map(|_| &job).collect();
    api.post("/v1/jobs", &json!({ "jobs": jobs })).await.ok(202);
    let page = api.get("/v1/jobs?status=failed").await.ok(200).clone();
    assert_eq!((&page["data"], &page["has_more"]), (&json!([]), &json!(true)));
    let next = format!("/v1/jobs?status=failed&after={}", page["last_id"].as_str().unwrap());
    let page = api.get(&next).await.ok(200).clone();
    let end = (&page["data"], &page["has_more"], &page["last_id"]);
    assert_eq!(end, (&json!([]), &json!(false), &Value::Null));
}

#[tokio::test]
async fn an_administrator_acts_for_all_tenants() {
    let root = Tenant { admin: true, ..tenant("root") };
    let tenants = Tenants::new(vec![tenant("ann"), tenant("bob"), root]);
    let api = Api::with(Settings::default(), tenants);
    let ask = async |name: &str, method: &str, path: &str| {
        let body = if method == "POST" { r#"{"body":{}}"# } else { "" };
        let request = Request::builder().method(method).uri(path);
        let request = request.header("content-type", "application/json");
        let request = request.body(Body::from(body)).unwrap();
        api.ask(signed(request, &format!("key-of-{name}"))).await
    };
    let id = ask("ann", "POST", "/v1/jobs").await.id();
    let path = format!("/v1/jobs/{id}");
    ask("bob", "GET", &path).await.refused(404, "job_not_found");
    assert_eq!(ask("root", "GET", &path).await.ok(200)["tenant"], "ann");
    let list = ask("root", "GET", "/v1/jobs?tenant=ann").await;
    assert_eq!(list.ok(200)["data"][0]["id"], *id);
    assert_eq!(ask("root", "GET", "/v1/jobs").await.ok(200)["data"], json!([]));
    ask("bob", "GET", "/v1/jobs?tenant=ann").await.refused(403, "not_an_admin");
    assert_eq!(ask("ann", "GET", "/v1/jobs?tenant=ann").await.ok(200)["data"][0]["id"], *id);
    let cancelled = ask("root", "POST", &format!("{path}/cancel")).await;
    assert_eq!(cancelled.ok(200)["status"], "cancelled");
    let retried = ask("root", "POST", "/v1/jobs/retry?status=cancelled&tenant=ann").await;
    assert_eq!(retried.ok(202)["first_id"], *id);
    ask("root", "GET", &format!("{path}/result")).await.ok(202);
}

#[tokio::test]
async fn a_request_is_shown_until_success() {
    let api = Api::new();
    let body = json!({ "model": "m", "input": "a \"b\"" });
    let job =
        json!({ "url": "/v1/messages", "body": body, "headers": { "anthropic-version": "1" } });
    let id = api.post("/v1/jobs", &job).await.id();
    let path = format!("/v1/jobs/{id}?include=request");
    let shown = api.get(&path).await.ok(200)["request"].clone();
    assert_eq!((&shown["url"], &shown["body"]), (&json!("/v1/messages"), &body));
    assert_eq!(shown["headers"], json!({ "anthropic-version": "1" }));
    assert!(api.get(&format!("/v1/jobs/{id}")).await.ok(200).get("request").is_none());
    let lease = api.claim().await;
    api.answer(lease, "hi").await;
    assert_eq!(api.get(&path).await.ok(200)["request"]["body"], Value::Null);
    let refused = api.get(&format!("/v1/jobs/{id}?include=all")).await;
    assert!(refused.refused(400, "invalid_value").contains("request"));
}

#[tokio::test]
async fn a_failed_attempt_names_its_owner() {
    let api = Api::new();
    let id = api.post("/v1/jobs", &json!({ "body": {} })).await.id();
    for fault in [Fault::Upstream, Fault::Unclear] {
        let lease = api.claim().await;
        api.settle(lease, failed(fault)).await;
    }
    let job = api.get(&format!("/v1/jobs/{id}")).await.ok(200).clone();
    let attempt = |charged_to: &str| {
        json!({ "attempt": 1, "charged_to": charged_to, "code": "upstream_error",
            "failed_at": "1970-01-01T00:16:40.000Z", "message": "500 from http://h: words",
            "status_code": 500 })
    };
    assert_eq!(job["attempt_errors"], json!([attempt("lane"), attempt("job")]), "{job:#}");
}
