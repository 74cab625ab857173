//! The directory: one small document that all processes share, such as the tenants that were added at run time.
//!
//! The store keeps it whole and reads nothing of it.

/// The directory as it was written last.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Directory {
    /// A random number that changes with every write; 0 for a directory that was never written. Not a
    /// counter: a store that lost its data must not come to the same number by other writes.
    pub version: u64,
    /// The document.
    pub text: String,
}
