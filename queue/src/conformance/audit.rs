//! An audit of a store's data.

use crate::{
    embedded::Embedded,
    error::Error,
    id::{JobId, Shard},
    redis::RedisStore,
};

/// The result of an audit.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Audit {
    /// The violated invariants, in words; empty in a sound store.
    pub faults: Vec<String>,
    /// The shard's virtual time, which never decreases.
    pub vtime: f64,
}

impl Embedded {
    /// Checks the invariants of a shard.
    #[must_use]
    pub fn audit(&self, shard: &Shard) -> Audit {
        self.inspect(shard)
    }

    /// Returns the names of all data of a shard, visible or not, sorted: `job:…`, `tenant:…`, `key:…` and `talk:…`.
    #[must_use]
    pub fn kept(&self, shard: &Shard) -> Vec<String> {
        self.names(shard)
    }

    /// Adds one to the counts of running jobs, of the lane and of each tenant: for `reconcile` to repair.
    pub fn miscount(&self, shard: &Shard) {
        self.spoil(shard);
    }
}

impl RedisStore {
    /// Checks the invariants of a shard in which these jobs were accepted. Reads all of it.
    ///
    /// # Errors
    /// If the store does not answer.
    pub async fn audit(&self, shard: &Shard, jobs: &[JobId]) -> Result<Audit, Error> {
        let mut faults = self.inspect(shard, jobs).await?;
        let vtime = faults.pop().unwrap_or_default();
        let vtime = vtime.strip_prefix("vtime ").and_then(|number| number.parse().ok());
        Ok(Audit { faults, vtime: vtime.unwrap_or(f64::NAN) })
    }
}
