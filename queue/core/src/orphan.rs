//! Orphans: jobs of callers that disconnected, or received a request to retry, and may retry.
//!
//! SDKs retry a call without an idempotency key. A retry takes one orphan of an equal call, and an orphan is taken
//! once, so callers of equal calls never share a job.

use std::fmt::Write as _;

use crate::id::TenantId;

/// The most orphans of equal calls that a store keeps; newer ones replace the oldest.
pub const MAX_ORPHANS: usize = 10_000;

/// The common key of equal calls of one tenant.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct CallKey {
    /// The tenant that calls.
    pub tenant: TenantId,
    /// SHA-256 of the request.
    pub digest: [u8; 32],
}

impl CallKey {
    /// Returns the digest as hexadecimal digits.
    #[must_use]
    pub fn hex(&self) -> String {
        self.digest.iter().fold(String::with_capacity(64), |mut hex, byte| {
            // Writing to a String never fails.
            let _infallible = write!(hex, "{byte:02x}");
            hex
        })
    }
}
