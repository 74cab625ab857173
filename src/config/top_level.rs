//! The whole configuration: the settings outside of any section, and the sections.

use std::{net::SocketAddr, path::PathBuf, time::Duration};

use causeway_worker::{ProxyVariables, WebhookSecret};
use serde::{Deserialize, Serialize};

use super::{
    duration,
    lane::ConfiguredLane,
    secret::HiddenText,
    sections::{
        ApiSection, BridgeSection, ClientSection, LogSection, RetrySection, SimulatedSection,
        TimeoutsSection,
    },
    tenant::ConfiguredTenant,
    webhooks::WebhooksSection,
};
use crate::memory;
/// All settings. Durations are written as [`duration`] describes.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Config {
    /// The address and port on which the API listens; port 0 takes a free one. Default:
    /// `127.0.0.1:4004`. `--bind`, `CAUSEWAY_BIND`.
    pub(crate) bind: SocketAddr,
    /// Permits a `bind` address beyond loopback without any tenant, so that every client that
    /// reaches the port is served without a key. Default: `false`. `--allow-open-bind`,
    /// `CAUSEWAY_ALLOW_OPEN_BIND`.
    pub(crate) allow_open_bind: bool,
    /// The URL of the Redis that holds the queue, e.g. `redis://127.0.0.1:6379`; `rediss://` for
    /// TLS, `redis+cluster://host:port,host:port` for a cluster. Default: none, the queue is
    /// embedded in the process and lives in memory only. `--redis`, `CAUSEWAY_REDIS`.
    pub(crate) redis: Option<HiddenText>,
    /// The base URL of the OpenAI-compatible server that answers, e.g. `http://127.0.0.1:9101/v1`.
    /// Default: none, answers are simulated where `simulate` permits it. `--upstream`,
    /// `CAUSEWAY_UPSTREAM`.
    pub(crate) upstream: Option<HiddenText>,
    /// The proxy for calls to upstreams: a URL, `none`, or `environment` for the one that
    /// `HTTP_PROXY`, `HTTPS_PROXY`, `ALL_PROXY` and `NO_PROXY` select. Webhooks never use it.
    /// Default: `environment`. `CAUSEWAY_PROXY`.
    pub(crate) proxy: Option<HiddenText>,
    /// A PEM file with certificates that are trusted in addition to the system's roots. Default:
    /// none. `CAUSEWAY_CA_FILE`.
    pub(crate) ca_file: Option<PathBuf>,
    /// A PEM file with the client certificate and its chain, for upstreams that require one.
    /// Default: none. `CAUSEWAY_CLIENT_CERT_FILE`.
    pub(crate) client_cert_file: Option<PathBuf>,
    /// A PEM file with the private key of that certificate. Default: `client_cert_file` contains
    /// the key. `CAUSEWAY_CLIENT_KEY_FILE`.
    pub(crate) client_key_file: Option<PathBuf>,
    /// Permits simulated answers in lanes without an upstream. Default: `false`, they are permitted
    /// only if neither a Redis nor any upstream is configured. `--simulate`, `CAUSEWAY_SIMULATE`.
    pub(crate) simulate: bool,
    /// The environment variable that holds the upstream's API key. Default: none, no key is sent.
    /// `--api-key-env`, `CAUSEWAY_API_KEY_ENV`.
    pub(crate) api_key_env: Option<String>,
    /// The number of calls that one worker process runs at once, 1 to 100,000. Default: 256.
    /// `--concurrency`, `CAUSEWAY_CONCURRENCY`.
    pub(crate) concurrency: usize,
    /// The time that running calls may take after the first signal to stop, 0 to 1 d; unfinished
    /// jobs return to the queue and spend no attempt. Default: 30 s. `--drain`, `CAUSEWAY_DRAIN`.
    #[serde(with = "duration")]
    pub(crate) drain: Duration,
    /// The time without a sign of life after which a worker's jobs go to another worker, 100 ms to
    /// 1 d. Default: 15 s. `--lease`, `CAUSEWAY_LEASE`.
    #[serde(with = "duration")]
    pub(crate) lease: Duration,
    /// The time for which an ended job, its result and its events are kept, 1 s to 365 d. Default:
    /// 24 h. `CAUSEWAY_RETENTION`.
    #[serde(with = "duration")]
    pub(crate) retention: Duration,
    /// The age at which a job without an answer and without a deadline of its own expires, with the
    /// error code `gave_up`, 1 s to 365 d. It counts from acceptance, or from the start time of a
    /// delayed job, and anew when the job is retried. Default: 24 h. `CAUSEWAY_GIVE_UP_AFTER`.
    #[serde(with = "duration")]
    pub(crate) give_up_after: Duration,
    /// The number of workers that a job may lose before it fails, 1 to 1,000. Default: 3.
    /// `CAUSEWAY_MAX_STALLS`.
    pub(crate) max_stalls: u32,
    /// The number of failed jobs that each shard of a lane keeps in its dead-letter list, 1 to
    /// 1,000,000; older ones leave the list and are retained like every ended job. Default: 10,000.
    /// `CAUSEWAY_MAX_DEAD`.
    pub(crate) max_dead: u32,
    /// The longest answer of an upstream, in bytes, 1 KiB to 1 GiB. Default: 32 MiB.
    /// `CAUSEWAY_MAX_RESPONSE_BYTES`.
    pub(crate) max_response_bytes: usize,
    /// The memory of all answers in flight in one worker process, in bytes, at least
    /// `max_response_bytes`; calls wait while it is exhausted. Default: a quarter of the memory of
    /// the machine or of the process's control group, but at least 32 MiB.
    /// `CAUSEWAY_MAX_RESPONSE_MEMORY`.
    pub(crate) max_response_memory: usize,
    /// The time for which the pieces of a streamed answer are collected before they are published
    /// together, 1 ms to 10 s; longer while very many streams load the store. Default: 50 ms.
    /// `CAUSEWAY_EMIT_WINDOW`.
    #[serde(with = "duration")]
    pub(crate) emit_window: Duration,
    /// The address on which `causeway worker` serves `/healthz` and `/metrics`. Default: none.
    /// `--probe`, `CAUSEWAY_PROBE`.
    pub(crate) probe: Option<SocketAddr>,
    /// The name of the worker process in `causeway worker list`, 1 to 100 characters. Default: host
    /// and process id. `--worker-name`, `CAUSEWAY_WORKER_NAME`.
    pub(crate) worker_name: Option<String>,
    /// See [`ConfiguredTenant`]. Default: none, every caller is the tenant `default`. Only in the
    /// file.
    #[serde(rename = "tenant")]
    pub(crate) tenants: Vec<ConfiguredTenant>,
    /// See [`ConfiguredLane`]. Default: one lane named `default`. Only in the file.
    #[serde(rename = "lane")]
    pub(crate) lanes: Vec<ConfiguredLane>,
    /// See [`LogSection`].
    pub(crate) log: LogSection,
    /// See [`ApiSection`].
    pub(crate) api: ApiSection,
    /// See [`BridgeSection`].
    pub(crate) bridge: BridgeSection,
    /// See [`TimeoutsSection`].
    pub(crate) timeouts: TimeoutsSection,
    /// See [`RetrySection`].
    pub(crate) retry: RetrySection,
    /// See [`SimulatedSection`].
    pub(crate) simulated: SimulatedSection,
    /// See [`WebhooksSection`].
    pub(crate) webhooks: WebhooksSection,
    /// See [`ClientSection`].
    pub(crate) client: ClientSection,
    /// The value of the variable that `api_key_env` names.
    #[serde(skip)]
    pub(crate) api_key: Option<HiddenText>,
    /// The value of the variable that `client.key_env` names.
    #[serde(skip)]
    pub(crate) client_key: Option<HiddenText>,
    /// The values of the variables that `webhooks.secret_env` names.
    #[serde(skip)]
    pub(crate) webhook_secrets: Vec<WebhookSecret>,
    /// The text of `bridge.persona_file`.
    #[serde(skip)]
    pub(crate) persona: Option<String>,
    /// The proxies that the environment names.
    #[serde(skip)]
    pub(crate) proxy_variables: ProxyVariables,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            bind: SocketAddr::from(([127, 0, 0, 1], 4004)),
            allow_open_bind: false,
            redis: None,
            upstream: None,
            proxy: None,
            ca_file: None,
            client_cert_file: None,
            client_key_file: None,
            simulate: false,
            api_key_env: None,
            concurrency: 256,
            drain: Duration::from_secs(30),
            lease: Duration::from_secs(15),
            retention: Duration::from_secs(86_400),
            give_up_after: Duration::from_secs(86_400),
            max_stalls: 3,
            max_dead: 10_000,
            max_response_bytes: 32 << 20,
            max_response_memory: memory::share_of_answers(),
            emit_window: Duration::from_millis(50),
            probe: None,
            worker_name: None,
            tenants: Vec::new(),
            lanes: Vec::new(),
            log: LogSection::default(),
            api: ApiSection::default(),
            bridge: BridgeSection::default(),
            timeouts: TimeoutsSection::default(),
            retry: RetrySection::default(),
            simulated: SimulatedSection::default(),
            webhooks: WebhooksSection::default(),
            client: ClientSection::default(),
            api_key: None,
            client_key: None,
            webhook_secrets: Vec::new(),
            persona: None,
            proxy_variables: ProxyVariables::default(),
        }
    }
}
