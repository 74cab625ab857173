//! The traits that both engines implement, and their types. [`Backend`] is all of them.
//!
//! Every operation is one atomic transition of one shard. The documentation of an operation is its promise; the crate
//! `causeway-conformance` checks the promises on every backend.

mod administration;
mod conversations;
mod directory_store;
mod orphans;
mod outbox;
mod registry;
mod transitions;
mod views;

use std::sync::Arc;

pub use self::{
    administration::Administration,
    conversations::Conversations,
    directory_store::DirectoryStore,
    orphans::Orphans,
    outbox::Outbox,
    registry::WorkerRegistry,
    transitions::{Emission, Reaped, Repairs, Transitions, wait_then_claim},
    views::{ListQuery, MAX_LOOKED_AT, MAX_PAGE, Page, Stats, Views},
};
use crate::news::Switchboard;

/// One store.
pub trait Backend:
    Transitions
    + Views
    + Administration
    + Conversations
    + Outbox
    + Orphans
    + WorkerRegistry
    + DirectoryStore
{
    /// Returns the switchboard that receives the news of all shards.
    fn news(&self) -> &Arc<Switchboard>;
}
