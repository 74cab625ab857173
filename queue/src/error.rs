//! What can go wrong between a caller and the queue.

use std::time::Duration;

use crate::{id::JobId, state::Status};

/// Why an operation of the queue was not done. Nothing is ever half done.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The store does not answer, or not in time, or refuses to. The operation may or may not have
    /// happened.
    #[error("the store is not available: {0}")]
    Unavailable(String),
    /// Too much waits already, or there are more new jobs than may ever wait.
    #[error("{scope} may have {limit} jobs waiting; {waiting} wait, and there are {new} more")]
    Full {
        /// Whose bound it is.
        scope: Scope,
        /// The bound.
        limit: u64,
        /// How many jobs wait under it.
        waiting: u64,
        /// How many more would wait under it: those that were not accepted before. More of them than
        /// the bound will never fit.
        new: u64,
        /// When there may be room, by the measured drain rate.
        retry_after: Duration,
    },
    /// An idempotency key came again with another request.
    #[error("the idempotency key {key:?} was used for another request")]
    IdempotencyKeyReused {
        /// The key.
        key: String,
    },
    /// The conversation has another turn under way, or was changed since the caller read it.
    #[error("the conversation has another turn under way")]
    ConversationLocked,
    /// The job cannot be put back: it has not ended, or it succeeded.
    #[error("job {id} is {status}: only a failed, cancelled or expired job can be retried")]
    NotRetryable {
        /// The job.
        id: JobId,
        /// Where it is.
        status: Status,
    },
    /// A list was to go on after a job that it does not hold.
    #[error("the list has no job {0} to go on after; begin again without a cursor")]
    UnknownCursor(JobId),
    /// What the store holds cannot be read: written by something else, or by a newer version.
    #[error("the store holds something unreadable: {0}")]
    Corrupt(String),
}

/// Whose bound.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scope {
    /// The tenant's.
    Tenant,
    /// The lane's.
    Lane,
}

impl std::fmt::Display for Scope {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Tenant => "the tenant",
            Self::Lane => "the lane",
        })
    }
}
