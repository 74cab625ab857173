//! Causeway's worker: leases jobs, calls the models, settles what came of it.
//!
//! One process runs thousands of calls at once. `consumer` claims and settles, one loop a shard;
//! `heartbeat` keeps the leases; `presence` the worker's entry in the registry; `reaper` takes back those of dead workers; `attempt` is one
//! call from its lease to its outcome, and `disposition` decides what a failure means. `courier` makes
//! deliveries of the ends that webhooks are to be told. This crate knows no HTTP status of ours and
//! never sees the API.

mod assembly;
mod attempt;
mod cause;
mod chunk;
mod consumer;
mod conversation;
mod courier;
mod delivery;
mod describe;
mod disposition;
mod emitter;
mod heartbeat;
mod interrupt;
mod long;
mod measure;
#[cfg(test)]
mod meeting;
mod notice;
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
