//! Retries of SDKs: how a call finds the job of its earlier attempt.
//!
//! SDKs retry a call without an idempotency key when they gave up on the answer or were told to; they only count
//! their attempts (`x-stainless-retry-count`), and do not say how many they make. A job whose caller left, or was
//! told to retry, is kept as an orphan of its call for as long as the retry may take. One retry of an equal call
//! takes one orphan, so equal calls never share a job. A retry that finds no orphan is a new job.

use std::time::Duration;

use causeway_queue::{Error, JobId, TenantId, orphan::CallKey, reader::look_until};
use tokio::time::{Instant, sleep, timeout};

use crate::state::AppState;

/// How long to try to keep an orphan in a store that does not answer.
const STORE_AWAY: Duration = Duration::from_secs(30);

/// Time-out of keeping a job before its caller gets the answer to retry: well below the time after which its
/// connection is closed.
const KEEP: Duration = Duration::from_secs(2);

/// How much longer than for its caller an orphan is kept, so that this process removes it. It is forgotten by
/// itself where the process dies.
const SLACK: Duration = Duration::from_secs(5);

/// How long a caller may take to reach another process when this one stops: the time of a restart.
const RESTART: Duration = Duration::from_secs(60);

/// The kind of retry that a call can expect after its client leaves.
#[derive(Debug, Clone)]
pub(super) enum Retry {
    /// None: the client counts no attempts, or its answer has begun.
    Never,
    /// As an equal call whose attempts are counted, within this time.
    Counted(Box<CallKey>, Duration),
}

impl Retry {
    /// Keeps the job of a caller that is told to retry.
    pub(super) async fn keep(&self, state: &AppState, job: &JobId) {
        let Self::Counted(call, _) = self else { return };
        let kept = state.queue.backend().put_orphan(call, job, RESTART);
        if !matches!(timeout(KEEP, kept).await, Ok(Ok(()))) {
            tracing::info!(job.id = %job, "cannot keep a job for its caller's retry");
        }
    }

    /// Keeps the job of a client that left until it retries. After the time for that, cancels the job, unless
    /// it `stays`.
    pub(super) async fn after(
        self,
        state: &AppState,
        tenant: &TenantId,
        job: &JobId,
        stays: bool,
    ) -> Result<(), Error> {
        let is_over = match self {
            Self::Never => !state.stopping().is_cancelled(),
            Self::Counted(call, within) => was_left_alone(state, &call, job, within).await?,
        };
        if stays || !is_over {
            return Ok(());
        }
        tracing::debug!(job.id = %job, "the client left; its job is cancelled");
        state.queue.cancel(tenant, job).await.map(drop)
    }
}

/// Keeps an orphan `within` the time of its caller's retry; true if none took it.
async fn was_left_alone(
    state: &AppState,
    call: &CallKey,
    job: &JobId,
    within: Duration,
) -> Result<bool, Error> {
    let backend = state.queue.backend();
    let until = Instant::now() + STORE_AWAY;
    look_until(until, || backend.put_orphan(call, job, within + SLACK)).await?;
    tracing::debug!(job.id = %job, "a job waits for the retry of its client");
    let has_stopped = tokio::select! {
        () = sleep(within) => false,
        () = state.stopping().cancelled_owned() => true,
    };
    // Removed first: an orphan that was taken must not be kept again.
    let is_left = backend.remove_orphan(call, job).await?;
    if is_left && has_stopped {
        backend.put_orphan(call, job, RESTART).await?;
    }
    Ok(is_left && !has_stopped)
}
