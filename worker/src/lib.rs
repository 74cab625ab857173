//! Causeway's worker: leases jobs, calls the models, settles what came of it.
//!
//! One process runs thousands of calls at once. `consumer` claims and settles, one loop a shard;
//! `heartbeat` keeps the leases; `reaper` takes back those of dead workers; `attempt` is one
//! call from its lease to its outcome, and `disposition` decides what a failure means. This crate
//! knows no HTTP status of ours and never sees the API.

mod assembly;
mod attempt;
mod consumer;
mod conversation;
mod disposition;
mod emitter;
mod heartbeat;
mod interrupt;
mod reaper;
mod scout;
mod settings;
mod stop;
pub mod upstream;
mod worker;

pub use disposition::{Disposition, disposition};
pub use settings::{Settings, Timeouts};
pub use stop::{Stop, StopHandle};
pub use upstream::{
    Answer, Call, Failure, OpenAi, Refusal, Secret, Sink, Upstream, WithResponses,
    simulated::{FailureMix, Simulated, SimulatedSettings},
};
pub use worker::{Drained, Health, Worker};
