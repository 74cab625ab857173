//! Jobs: submission, waiting, listing, cancellation and retries.

use std::time::Duration;

use causeway_queue::{
    TenantId,
    limits::{LaneLimits, TenantLimits},
};
use serde_json::{Value, json};

use super::{Answer, Api, post};

const JOB: &str = r#"{"body":{"messages":[]}}"#;

async fn with_header(api: &Api, body: &str, name: &'static str, value: &str) -> Answer {
    let mut request = post("/v1/jobs", body);
    request.headers_mut().insert(name, value.parse().unwrap());
    api.ask(request).await
}

#[tokio::test]
async fn a_submission_returns_the_job_at_once() {
    let api = Api::new();
    let body = json!({
        "body": { "model": "m", "messages": [] }, "class": "batch", "session": "s",
        "metadata": { "order": "7" },
    });
    let answer = api.post("/v1/jobs", &body).await;
    let job = answer.ok(202);
    let id = answer.id();
    assert_eq!(answer.header("location"), Some(format!("/v1/jobs/{id}").as_str()));
    assert_eq!((&job["status"], &job["class"]), (&json!("queued"), &json!("batch")));
    assert_eq!((&job["session"], &job["model"]), (&json!("s"), &json!("m")));
    assert_eq!((&job["position"], &job["waiting_for"]), (&json!(0), &json!("turn")));
    assert_eq!(job["metadata"], json!({ "order": "7" }));
    assert_eq!(api.get(&format!("/v1/jobs/{id}")).await.ok(200), job);
}

#[tokio::test]
async fn a_result_equals_the_upstreams_bytes() {
    let api = Api::new();
    let id = api.ask(post("/v1/jobs", r#"{"body":{"n": 1e400, "b" : 1}}"#)).await.id();
    let lease = api.claim().await;
    assert_eq!(lease.body, r#"{"n": 1e400, "b" : 1}"#);
    api.answer(lease, "hello").await;
    let answer = api.get(&format!("/v1/jobs/{id}/result")).await;
    assert_eq!(answer.ok(200)["choices"][0]["message"]["content"], "hello");
    assert_eq!(answer.header("x-upstream-status"), Some("200"));
}

#[tokio::test(start_paused = true)]
async fn prefer_wait_returns_the_end() {
    let api = Api::new();
    let work = async {
        tokio::task::yield_now().await;
        let lease = api.claim().await;
        api.answer(lease, "done").await;
    };
    let (answer, ()) = tokio::join!(with_header(&api, JOB, "prefer", "wait=30"), work);
    let job = answer.ok(200);
    assert_eq!(job["status"], "succeeded");
    assert_eq!(job["response"]["body"]["choices"][0]["message"]["content"], "done");
    assert_eq!(answer.header("preference-applied"), Some("wait=30"));
}

#[tokio::test(start_paused = true)]
async fn every_answer_about_a_job_names_it() {
    let api = Api::new();
    let waited = with_header(&api, JOB, "prefer", "wait=1").await;
    let id = waited.id();
    let path = format!("/v1/jobs/{id}");
    let mut answers = vec![waited, api.get(&path).await, api.get(&format!("{path}/result")).await];
    answers.push(api.post(&format!("{path}/cancel"), &json!({})).await);
    answers.push(api.get(&format!("{path}/events")).await);
    let gone = api.get(&format!("{path}/result")).await;
    gone.refused(410, "no_result");
    answers.push(gone);
    for answer in answers {
        assert_eq!(answer.header("x-causeway-job-id"), Some(&*id), "{answer:?}");
    }
    let said = api.post("/bridge/chat", &json!({ "user_id": "ann", "message": "hi" })).await;
    assert_eq!(said.header("x-causeway-job-id"), said.ok(202)["job_id"].as_str());
}

#[tokio::test(start_paused = true)]
async fn an_expired_wait_returns_the_job() {
    let api = Api::new();
    let began = tokio::time::Instant::now();
    let answer = with_header(&api, JOB, "prefer", "wait=7").await;
    assert_eq!(answer.ok(202)["status"], "queued");
    assert_eq!(began.elapsed(), Duration::from_secs(7));
    let path = format!("/v1/jobs/{}?wait=3", answer.id());
    assert_eq!(api.get(&path).await.ok(200)["status"], "queued");
    assert_eq!(began.elapsed(), Duration::from_secs(10));
}

#[tokio::test]
async fn one_key_is_one_job() {
    let api = Api::new();
    let first = with_header(&api, JOB, "idempotency-key", "k").await;
    let again = with_header(&api, JOB, "idempotency-key", "k").await;
    assert_eq!(first.ok(202)["id"], again.ok(202)["id"]);
    assert_eq!(again.header("idempotent-replayed"), Some("true"));
    assert_eq!(first.header("idempotent-replayed"), None);
    let other = with_header(&api, r#"{"body":{"other":1}}"#, "idempotency-key", "k").await;
    other.refused(422, "idempotency_key_reused");
    assert_eq!(api.unfinished().await, 1);
}

#[tokio::test]
async fn a_batch_keeps_its_order() {
    let api = Api::new();
    let jobs: Vec<Value> = (0..5).map(|n| json!({ "body": { "model": n.to_string() } })).collect();
    let answer = api.post("/v1/jobs", &json!({ "jobs": jobs })).await;
    let list = answer.ok(202);
    assert_eq!(list["object"], "list");
    let models: Vec<&str> =
        list["data"].as_array().unwrap().iter().map(|job| job["model"].as_str().unwrap()).collect();
    assert_eq!(models, ["0", "1", "2", "3", "4"]);
}

#[tokio::test]
async fn a_full_queue_sends_retry_after() {
    let api = Api::new();
    bound(&api, Some(2), 1000).await;
    api.ask(post("/v1/jobs", JOB)).await.ok(202);
    let answer = api.post("/v1/jobs", &many(2)).await;
    let message = answer.refused(429, "queue_full");
    assert!(message.contains("2 jobs waiting in a lane: 1 wait, "), "{message}");
    assert!(message.contains("adds 2"), "{message}");
    let seconds: u64 = answer.header("retry-after").unwrap().parse().unwrap();
    assert!((1..=120).contains(&seconds), "{seconds}");
    assert_eq!(api.unfinished().await, 1, "a part was accepted");
}

#[tokio::test]
async fn an_oversized_batch_is_not_retried() {
    for (of_tenant, of_lane, whose) in [(Some(2), 1000, "you may"), (None, 2, "the lane has")] {
        let api = Api::new();
        bound(&api, of_tenant, of_lane).await;
        let keyed = async |count| {
            let many = many(count).to_string();
            with_header(&api, &many, "idempotency-key", &format!("k{count}")).await
        };
        for answer in [api.post("/v1/jobs", &many(3)).await, keyed(3).await] {
            let message = answer.refused(400, "too_many_jobs");
            assert!(message.starts_with(whose) && message.contains(" 2 "), "{message}");
            assert!(message.contains("adds 3"), "{message}");
            assert_eq!(answer.header("retry-after"), None);
        }
        assert_eq!(api.unfinished().await, 0, "a part was accepted");
        keyed(2).await.ok(202);
        // A replayed submission needs no room.
        assert_eq!(keyed(2).await.header("idempotent-replayed"), Some("true"));
        api.post("/v1/jobs", &many(1)).await.refused(429, "queue_full");
    }
}

/// Returns the body of a batch of `count` jobs.
fn many(count: usize) -> Value {
    json!({ "jobs": vec![json!({ "body": {} }); count] })
}

/// Limits the waiting jobs of the tenant and of the lane.
async fn bound(api: &Api, of_tenant: Option<u64>, of_lane: u64) {
    let shard = api.queue.shards().remove(0);
    let limits = TenantLimits { max_queued: of_tenant, ..TenantLimits::default() };
    let lane = LaneLimits { max_queued: of_lane, ..LaneLimits::default() };
    let tenants = [(TenantId::default_tenant(), limits)];
    api.queue.administration().set_limits(&shard, &lane, &tenants).await.unwrap();
}

#[tokio::test]
async fn a_cancelled_job_can_be_retried() {
    let api = Api::new();
    let id = api.ask(post("/v1/jobs", JOB)).await.id();
    let act = async |what: &str| api.ask(post(&format!("/v1/jobs/{id}/{what}"), "")).await;
    act("retry").await.refused(400, "job_not_retryable");
    for _ in 0..2 {
        assert_eq!(act("cancel").await.ok(200)["status"], "cancelled");
    }
    api.get(&format!("/v1/jobs/{id}/result")).await.refused(410, "no_result");
    assert_eq!(act("retry").await.ok(202)["status"], "queued");
    assert_eq!(api.get(&format!("/v1/jobs/{id}/result")).await.ok(202)["status"], "queued");
    let lease = api.claim().await;
    assert_eq!(act("cancel").await.ok(200)["cancelling"], true);
    api.answer(lease, "too fast").await;
    assert_eq!(api.get(&format!("/v1/jobs/{id}")).await.ok(200)["status"], "succeeded");
}

#[tokio::test]
async fn a_list_is_filtered_and_paged() {
    let api = Api::new();
    let mut ids = Vec::new();
    for n in 0..5 {
        api.clock.advance(Duration::from_millis(1));
        let class = if n % 2 == 0 { "batch" } else { "interactive" };
        ids.push(api.post("/v1/jobs", &json!({ "body": {}, "class": class })).await.id());
    }
    ids.reverse();
    let mut seen = Vec::new();
    let mut path = "/v1/jobs?limit=2".to_owned();
    loop {
        let page = api.get(&path).await.ok(200).clone();
        let jobs = page["data"].as_array().unwrap();
        seen.extend(jobs.iter().map(|job| job["id"].as_str().unwrap().to_owned()));
        assert_eq!(page["first_id"], jobs[0]["id"]);
        if page["has_more"] == false {
            break;
        }
        path = format!("/v1/jobs?limit=2&after={}", page["last_id"].as_str().unwrap());
    }
    assert_eq!(seen, ids);
    let batch = api.get("/v1/jobs?class=batch").await;
    assert_eq!(batch.ok(200)["data"].as_array().unwrap().len(), 3);
    let done = api.get("/v1/jobs?status=succeeded").await;
    assert_eq!(done.ok(200)["data"], json!([]));
}

#[tokio::test]
async fn a_retried_session_keeps_its_order() {
    let api = Api::new();
    let mut ids = Vec::new();
    for _ in 0..3 {
        ids.push(api.post("/v1/jobs", &json!({ "body": {}, "session": "s" })).await.id());
    }
    for id in &ids {
        api.ask(post(&format!("/v1/jobs/{id}/cancel"), "")).await.ok(200);
    }
    let back = api.ask(post("/v1/jobs/retry?status=cancelled&session=s", "")).await;
    let page = back.ok(202);
    assert_eq!((&page["first_id"], &page["last_id"]), (&json!(ids[2]), &json!(ids[0])));
    for id in ids {
        let lease = api.claim().await;
        assert_eq!(lease.key.job.to_string(), id);
        api.answer(lease, "done").await;
    }
}

#[tokio::test]
async fn a_partial_retry_can_be_continued() {
    let api = Api::new();
    let mut ids = Vec::new();
    for _ in 0..2 {
        ids.push(api.post("/v1/jobs", &json!({ "body": {} })).await.id());
        api.ask(post(&format!("/v1/jobs/{}/cancel", ids[ids.len() - 1]), "")).await.ok(200);
    }
    bound(&api, Some(1), 1000).await;
    let retry = async || api.ask(post("/v1/jobs/retry?status=cancelled", "")).await;
    let back = retry().await;
    let page = back.ok(202);
    assert_eq!((&page["last_id"], &page["has_more"]), (&json!(ids[0]), &json!(true)));
    retry().await.refused(429, "queue_full");
    let lease = api.claim().await;
    assert_eq!(lease.key.job.to_string(), ids[0]);
    assert_eq!(retry().await.ok(202)["first_id"], ids[1]);
}
