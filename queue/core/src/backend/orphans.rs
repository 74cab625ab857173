//! Orphans.

use std::{fmt, time::Duration};

use async_trait::async_trait;

use crate::{
    error::Error,
    id::{JobId, Shard},
    orphan::CallKey,
};

/// The jobs of calls whose clients left and may retry.
#[async_trait]
pub trait Orphans: fmt::Debug + Send + Sync {
    /// Keeps `job` as an orphan of `call` for `ttl`. A second call only changes the time.
    async fn put_orphan(&self, call: &CallKey, job: &JobId, ttl: Duration) -> Result<(), Error>;

    /// Takes the orphan of `call` in this shard that expires first. Each is taken once. Its job may never have been
    /// accepted.
    async fn take_orphan(&self, shard: &Shard, call: &CallKey) -> Result<Option<JobId>, Error>;

    /// Removes an orphan; `false` if it was taken or has expired.
    async fn remove_orphan(&self, call: &CallKey, job: &JobId) -> Result<bool, Error>;
}
