//! Retries of SDKs: how a call finds the job of its earlier attempt.
//!
//! SDKs retry a call without an idempotency key when they gave up on the answer or were told to; they only count
//! their attempts (`x-stainless-retry-count`), and do not say how many they make. A job whose caller left, or was
//! told to retry, is kept as an orphan of its call for as long as the retry may take. One retry of an equal call
//! takes one orphan, so equal calls never share a job. A retry that finds no orphan is a new job.
//!
//! A client that leaves before its own time-out does not retry: its application gave the call up. Neither does one that
//! has made all its attempts: three, unless it says otherwise. Their jobs are no orphans.

use std::time::Duration;

use axum::http::HeaderMap;
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

/// The header in which SDKs count their earlier attempts.
const COUNT: &str = "x-stainless-retry-count";

/// Our header in which a client says how often it retries: no SDK says it by itself.
const MOST: &str = "x-causeway-max-retries";

/// How often the SDKs of OpenAI and Anthropic retry unless they are configured otherwise.
const USUAL_MOST: u32 = 2;

/// The header in which SDKs of Python say how many seconds they wait for each piece of an answer.
pub(super) const READ_TIMEOUT: &str = "x-stainless-read-timeout";

/// The header in which SDKs of JavaScript say how many seconds they wait for the head of an answer.
const HEAD_TIMEOUT: &str = "x-stainless-timeout";

/// Headers by which a proxy is known. It may have a time-out of its own, after which SDKs retry.
const OF_PROXIES: [&str; 3] = ["forwarded", "via", "x-forwarded-for"];

/// The least span before its time-out in which a client that leaves may have timed out, as clients begin to count at
/// another moment than this process. It is a tenth of a longer time-out.
const LEAST_MARGIN: Duration = Duration::from_secs(1);

/// How long an SDK waits before its second try, and at most before a later one: it doubles.
const FIRST_PAUSE: Duration = Duration::from_millis(500);
const LONGEST_PAUSE: Duration = Duration::from_secs(8);

/// How much longer a client that left may take to come again.
const RETURN: Duration = Duration::from_secs(1);

/// The kind of retry that a call can expect after its client leaves.
#[derive(Debug, Clone)]
pub(super) enum Retry {
    /// None: the client counts no attempts, has none left, or its answer has begun.
    Never,
    /// As an equal call whose attempts are counted.
    Counted(Box<Counted>),
}

/// A retry that may come.
#[derive(Debug, Clone)]
pub(super) struct Counted {
    call: CallKey,
    /// How long the client may take to come again.
    within: Duration,
    /// The time before which the client has not timed out; `None` if that is not known.
    times_out_after: Option<Instant>,
}

/// Returns how many attempts the client made before, if it counts them: then it may retry.
pub(super) fn attempts_before(headers: &HeaderMap) -> Option<u32> {
    number(headers, COUNT)
}

fn number(headers: &HeaderMap, name: &str) -> Option<u32> {
    headers.get(name)?.to_str().ok()?.trim().parse().ok()
}

/// Returns the number of seconds in the header `name`.
pub(super) fn seconds(headers: &HeaderMap, name: &str) -> Option<Duration> {
    let said = headers.get(name)?.to_str().ok()?.trim().parse().ok()?;
    Duration::try_from_secs_f64(said).ok()
}

/// Returns the time before which the client of a call that has just come has not timed out.
fn times_out_after(headers: &HeaderMap) -> Option<Instant> {
    if OF_PROXIES.iter().any(|name| headers.contains_key(*name)) {
        return None;
    }
    let said = [READ_TIMEOUT, HEAD_TIMEOUT].into_iter().filter_map(|name| seconds(headers, name));
    let shortest = said.min()?;
    let margin = (shortest / 10).max(LEAST_MARGIN);
    Instant::now().checked_add(shortest.saturating_sub(margin))
}

/// Returns how long a client that left with this attempt may take to come with the next one.
fn returns(attempts_before: u32) -> Duration {
    let pause = FIRST_PAUSE.saturating_mul(2_u32.saturating_pow(attempts_before));
    pause.min(LONGEST_PAUSE) + RETURN
}

impl Retry {
    /// Reads from the headers of `call` which retry it can expect.
    pub(super) fn of(headers: &HeaderMap, call: CallKey) -> Self {
        let Some(before) = attempts_before(headers) else { return Self::Never };
        if before >= number(headers, MOST).unwrap_or(USUAL_MOST) {
            return Self::Never;
        }
        let times_out_after = times_out_after(headers);
        Self::Counted(Box::new(Counted { call, within: returns(before), times_out_after }))
    }

    /// Keeps the job of a caller that is told to retry.
    pub(super) async fn keep(&self, state: &AppState, job: &JobId) {
        let Self::Counted(counted) = self else { return };
        let kept = state.queue.backend().put_orphan(&counted.call, job, RESTART);
        if !matches!(timeout(KEEP, kept).await, Ok(Ok(()))) {
            tracing::info!(job.id = %job, "cannot keep a job for its caller's retry");
        }
    }

    /// Keeps the job of a client that has just left until it retries. After the time for that, cancels the job,
    /// unless it `stays`.
    pub(super) async fn after(
        self,
        state: &AppState,
        tenant: &TenantId,
        job: &JobId,
        stays: bool,
    ) -> Result<(), Error> {
        let is_stopping = state.stopping().is_cancelled();
        let is_over = match self {
            Self::Never => !is_stopping,
            Self::Counted(counted) if !is_stopping && counted.is_given_up() => true,
            Self::Counted(counted) => was_left_alone(state, &counted, job).await?,
        };
        if stays || !is_over {
            return Ok(());
        }
        tracing::debug!(job.id = %job, "the client left; its job is cancelled");
        state.queue.cancel(tenant, job).await.map(drop)
    }
}

impl Counted {
    /// True if the client that leaves now has not timed out.
    fn is_given_up(&self) -> bool {
        self.times_out_after.is_some_and(|earliest| Instant::now() < earliest)
    }
}

/// Keeps an orphan for the time of its caller's retry; true if none took it.
async fn was_left_alone(state: &AppState, counted: &Counted, job: &JobId) -> Result<bool, Error> {
    let Counted { call, within, .. } = counted;
    let within = *within;
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

#[cfg(test)]
mod tests {
    use axum::http::{HeaderName, HeaderValue};

    use super::*;

    #[test]
    fn a_client_may_return_later_than_it_pauses() {
        assert_eq!(returns(0), Duration::from_millis(1500));
        assert_eq!(returns(2), Duration::from_secs(3));
        assert_eq!(returns(u32::MAX), Duration::from_secs(9));
    }

    #[tokio::test(start_paused = true)]
    async fn a_client_times_out_shortly_before_its_time_at_the_earliest() {
        let of = |pairs: &[(&'static str, &'static str)]| {
            let pairs = pairs.iter().map(|(name, value)| {
                (HeaderName::from_static(name), HeaderValue::from_static(value))
            });
            let after = times_out_after(&pairs.collect());
            after.map(|at| at.duration_since(Instant::now()).as_millis())
        };
        assert_eq!(of(&[(READ_TIMEOUT, "600")]), Some(540_000));
        assert_eq!(of(&[(HEAD_TIMEOUT, "5")]), Some(4000));
        assert_eq!(of(&[(READ_TIMEOUT, "0.5")]), Some(0));
        assert_eq!(of(&[(READ_TIMEOUT, "600"), (HEAD_TIMEOUT, "60")]), Some(54_000));
        assert_eq!(of(&[(READ_TIMEOUT, "600"), ("via", "1.1 proxy")]), None);
        for text in ["None", "NaN", "inf", "-1", "1e300"] {
            assert_eq!(of(&[(READ_TIMEOUT, text)]), None, "{text}");
        }
    }
}
