//! The result of an audit of a store's data, for tests.

/// The result of an audit.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Audit {
    /// The violated invariants, in words; empty in a sound store.
    pub faults: Vec<String>,
    /// The shard's virtual time, which never decreases.
    pub vtime: f64,
}
