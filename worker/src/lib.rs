//! Causeway's worker: leases jobs, calls the models, settles the results.
//!
//! One process runs thousands of calls concurrently. `loops` has what repeats: `consumer` claims and settles (one loop
//! per shard), `heartbeat` extends the leases, `presence` keeps the worker's entry in the registry, `reaper` recovers
//! the leases of lost workers. `attempt` is one call from its lease to its outcome; `attempt::disposition` names the
//! consequence of a failure. `webhook` has the outbox relay, which enqueues the deliveries of events, and the upstream
//! that sends them. This crate does not know the HTTP API.

mod assembly;
mod attempt;
#[cfg(test)]
mod barrier_backend;
mod failure;
mod loops;
mod settings;
mod stop;
pub mod upstream;
mod webhook;
mod worker;

pub use attempt::{disposition::Disposition, measure::describe_metrics};
pub use failure::{ErrorResponse, Failure, NoAnswer};
pub use loops::loop_health::LoopHealth;
pub use settings::{CallTimeouts, DeliverySettings, WorkerSettings};
pub use stop::{Stop, StopHandle};
pub use upstream::{
    Address, Answer, AnswerMemory, Call, CallTarget, CheckResult, ForwardFailure, ForwardedAnswer,
    InvalidAddress, InvalidProxy, InvalidTls, InvalidUpstream, InvalidVariable, ListedModel,
    OpenAi, Proxy, ProxyVariables, Share, Sink, StreamEvent, TlsFiles, Upstream, UpstreamClient,
    UpstreamSecret, UpstreamSettings, WithResponses,
    simulated::{FailureMix, SimulatedSettings, SimulatedUpstream},
};
pub use webhook::{
    deliverer::Deliverer,
    schedule::MAX_BASE as MAX_RETRY_BASE,
    secret::{InvalidSecret, Signing, WebhookSecret},
};
pub use worker::{Drained, Worker};
