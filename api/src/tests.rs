//! Tests of the HTTP API without a socket, over the embedded engine. The test itself is the worker.

mod bridge;
mod browsers;
mod causes;
mod conversations;
mod direct;
mod gateway;
mod generate;
mod happened;
mod jobs;
mod lanes;
mod memory;
mod models;
mod openapi;
mod passing;
mod refusals;
mod responses;
mod retries;
mod serve;
mod streams;
mod tenants;
mod webhooks;
mod workers;
mod ws;

use std::sync::Arc;

use axum::{
    Router,
    body::{Body, to_bytes},
    http::{HeaderMap, Request, StatusCode},
    response::Response,
};
use causeway_embedded::Embedded;
use causeway_queue::{
    Lease, Outcome, Policy, Queue, RawJson, TenantId,
    clock::{ManualClock, Millis},
    job::{Output, Response as Answered},
    lease::ClaimRequest,
    workers::{WorkerId, WorkerReport},
};
use futures_util::FutureExt as _;
use serde_json::Value;
use tower::ServiceExt as _;

use sha2::{Digest as _, Sha256};

use crate::{AppState, Settings, Tenant, Tenants, router};

/// An API without a socket.
struct Api {
    router: Router,
    state: AppState,
    queue: Queue,
    clock: Arc<ManualClock>,
}

/// An answer of the API.
#[derive(Debug)]
struct Answer {
    status: StatusCode,
    headers: HeaderMap,
    body: Value,
}

impl Api {
    fn new() -> Self {
        Self::with(Settings::default(), Tenants::open())
    }

    fn with(settings: Settings, tenants: Tenants) -> Self {
        let api = Self::without_worker(settings, tenants);
        api.start_worker();
        api
    }

    /// Registers a live worker, because the test plays one.
    fn start_worker(&self) -> WorkerId {
        let lanes = self.queue.lanes().iter().map(|lane| lane.name.clone()).collect();
        let name = "test".to_owned();
        let report = WorkerReport { name, lanes, concurrency: 8, ..WorkerReport::default() };
        let id = WorkerId::random();
        let registered = self.queue.registry().beat_worker(&id, &report).now_or_never();
        assert!(registered.expect("the embedded store answers at once").unwrap());
        id
    }

    fn without_worker(settings: Settings, tenants: Tenants) -> Self {
        let clock = Arc::new(ManualClock::new(Millis(1_000_000)));
        let store = Embedded::new(Policy::default(), clock.clone());
        let queue = Queue::new(Arc::new(store), Vec::new());
        let state = AppState::new(queue.clone(), settings, tenants, String::new, || true);
        Self { router: router(state.clone()), state, queue, clock }
    }

    /// Returns another API process over the same store.
    fn beside(&self) -> Self {
        let (settings, tenants) = (Settings::default(), Tenants::open());
        let state = AppState::new(self.queue.clone(), settings, tenants, String::new, || true);
        let (queue, clock) = (self.queue.clone(), self.clock.clone());
        Self { router: router(state.clone()), state, queue, clock }
    }

    async fn send(&self, request: Request<Body>) -> Response {
        self.router.clone().oneshot(request).await.unwrap()
    }

    async fn ask(&self, request: Request<Body>) -> Answer {
        let (parts, body) = self.send(request).await.into_parts();
        let bytes = to_bytes(body, usize::MAX).await.unwrap();
        let body = serde_json::from_slice(&bytes).unwrap_or(Value::Null);
        Answer { status: parts.status, headers: parts.headers, body }
    }

    async fn get(&self, path: &str) -> Answer {
        self.ask(Request::get(path).body(Body::empty()).unwrap()).await
    }

    /// Returns the complete body as text.
    async fn text(&self, path: &str) -> String {
        let answer = self.send(Request::get(path).body(Body::empty()).unwrap()).await;
        String::from_utf8(to_bytes(answer.into_body(), usize::MAX).await.unwrap().to_vec()).unwrap()
    }

    async fn post(&self, path: &str, body: &Value) -> Answer {
        self.ask(post(path, &body.to_string())).await
    }

    /// Starts the next job, like a worker.
    async fn claim(&self) -> Lease {
        let shard = self.queue.shards().remove(0);
        let claim = ClaimRequest { max: 1, lease: std::time::Duration::from_secs(15) };
        let step = self.queue.transitions().step(&shard, &mut Vec::new(), claim).await.unwrap();
        step.leases.into_iter().next().expect("a job that can be begun")
    }

    /// Ends a job with this text.
    async fn answer(&self, lease: Lease, text: &str) {
        let body = serde_json::json!({
            "choices": [{ "message": { "role": "assistant", "content": text } }],
        });
        let response = Answered { status_code: 200, body: RawJson::of(&body).unwrap() };
        let output = Output { response: Some(response), ..Output::default() };
        let turn = bridge::turn_of(&lease, text);
        self.settle(lease, Outcome::Succeeded { output, turn }).await;
    }

    /// Ends a job with this outcome.
    async fn settle(&self, lease: Lease, outcome: Outcome) {
        let claim = ClaimRequest { max: 0, lease: std::time::Duration::from_secs(15) };
        let shard = lease.key.job.shard().clone();
        let settlement = lease.settle(outcome, None);
        self.queue.transitions().step(&shard, &mut vec![settlement], claim).await.unwrap();
    }

    /// Returns the number of waiting and running jobs.
    async fn unfinished(&self) -> u64 {
        let shard = self.queue.shards().remove(0);
        let stats = self.queue.views().stats(&shard, None).await.unwrap();
        stats.queued + stats.running
    }
}

impl Answer {
    /// Returns the error message; checks status, code and envelope.
    #[track_caller]
    fn refused(&self, status: u16, code: &str) -> &str {
        assert_eq!(self.status.as_u16(), status, "{self:?}");
        assert!(self.headers.contains_key("x-request-id"), "{self:?}");
        let error = self.body["error"].as_object().unwrap_or_else(|| panic!("{self:?}"));
        let mut names: Vec<&str> = error.keys().map(String::as_str).collect();
        names.sort_unstable();
        assert_eq!(names, ["code", "message", "param", "type"], "{self:?}");
        assert_eq!(error["code"], code, "{self:?}");
        error["message"].as_str().unwrap()
    }

    #[track_caller]
    fn ok(&self, status: u16) -> &Value {
        assert_eq!(self.status.as_u16(), status, "{self:?}");
        &self.body
    }

    fn id(&self) -> String {
        self.body["id"].as_str().unwrap_or_else(|| panic!("{self:?}")).to_owned()
    }

    fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).map(|value| value.to_str().unwrap())
    }
}

/// Runs the background tasks of clients that left.
async fn settle() {
    for _ in 0..100 {
        tokio::task::yield_now().await;
    }
}

fn post(path: &str, body: &str) -> Request<Body> {
    let request = Request::post(path).header("content-type", "application/json");
    request.body(Body::from(body.to_owned())).unwrap()
}

/// Two tenants with the keys `key-of-ann` and `key-of-bob`.
fn ann_and_bob() -> Tenants {
    Tenants::new(vec![tenant("ann"), tenant("bob")])
}

fn tenant(name: &str) -> Tenant {
    Tenant {
        is_rated: false,
        webhooks: crate::Webhooks::default(),
        id: TenantId::new(name).unwrap(),
        key_sha256: vec![Sha256::digest(format!("key-of-{name}")).into()],
        admin: false,
    }
}

fn signed(mut request: Request<Body>, key: &str) -> Request<Body> {
    request.headers_mut().insert("authorization", format!("Bearer {key}").parse().unwrap());
    request
}
