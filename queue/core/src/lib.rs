//! The queue of Causeway: jobs, leases, fair order and limits.
//!
//! The API and the worker use [`Queue`]. It calls one [`Backend`]: `causeway-embedded`, the executable specification, or
//! `causeway-redis`, where every transition is one script. This crate depends on no store, no HTTP and no model.

pub mod address;
pub mod attempt;
pub mod audit;
pub mod backend;
pub mod clock;
pub mod directory;
pub mod error;
pub mod event;
pub mod fair;
pub mod headers;
pub mod health;
pub mod id;
pub mod job;
pub mod json;
pub mod lane;
pub mod lease;
pub mod limits;
pub mod news;
pub mod orphan;
pub mod policy;
pub mod queue;
pub mod reader;
pub mod retry;
pub mod session;
pub mod state;
pub mod waiting;
pub mod webhook;
pub mod workers;

pub use backend::Backend;
pub use error::Error;
pub use event::{Event, EventKind};
pub use health::Fault;
pub use id::{IdempotencyKey, JobId, LaneName, SessionKey, Shard, TenantId};
pub use job::{Accepted, Job, NewJob, Spec};
pub use json::RawJson;
pub use lane::Lane;
pub use lease::{Lease, LeaseKey, Outcome, Settlement};
pub use policy::Policy;
pub use queue::Queue;
pub use state::{Class, Status};
pub use waiting::WaitingFor;
pub use webhook::Webhook;
