//! A server that speaks the OpenAI wire format, over HTTP.

use std::time::Duration;

use async_trait::async_trait;
use reqwest::{Client, Response, Url, header};
use tokio::time::timeout;

use super::{
    Answer, Call, Failure, Place, SIMULATED, Secret, Sink, Upstream, answer, body::unsent, mask::masked,
};
use crate::settings::Timeouts;

/// How long an idle connection is kept.
const IDLE: Duration = Duration::from_secs(30);

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
    /// For taking it out of what the upstream says.
    key: Option<Secret>,
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
        if let Some(key) = &api_key {
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
        Ok(Self { base, client, timeouts: *timeouts, key: api_key })
    }

    /// Where a call to `url` goes.
    fn url(&self, url: &str) -> String {
        format!("{}{}", self.base, url.strip_prefix("/v1").unwrap_or(url))
    }

    async fn send(&self, call: &Call) -> Result<Response, Failure> {
        let mut request = self
            .client
            .post(self.url(&call.url))
            .header(header::CONTENT_TYPE, "application/json")
            // Compression would hold tokens back until a block is full, and answers are short.
            .header(header::ACCEPT_ENCODING, "identity")
            .body(call.body.clone());
        for (name, values) in &call.headers {
            request = values.iter().fold(request, |request, value| request.header(name, value));
        }
        match timeout(self.timeouts.first_byte, request.send()).await {
            Err(_) => Err(Failure::FirstByteTimeout(self.timeouts.first_byte)),
            Ok(sent) => sent.map_err(|error| unsent(&error)),
        }
    }
}

#[async_trait]
impl Upstream for OpenAi {
    async fn call(&self, call: Call, sink: &mut dyn Sink) -> Result<Answer, Failure> {
        let answered = async {
            let response = self.send(&call).await?;
            if response.headers().get(SIMULATED).is_some_and(|value| value == "true") {
                sink.simulated();
            }
            answer::read(response, &call, sink, self.timeouts.between_bytes).await
        };
        answered.await.map_err(|failure| masked(failure, self.key.as_ref()))
    }

    fn place(&self, url: &str) -> Option<Place> {
        Place::of(&self.url(url))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_server_is_refused() {
        for base in ["", "localhost:9101", "ftp://x/v1", "/v1"] {
            let refused = OpenAi::new(base, None, &Timeouts::default());
            assert!(matches!(refused, Err(InvalidUpstream::Url(_))), "{base}");
        }
        let refused = OpenAi::new("http://x/v1", Some(Secret::new("a\nb")), &Timeouts::default());
        assert!(matches!(refused, Err(InvalidUpstream::Key)));
    }
}
