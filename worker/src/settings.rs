//! The worker's bounds, each with its default.

use std::time::Duration;

use causeway_queue::retry::Backoff;

/// How a worker works.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    /// The name by which people know the worker. Default: `worker`.
    pub name: String,
    /// Most calls at once. Default 256.
    pub concurrency: usize,
    /// How long a lease lasts unless it is extended; it is extended three times as often. After a
    /// worker's death its jobs run again when this has passed. Default 15 s.
    pub lease: Duration,
    /// How long running calls may go on after the worker was asked to stop; what is left then is
    /// handed back. Default 30 s.
    pub drain: Duration,
    /// How long to wait between attempts.
    pub backoff: Backoff,
    /// Time-outs of one call.
    pub timeouts: Timeouts,
    /// How long pieces of a stream are gathered before they are stored. Default 50 ms.
    pub emit_window: Duration,
    /// Largest answer of an upstream, in bytes. Default 32 MiB.
    pub max_response_bytes: usize,
    /// Memory of all answers in flight, in bytes: beyond, calls wait before they read on. Default 1 GiB.
    pub max_response_memory: usize,
    /// Deliveries to webhooks.
    pub webhooks: WebhookSettings,
    /// How often expired leases are looked for. Default 1 s.
    pub reap_every: Duration,
    /// How often the store is recounted. Default 60 s.
    pub reconcile_every: Duration,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            name: "worker".to_owned(),
            concurrency: 256,
            lease: Duration::from_secs(15),
            drain: Duration::from_secs(30),
            backoff: Backoff::default(),
            timeouts: Timeouts::default(),
            emit_window: Duration::from_millis(50),
            max_response_bytes: 32 << 20,
            max_response_memory: 1 << 30,
            webhooks: WebhookSettings::default(),
            reap_every: Duration::from_secs(1),
            reconcile_every: Duration::from_secs(60),
        }
    }
}

/// How events are delivered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct WebhookSettings {
    /// Most deliveries at once, apart from calls. Default 256.
    pub concurrency: usize,
    /// Until the second attempt; all later delays are multiples of it. At most, and by default, 5 s.
    pub retry_base: Duration,
}

impl Default for WebhookSettings {
    fn default() -> Self {
        Self { concurrency: 256, retry_base: crate::schedule::MAX_BASE }
    }
}

/// How long one call may take, part by part.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Timeouts {
    /// Until the connection stands. Default 5 s.
    pub connect: Duration,
    /// From then until the answer begins. Default 120 s.
    pub first_byte: Duration,
    /// Between two pieces of the answer: an upstream can fall silent with its socket open.
    /// Default 60 s.
    pub between_bytes: Duration,
    /// Of the whole call. Default 600 s.
    pub total: Duration,
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
