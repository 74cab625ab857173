//! Webhooks: their checks, and the listing of deliveries.

use causeway_queue::{
    NewJob, Spec,
    address::Allowed,
    job::{AttemptError, Output},
    webhook::Subject,
};
use serde_json::json;

use super::*;
use crate::{WebhookSettings, Webhooks};

const URL: &str = "https://example.com/hook";

fn signing(allow: &[&str]) -> Settings {
    let allowed = Allowed::new(allow.iter().copied()).unwrap();
    Settings { webhooks: WebhookSettings { allowed, signs: true }, ..Settings::default() }
}

fn with_webhook(url: &str) -> Value {
    json!({ "body": { "model": "m" }, "webhook": { "url": url } })
}

#[tokio::test]
async fn a_job_names_its_receiver() {
    let api = Api::with(signing(&[]), Tenants::open());
    let job = api.post("/v1/jobs", &with_webhook(URL)).await;
    assert_eq!(job.ok(202)["webhook"], json!({ "url": URL }));
    assert_eq!(api.claim().await.spec.webhook.unwrap().url, URL);
    let job = api.post("/v1/jobs", &json!({ "body": {} })).await;
    assert_eq!(job.ok(202)["webhook"], Value::Null);
}

#[tokio::test]
async fn forbidden_receivers_are_refused() {
    let api = Api::with(signing(&["10.1.0.0/16"]), Tenants::open());
    for (url, part) in [
        ("example.com/hook", "https://host/path"),
        ("ftp://example.com/", "http or https"),
        ("mailto:a@example.com", "http or https"),
        ("https://user:word@example.com/", "without a user name or password"),
        ("http://127.0.0.1:9/", "127.0.0.1 is not a public address; webhooks.allow"),
        ("http://0x7f000001/", "127.0.0.1 is not a public address"),
        ("http://[::1]/", "not a public address"),
        ("http://169.254.169.254/latest", "not a public address"),
        ("http://localhost/", "not a public address"),
        (&format!("https://example.com/{}", "x".repeat(3000)), "2048 bytes"),
    ] {
        let answer = api.post("/v1/jobs", &with_webhook(url)).await;
        let message = answer.refused(400, "invalid_value");
        assert!(message.contains(part), "{url}: {message}");
        assert_eq!(answer.body["error"]["param"], "webhook.url");
    }
    api.post("/v1/jobs", &with_webhook("http://10.1.2.3/")).await.ok(202);
    let many = json!({ "jobs": [with_webhook(URL), with_webhook("http://10.2.0.1/")] });
    let answer = api.post("/v1/jobs", &many).await;
    answer.refused(400, "invalid_value");
    assert_eq!(answer.body["error"]["param"], "jobs[1].webhook.url");
    let answer =
        api.post("/v1/jobs", &json!({ "body": {}, "webhook": { "url": URL, "x": 1 } })).await;
    answer.refused(400, "unknown_parameter");
}

#[tokio::test]
async fn without_a_secret_there_are_no_webhooks() {
    let answer = Api::new().post("/v1/jobs", &with_webhook(URL)).await;
    let message = answer.refused(400, "no_webhook_secret");
    assert!(message.contains("causeway webhook secret"), "{message}");
    assert_eq!(answer.body["error"]["param"], "webhook");
}

#[tokio::test]
async fn a_tenant_has_receiver_and_secrets() {
    let ann = Tenant {
        id: TenantId::new("ann").unwrap(),
        key_sha256: vec![Sha256::digest("key-of-ann").into()],
        admin: false,
        is_rated: false,
        webhooks: Webhooks { url: Some(URL.into()), signs: true },
    };
    let bob = Tenant {
        id: TenantId::new("bob").unwrap(),
        key_sha256: vec![Sha256::digest("key-of-bob").into()],
        webhooks: Webhooks::default(),
        ..ann.clone()
    };
    let api = Api::with(Settings::default(), Tenants::new(vec![ann, bob]));
    let submit =
        async |body: &Value, key| api.ask(signed(post("/v1/jobs", &body.to_string()), key)).await;
    let plain = json!({ "body": {} });
    let other = with_webhook("https://example.org/");
    assert_eq!(submit(&plain, "key-of-ann").await.ok(202)["webhook"]["url"], URL);
    assert_eq!(
        submit(&other, "key-of-ann").await.ok(202)["webhook"]["url"],
        "https://example.org/"
    );
    assert_eq!(submit(&plain, "key-of-bob").await.ok(202)["webhook"], Value::Null);
    submit(&other, "key-of-bob").await.refused(400, "no_webhook_secret");
}

#[tokio::test]
async fn a_background_response_is_the_subject() {
    let ann = Tenant {
        id: TenantId::new("ann").unwrap(),
        key_sha256: vec![Sha256::digest("key-of-ann").into()],
        admin: false,
        is_rated: false,
        webhooks: Webhooks { url: Some(URL.into()), signs: true },
    };
    let api = Api::with(Settings::default(), Tenants::new(vec![ann]));
    let body = json!({ "model": "m", "input": "hi", "background": true });
    let request = signed(post("/v1/responses", &body.to_string()), "key-of-ann");
    let id = api.ask(request).await.ok(200)["id"].as_str().unwrap().to_owned();
    let webhook = api.claim().await.spec.webhook.unwrap();
    assert_eq!((webhook.url.as_str(), webhook.subject), (URL, Subject::Response(id)));
}

/// Submits a delivery like the outbox relay, and starts it.
async fn delivery(api: &Api, job: &str) -> Lease {
    let spec = Spec {
        url: URL.to_owned(),
        headers: [("webhook-id".to_owned(), format!("evt_{job}").into())].into(),
        metadata: [("job", job), ("type", "job.succeeded")]
            .map(|(name, value)| (name.to_owned(), value.to_owned()))
            .into(),
        ..Spec::default()
    };
    let job = api.queue.draft_delivery(TenantId::default_tenant(), spec, Vec::new().into());
    let job = NewJob { max_attempts: 2, ..job };
    let shard = job.id.shard().clone();
    api.queue.submit(vec![job]).await.unwrap();
    let claim = ClaimRequest { max: 1, lease: std::time::Duration::from_secs(15) };
    let step = api.queue.transitions().step(&shard, &mut Vec::new(), claim).await.unwrap();
    step.leases.into_iter().next().expect("the delivery")
}

fn error(attempt: u32) -> AttemptError {
    AttemptError {
        attempt,
        code: "receiver_refused".to_owned(),
        message: "the receiver answered 500".to_owned(),
        status_code: Some(500),
    }
}

#[tokio::test]
async fn deliveries_are_listed_apart_from_jobs() {
    let api = Api::new();
    let one = delivery(&api, "job_1").await;
    let id = one.key.job.to_string();
    let delay = std::time::Duration::from_secs(5);
    api.settle(one, Outcome::Retry { delay, error: error(1) }).await;
    let two = delivery(&api, "job_2").await;
    let output = Output {
        response: Some(Answered { status_code: 204, body: RawJson::default() }),
        ..Output::default()
    };
    api.settle(two, Outcome::Succeeded { output, turn: None }).await;

    let listed = api.get("/v1/webhooks/deliveries").await;
    let data = listed.ok(200)["data"].as_array().unwrap().clone();
    assert_eq!(data.len(), 2);
    assert_eq!(
        (&data[0]["status"], &data[0]["response_status"]),
        (&json!("succeeded"), &json!(204))
    );
    let waits = &data[1];
    assert_eq!(waits["id"], id);
    assert_eq!(waits["object"], "webhook.delivery");
    assert_eq!((&waits["event"], &waits["job"]), (&json!("evt_job_1"), &json!("job_1")));
    assert_eq!((&waits["type"], &waits["url"]), (&json!("job.succeeded"), &json!(URL)));
    assert_eq!((&waits["status"], &waits["attempts"]), (&json!("scheduled"), &json!(1)));
    assert_eq!(waits["next_attempt_at"], "1970-01-01T00:16:45.000Z");
    assert_eq!(waits["errors"][0]["message"], "the receiver answered 500");
    assert_eq!(api.get("/v1/jobs").await.ok(200)["data"], json!([]));

    let only = |answer: Answer| {
        let data = answer.ok(200)["data"].as_array().unwrap().clone();
        data.iter().map(|one| one["job"].as_str().unwrap().to_owned()).collect::<Vec<_>>()
    };
    let list = async |query: &str| only(api.get(&format!("/v1/webhooks/deliveries?{query}")).await);
    assert_eq!(list("job=job_1").await, ["job_1"]);
    assert_eq!(list("job=job_3").await, [""; 0]);
    assert_eq!(list("status=succeeded").await, ["job_2"]);
    assert_eq!(list("limit=1").await, ["job_2"]);
    let after = data[0]["id"].as_str().unwrap();
    assert_eq!(list(&format!("after={after}")).await, ["job_1"]);
    api.get("/v1/webhooks/deliveries?status=lost").await.refused(400, "invalid_value");
}

#[tokio::test]
async fn a_failed_delivery_can_be_retried() {
    let api = Api::new();
    let lease = delivery(&api, "job_1").await;
    let id = lease.key.job.to_string();
    let output = Output { error: Some(error(1)), ..Output::default() };
    api.settle(lease, Outcome::Failed { output }).await;
    let listed = api.get("/v1/webhooks/deliveries?status=failed").await;
    assert_eq!(listed.body["data"][0]["errors"][0]["attempt"], 1);
    let path = format!("/v1/webhooks/deliveries/{id}/retry");
    let again = api.post(&path, &json!({})).await;
    assert_eq!((&again.ok(202)["status"], &again.body["attempts"]), (&json!("queued"), &json!(0)));
    api.post(&path, &json!({})).await.refused(400, "job_not_retryable");
    let job = api.post("/v1/jobs", &json!({ "body": {} })).await.id();
    for id in [job.as_str(), "evt_1"] {
        let path = format!("/v1/webhooks/deliveries/{id}/retry");
        api.post(&path, &json!({})).await.refused(404, "delivery_not_found");
    }
}
