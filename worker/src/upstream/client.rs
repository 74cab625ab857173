//! The HTTP client of one upstream. All limits of its connections are set here; docs/operations.md lists them
//! beside the libraries' defaults.

use std::{
    cmp::Reverse,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    time::Duration,
};

use reqwest::{
    Client, ClientBuilder, RequestBuilder, Response, StatusCode,
    header::{ACCEPT_ENCODING, AUTHORIZATION, CONTENT_TYPE, HeaderMap, HeaderValue},
};
use tokio::sync::Notify;

use super::{
    address::Address,
    call::Call,
    proxy::Proxy,
    secret::UpstreamSecret,
    shape::Endpoint,
    tls::{self, InvalidTls, TlsFiles},
};
use crate::failure::Failure;

/// The `User-Agent` of calls and of webhook deliveries.
pub(super) const USER_AGENT: &str = concat!("causeway/", env!("CARGO_PKG_VERSION"));

/// Time-out of an idle connection. A server may close its end sooner: a closed connection is not reused.
const IDLE: Duration = Duration::from_secs(30);

/// Most header lines of an answer. The library's default of 100 fails with gateways that add their own.
const MAX_HEADERS: usize = 256;

/// Silence after which a connection is probed: well below the 240 s after which NAT gateways drop it.
const KEEPALIVE_IDLE: Duration = Duration::from_secs(30);

/// Delay between two unanswered probes.
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(10);

/// Unanswered probes after which a connection is dead. With 10 % of packets lost each way, nine in a row are
/// lost once in three million times.
const KEEPALIVE_RETRIES: u32 = 9;

/// Time-out of unacknowledged data and probes. If it is set, it replaces the count of probes (see `tcp(7)`), so
/// it must leave time for all of them: a shorter one ends a healthy silent call when one probe is lost. A
/// dead peer is detected after 120 s.
const USER_TIMEOUT: Duration =
    KEEPALIVE_IDLE.saturating_add(KEEPALIVE_INTERVAL.saturating_mul(KEEPALIVE_RETRIES));

/// Headers that identify one call. A job may set its own `x-request-id`, but not `idempotency-key`.
const IDEMPOTENCY_KEY: &str = "idempotency-key";
const REQUEST_ID: &str = "x-request-id";

/// The settings of the connection to one upstream.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UpstreamSettings {
    /// The base URL of its API.
    pub address: Address,
    /// The API key, sent as `Authorization: Bearer` and `x-api-key`. User info in the address replaces the
    /// former.
    pub api_key: Option<UpstreamSecret>,
    /// The proxy; `None` for a direct connection.
    pub proxy: Option<Proxy>,
    /// Root certificates and the client certificate.
    pub tls: TlsFiles,
}

/// The reason why an upstream cannot be called.
#[derive(Debug, thiserror::Error)]
pub enum InvalidUpstream {
    /// The API key has characters that are not allowed in a header.
    #[error("the API key cannot be sent as a header: it has control or non-ASCII characters")]
    Key,
    /// A TLS file is unusable.
    #[error(transparent)]
    Tls(#[from] InvalidTls),
    /// The HTTP client cannot be created.
    #[error("cannot create an HTTP client: {0}")]
    Client(#[from] reqwest::Error),
}

/// The HTTP client of one upstream: cheap to clone, and the clones share its connections.
#[derive(Debug, Clone)]
pub struct UpstreamClient {
    address: Address,
    client: Client,
    proxy: Option<Proxy>,
    has_key: bool,
    /// The secrets that are masked in the upstream's messages; the longest first, as one may be a part of another.
    pub(super) secrets: Arc<[UpstreamSecret]>,
    signs: Arc<Signs>,
}

/// Observations of the calls through a client and its clones.
#[derive(Debug, Default)]
struct Signs {
    was_called: AtomicBool,
    /// Notified when an endpoint was not found.
    not_found: Notify,
}

impl UpstreamClient {
    /// Creates a client of the upstream that `settings` describe; `connect` is the time-out of a connection,
    /// including proxy and TLS.
    ///
    /// # Errors
    /// If the key, a file or the proxy is unusable.
    pub fn new(settings: &UpstreamSettings, connect: Duration) -> Result<Self, InvalidUpstream> {
        let mut builder = bounded(Client::builder())
            .default_headers(credentials(settings)?)
            .tls_backend_preconfigured(tls::configuration(&settings.tls)?)
            .connect_timeout(connect)
            .pool_idle_timeout(IDLE)
            // The number of concurrent calls (`concurrency`) bounds the number of connections.
            .pool_max_idle_per_host(usize::MAX)
            .http1_max_headers(MAX_HEADERS);
        if let Some(proxy) = &settings.proxy {
            builder = builder.proxy(reqwest::Proxy::all(proxy.expose())?);
        }
        let (address, client) = (settings.address.clone(), builder.build()?);
        let (proxy, has_key) = (settings.proxy.clone(), settings.api_key.is_some());
        let of_proxy = proxy.iter().flat_map(Proxy::secrets);
        let mut secrets: Vec<UpstreamSecret> =
            settings.api_key.iter().chain(address.secrets()).chain(of_proxy).cloned().collect();
        secrets.sort_by_key(|secret| Reverse(secret.expose().len()));
        Ok(Self { address, client, proxy, has_key, secrets: secrets.into(), signs: Arc::default() })
    }

    /// Sends `call` and returns the head of its answer.
    pub(super) async fn send(&self, call: &Call) -> reqwest::Result<Response> {
        self.signs.was_called.store(true, Relaxed);
        let response = self.post(call).send().await?;
        // Servers that implement chat only lack the other endpoints; that does not mean a wrong base URL.
        let is_expected = matches!(Endpoint::of(&call.url), Endpoint::Responses | Endpoint::Other);
        if response.status() == StatusCode::NOT_FOUND && !is_expected {
            self.signs.not_found.notify_one();
        }
        Ok(response)
    }

    /// Returns the request of `call`. Headers of the job replace those of the worker.
    fn post(&self, call: &Call) -> RequestBuilder {
        let mut request = self.client.post(self.address.join(&call.url)).body(call.body.clone());
        let own = [
            (CONTENT_TYPE.as_str(), "application/json"),
            // Compression would delay tokens until a block is full, and answers are short.
            (ACCEPT_ENCODING.as_str(), "identity"),
            (IDEMPOTENCY_KEY, &call.id),
            (REQUEST_ID, &call.id),
        ];
        for (name, value) in own {
            if !call.headers.contains_key(name) {
                request = request.header(name, value);
            }
        }
        for (name, values) in &call.headers {
            request = values.iter().fold(request, |request, value| request.header(name, value));
        }
        request
    }

    /// Returns a GET request for `endpoint` at `address`: this upstream, perhaps with another path prefix.
    pub(super) fn get(&self, address: &Address, endpoint: &str) -> RequestBuilder {
        self.client.get(address.join(endpoint))
    }

    /// Adds the name of the proxy to `failure`, if a connection through it failed.
    pub(super) fn with_proxy(&self, failure: Failure) -> Failure {
        let Some(proxy) = &self.proxy else { return failure };
        let why = match failure {
            Failure::Connect(why) => why,
            Failure::ConnectTimeout => "no connection within `timeouts.connect`".to_owned(),
            failure => return failure,
        };
        Failure::Connect(format!("through the proxy {proxy}: {why}"))
    }

    /// Returns the base URL of the upstream.
    #[must_use]
    pub fn address(&self) -> &Address {
        &self.address
    }

    pub(super) fn has_credentials(&self) -> bool {
        self.has_key || self.address.authorization().is_some()
    }

    /// True once a call was sent to the upstream through this client or a clone of it.
    #[must_use]
    pub fn was_called(&self) -> bool {
        self.signs.was_called.load(Relaxed)
    }

    /// Waits until the upstream answers a call with 404: the model is unknown, or the base URL is wrong.
    pub async fn not_found(&self) {
        self.signs.not_found.notified().await;
    }
}

#[cfg(test)]
impl UpstreamClient {
    /// Returns a client of the upstream at `address`.
    pub(super) fn of(address: &str, key: Option<&str>) -> Self {
        let address = Address::parse(address).unwrap();
        let (api_key, tls) = (key.map(UpstreamSecret::new), TlsFiles::default());
        let settings = UpstreamSettings { address, api_key, proxy: None, tls };
        Self::new(&settings, Duration::from_secs(5)).unwrap()
    }
}

/// Sets the limits that all connections share, including those to webhook receivers.
pub(crate) fn bounded(builder: ClientBuilder) -> ClientBuilder {
    let builder = builder
        .user_agent(USER_AGENT)
        .tcp_nodelay(true)
        .tcp_keepalive(KEEPALIVE_IDLE)
        .tcp_keepalive_interval(KEEPALIVE_INTERVAL)
        .tcp_keepalive_retries(KEEPALIVE_RETRIES)
        .redirect(reqwest::redirect::Policy::none())
        .no_proxy()
        .http1_only();
    #[cfg(any(target_os = "android", target_os = "fuchsia", target_os = "linux"))]
    let builder = builder.tcp_user_timeout(USER_TIMEOUT);
    builder
}

/// Returns the authentication headers. They are marked as sensitive, so HTTP logs do not show them.
fn credentials(settings: &UpstreamSettings) -> Result<HeaderMap, InvalidUpstream> {
    let secret = |text: &str| {
        let mut value = HeaderValue::from_str(text).map_err(|_| InvalidUpstream::Key)?;
        value.set_sensitive(true);
        Ok::<_, InvalidUpstream>(value)
    };
    let mut headers = HeaderMap::new();
    if let Some(key) = &settings.api_key {
        headers.insert(AUTHORIZATION, secret(&format!("Bearer {}", key.expose()))?);
        // Anthropic's API and compatible servers expect the key in this header.
        headers.insert("x-api-key", secret(key.expose())?);
    }
    if let Some(basic) = settings.address.authorization() {
        headers.insert(AUTHORIZATION, secret(basic.expose())?);
    }
    Ok(headers)
}

#[cfg(test)]
mod tests;
