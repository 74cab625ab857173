//! An OpenAI-compatible server in the process of the test: it passes each call to the test, sends
//! the test's answers, and notices leaving callers.

use std::sync::{Arc, Mutex};

use axum::{
    Router,
    body::{Body, Bytes},
    extract::State,
    http::{HeaderMap, Method, StatusCode, Uri, header},
    response::{IntoResponse, Response},
};
use serde_json::{Value, json};
use tokio::{
    net::TcpListener,
    sync::{mpsc, oneshot},
    task::JoinSet,
    time::Instant,
};

use super::soon;

/// Most calls that wait for the test at once.
const WAITING: usize = 20_000;
/// Most pieces of a streamed answer that wait to be sent.
const PIECES: usize = 1_000;

/// A running upstream.
pub(crate) struct Upstream {
    port: u16,
    seen: Seen,
    calls: mpsc::Receiver<Call>,
    _server: JoinSet<()>,
}

/// The bodies of all requests, in the order of their arrival.
type Seen = Arc<Mutex<Vec<Value>>>;

/// The source of answers.
#[derive(Clone)]
enum Mode {
    /// The upstream itself, which answers at once.
    Echo,
    /// The test, which takes each call.
    Held(mpsc::Sender<Call>),
}

/// A call that waits for the test's answer. Dropping it breaks the connection.
#[derive(Debug)]
pub(crate) struct Call {
    pub(crate) path: String,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Value,
    /// The body in its original bytes.
    pub(crate) raw: Bytes,
    answer: oneshot::Sender<Response>,
    left: oneshot::Receiver<Instant>,
}

impl Upstream {
    /// Starts an upstream that answers each call at once with `You said: …`.
    pub(crate) async fn echo() -> Self {
        let (_, calls) = mpsc::channel(1);
        Self::start(Mode::Echo, calls).await
    }

    /// Starts an upstream that leaves the answers to the test.
    pub(crate) async fn held() -> Self {
        let (sender, calls) = mpsc::channel(WAITING);
        Self::start(Mode::Held(sender), calls).await
    }

    async fn start(mode: Mode, calls: mpsc::Receiver<Call>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let port = listener.local_addr().expect("an address").port();
        let seen = Seen::default();
        let router = Router::new().fallback(serve).with_state((mode, Arc::clone(&seen)));
        let mut server = JoinSet::new();
        server.spawn(async move {
            axum::serve(listener, router).await.expect("it serves until it is dropped");
        });
        Self { port, seen, calls, _server: server }
    }

    /// Returns the value of `--upstream`.
    pub(crate) fn url(&self) -> String {
        format!("http://127.0.0.1:{}/v1", self.port)
    }

    /// Returns the next call that waits for an answer.
    pub(crate) async fn call(&mut self) -> Call {
        soon("a call at the upstream", self.calls.recv()).await.expect("the upstream holds calls")
    }

    /// Returns the next `count` calls, all of which wait at the same time.
    pub(crate) async fn calls(&mut self, count: usize) -> Vec<Call> {
        let mut calls = Vec::with_capacity(count);
        while calls.len() < count {
            calls.push(self.call().await);
        }
        calls
    }

    /// Returns true if a call waits that the test has not taken.
    pub(crate) fn has_call(&self) -> bool {
        !self.calls.is_empty()
    }

    /// Returns the bodies of all requests so far.
    pub(crate) fn seen(&self) -> Vec<Value> {
        self.seen.lock().expect("no request panics").clone()
    }
}

impl Call {
    /// Returns the user's last message.
    pub(crate) fn prompt(&self) -> String {
        prompt(&self.body)
    }

    /// Returns true if the caller is still connected.
    pub(crate) fn is_waiting(&mut self) -> bool {
        self.left.try_recv().is_err()
    }

    /// Answers with this text.
    pub(crate) fn answer(self, text: &str) {
        self.respond(completion(text).into_response());
    }

    /// Answers with this JSON.
    pub(crate) fn answer_with(self, body: &Value) {
        self.respond(axum::Json(body).into_response());
    }

    /// Answers with an error.
    pub(crate) fn fail(self, status: u16, message: &str) {
        let status = StatusCode::from_u16(status).expect("a status");
        let body = json!({ "error": {
            "message": message, "type": "server_error", "param": null, "code": null
        }});
        self.respond((status, axum::Json(body)).into_response());
    }

    /// Answers with a redirect.
    pub(crate) fn redirect(self, location: &str) {
        let location = [(header::LOCATION, location.to_owned())];
        self.respond((StatusCode::TEMPORARY_REDIRECT, location).into_response());
    }

    /// Answers with a web page and a status of success, as the login page of a proxy does.
    pub(crate) fn page(self, title: &str) {
        let page = format!("<!DOCTYPE html><html><head><title>{title}</title></head></html>");
        self.respond(axum::response::Html(page).into_response());
    }

    /// Answers 429 with this `Retry-After`, in seconds.
    pub(crate) fn busy(self, seconds: u64) {
        let retry_after = [(header::RETRY_AFTER, seconds.to_string())];
        self.respond((StatusCode::TOO_MANY_REQUESTS, retry_after, "{}").into_response());
    }

    /// Starts a streamed answer.
    pub(crate) fn stream(self) -> Answering {
        let (pieces, receiver) = mpsc::channel::<Bytes>(PIECES);
        let pieces_of = futures_util::stream::unfold(receiver, |mut receiver| async {
            let piece = receiver.recv().await?;
            Some((Ok::<_, std::convert::Infallible>(piece), receiver))
        });
        let body = Body::from_stream(pieces_of);
        self.respond(([(header::CONTENT_TYPE, "text/event-stream")], body).into_response());
        Answering { pieces }
    }

    /// Waits until the caller has closed the connection; returns the time of that.
    pub(crate) async fn left(self) -> Instant {
        // The answer stays open during the wait: the caller ends the call.
        let Self { answer, left, .. } = self;
        let at = soon("the caller to close its connection", left).await;
        drop(answer);
        at.expect("the handler says when it ends")
    }

    fn respond(self, response: Response) {
        self.answer.send(response).expect("the caller still waits");
    }
}

/// A streamed answer on its way. Dropping it without [`finish`](Self::finish) cuts the stream.
pub(crate) struct Answering {
    pieces: mpsc::Sender<Bytes>,
}

impl Answering {
    /// Sends a piece of text.
    pub(crate) async fn say(&self, text: &str) {
        self.chunk(&json!({ "content": text }), Value::Null).await;
    }

    /// Ends the answer properly.
    pub(crate) async fn finish(self) {
        self.chunk(&json!({}), json!("stop")).await;
        self.send("data: [DONE]\n\n".to_owned()).await;
    }

    /// Waits until the caller has closed the connection.
    pub(crate) async fn left(self) {
        soon("the caller to close its connection", self.pieces.closed()).await;
    }

    async fn chunk(&self, delta: &Value, finish: Value) {
        let chunk = json!({
            "id": "chatcmpl-test", "object": "chat.completion.chunk", "created": 1, "model": "test",
            "choices": [{ "index": 0, "delta": delta, "finish_reason": finish }],
        });
        self.send(format!("data: {chunk}\n\n")).await;
    }

    async fn send(&self, text: String) {
        self.pieces.send(Bytes::from(text)).await.expect("the caller still listens");
    }
}

async fn serve(
    State((mode, seen)): State<(Mode, Seen)>,
    method: Method,
    uri: Uri,
    headers: HeaderMap,
    body: Bytes,
) -> Response {
    // Processes list the models after their start, which is no call.
    if method == Method::GET {
        return models(uri.path());
    }
    let raw = body;
    // Valid JSON can have numbers and escapes that a `Value` cannot hold.
    let body: Value = serde_json::from_slice(&raw).unwrap_or_default();
    seen.lock().expect("no request panics").push(body.clone());
    let calls = match mode {
        Mode::Echo => return completion(&format!("You said: {}", prompt(&body))).into_response(),
        Mode::Held(calls) => calls,
    };
    let (answer, answered) = oneshot::channel();
    let (leave, left) = oneshot::channel();
    let path = uri.path().to_owned();
    let call = Call { path, headers, body, raw, answer, left };
    // The server drops this future, and with it the guard, when the caller has left.
    let guard = LeaveGuard(Some(leave));
    calls.send(call).await.expect("the test lives");
    match answered.await {
        Ok(response) => {
            guard.disarm();
            response
        }
        // The test dropped the call: the connection breaks.
        Err(_) => Response::new(Body::from_stream(futures_util::stream::once(async {
            Err::<Bytes, _>(std::io::Error::other("cut by the test"))
        }))),
    }
}

fn models(path: &str) -> Response {
    if path != "/v1/models" {
        return StatusCode::NOT_FOUND.into_response();
    }
    axum::Json(json!({ "object": "list", "data": [{ "id": "test" }] })).into_response()
}

/// A guard that sends the time of its drop, unless it was disarmed.
struct LeaveGuard(Option<oneshot::Sender<Instant>>);

impl LeaveGuard {
    fn disarm(mut self) {
        self.0 = None;
    }
}

impl Drop for LeaveGuard {
    fn drop(&mut self) {
        // The receiver is gone if the test has dropped the call.
        let Some(leave) = self.0.take() else { return };
        leave.send(Instant::now()).ok();
    }
}

fn prompt(body: &Value) -> String {
    let messages = body["messages"].as_array().expect("a chat call has messages");
    let last = messages.last().expect("at least one");
    last["content"].as_str().expect("text").to_owned()
}

fn completion(text: &str) -> axum::Json<Value> {
    axum::Json(json!({
        "id": "chatcmpl-test", "object": "chat.completion", "created": 1, "model": "test",
        "choices": [{
            "index": 0,
            "message": { "role": "assistant", "content": text },
            "finish_reason": "stop",
        }],
        "usage": { "prompt_tokens": 3, "completion_tokens": 4, "total_tokens": 7 },
    }))
}
