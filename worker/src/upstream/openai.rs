//! A server that speaks the OpenAI wire format, over HTTP.

use std::time::Duration;

use async_trait::async_trait;
use bytes::{Bytes, BytesMut};
use causeway_queue::RawJson;
use reqwest::{Client, Response, StatusCode, Url, header};
use serde_json::Value;
use tokio::time::timeout;

use super::{Answer, Call, Failure, Refusal, Secret, Sink, Upstream, sse::EventReader};
use crate::settings::Timeouts;

/// Longest wait that an upstream may ask for.
const MAX_RETRY_AFTER: Duration = Duration::from_secs(3600);

/// How long an idle connection is kept.
const IDLE: Duration = Duration::from_secs(30);

/// Most of an error's body that is read.
const MAX_ERROR_BYTES: usize = 64 << 10;

/// Why an address is not an upstream.
#[derive(Debug, thiserror::Error)]
pub enum InvalidUpstream {
    /// It is no `http` or `https` URL.
    #[error("{0:?} is no http:// or https:// URL, such as http://127.0.0.1:9101/v1")]
    Url(String),
    /// The API key has characters that no header may have.
    #[error("the API key cannot be sent as a header: it has control or non-ASCII characters")]
    Key,
    /// The HTTP client cannot be made.
    #[error("cannot make an HTTP client: {0}")]
    Client(#[from] reqwest::Error),
}

/// An OpenAI-compatible server.
#[derive(Debug)]
pub struct OpenAi {
    base: String,
    client: Client,
    timeouts: Timeouts,
}

impl OpenAi {
    /// The server whose API begins at `base`, e.g. `http://127.0.0.1:9101/v1`.
    ///
    /// # Errors
    /// When `base` is no such URL or the key cannot be sent.
    pub fn new(
        base: &str,
        api_key: Option<Secret>,
        timeouts: &Timeouts,
    ) -> Result<Self, InvalidUpstream> {
        let url = Url::parse(base).ok().filter(|url| matches!(url.scheme(), "http" | "https"));
        url.filter(Url::has_host).ok_or_else(|| InvalidUpstream::Url(base.to_owned()))?;
        let mut headers = header::HeaderMap::new();
        if let Some(key) = api_key {
            let bearer = format!("Bearer {}", key.expose());
            let mut value =
                header::HeaderValue::from_str(&bearer).map_err(|_| InvalidUpstream::Key)?;
            value.set_sensitive(true);
            headers.insert(header::AUTHORIZATION, value);
            let mut value =
                header::HeaderValue::from_str(key.expose()).map_err(|_| InvalidUpstream::Key)?;
            value.set_sensitive(true);
            // Where Anthropic's servers, and those of their kind, look for it.
            headers.insert("x-api-key", value);
        }
        // Fails only when there is a provider already, which is as good.
        drop(rustls::crypto::ring::default_provider().install_default());
        let client = Client::builder()
            .default_headers(headers)
            .connect_timeout(timeouts.connect)
            .pool_idle_timeout(IDLE)
            .pool_max_idle_per_host(usize::MAX)
            .tcp_nodelay(true)
            .redirect(reqwest::redirect::Policy::none())
            .no_proxy()
            .http1_only()
            .build()?;
        let base = base.trim_end_matches('/').to_owned();
        Ok(Self { base, client, timeouts: *timeouts })
    }

    async fn send(&self, call: &Call) -> Result<Response, Failure> {
        let path = call.url.strip_prefix("/v1").unwrap_or(&call.url);
        let mut request = self
            .client
            .post(format!("{}{path}", self.base))
            .header(header::CONTENT_TYPE, "application/json")
            .body(call.body.clone());
        for (name, value) in &call.headers {
            request = request.header(name, value);
        }
        match timeout(self.timeouts.first_byte, request.send()).await {
            Err(_) => Err(Failure::FirstByteTimeout(self.timeouts.first_byte)),
            Ok(Err(error)) if error.is_connect() && error.is_timeout() => {
                Err(Failure::ConnectTimeout)
            }
            Ok(Err(error)) if error.is_connect() => Err(Failure::Connect(root_cause(&error))),
            Ok(Err(error)) => Err(Failure::Cut(root_cause(&error))),
            Ok(Ok(response)) => Ok(response),
        }
    }

    /// The next piece of an answer; `None` at its end.
    async fn piece(&self, response: &mut Response) -> Result<Option<Bytes>, Failure> {
        match timeout(self.timeouts.between_bytes, response.chunk()).await {
            Err(_) => Err(Failure::Stalled(self.timeouts.between_bytes)),
            Ok(Err(error)) => Err(Failure::Cut(root_cause(&error))),
            Ok(Ok(piece)) => Ok(piece),
        }
    }

    async fn whole(&self, response: &mut Response, max_bytes: usize) -> Result<Bytes, Failure> {
        let mut body = BytesMut::new();
        while let Some(piece) = self.piece(response).await? {
            if body.len() + piece.len() > max_bytes {
                return Err(Failure::TooLarge(max_bytes));
            }
            body.extend_from_slice(&piece);
        }
        Ok(body.freeze())
    }

    async fn refusal(&self, mut response: Response) -> Result<Failure, Failure> {
        let retry_after = retry_after(response.headers());
        let status_code = response.status().as_u16();
        let body = match self.whole(&mut response, MAX_ERROR_BYTES).await {
            Err(Failure::TooLarge(_)) => Bytes::new(),
            body => body?,
        };
        let text = String::from_utf8_lossy(&body).into_owned();
        let code = error_code(&text);
        let body = RawJson::parse(text.clone()).unwrap_or_else(|_| RawJson::string(&text));
        Ok(Failure::Refused(Box::new(Refusal { status_code, retry_after, code, body })))
    }

    async fn stream(&self, response: &mut Response, sink: &mut dyn Sink) -> Result<(), Failure> {
        let mut reader = EventReader::default();
        while let Some(piece) = self.piece(response).await? {
            let mut done = false;
            reader.feed(&piece, |data| {
                done |= sink.event(data)?.is_break();
                Ok::<(), Failure>(())
            })?;
            if done {
                break;
            }
        }
        Ok(())
    }
}

#[async_trait]
impl Upstream for OpenAi {
    async fn call(&self, call: Call, sink: &mut dyn Sink) -> Result<Answer, Failure> {
        let mut response = self.send(&call).await?;
        let status = response.status();
        if status.is_client_error() || status.is_server_error() {
            return Err(self.refusal(response).await?);
        }
        let status_code = if status.is_success() { status } else { StatusCode::BAD_GATEWAY };
        let body = if call.stream {
            self.stream(&mut response, sink).await?;
            Bytes::new()
        } else {
            self.whole(&mut response, call.max_bytes).await?
        };
        Ok(Answer { status_code: status_code.as_u16(), body })
    }
}

/// What an error comes down to, without the URL.
pub(super) fn root_cause(error: &reqwest::Error) -> String {
    let mut cause: &dyn std::error::Error = error;
    while let Some(source) = cause.source() {
        cause = source;
    }
    cause.to_string()
}

/// The `code`, or else the `type`, of an error in OpenAI's envelope.
fn error_code(body: &str) -> Option<String> {
    let body: Value = serde_json::from_str(body).ok()?;
    let error = body.get("error")?;
    let text = |field: &str| match error.get(field)? {
        Value::String(text) => Some(text.clone()),
        Value::Number(number) => Some(number.to_string()),
        Value::Null | Value::Bool(_) | Value::Array(_) | Value::Object(_) => None,
    };
    text("code").or_else(|| text("type"))
}

/// What `Retry-After` (RFC 9110, section 10.2.3; also with a fraction) or `retry-after-ms` asks.
pub(super) fn retry_after(headers: &header::HeaderMap) -> Option<Duration> {
    let text = |name: &str| headers.get(name)?.to_str().ok().map(str::trim);
    let of_ms = || text("retry-after-ms")?.parse().ok().map(|ms: f64| ms / 1000.0);
    let of_seconds = || text("retry-after")?.parse().ok();
    let of_date = || {
        let at = jiff::fmt::rfc2822::parse(text("retry-after")?).ok()?;
        Some(at.timestamp().duration_since(jiff::Timestamp::now()).as_secs_f64().max(0.0))
    };
    let seconds: f64 = of_ms().or_else(of_seconds).or_else(of_date)?;
    let seconds = seconds.clamp(0.0, MAX_RETRY_AFTER.as_secs_f64());
    seconds.is_finite().then(|| Duration::from_secs_f64(seconds))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asked(name: &'static str, value: &str) -> Option<Duration> {
        let mut headers = header::HeaderMap::new();
        headers.insert(name, value.parse().unwrap());
        retry_after(&headers)
    }

    #[test]
    fn retry_after_is_read_in_all_its_forms() {
        assert_eq!(asked("retry-after", "7"), Some(Duration::from_secs(7)));
        assert_eq!(asked("retry-after", "0.25"), Some(Duration::from_millis(250)));
        assert_eq!(asked("retry-after-ms", "1500"), Some(Duration::from_millis(1500)));
        assert_eq!(asked("retry-after", "Wed, 21 Oct 2015 07:28:00 GMT"), Some(Duration::ZERO));
        assert_eq!(asked("retry-after", "999999"), Some(MAX_RETRY_AFTER));
        assert_eq!(asked("retry-after", "-3"), Some(Duration::ZERO));
        assert_eq!(asked("retry-after", "soon"), None);
        assert_eq!(asked("retry-after", "NaN"), None);
    }

    #[test]
    fn what_is_no_server_is_refused() {
        for base in ["", "localhost:9101", "ftp://x/v1", "/v1"] {
            let refused = OpenAi::new(base, None, &Timeouts::default());
            assert!(matches!(refused, Err(InvalidUpstream::Url(_))), "{base}");
        }
        let refused = OpenAi::new("http://x/v1", Some(Secret::new("a\nb")), &Timeouts::default());
        assert!(matches!(refused, Err(InvalidUpstream::Key)));
    }

    #[test]
    fn a_refusal_is_known_by_its_code() {
        let code = |body: &str| error_code(body);
        assert_eq!(code(r#"{"error":{"code":"a","type":"b"}}"#).as_deref(), Some("a"));
        assert_eq!(code(r#"{"error":{"code":null,"type":"b"}}"#).as_deref(), Some("b"));
        assert_eq!(code(r#"{"error":{"code":503}}"#).as_deref(), Some("503"));
        assert_eq!(code("oops"), None);
    }
}
