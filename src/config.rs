//! The configuration: defaults, then a TOML file, then `CAUSEWAY_…` variables, then flags; what
//! comes later wins.
//!
//! It is read whole and checked whole before anything is bound. A key that is none is refused with
//! its place; secrets never appear in `Debug` or in an error. Everything that the environment
//! holds is read here and nowhere else.

mod check;
mod keys;
mod lane;
mod layers;
mod list;
mod misfit;
#[cfg(test)]
mod page;
mod range;
mod reach;
mod secret;
mod sections;
mod settings;
pub(crate) mod span;
mod tenant;
mod text;
mod webhooks;

use std::{collections::BTreeMap, fmt, net::SocketAddr, path::PathBuf, time::Duration};

use causeway_worker::{ProxyVariables, WebhookSecret};
use serde::{Deserialize, Serialize};

use crate::memory;

pub(crate) use self::{
    lane::Lane,
    layers::load,
    reach::Reached,
    secret::{Secret, without_password},
    sections::{Api, Bridge, Client, Log, LogFormat, Retry, Simulated, Timeouts},
    tenant::{Digest, Tenant},
    webhooks::Webhooks,
};

/// The environment: the variables that concern the configuration.
pub(crate) type Environment = BTreeMap<String, String>;

/// Why there is no configuration; one line that says what was wrong, where, and what would be
/// right.
#[derive(Debug)]
pub(crate) struct Refused(pub(crate) String);

impl fmt::Display for Refused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for Refused {}

/// Everything that can be set. Durations are written as [`span`] describes.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Config {
    /// Where the API listens: address and port; port 0 takes a free one. Default 127.0.0.1:4004.
    /// `--bind`, `CAUSEWAY_BIND`.
    pub(crate) bind: SocketAddr,
    /// Serve beyond loopback although no tenant is configured, so that whoever reaches the port is
    /// let in. Default false. `--allow-open-bind`, `CAUSEWAY_ALLOW_OPEN_BIND`.
    pub(crate) allow_open_bind: bool,
    /// The Redis that holds the queue, e.g. `redis://127.0.0.1:6379`. Default: none, the queue is
    /// embedded in the process. `--redis`, `CAUSEWAY_REDIS`.
    pub(crate) redis: Option<Secret>,
    /// The OpenAI-compatible server that answers, e.g. `http://127.0.0.1:9101/v1`. Default: none,
    /// answers are simulated where that is permitted. `--upstream`, `CAUSEWAY_UPSTREAM`.
    pub(crate) upstream: Option<Secret>,
    /// The proxy: a URL, `none`, or `environment` for the one that `HTTP_PROXY`, `HTTPS_PROXY`, `ALL_PROXY`
    /// and `NO_PROXY` name. Default: `environment`.
    /// `CAUSEWAY_PROXY`.
    pub(crate) proxy: Option<Secret>,
    /// A PEM file with certificates to trust beside the system's roots. Default: none.
    /// `CAUSEWAY_CA_FILE`.
    pub(crate) ca_file: Option<PathBuf>,
    /// A PEM file with the certificate to present, and its chain. Default: none.
    /// `CAUSEWAY_CLIENT_CERT_FILE`.
    pub(crate) client_cert_file: Option<PathBuf>,
    /// A PEM file with that certificate's private key. Default: `client_cert_file` holds it too.
    /// `CAUSEWAY_CLIENT_KEY_FILE`.
    pub(crate) client_key_file: Option<PathBuf>,
    /// Permit simulated answers in lanes without an upstream. Default false; then they are permitted only where
    /// neither a Redis nor any upstream is configured. `--simulate`, `CAUSEWAY_SIMULATE`.
    pub(crate) simulate: bool,
    /// The environment variable that holds the upstream's API key. Default: none, no key is sent.
    /// `--api-key-env`, `CAUSEWAY_API_KEY_ENV`.
    pub(crate) api_key_env: Option<String>,
    /// How many calls one worker process runs at once, 1 to 100,000. Default 256.
    /// `--concurrency`, `CAUSEWAY_CONCURRENCY`.
    pub(crate) concurrency: usize,
    /// How long running calls may go on after the first signal to stop. Default 30 s.
    /// `--drain`, `CAUSEWAY_DRAIN`.
    #[serde(with = "span")]
    pub(crate) drain: Duration,
    /// How long a worker may be silent before its jobs are given to another, from 100 ms.
    /// Default 15 s. `--lease`, `CAUSEWAY_LEASE`.
    #[serde(with = "span")]
    pub(crate) lease: Duration,
    /// How long an ended job, its result and its events are kept. Default 24 h.
    /// `CAUSEWAY_RETENTION`.
    #[serde(with = "span")]
    pub(crate) retention: Duration,
    /// How long after its acceptance a job without a deadline ends that still has no answer, up to 365 d.
    /// Default 24 h. `CAUSEWAY_GIVE_UP_AFTER`.
    #[serde(with = "span")]
    pub(crate) give_up_after: Duration,
    /// How many workers a job may lose before it fails, from 1. Default 3. `CAUSEWAY_MAX_STALLS`.
    pub(crate) max_stalls: u32,
    /// How many failed jobs a shard of a lane keeps in its list of the dead, from 1; older ones leave
    /// the list. Default 10,000. `CAUSEWAY_MAX_DEAD`.
    pub(crate) max_dead: u32,
    /// Longest answer of an upstream, in bytes. Default 32 MiB. `CAUSEWAY_MAX_RESPONSE_BYTES`.
    pub(crate) max_response_bytes: usize,
    /// Memory of all answers in flight in one worker process, in bytes. Default: a quarter of the machine's
    /// memory, or of what its control group allows. `CAUSEWAY_MAX_RESPONSE_MEMORY`.
    pub(crate) max_response_memory: usize,
    /// How long the pieces of a streamed answer are joined before they are passed on. Default
    /// 50 ms. `CAUSEWAY_EMIT_WINDOW`.
    #[serde(with = "span")]
    pub(crate) emit_window: Duration,
    /// Where `causeway worker` serves `/healthz` and `/metrics`. Default: nowhere.
    /// `--probe`, `CAUSEWAY_PROBE`.
    pub(crate) probe: Option<SocketAddr>,
    /// The name of the worker process in `worker list`, 1 to 100 characters. Default: host and process id.
    /// `--worker-name` (of `worker`), `CAUSEWAY_WORKER_NAME`.
    pub(crate) worker_name: Option<String>,
    /// See [`Tenant`]. Default: none, every caller is the tenant `default`. Only in the file.
    #[serde(rename = "tenant")]
    pub(crate) tenants: Vec<Tenant>,
    /// See [`Lane`]. Default: one lane, `default`. Only in the file.
    #[serde(rename = "lane")]
    pub(crate) lanes: Vec<Lane>,
    /// See [`Log`].
    pub(crate) log: Log,
    /// See [`Api`].
    pub(crate) api: Api,
    /// See [`Bridge`].
    pub(crate) bridge: Bridge,
    /// See [`Timeouts`].
    pub(crate) timeouts: Timeouts,
    /// See [`Retry`].
    pub(crate) retry: Retry,
    /// See [`Simulated`].
    pub(crate) simulated: Simulated,
    /// See [`Webhooks`].
    pub(crate) webhooks: Webhooks,
    /// See [`Client`].
    pub(crate) client: Client,
    /// What the variable named by `api_key_env` holds.
    #[serde(skip)]
    pub(crate) api_key: Option<Secret>,
    /// What the variable named by `client.key_env` holds.
    #[serde(skip)]
    pub(crate) client_key: Option<Secret>,
    /// What the variables named by `webhooks.secret_env` hold.
    #[serde(skip)]
    pub(crate) webhook_secrets: Vec<WebhookSecret>,
    /// What `bridge.persona_file` holds.
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
            log: Log::default(),
            api: Api::default(),
            bridge: Bridge::default(),
            timeouts: Timeouts::default(),
            retry: Retry::default(),
            simulated: Simulated::default(),
            webhooks: Webhooks::default(),
            client: Client::default(),
            api_key: None,
            client_key: None,
            webhook_secrets: Vec::new(),
            persona: None,
            proxy_variables: ProxyVariables::default(),
        }
    }
}

/// Where a process has its configuration from, so that it can read it again.
#[derive(Debug)]
pub(crate) struct Source {
    /// What was typed.
    pub(crate) flags: serde_json::Value,
    /// The file that was named there.
    pub(crate) file: Option<PathBuf>,
    /// The environment at the start.
    pub(crate) environment: Environment,
}

impl Source {
    /// Reads the configuration.
    ///
    /// # Errors
    /// As [`load`].
    pub(crate) fn load(&self) -> Result<Config, Refused> {
        load(&self.flags, self.file.clone(), &self.environment)
    }

    /// The file, if there is one.
    pub(crate) fn path(&self) -> Option<PathBuf> {
        file(self.file.clone(), &self.environment)
    }
}

/// Where the configuration file is: the flag, else `CAUSEWAY_CONFIG`, else none.
pub(crate) fn file(flag: Option<PathBuf>, environment: &Environment) -> Option<PathBuf> {
    flag.or_else(|| environment.get("CAUSEWAY_CONFIG").map(PathBuf::from))
}
