//! The worker's settings, each with its default.

use std::time::Duration;

use causeway_queue::retry::Backoff;

/// The settings of a worker.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WorkerSettings {
    /// The name of the worker for people. Default: `worker`.
    pub name: String,
    /// Most concurrent calls. Default 256.
    pub concurrency: usize,
    /// Duration of a lease, which is extended every third of it. A dead worker's jobs run again after this time.
    /// Default 15 s.
    pub lease: Duration,
    /// Time for running calls to finish after the worker starts to drain; then they are handed back. Default 30 s.
    pub drain: Duration,
    /// Delays between the attempts of a job.
    pub backoff: Backoff,
    /// Time-outs of one call.
    pub timeouts: CallTimeouts,
    /// Time for which chunks of a stream are collected before they are stored. Default 50 ms.
    pub emit_window: Duration,
    /// Largest answer of an upstream, in bytes. Default 32 MiB.
    pub max_response_bytes: usize,
    /// Memory of all answers in flight, in bytes; beyond it, calls wait before they read on. Default 1 GiB.
    pub max_response_memory: usize,
    /// Deliveries to webhooks.
    pub webhooks: DeliverySettings,
    /// Interval of the search for expired leases. Default 1 s.
    pub reap_every: Duration,
    /// Interval at which the store's counters are reconciled. Default 60 s.
    pub reconcile_every: Duration,
}

impl Default for WorkerSettings {
    fn default() -> Self {
        Self {
            name: "worker".to_owned(),
            concurrency: 256,
            lease: Duration::from_secs(15),
            drain: Duration::from_secs(30),
            backoff: Backoff::default(),
            timeouts: CallTimeouts::default(),
            emit_window: Duration::from_millis(50),
            max_response_bytes: 32 << 20,
            max_response_memory: 1 << 30,
            webhooks: DeliverySettings::default(),
            reap_every: Duration::from_secs(1),
            reconcile_every: Duration::from_secs(60),
        }
    }
}

/// The settings of webhook deliveries.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DeliverySettings {
    /// Most concurrent deliveries, in addition to the calls. Default 256.
    pub concurrency: usize,
    /// Delay before the second attempt; later delays are multiples of it. Default, and at most, 5 s.
    pub retry_base: Duration,
}

impl Default for DeliverySettings {
    fn default() -> Self {
        Self { concurrency: 256, retry_base: crate::webhook::schedule::MAX_BASE }
    }
}

/// The time-outs of one call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CallTimeouts {
    /// Until the connection is established. Default 5 s.
    pub connect: Duration,
    /// From the connection to the first byte of the answer. Default 120 s.
    pub first_byte: Duration,
    /// Between two pieces of the answer; it detects an upstream that is silent with its connection open. Default 60 s.
    pub between_bytes: Duration,
    /// For the whole call. Default 600 s.
    pub total: Duration,
}

impl Default for CallTimeouts {
    fn default() -> Self {
        Self {
            connect: Duration::from_secs(5),
            first_byte: Duration::from_secs(120),
            between_bytes: Duration::from_secs(60),
            total: Duration::from_secs(600),
        }
    }
}
