//! The errors of the queue.

use std::time::Duration;

use crate::{id::JobId, state::Status};

/// The reason why an operation of the queue failed. No operation is ever half done.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The store does not answer in time, or refuses. The operation may or may not have happened.
    #[error("the store is not available: {0}")]
    Unavailable(String),
    /// Too many jobs wait already, or more new jobs were submitted than the limit ever allows.
    #[error("{scope} may have {limit} jobs waiting; {waiting} wait, and there are {new} more")]
    Full {
        /// The owner of the limit.
        scope: Scope,
        /// The limit.
        limit: u64,
        /// The number of jobs that wait under it.
        waiting: u64,
        /// The number of jobs that would be added, without those accepted before. If it exceeds the limit, a retry
        /// cannot succeed.
        new: u64,
        /// The estimated time until there is room, by the measured drain rate.
        retry_after: Duration,
    },
    /// An idempotency key was sent again with another request.
    #[error("the idempotency key {key:?} was used for another request")]
    IdempotencyKeyReused {
        /// The key.
        key: String,
    },
    /// The conversation has another turn under way, or has changed since the caller read it.
    #[error("the conversation has another turn under way")]
    ConversationLocked,
    /// The job cannot be retried: it has not ended, or it succeeded.
    #[error("job {id} is {status}: only a failed, cancelled or expired job can be retried")]
    NotRetryable {
        /// The job.
        id: JobId,
        /// The status.
        status: Status,
    },
    /// The cursor of a list names a job that the list does not have.
    #[error("the list has no job {0} to continue after; start again without a cursor")]
    UnknownCursor(JobId),
    /// The store holds data that cannot be read: another program or a newer version wrote it.
    #[error("the store holds data that cannot be read: {0}")]
    Corrupt(String),
}

/// The owner of a limit.
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
