//! Causeway's worker: leases jobs, calls the models, settles the results.
//!
//! One process runs thousands of calls concurrently. Its loops: `consumer` claims and settles (one loop per shard),
//! `heartbeat` extends the leases, `presence` keeps the worker's entry in the registry, `reaper` recovers the leases
//! of lost workers, `outbox_relay` enqueues the deliveries of webhook events. `attempt` is one call from its lease to
//! its outcome; `disposition` decides the consequence of a failure. This crate does not know the HTTP API.

mod assembly;
mod attempt;
mod cause;
mod chunk;
mod consumer;
mod conversation;
mod outbox_relay;
mod delivery;
mod describe;
mod disposition;
mod emitter;
mod heartbeat;
mod interrupt;
mod offload;
mod measure;
#[cfg(test)]
mod barrier_backend;
mod webhook_event;
mod presence;
mod reaper;
mod schedule;
mod settings;
mod stop;
pub mod upstream;
mod worker;

pub use disposition::Disposition;
pub use measure::describe_metrics;
pub use schedule::MAX_BASE as MAX_RETRY_BASE;
pub use settings::{Settings, Timeouts, WebhookSettings};
pub use stop::{Stop, StopHandle};
pub use upstream::{
    Address, Answer, Call, CheckResult, Failure, InvalidAddress, InvalidProxy, InvalidTls,
    InvalidUpstream, InvalidVariable, ListedModel, Memory, NoAnswer, OpenAi, Passed, Place, Proxy,
    ProxyVariables, Refusal, Secret, Share, Sink, StreamEvent, TlsFiles, Unpassed, Upstream,
    UpstreamClient, UpstreamSettings, WithResponses,
    simulated::{FailureMix, Simulated, SimulatedSettings},
    webhook::{Deliverer, InvalidSecret, Signing, WebhookSecret},
};
pub use worker::{Drained, Health, Worker};
