//! The registry of workers.

use std::fmt;

use async_trait::async_trait;

use crate::{
    error::Error,
    workers::{RegisteredWorker, WorkerId, WorkerReport},
};

/// The registry of worker processes, which belongs to no shard.
#[async_trait]
pub trait WorkerRegistry: fmt::Debug + Send + Sync {
    /// Writes the entry of a worker process into the registry, which belongs to no shard. `false`: the registry has
    /// [`MAX_WORKERS`](crate::workers::MAX_WORKERS) entries and accepts no new one.
    async fn beat_worker(&self, id: &WorkerId, report: &WorkerReport) -> Result<bool, Error>;

    /// Removes the entry of a worker process that has stopped.
    async fn remove_worker(&self, id: &WorkerId) -> Result<(), Error>;

    /// Returns the entries of the registry in the order of their ids, without those that were silent for
    /// [`FORGET_AFTER`](crate::workers::FORGET_AFTER).
    async fn workers(&self) -> Result<Vec<RegisteredWorker>, Error>;
}
