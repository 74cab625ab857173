//! The directory: one small document that all processes share, such as the tenants that were added at run time.
//!
//! The store keeps it as opaque text.

/// The latest directory.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Directory {
    /// A random number that changes with every write; 0 for a directory that was never written. It is no counter,
    /// because a store that lost its data must not reach the same number by other writes.
    pub version: u64,
    /// The document.
    pub text: String,
}
