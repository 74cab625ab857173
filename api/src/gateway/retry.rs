//! Retries of SDKs: how a call finds the job of its earlier attempt.
//!
//! SDKs retry a call without an idempotency key when they gave up on the answer or were told to; they only count
//! their attempts (`x-stainless-retry-count`). A job whose caller left, or was told to retry, is kept as an orphan
//! of its call. One retry of an equal call takes one orphan, so equal calls never share a job. A retry that finds
//! no orphan is a new job.

use std::time::Duration;

use causeway_queue::{Error, JobId, TenantId, limits::Rate, orphan::CallKey};
use tokio::time::{Instant, sleep, timeout};

use crate::state::AppState;

/// How long to try to keep an orphan in a store that does not answer, and how often.
const STORE_AWAY: (Duration, Duration) = (Duration::from_secs(30), Duration::from_millis(250));

/// Time-out of keeping a job before its caller gets the answer to retry: well below the time after which its
/// connection is closed.
const KEEP: Duration = Duration::from_secs(2);

/// The kind of retry that a call can expect after its client leaves.
#[derive(Debug, Clone)]
pub(super) enum Retry {
    /// None.
    Never,
    /// With the same idempotency key, within this time.
    Named(Duration),
    /// As an equal call whose attempts are counted, within this time.
    Counted(Box<CallKey>, Duration),
}

impl Retry {
    /// Keeps the job of a caller that is told to retry.
    pub(super) async fn keep(&self, state: &AppState, job: &JobId) {
        let Self::Counted(call, _) = self else { return };
        let kept = state.queue.backend().put_orphan(call, job, state.settings.hold);
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
        let backend = state.queue.backend();
        let stopping = state.stopping();
        match self {
            Self::Counted(call, within) => {
                put_patiently(state, &call, job).await?;
                tracing::debug!(job.id = %job, "a job waits for the retry of its client");
                if stays || passes_before_stop(state, within).await.is_none() {
                    return Ok(());
                }
                if !backend.remove_orphan(&call, job).await? {
                    return Ok(());
                }
            }
            Self::Never | Self::Named(_) if stays || stopping.is_cancelled() => return Ok(()),
            Self::Named(within) => {
                if !within.is_zero() {
                    let waited = passes_before_stop(state, within).await;
                    if waited.is_none() || !claim(state, tenant, job).await? {
                        return Ok(());
                    }
                }
            }
            Self::Never => {}
        }
        tracing::debug!(job.id = %job, "the client left; its job is cancelled");
        state.queue.cancel(tenant, job).await.map(drop)
    }
}

/// Waits for `time`. `None`: the process stops, and the client retries with another.
async fn passes_before_stop(state: &AppState, time: Duration) -> Option<()> {
    tokio::select! {
        () = sleep(time) => Some(()),
        () = state.stopping().cancelled_owned() => None,
    }
}

async fn put_patiently(state: &AppState, call: &CallKey, job: &JobId) -> Result<(), Error> {
    let until = Instant::now() + STORE_AWAY.0;
    loop {
        match state.queue.backend().put_orphan(call, job, state.settings.hold).await {
            Err(_) if Instant::now() < until && !state.stopping().is_cancelled() => {
                sleep(STORE_AWAY.1).await;
            }
            put => return put,
        }
    }
}

/// Claims a named job: true for the first that asks, be it a retry that found the job, or the process that its
/// first attempt left.
pub(super) async fn claim(state: &AppState, tenant: &TenantId, job: &JobId) -> Result<bool, Error> {
    let once = Rate { limit: 1, window: state.settings.hold };
    Ok(state.queue.throttle(tenant, &format!("again:{job}"), once).await?.allowed)
}
