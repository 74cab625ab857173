//! Lanes.

use crate::id::LaneName;

/// A lane: a pool of upstreams that is rate limited together.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Lane {
    /// The name.
    pub name: LaneName,
    /// The models that are routed to it; the first lane also serves every other model.
    pub models: Vec<String>,
    /// The number of its shards, at least 1.
    pub shards: u16,
}

impl Lane {
    /// Returns a lane of one shard that serves every model.
    #[must_use]
    pub fn named(name: LaneName) -> Self {
        Self { name, models: Vec::new(), shards: 1 }
    }
}
