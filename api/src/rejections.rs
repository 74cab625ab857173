//! The counter of requests with a refused key.

use std::sync::{Mutex, PoisonError};

/// The counter of requests with a refused key.
#[derive(Debug, Default)]
pub(crate) struct Rejections(Mutex<Option<u64>>);

impl Rejections {
    /// Counts a request; returns true if it is the first of its period.
    pub(crate) fn count(&self) -> bool {
        let mut counted = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let further = counted.map(|further| further + 1);
        *counted = further.or(Some(0));
        further.is_none()
    }

    /// Ends the period; returns the number of requests after the first.
    pub(crate) fn take(&self) -> u64 {
        let mut counted = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        counted.take().unwrap_or(0)
    }
}
