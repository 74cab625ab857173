//! The sections of the configuration, each field with its unit and default.
//! Variables: `CAUSEWAY_<SECTION>_<KEY>`, e.g. `CAUSEWAY_BRIDGE_WAIT`.

use std::{
    net::{IpAddr, Ipv4Addr},
    path::PathBuf,
    time::Duration,
};

use causeway_api::FORWARDED;
use serde::{Deserialize, Serialize};

use super::{list, span};
use crate::memory;

/// `[log]`: what is told on standard error.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Log {
    /// Which messages: a level (`error` … `trace`) or a list such as
    /// `info,causeway_worker=debug`. Default `info`.
    pub(crate) filter: String,
    /// `text` for people, `json` for machines. Default `text`.
    pub(crate) format: LogFormat,
}

/// How messages are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub(crate) enum LogFormat {
    Text,
    Json,
}

impl Default for Log {
    fn default() -> Self {
        Self { filter: "info".to_owned(), format: LogFormat::Text }
    }
}

/// `[api]`: bounds of the HTTP surface.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Api {
    /// Longest request body, in bytes. Default 20 MiB.
    pub(crate) max_body_bytes: usize,
    /// Memory of all request bodies in flight, in bytes, and as much of answers that clients have not taken yet;
    /// where there are tenants one may have half. Default: an eighth of the memory, 32 MiB to 128 MiB.
    pub(crate) max_body_memory: usize,
    /// Most connections at once; fewer where the limit of open files is low. Default 16,384.
    pub(crate) max_connections: usize,
    /// Names of this server beside `localhost` and loopback addresses, `*` for any. Only without tenants another name
    /// is refused, and unless `bind` is beyond loopback. Default: none.
    #[serde(deserialize_with = "list::deserialize")]
    pub(crate) hosts: Vec<String>,
    /// How long an API over Redis goes on accepting connections after the signal to stop, while `/readyz` answers
    /// 503 already: longer than load balancers take to notice, and than clients pause between two requests. Default 5 s.
    #[serde(with = "span")]
    pub(crate) drain_pause: Duration,
    /// Longest that a client may ask to wait for an answer. Default 120 s.
    #[serde(with = "span")]
    pub(crate) max_wait: Duration,
    /// Longest that a call in the format of an SDK is held, where its client does not leave before. Default
    /// 11 min.
    #[serde(with = "span")]
    pub(crate) hold: Duration,
    /// Most jobs in one call. Default 10,000.
    pub(crate) max_jobs_per_call: usize,
    /// Longest delay of a job. Default 30 d.
    #[serde(with = "span")]
    pub(crate) max_delay: Duration,
    /// How long an idempotency key is remembered. Default 24 h.
    #[serde(with = "span")]
    pub(crate) idempotency: Duration,
    /// How often a silent event stream says that it lives. Default 15 s.
    #[serde(with = "span")]
    pub(crate) ping: Duration,
    /// Headers of calls that upstreams receive; `*` at the end of a name stands for any rest. Default: those of
    /// OpenAI's and Anthropic's SDKs and of trace contexts.
    #[serde(deserialize_with = "list::deserialize")]
    pub(crate) forward_headers: Vec<String>,
    /// Origins whose pages may call; `*` for all. Default: `*` with tenants, none without.
    #[serde(deserialize_with = "list::deserialize")]
    pub(crate) cors_origins: Vec<String>,
}

impl Default for Api {
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
pub(crate) struct Bridge {
    /// How long a message waits for its answer before it is told where to poll. Default 25 s:
    /// below the 30 s after which bridge clients give up.
    #[serde(with = "span")]
    pub(crate) wait: Duration,
    /// The model that answers. Default `default`.
    pub(crate) model: String,
    /// Most tokens of an answer, sent upstream as `max_tokens`. 0: the model's own bound. Default 300, so that ten
    /// users of a small model get their answers within the 30 s that bridge clients wait.
    pub(crate) max_tokens: u32,
    /// How many exchanges a user's conversation keeps. Default 20.
    pub(crate) turns: u32,
    /// How long after its last message a conversation is forgotten. Default 24 h.
    #[serde(with = "span")]
    pub(crate) memory: Duration,
    /// A text file with the persona (system prompt). Default: a short neutral one.
    pub(crate) persona_file: Option<PathBuf>,
    /// How many messages one user may send per `window`. Default 60.
    pub(crate) limit: u64,
    /// The window of `limit`. Default 60 s.
    #[serde(with = "span")]
    pub(crate) window: Duration,
}

impl Default for Bridge {
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

/// `[timeouts]`: of one call to the upstream.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Timeouts {
    /// Until the connection stands. Default 5 s.
    #[serde(with = "span")]
    pub(crate) connect: Duration,
    /// Until the answer begins. Default 120 s.
    #[serde(with = "span")]
    pub(crate) first_byte: Duration,
    /// Between two pieces of the answer. Default 60 s.
    #[serde(with = "span")]
    pub(crate) between_bytes: Duration,
    /// Of the whole call. Default 600 s.
    #[serde(with = "span")]
    pub(crate) total: Duration,
}

impl Default for Timeouts {
    fn default() -> Self {
        Self {
            connect: Duration::from_secs(5),
            first_byte: Duration::from_secs(120),
            between_bytes: Duration::from_secs(60),
            total: Duration::from_secs(600),
        }
    }
}

/// `[retry]`: how long to wait between attempts, drawn evenly from zero up to
/// `base * 2^(attempt - 1)`, at most `max`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Retry {
    /// Longest wait after the first attempt. Default 500 ms.
    #[serde(with = "span")]
    pub(crate) base: Duration,
    /// Longest wait after any. Default 60 s.
    #[serde(with = "span")]
    pub(crate) max: Duration,
}

impl Default for Retry {
    fn default() -> Self {
        Self { base: Duration::from_millis(500), max: Duration::from_secs(60) }
    }
}

/// `[simulated]`: the upstream whose answers are made up, in `up` without `--upstream` and in
/// `causeway simulate`. Shares lie between 0 and 1 and add up to at most 1.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Simulated {
    /// Where `causeway simulate` listens. Default 127.0.0.1.
    pub(crate) host: IpAddr,
    /// The port of `causeway simulate`; 0 takes a free one. Default 9100.
    pub(crate) port: u16,
    /// Until the first token. Default 200 ms.
    #[serde(with = "span")]
    pub(crate) first_token: Duration,
    /// Tokens per second after the first. Default 50.
    pub(crate) tokens_per_second: f64,
    /// Tokens of an answer, unless the request allows fewer. Default 64.
    pub(crate) tokens: u32,
    /// How long every call takes in all, whatever its tokens; replaces the two above. Default: not
    /// fixed.
    #[serde(with = "span::optional")]
    pub(crate) call: Option<Duration>,
    /// Whether each token is its number and the time at which it is due, for `causeway bench
    /// streams`, instead of a word. Default false.
    pub(crate) stamps: bool,
    /// What the failures are drawn by: the same seed, the same failures. Default 1.
    pub(crate) seed: u64,
    /// Share of calls that are refused with 429 and `Retry-After`. Default 0.
    pub(crate) rate_limited: f64,
    /// The `Retry-After` of those. Default 1 s.
    #[serde(with = "span")]
    pub(crate) retry_after: Duration,
    /// Share of calls that fail with 500. Default 0.
    pub(crate) errors: f64,
    /// Share of calls that stay silent for ever. Default 0.
    pub(crate) hangs: f64,
    /// Share of calls whose connection breaks in the middle of the answer. Default 0.
    pub(crate) cuts: f64,
}

impl Default for Simulated {
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

/// `[client]`: for `submit`, `watch` and `jobs`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Client {
    /// Where Causeway serves. Default `http://127.0.0.1:4004`.
    pub(crate) url: String,
    /// The environment variable that holds the key to present there. Default: none.
    pub(crate) key_env: Option<String>,
}

impl Default for Client {
    fn default() -> Self {
        Self { url: "http://127.0.0.1:4004".to_owned(), key_env: None }
    }
}
