//! The settings of the HTTP API, with their defaults.

use std::time::Duration;

use causeway_queue::{LaneName, address::Allowed};

use crate::{
    direct::DirectSource,
    forward::FORWARDED,
    model_cache::{Model, ModelsSource},
};

/// The settings of the API.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Longest request body, in bytes. Default 20 MiB.
    pub max_body_bytes: usize,
    /// Memory for all request bodies in flight, in bytes, and the same again for answers that clients have not read
    /// yet. Small ones, up to 64 KiB, have additional memory of the same size. With tenants, each may use half. At
    /// least `max_body_bytes`. Default 128 MiB.
    pub max_body_memory: usize,
    /// Most concurrent connections. Default 16,384.
    pub max_connections: usize,
    /// Host names of this server besides those of loopback, `*` for any. Without tenants, a request for any other
    /// host is refused. `None` if the server listens beyond loopback: all names are valid then. Default: `None`.
    pub hosts: Option<Vec<String>>,
    /// The time for which all requests are served after the stop signal, while `/readyz` answers 503. Default 0.
    pub drain_pause: Duration,
    /// The time for which calls may continue after the stop signal. Default 30 s.
    pub drain: Duration,
    /// True if other processes serve the same store, so clients can continue there. Default: false.
    pub hands_over: bool,
    /// Longest wait that a client may request. Default 120 s.
    pub max_wait: Duration,
    /// Longest time that an SDK call is pending, unless its client leaves before. Default 11 min, because SDKs wait
    /// for 10 min.
    pub hold: Duration,
    /// Most jobs in one call. Default 10,000.
    pub max_jobs_per_call: usize,
    /// Longest delay and furthest deadline of a job. Default 30 days.
    pub max_delay: Duration,
    /// The lifetime of an idempotency key. Default 24 h.
    pub idempotency_ttl: Duration,
    /// The interval of keep-alive comments in a silent event stream. Default 15 s.
    pub ping: Duration,
    /// Headers of calls that upstreams receive. See [`FORWARDED`] for the format and the default.
    pub forward_headers: Vec<String>,
    /// Origins whose pages may call, such as `https://app.example.org`; `*` for all. Default: none. Without any,
    /// all origins may call a server with tenants, and none a server without.
    pub cors_origins: Vec<String>,
    /// Lanes that this process simulates. Default: none.
    pub simulated_lanes: Vec<LaneName>,
    /// The models of `GET /v1/models`.
    pub models: Vec<Model>,
    /// Replaces `models` if the configuration contains none. While it fails, `models` is returned.
    pub models_source: Option<ModelsSource>,
    /// The sender of direct calls; `None` if this process calls no upstream.
    pub direct: Option<DirectSource>,
    /// True if this process has no list of models, so it refuses no model. Default: false.
    pub serves_any_model: bool,
    /// The lifetime of a conversation of responses after its latest turn. At most the retention of ended jobs,
    /// because these contain its items. Default 24 h.
    pub conversation_memory: Duration,
    /// The settings of the chat bridge.
    pub bridge: BridgeSettings,
    /// The settings of webhooks.
    pub webhooks: WebhookSettings,
}

/// The rules for webhooks of jobs.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct WebhookSettings {
    /// Receivers that are not public addresses. Default: none.
    pub allowed: Allowed,
    /// True if there is a secret that signs the events of every tenant. A tenant may have its own instead.
    pub signs: bool,
}

/// The settings of the chat bridge.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BridgeSettings {
    /// The time that a message waits for its answer before its client gets the path to poll. Default 25 s: bridge
    /// clients time out after 30 s.
    pub wait: Duration,
    /// Number of exchanges that are stored for a user. Default 20.
    pub turns: u32,
    /// The lifetime of a conversation after its latest message. Default 24 h.
    pub memory: Duration,
    /// The model of the answers. Default `default`.
    pub model: String,
    /// Most tokens of an answer, sent to the upstream as `max_tokens`; `None` for the model's own limit. Default
    /// 300, so that ten users of a small model get their answers within 30 s.
    pub max_tokens: Option<u32>,
    /// The system prompt.
    pub persona: String,
    /// Most messages of one user per `window`. Default 60.
    pub limit: u64,
    /// The window of `limit`. Default 60 s.
    pub window: Duration,
    /// Longest message, in characters. Default 32,000.
    pub max_message_chars: usize,
    /// Longest user or room name, in characters. Default 200.
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
