//! A client of a running Causeway, for the commands that call one.

mod unreachable;

use std::fmt;

use anyhow::{Context as _, anyhow, bail};
use reqwest::{RequestBuilder, Response, StatusCode, Url, header::CONTENT_TYPE};
use serde_json::Value;

use self::unreachable::unreachable;
use crate::{
    config::{Config, HiddenText},
    sse::{Decoder, ServerEvent},
};

/// A running Causeway.
#[derive(Debug)]
pub(crate) struct Client {
    http: reqwest::Client,
    base: Url,
    key: Option<HiddenText>,
}

impl Client {
    /// Makes a client of the Causeway that the configuration names.
    ///
    /// # Errors
    /// If its address is not a URL.
    pub(crate) fn new(config: &Config) -> anyhow::Result<Self> {
        let base = Url::parse(&config.client.url)
            .map_err(|_| anyhow!("{:?} is not the URL of a server (--url)", config.client.url))?;
        let http = reqwest::Client::builder()
            .connect_timeout(unreachable::CONNECT_TIMEOUT)
            // The whole call has no time-out: an event stream lasts as long as its job.
            .read_timeout(unreachable::READ_TIMEOUT)
            .build()
            .context("cannot make an HTTP client")?;
        Ok(Self { http, base, key: config.client_key.clone() })
    }

    /// Submits the body of a `POST /v1/jobs`; returns the answer.
    pub(crate) async fn submit(
        &self,
        body: String,
        idempotency_key: Option<&str>,
    ) -> anyhow::Result<Value> {
        let mut request =
            self.http.post(self.url(&["jobs"])?).header(CONTENT_TYPE, "application/json");
        if let Some(key) = idempotency_key {
            request = request.header("idempotency-key", key);
        }
        self.json(request.body(body)).await
    }

    /// Returns a job in its current state.
    pub(crate) async fn job(&self, id: &str) -> anyhow::Result<Value> {
        self.json(self.http.get(self.url(&["jobs", id])?)).await
    }

    /// Returns a job in its current state, with its request.
    pub(crate) async fn job_with_request(&self, id: &str) -> anyhow::Result<Value> {
        let mut url = self.url(&["jobs", id])?;
        url.query_pairs_mut().append_pair("include", "request");
        self.json(self.http.get(url)).await
    }

    /// Returns the page of jobs that `query` selects.
    pub(crate) async fn list(&self, query: &[(&str, String)]) -> anyhow::Result<Value> {
        let mut url = self.url(&["jobs"])?;
        url.query_pairs_mut().extend_pairs(query);
        self.json(self.http.get(url)).await
    }

    /// Retries a job; returns `false` if it is gone or its state does not allow that any more.
    pub(crate) async fn retry(&self, id: &str) -> anyhow::Result<bool> {
        match self.try_send(self.http.post(self.url(&["jobs", id, "retry"])?)).await? {
            Ok(answer) => {
                // The answer is read to its end, so that the connection serves the next call.
                answer.bytes().await.map_err(|error| unreachable(&self.base, &error))?;
                Ok(true)
            }
            Err(refusal) => match refusal.code.as_deref() {
                // The retention, or another client, was faster.
                Some("job_not_found" | "job_not_retryable") => Ok(false),
                Some(_) | None => bail!("{refusal}"),
            },
        }
    }

    /// Performs `action` on a job, `cancel` or `retry`; returns the job.
    pub(crate) async fn act(&self, id: &str, action: &str) -> anyhow::Result<Value> {
        self.json(self.http.post(self.url(&["jobs", id, action])?)).await
    }

    /// Fetches a path below `/v1`.
    pub(crate) async fn get(&self, path: &[&str]) -> anyhow::Result<Value> {
        self.json(self.http.get(self.url(path)?)).await
    }

    /// Posts to a path below `/v1`.
    pub(crate) async fn post(&self, path: &[&str], body: &Value) -> anyhow::Result<Value> {
        self.json(self.http.post(self.url(path)?).json(body)).await
    }

    /// Changes the resource at a path below `/v1`.
    pub(crate) async fn patch(&self, path: &[&str], body: &Value) -> anyhow::Result<Value> {
        self.json(self.http.patch(self.url(path)?).json(body)).await
    }

    /// Deletes the resource at a path below `/v1`.
    pub(crate) async fn delete(&self, path: &[&str]) -> anyhow::Result<()> {
        self.send(self.http.delete(self.url(path)?)).await.map(drop)
    }

    /// Opens the stream of a job's events after number `after`, or from the first.
    pub(crate) async fn events(&self, id: &str, after: Option<u64>) -> anyhow::Result<Events> {
        let mut request = self.http.get(self.url(&["jobs", id, "events"])?);
        if let Some(after) = after {
            request = request.header("last-event-id", after);
        }
        let response = self.send(request).await?;
        let (base, decoder, read) = (self.base.clone(), Decoder::default(), Vec::new().into_iter());
        Ok(Events { base, response, decoder, read })
    }

    /// Returns an address below `/v1`.
    fn url(&self, below: &[&str]) -> anyhow::Result<Url> {
        let mut url = self.base.clone();
        let mut segments =
            url.path_segments_mut().map_err(|()| anyhow!("{} cannot be called", self.base))?;
        // The base URL may end with `/`.
        segments.pop_if_empty().push("v1").extend(below);
        drop(segments);
        Ok(url)
    }

    async fn json(&self, request: RequestBuilder) -> anyhow::Result<Value> {
        let body = self.send(request).await?.bytes().await;
        let body = body.map_err(|error| unreachable(&self.base, &error))?;
        serde_json::from_slice(&body)
            .map_err(|_| anyhow!("{} answered without JSON: is this Causeway?", self.base))
    }

    async fn send(&self, request: RequestBuilder) -> anyhow::Result<Response> {
        Ok(self.try_send(request).await??)
    }

    /// Sends a request; returns the answer, or the server's refusal.
    async fn try_send(
        &self,
        mut request: RequestBuilder,
    ) -> anyhow::Result<Result<Response, ServerRefusal>> {
        if let Some(key) = &self.key {
            request = request.bearer_auth(key.expose());
        }
        let response = request.send().await.map_err(|error| unreachable(&self.base, &error))?;
        let status = response.status();
        if status.is_success() {
            return Ok(Ok(response));
        }
        // A body that is no JSON, such as that of a proxy, has no message.
        let body: Value =
            serde_json::from_slice(&response.bytes().await.unwrap_or_default()).unwrap_or_default();
        let Some(message) = body.pointer("/error/message").and_then(Value::as_str) else {
            bail!("{} answered {}: is this Causeway?", self.base, status.as_u16());
        };
        let code = body.pointer("/error/code").and_then(Value::as_str).map(str::to_owned);
        let mut message = message.to_owned();
        // The most frequent reason of a 401 is a missing flag.
        if status == StatusCode::UNAUTHORIZED && self.key.is_none() {
            message += "; name the environment variable that holds the key with --key-env NAME";
        }
        Ok(Err(ServerRefusal { status, code, message }))
    }
}

/// The refusal of a request by the server, with the server's message.
#[derive(Debug)]
pub(crate) struct ServerRefusal {
    status: StatusCode,
    code: Option<String>,
    pub(crate) message: String,
}

impl std::error::Error for ServerRefusal {}

impl fmt::Display for ServerRefusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { status, code, message } = self;
        let code = code.as_ref().map_or(String::new(), |code| format!(" {code}"));
        write!(f, "{message} ({}{code})", status.as_u16())
    }
}

/// A stream of events.
#[derive(Debug)]
pub(crate) struct Events {
    base: Url,
    response: Response,
    decoder: Decoder,
    read: std::vec::IntoIter<ServerEvent>,
}

impl Events {
    /// Returns the next event; `None` if the server has ended the stream.
    ///
    /// # Errors
    /// If the connection breaks.
    pub(crate) async fn next(&mut self) -> anyhow::Result<Option<ServerEvent>> {
        loop {
            if let Some(event) = self.read.next() {
                return Ok(Some(event));
            }
            let chunk = self.response.chunk().await;
            let chunk = chunk.map_err(|error| unreachable(&self.base, &error))?;
            let Some(chunk) = chunk else { return Ok(None) };
            let events = self.decoder.push(&chunk);
            self.read = events.map_err(|_| anyhow!("an event is too long"))?.into_iter();
        }
    }
}

#[cfg(test)]
mod tests;
