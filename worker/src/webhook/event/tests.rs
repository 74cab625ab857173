use causeway_queue::{
    Class, JobId, LaneName, RawJson, Shard, Spec, TenantId, job::Response, webhook::Webhook,
};

use super::*;

const AT: Millis = Millis(1_764_095_190_123);

fn job(state: State, metadata: BTreeMap<String, String>) -> Job {
    let shard = Shard { lane: LaneName::default_lane(), index: 0 };
    let webhook = Webhook { url: "https://example.com/".to_owned(), subject: Subject::Job };
    Job {
        id: JobId::new(shard),
        tenant: TenantId::default_tenant(),
        class: Class::Standard,
        session: None,
        spec: Spec { metadata, webhook: Some(webhook), ..Spec::default() },
        attempts: 1,
        max_attempts: 5,
        stalls: 0,
        created_at: AT,
        started_at: None,
        deadline: None,
        keeps_events: false,
        state,
        errors: Vec::new(),
    }
}

fn ended(status: Status, body: &str) -> State {
    let usage = Some(Usage { prompt_tokens: 3, completion_tokens: 4 });
    let body = RawJson::parse(body.to_owned()).unwrap();
    let response = Some(Response { status_code: 200, body });
    State::Ended { status, at: AT, output: Some(Output { response, usage, ..Output::default() }) }
}

fn event(job: &Job, status: Status, subject: &Subject) -> (WebhookEvent, Value) {
    let end = End { job: job.id.clone(), status, at: AT, life: 7 };
    let event = WebhookEvent::of(&end, job, subject).unwrap();
    let body = serde_json::from_slice(&event.body).unwrap();
    (event, body)
}

#[test]
fn a_job_event_describes_the_job() {
    let metadata = BTreeMap::from([("a".to_owned(), "b".to_owned())]);
    let job = job(ended(Status::Succeeded, "{}"), metadata);
    let (event, body) = event(&job, Status::Succeeded, &Subject::Job);
    assert_eq!(event.kind, "job.succeeded");
    assert_eq!(event.id, format!("evt_{}_7", job.id.key()));
    let wanted = json!({
        "id": event.id, "object": "event", "created_at": 1_764_095_190,
        "timestamp": "2025-11-25T18:26:30.123Z", "type": "job.succeeded",
        "data": {
            "id": job.id, "object": "job", "status": "succeeded", "metadata": { "a": "b" },
            "usage": { "prompt_tokens": 3, "completion_tokens": 4, "total_tokens": 7 },
        },
    });
    assert_eq!(body, wanted);
}

#[test]
fn a_retried_job_keeps_its_event() {
    let job = job(State::Running { cancelling: false }, BTreeMap::new());
    let (_, body) = event(&job, Status::Failed, &Subject::Job);
    assert_eq!(body["type"], "job.failed");
    assert_eq!(body["data"]["usage"], Value::Null);
}

#[test]
fn a_response_event_has_response_statuses() {
    let subject = Subject::Response("resp_1".to_owned());
    for (status, stored, wanted) in [
        (Status::Succeeded, r#"{"status":"completed"}"#, "completed"),
        (Status::Succeeded, r#"{"status":"incomplete"}"#, "incomplete"),
        (Status::Succeeded, r#"{"status":"failed"}"#, "failed"),
        (Status::Succeeded, r#"{"choices":[]}"#, "completed"),
        (Status::Failed, "null", "failed"),
        (Status::Expired, "null", "failed"),
        (Status::Cancelled, "null", "cancelled"),
    ] {
        let job = job(ended(status, stored), BTreeMap::new());
        let (event, body) = event(&job, status, &subject);
        assert_eq!(event.kind, format!("response.{wanted}"));
        assert_eq!(
            (&body["data"]["id"], &body["data"]["status"]),
            (&json!("resp_1"), &json!(wanted))
        );
        assert_eq!(body["data"]["usage"]["input_tokens"], 3);
    }
}

#[test]
fn a_large_event_drops_its_metadata() {
    let metadata = (0..16).map(|n| (n.to_string(), "\u{1F310}".repeat(512))).collect();
    let job = job(ended(Status::Succeeded, "{}"), metadata);
    let (event, body) = event(&job, Status::Succeeded, &Subject::Job);
    assert!(event.body.len() < MAX_BYTES);
    assert_eq!(body["data"]["metadata"], json!({}));
}
