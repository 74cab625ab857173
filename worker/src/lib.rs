//! Causeway's worker: leases jobs, calls the models, settles the results.
//!
//! One process runs thousands of calls concurrently. Its loops: `consumer` claims and settles (one loop per shard),
//! `heartbeat` extends the leases, `presence` keeps the worker's entry in the registry, `reaper` recovers the leases
//! of lost workers, `outbox_relay` enqueues the deliveries of webhook events. `attempt` is one call from its lease to
//! its outcome; `disposition` decides the consequence of a failure. This crate does not know the HTTP API.

mod assembly;
mod attempt;
#[cfg(test)]
mod barrier_backend;
mod cause;
mod chunk;
mod consumer;
mod conversation;
mod delivery;
mod describe;
mod disposition;
mod emitter;
mod failure;
mod heartbeat;
mod interrupt;
mod loop_health;
mod measure;
mod offload;
mod outbox_relay;
mod presence;
mod reaper;
mod schedule;
mod settings;
mod stop;
pub mod upstream;
mod verdict;
mod webhook_event;
mod worker;

pub use disposition::Disposition;
pub use failure::{ErrorResponse, Failure, NoAnswer};
pub use loop_health::LoopHealth;
pub use measure::describe_metrics;
pub use schedule::MAX_BASE as MAX_RETRY_BASE;
pub use settings::{CallTimeouts, DeliverySettings, WorkerSettings};
pub use stop::{Stop, StopHandle};
pub use upstream::{
    Address, Answer, AnswerMemory, Call, CallTarget, CheckResult, ForwardFailure, ForwardedAnswer,
    InvalidAddress, InvalidProxy, InvalidTls, InvalidUpstream, InvalidVariable, ListedModel,
    OpenAi, Proxy, ProxyVariables, Share, Sink, StreamEvent, TlsFiles, Upstream, UpstreamClient,
    UpstreamSecret, UpstreamSettings, WithResponses,
    simulated::{FailureMix, SimulatedSettings, SimulatedUpstream},
    webhook::{Deliverer, InvalidSecret, Signing, WebhookSecret},
};
pub use worker::{Drained, Worker};
