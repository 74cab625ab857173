//! The sections of the configuration. The variable of each setting is `CAUSEWAY_<SECTION>_<KEY>`,
//! e.g. `CAUSEWAY_BRIDGE_WAIT`.

use std::{
    net::{IpAddr, Ipv4Addr},
    path::PathBuf,
    time::Duration,
};

use causeway_api::FORWARDED;
use serde::{Deserialize, Serialize};

use super::{comma_list, duration};
use crate::memory;

/// `[log]`: messages on standard error.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct LogSection {
    /// The messages to write: a level (`error`, `warn`, `info`, `debug`, `trace`) or a list such as
    /// `info,causeway_worker=debug`. The Redis client logs errors only, unless the list names it.
    /// Default: `info`. `--log-filter`, `CAUSEWAY_LOG_FILTER`.
    pub(crate) filter: String,
    /// The format of messages: `text` or `json`. Default: `text`. `--log-format`,
    /// `CAUSEWAY_LOG_FORMAT`.
    pub(crate) format: LogFormat,
}

/// The format of messages.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub(crate) enum LogFormat {
    Text,
    Json,
}

impl Default for LogSection {
    fn default() -> Self {
        Self { filter: "info".to_owned(), format: LogFormat::Text }
    }
}

/// `[api]`: limits of the HTTP API.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct ApiSection {
    /// The longest request body, in bytes, 1 KiB to 1 GiB. Default: 20 MiB.
    /// `CAUSEWAY_API_MAX_BODY_BYTES`.
    pub(crate) max_body_bytes: usize,
    /// The memory of all request bodies in flight, in bytes, at least 1 KiB, and as much again for
    /// answers that clients have not read yet. If there are tenants, one tenant gets at most half.
    /// Default: an eighth of the machine's memory, but 32 MiB to 128 MiB.
    /// `CAUSEWAY_API_MAX_BODY_MEMORY`.
    pub(crate) max_body_memory: usize,
    /// The most connections at once, 1 to 1,000,000; fewer if the limit of open files is low.
    /// Default: 16,384. `CAUSEWAY_API_MAX_CONNECTIONS`.
    pub(crate) max_connections: usize,
    /// The host names of this server, in addition to `localhost` and loopback addresses; `*`
    /// permits any. Requests for other names are refused if there is no tenant, except when `bind`
    /// is beyond loopback and this list is empty. Default: none. `CAUSEWAY_API_HOSTS`.
    #[serde(deserialize_with = "comma_list::deserialize")]
    pub(crate) hosts: Vec<String>,
    /// The time for which an API process with a Redis still accepts connections after the signal to
    /// stop, while `/readyz` already answers 503, 0 to 1 d. It must be longer than a load balancer
    /// takes to notice. Default: 5 s. `CAUSEWAY_API_DRAIN_PAUSE`.
    #[serde(with = "duration")]
    pub(crate) drain_pause: Duration,
    /// The longest wait for an answer that a client may request, 0 to 1 d. Default: 2 min.
    /// `CAUSEWAY_API_MAX_WAIT`.
    #[serde(with = "duration")]
    pub(crate) max_wait: Duration,
    /// The longest time that an SDK's call stays open while its job waits or runs, 1 s to 1 d.
    /// Default: 11 min, as SDKs time out after 10 min. `CAUSEWAY_API_HOLD`.
    #[serde(with = "duration")]
    pub(crate) hold: Duration,
    /// The most jobs in one call, 1 to 10,000. Default: 10,000. `CAUSEWAY_API_MAX_JOBS_PER_CALL`.
    pub(crate) max_jobs_per_call: usize,
    /// The longest delay of a job, up to 3,650 d. Default: 30 d. `CAUSEWAY_API_MAX_DELAY`.
    #[serde(with = "duration")]
    pub(crate) max_delay: Duration,
    /// The time for which an idempotency key is remembered, up to 3,650 d. Default: 24 h.
    /// `CAUSEWAY_API_IDEMPOTENCY`.
    #[serde(with = "duration")]
    pub(crate) idempotency: Duration,
    /// The interval of pings on a silent event stream, 100 ms to 1 d. Default: 15 s.
    /// `CAUSEWAY_API_PING`.
    #[serde(with = "duration")]
    pub(crate) ping: Duration,
    /// The request headers that are forwarded to upstreams; `*` at the end of a name matches any
    /// rest. Credentials and `content-*` headers are never forwarded. Default: those of the OpenAI
    /// and Anthropic SDKs and of trace contexts. `CAUSEWAY_API_FORWARD_HEADERS`.
    #[serde(deserialize_with = "comma_list::deserialize")]
    pub(crate) forward_headers: Vec<String>,
    /// The origins of web pages that may call the API; `*` permits all. Default: all if there are
    /// tenants, else none. `CAUSEWAY_API_CORS_ORIGINS`.
    #[serde(deserialize_with = "comma_list::deserialize")]
    pub(crate) cors_origins: Vec<String>,
}

impl Default for ApiSection {
    fn default() -> Self {
        Self {
            max_body_bytes: 20 << 20,
            max_body_memory: memory::share_of_bodies(),
            max_connections: 16_384,
            hosts: Vec::new(),
            drain_pause: Duration::from_secs(5),
            max_wait: Duration::from_secs(120),
            hold: Duration::from_secs(660),
            max_jobs_per_call: 10_000,
            max_delay: Duration::from_secs(30 * 86_400),
            idempotency: Duration::from_secs(86_400),
            ping: Duration::from_secs(15),
            forward_headers: FORWARDED.map(str::to_owned).to_vec(),
            cors_origins: Vec::new(),
        }
    }
}

/// `[bridge]`: the chat bridge.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct BridgeSection {
    /// The time that a message waits for its answer before the bridge replies with the address to
    /// poll, 0 to 1 d. Default: 25 s, below the 30 s after which bridge clients give up.
    /// `CAUSEWAY_BRIDGE_WAIT`.
    #[serde(with = "duration")]
    pub(crate) wait: Duration,
    /// The model that answers. Default: `default`. `CAUSEWAY_BRIDGE_MODEL`.
    pub(crate) model: String,
    /// The most tokens of an answer, sent upstream as `max_tokens`; 0 leaves the limit to the
    /// model. Default: 300, with which a small model answers ten users within the 30 s that bridge
    /// clients wait. `CAUSEWAY_BRIDGE_MAX_TOKENS`.
    pub(crate) max_tokens: u32,
    /// The number of exchanges that a user's conversation keeps, 0 to 1,000. Default: 20.
    /// `CAUSEWAY_BRIDGE_TURNS`.
    pub(crate) turns: u32,
    /// The time after its last message at which a conversation is deleted, 1 s to 365 d. Default:
    /// 24 h. `CAUSEWAY_BRIDGE_MEMORY`.
    #[serde(with = "duration")]
    pub(crate) memory: Duration,
    /// A text file with the persona (the system prompt). Default: a short neutral one.
    /// `CAUSEWAY_BRIDGE_PERSONA_FILE`.
    pub(crate) persona_file: Option<PathBuf>,
    /// The number of messages that one user may send per `window`, at least 1. Default: 60.
    /// `CAUSEWAY_BRIDGE_LIMIT`.
    pub(crate) limit: u64,
    /// The window of `limit`, 1 s to 1 d. Default: 60 s. `CAUSEWAY_BRIDGE_WINDOW`.
    #[serde(with = "duration")]
    pub(crate) window: Duration,
}

impl Default for BridgeSection {
    fn default() -> Self {
        Self {
            wait: Duration::from_secs(25),
            model: "default".to_owned(),
            max_tokens: 300,
            turns: 20,
            memory: Duration::from_secs(86_400),
            persona_file: None,
            limit: 60,
            window: Duration::from_secs(60),
        }
    }
}

/// `[timeouts]`: the time-outs of one call to an upstream, each 1 ms to 1 d.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct TimeoutsSection {
    /// The time until the connection is established. Default: 5 s. `CAUSEWAY_TIMEOUTS_CONNECT`.
    #[serde(with = "duration")]
    pub(crate) connect: Duration,
    /// The time until the first byte of the answer. Default: 2 min. `CAUSEWAY_TIMEOUTS_FIRST_BYTE`.
    #[serde(with = "duration")]
    pub(crate) first_byte: Duration,
    /// The time between two pieces of the answer. Default: 60 s. `CAUSEWAY_TIMEOUTS_BETWEEN_BYTES`.
    #[serde(with = "duration")]
    pub(crate) between_bytes: Duration,
    /// The time of the whole call. Default: 10 min. `CAUSEWAY_TIMEOUTS_TOTAL`.
    #[serde(with = "duration")]
    pub(crate) total: Duration,
}

impl Default for TimeoutsSection {
    fn default() -> Self {
        Self {
            connect: Duration::from_secs(5),
            first_byte: Duration::from_secs(120),
            between_bytes: Duration::from_secs(60),
            total: Duration::from_secs(600),
        }
    }
}

/// `[retry]`: the delay before the next attempt of a job, unless the upstream names one. It is
/// drawn evenly between zero and `base * 2^(attempt - 1)`, at most `max`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct RetrySection {
    /// The longest delay after the first attempt, 1 ms to 1 d. Default: 500 ms.
    /// `CAUSEWAY_RETRY_BASE`.
    #[serde(with = "duration")]
    pub(crate) base: Duration,
    /// The longest delay after any attempt, `base` to 1 d. Default: 60 s. `CAUSEWAY_RETRY_MAX`.
    #[serde(with = "duration")]
    pub(crate) max: Duration,
}

impl Default for RetrySection {
    fn default() -> Self {
        Self { base: Duration::from_millis(500), max: Duration::from_secs(60) }
    }
}

/// `[simulated]`: the upstream with made-up answers, in lanes without an upstream and in `causeway
/// simulate`, where each key is also a flag (`--first-token` and so on). Shares are between 0 and
/// 1, and their sum is at most 1.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct SimulatedSection {
    /// The address on which `causeway simulate` listens. Default: `127.0.0.1`.
    /// `CAUSEWAY_SIMULATED_HOST`.
    pub(crate) host: IpAddr,
    /// The port of `causeway simulate`; 0 takes a free one. Default: 9100.
    /// `CAUSEWAY_SIMULATED_PORT`.
    pub(crate) port: u16,
    /// The time until the first token. Default: 200 ms. `CAUSEWAY_SIMULATED_FIRST_TOKEN`.
    #[serde(with = "duration")]
    pub(crate) first_token: Duration,
    /// The tokens per second after the first, more than 0. Default: 50.
    /// `CAUSEWAY_SIMULATED_TOKENS_PER_SECOND`.
    pub(crate) tokens_per_second: f64,
    /// The number of tokens of an answer, unless the request allows fewer, 1 to 1,000,000. Default:
    /// 64. `CAUSEWAY_SIMULATED_TOKENS`.
    pub(crate) tokens: u32,
    /// The duration of every whole call, which replaces `first_token` and `tokens_per_second`.
    /// Default: not fixed. `CAUSEWAY_SIMULATED_CALL`.
    #[serde(with = "duration::optional")]
    pub(crate) call: Option<Duration>,
    /// Makes each token its number and its due time instead of a word, for `causeway bench
    /// streams`. Default: `false`. `CAUSEWAY_SIMULATED_STAMPS`.
    pub(crate) stamps: bool,
    /// The seed of the failures: the same seed gives the same failures. Default: 1.
    /// `CAUSEWAY_SIMULATED_SEED`.
    pub(crate) seed: u64,
    /// The share of calls that are refused with 429 and `Retry-After`. Default: 0.
    /// `CAUSEWAY_SIMULATED_RATE_LIMITED`.
    pub(crate) rate_limited: f64,
    /// The `Retry-After` of refused calls. Default: 1 s. `CAUSEWAY_SIMULATED_RETRY_AFTER`.
    #[serde(with = "duration")]
    pub(crate) retry_after: Duration,
    /// The share of calls that fail with 500. Default: 0. `CAUSEWAY_SIMULATED_ERRORS`.
    pub(crate) errors: f64,
    /// The share of calls that never answer. Default: 0. `CAUSEWAY_SIMULATED_HANGS`.
    pub(crate) hangs: f64,
    /// The share of calls that are cut off in the middle of the answer. Default: 0.
    /// `CAUSEWAY_SIMULATED_CUTS`.
    pub(crate) cuts: f64,
}

impl Default for SimulatedSection {
    fn default() -> Self {
        Self {
            host: IpAddr::V4(Ipv4Addr::LOCALHOST),
            port: 9100,
            first_token: Duration::from_millis(200),
            tokens_per_second: 50.0,
            tokens: 64,
            call: None,
            stamps: false,
            seed: 1,
            rate_limited: 0.0,
            retry_after: Duration::from_secs(1),
            errors: 0.0,
            hangs: 0.0,
            cuts: 0.0,
        }
    }
}

/// `[client]`: the server that `submit`, `watch`, `jobs`, `lane`, `tenant` and `worker list` call.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct ClientSection {
    /// The address of Causeway. Default: `http://127.0.0.1:4004`. `--url`, `CAUSEWAY_CLIENT_URL`.
    pub(crate) url: String,
    /// The environment variable that holds the key to send. Default: none. `--key-env`,
    /// `CAUSEWAY_CLIENT_KEY_ENV`.
    pub(crate) key_env: Option<String>,
}

impl Default for ClientSection {
    fn default() -> Self {
        Self { url: "http://127.0.0.1:4004".to_owned(), key_env: None }
    }
}
