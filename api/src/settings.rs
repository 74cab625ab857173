//! Bounds of the HTTP surface, each with its default.

use std::time::Duration;

use causeway_queue::{LaneName, address::Allowed};
use serde_json::{Map, Value};

use crate::{direct::DirectSource, forward::FORWARDED, models::ModelsSource};

/// How the API serves.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    /// Longest request body, in bytes. Default 20 MiB.
    pub max_body_bytes: usize,
    /// Memory of all request bodies in flight, in bytes; and as much of answers that clients have not taken yet. Twice:
    /// small ones, up to 64 KiB, are counted apart. A tenant may have half of each where there are tenants. At least
    /// `max_body_bytes`. Default 128 MiB.
    pub max_body_memory: usize,
    /// Most connections at once. Default 16,384.
    pub max_connections: usize,
    /// Names of this server beside those of loopback, `*` for any; a request for another is refused where there are no
    /// tenants. `None`: the server is meant to be reached by others, under any name. Default: `None`.
    pub hosts: Option<Vec<String>>,
    /// How long everything is served after the signal to stop, while `/readyz` answers 503 already. Default 0.
    pub drain_pause: Duration,
    /// How long calls may go on after that signal. Default 30 s.
    pub drain: Duration,
    /// True if other processes serve the same store, so that clients can go on there. Default: false.
    pub hands_over: bool,
    /// Longest that a client may ask to wait for an answer. Default 120 s.
    pub max_wait: Duration,
    /// Longest that a call in the format of an SDK is held, where its client does not leave before. Default
    /// 11 min: SDKs wait for 10 min.
    pub hold: Duration,
    /// Most jobs in one call. Default 10,000.
    pub max_jobs_per_call: usize,
    /// Longest delay and furthest deadline of a job. Default 30 days.
    pub max_delay: Duration,
    /// How long an idempotency key is remembered. Default 24 h.
    pub idempotency_ttl: Duration,
    /// How often a silent event stream says that it lives. Default 15 s.
    pub ping: Duration,
    /// Headers of calls that upstreams receive; see [`FORWARDED`] for the form and the default.
    pub forward_headers: Vec<String>,
    /// Origins whose pages may call, such as `https://app.example.org`; `*` for all. Default: none are named;
    /// then all may call a server with tenants, and none a server without.
    pub cors_origins: Vec<String>,
    /// Lanes that this process answers by simulation. Default: none.
    pub simulated_lanes: Vec<LaneName>,
    /// The models that are served, for `GET /v1/models`.
    pub models: Vec<Model>,
    /// Replaces `models` if the configuration names none; `models` is the answer while the source fails.
    pub models_source: Option<ModelsSource>,
    /// Sends the calls that go past the queue; `None` if this process calls no upstream.
    pub direct: Option<DirectSource>,
    /// True if this process knows no list of models at all: it then denies none. Default: false.
    pub serves_any_model: bool,
    /// How long after its latest turn a conversation of responses is forgotten; at most the time for which ended
    /// jobs are kept, as these are its items. Default 24 h.
    pub conversation_memory: Duration,
    /// The chat bridge.
    pub bridge: BridgeSettings,
    /// Webhooks.
    pub webhooks: WebhookSettings,
}

/// Which webhooks jobs may have.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct WebhookSettings {
    /// Receivers that are no public addresses. Default: none.
    pub allowed: Allowed,
    /// Whether there is a secret to sign the events of every tenant with; a tenant may have its own.
    pub signs: bool,
}

/// A model that is served.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Model {
    /// Its name.
    pub id: String,
    /// The lane, the owner that the upstream names, or `causeway-simulated`.
    pub owned_by: String,
    /// Further fields that the upstream lists for it.
    pub fields: Map<String, Value>,
}

/// How the chat bridge serves.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BridgeSettings {
    /// How long a message waits for its answer before it is told where to poll. Default 25 s:
    /// bridge clients give up at 30 s.
    pub wait: Duration,
    /// How many turns a user's conversation keeps. Default 20.
    pub turns: u32,
    /// How long after its last message a conversation is forgotten. Default 24 h.
    pub memory: Duration,
    /// The model that answers. Default `default`.
    pub model: String,
    /// Most tokens of an answer, sent upstream as `max_tokens`; `None`: the model's own limit. Default 300, so
    /// that ten users of a small model get their answers within the 30 s that bridge clients wait.
    pub max_tokens: Option<u32>,
    /// What the model is told about itself.
    pub persona: String,
    /// How many messages one user may send per `window`. Default 60.
    pub limit: u64,
    /// The window of `limit`. Default 60 s.
    pub window: Duration,
    /// Longest message, in characters. Default 32,000.
    pub max_message_chars: usize,
    /// Longest user name and room name, in characters. Default 200.
    pub max_name_chars: usize,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            max_body_bytes: 20 << 20,
            max_body_memory: 128 << 20,
            max_connections: 16_384,
            hosts: None,
            drain_pause: Duration::ZERO,
            drain: Duration::from_secs(30),
            hands_over: false,
            max_wait: Duration::from_secs(120),
            hold: Duration::from_secs(660),
            max_jobs_per_call: 10_000,
            max_delay: Duration::from_secs(30 * 24 * 3600),
            idempotency_ttl: Duration::from_secs(24 * 3600),
            ping: Duration::from_secs(15),
            forward_headers: FORWARDED.map(str::to_owned).to_vec(),
            cors_origins: Vec::new(),
            simulated_lanes: Vec::new(),
            models: Vec::new(),
            models_source: None,
            direct: None,
            serves_any_model: false,
            conversation_memory: Duration::from_secs(24 * 3600),
            bridge: BridgeSettings::default(),
            webhooks: WebhookSettings::default(),
        }
    }
}

impl Default for BridgeSettings {
    fn default() -> Self {
        Self {
            wait: Duration::from_secs(25),
            turns: 20,
            memory: Duration::from_secs(24 * 3600),
            model: "default".to_owned(),
            max_tokens: Some(300),
            persona: "You are a friendly companion in a shared world. Answer briefly.".to_owned(),
            limit: 60,
            window: Duration::from_secs(60),
            max_message_chars: 32_000,
            max_name_chars: 200,
        }
    }
}
