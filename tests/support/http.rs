//! A client of the API with assertions on its answers.

use std::time::Duration;

use reqwest::{Method, StatusCode, header::HeaderMap};
use serde_json::{Value, json};

use super::{PATIENCE, sse::Stream};

/// A client of one server.
#[derive(Debug, Clone)]
pub(crate) struct Client {
    base: String,
    http: reqwest::Client,
    key: Option<String>,
}

/// The answer of the server.
#[derive(Debug)]
pub(crate) struct Reply {
    pub(crate) status: StatusCode,
    pub(crate) headers: HeaderMap,
    /// The body; text that is no JSON becomes a string.
    pub(crate) body: Value,
    request: String,
}

impl Client {
    /// Returns a client of the server at `base`.
    pub(crate) fn new(base: &str) -> Self {
        // This fails only if a provider is installed already, which is as good.
        drop(rustls::crypto::ring::default_provider().install_default());
        let http = reqwest::Client::builder().no_proxy().timeout(4 * PATIENCE).build();
        Self {
            base: base.trim_end_matches('/').to_owned(),
            http: http.expect("a client"),
            key: None,
        }
    }

    /// Returns the same client with `key`.
    pub(crate) fn with_key(&self, key: &str) -> Self {
        Self { key: Some(key.to_owned()), ..self.clone() }
    }

    /// Returns the address of the server.
    pub(crate) fn base(&self) -> &str {
        &self.base
    }

    /// Returns a request that may be extended before [`ask`](Self::ask) sends it.
    pub(crate) fn request(&self, method: Method, path: &str) -> reqwest::RequestBuilder {
        let request = self.http.request(method, format!("{}{path}", self.base));
        match &self.key {
            Some(key) => request.bearer_auth(key),
            None => request,
        }
    }

    /// Sends a request, and panics if there is no answer.
    pub(crate) async fn ask(&self, request: reqwest::RequestBuilder) -> Reply {
        self.try_ask(request).await.unwrap_or_else(|error| panic!("no answer: {error:?}"))
    }

    /// Sends a request over a connection that may break.
    pub(crate) async fn try_ask(
        &self,
        request: reqwest::RequestBuilder,
    ) -> Result<Reply, reqwest::Error> {
        let request = request.build()?;
        let name = format!("{} {}", request.method(), request.url().path());
        let response = self.http.execute(request).await?;
        let (status, headers) = (response.status(), response.headers().clone());
        let text = response.text().await?;
        let body = serde_json::from_str(&text).unwrap_or(Value::String(text));
        Ok(Reply { status, headers, body, request: name })
    }

    /// `GET path`.
    pub(crate) async fn get(&self, path: &str) -> Reply {
        self.ask(self.request(Method::GET, path)).await
    }

    /// `POST path` with a JSON body.
    pub(crate) async fn post(&self, path: &str, body: &Value) -> Reply {
        self.ask(self.request(Method::POST, path).json(body)).await
    }

    /// Submits a chat call; returns the job's id.
    pub(crate) async fn submit(&self, prompt: &str) -> String {
        self.post("/v1/jobs", &json!({ "body": chat(prompt) })).await.id()
    }

    /// Submits a chat call with a streamed answer; returns the job's id.
    pub(crate) async fn submit_stream(&self, prompt: &str) -> String {
        let mut body = chat(prompt);
        body["stream"] = json!(true);
        self.post("/v1/jobs", &json!({ "body": body })).await.id()
    }

    /// Returns the job in its current state.
    pub(crate) async fn job(&self, id: &str) -> Value {
        self.get(&format!("/v1/jobs/{id}")).await.ok()
    }

    /// Waits until the job has ended; returns it.
    pub(crate) async fn end_of(&self, id: &str) -> Value {
        let wait = Duration::from_secs(2 * PATIENCE.as_secs()).as_secs();
        let job = self.get(&format!("/v1/jobs/{id}?wait={wait}")).await.ok();
        let status = job["status"].as_str().expect("a status");
        let ended = ["succeeded", "failed", "cancelled", "expired"];
        assert!(ended.contains(&status), "after {wait} s the job is {status}: {job:#}");
        job
    }

    /// Sends a bridge message; returns the answer.
    pub(crate) async fn chat(&self, user: &str, message: &str) -> Reply {
        let body = json!({
            "user_id": user, "username": user, "message": message, "room": "The Tower"
        });
        self.post("/bridge/chat", &body).await
    }

    /// Returns the stream of the job's events after the one with this id.
    pub(crate) async fn events(&self, id: &str, after: Option<&str>) -> Stream {
        let mut request = self.request(Method::GET, &format!("/v1/jobs/{id}/events"));
        if let Some(after) = after {
            request = request.header("last-event-id", after);
        }
        let response = request.send().await.expect("an event stream");
        assert_eq!(response.status(), StatusCode::OK);
        Stream::new(response)
    }
}

impl Reply {
    /// Returns the body of an answer with this status.
    #[track_caller]
    pub(crate) fn with(self, status: u16) -> Value {
        let Self { request, body, .. } = self;
        assert_eq!(self.status.as_u16(), status, "{request} answered: {body:#}");
        body
    }

    /// Returns the body of a 200.
    #[track_caller]
    pub(crate) fn ok(self) -> Value {
        self.with(200)
    }

    /// Returns the id of an accepted job.
    #[track_caller]
    pub(crate) fn id(self) -> String {
        let body = self.with(202);
        body["id"].as_str().unwrap_or_else(|| panic!("no id in {body:#}")).to_owned()
    }

    /// Returns the error of an answer with this status, with all members that clients expect.
    #[track_caller]
    pub(crate) fn error(self, status: u16) -> Value {
        let body = self.with(status);
        let error = &body["error"];
        for key in ["message", "type", "param", "code"] {
            assert!(error.get(key).is_some(), "`{key}` is missing in {body:#}");
        }
        error.clone()
    }
}

/// Returns the body of a chat call.
pub(crate) fn chat(prompt: &str) -> Value {
    json!({ "model": "default", "messages": [{ "role": "user", "content": prompt }] })
}
