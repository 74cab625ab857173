//! Retries of SDKs: a retried call attaches to the job of its earlier attempt.
//!
//! SDKs retry a call without an idempotency key after a time-out and after certain errors. They count their
//! attempts (`x-stainless-retry-count`), but do not send how many they make. A job whose caller left, or received
//! an error that SDKs retry, is therefore stored as an *orphan* of its call until the time for the retry is over.
//! One retry of an equal call takes one orphan, so equal calls never share a job. A retry that finds no orphan
//! submits a new job.
//!
//! A client that leaves before its own time-out does not retry, since its application cancelled the call. Neither
//! does one that has made all of its attempts: by default three. Their jobs become no orphans.

use std::time::Duration;

use axum::http::HeaderMap;
use causeway_queue::{Error, JobId, TenantId, orphan::CallKey, reader::look_until};
use tokio::time::{Instant, sleep, timeout};

use crate::state::AppState;

/// The time for which an unavailable store is retried to store or remove an orphan, or to cancel its job.
const STORE_RETRY_TIME: Duration = Duration::from_secs(30);

/// The time-out of storing an orphan before its caller receives the error: well below the time after which its
/// connection is closed.
const ORPHAN_TIMEOUT: Duration = Duration::from_secs(2);

/// The additional lifetime of an orphan in the store. Normally this process removes it; it expires if the process
/// dies.
const SLACK: Duration = Duration::from_secs(5);

/// The time that a caller may take to reach another process after this one stops: that of a restart.
const RESTART: Duration = Duration::from_secs(60);

/// The header with the number of earlier attempts, which SDKs send.
const RETRY_COUNT_HEADER: &str = "x-stainless-retry-count";

/// Our header with the number of retries that a client makes. No SDK sends it by itself.
const MAX_RETRIES_HEADER: &str = "x-causeway-max-retries";

/// The default number of retries of the SDKs of OpenAI and Anthropic.
const DEFAULT_MAX_RETRIES: u32 = 2;

/// The header of Python SDKs with their time-out for each read, in seconds.
pub(super) const READ_TIMEOUT: &str = "x-stainless-read-timeout";

/// The header of JavaScript SDKs with their time-out for the head of an answer, in seconds.
const HEAD_TIMEOUT: &str = "x-stainless-timeout";

/// Headers that reveal a proxy. A proxy may have its own time-out, after which SDKs retry.
const PROXY_HEADERS: [&str; 3] = ["forwarded", "via", "x-forwarded-for"];

/// The least margin before a client's time-out in which its leaving counts as a time-out, because client and
/// process start to count at different moments. The margin is a tenth of the time-out if that is longer.
const LEAST_MARGIN: Duration = Duration::from_secs(1);

/// The pause of SDKs before their first retry, and their longest pause; it doubles with each retry.
const MIN_PAUSE: Duration = Duration::from_millis(500);
const LONGEST_PAUSE: Duration = Duration::from_secs(8);

/// The additional time that a client may take to connect again.
const RECONNECT_TIME: Duration = Duration::from_secs(1);

/// The retry that a call may expect after its client has left.
#[derive(Debug, Clone)]
pub(super) enum ExpectedRetry {
    /// None: the client counts no attempts, has none left, or has received a part of its answer.
    Never,
    /// A retry by an equal call that counts its attempts.
    Counted(Box<Counted>),
}

/// The data of an expected retry.
#[derive(Debug, Clone)]
pub(super) struct Counted {
    call: CallKey,
    /// The time within which the retry must arrive.
    within: Duration,
    /// The earliest time at which leaving counts as a time-out; `None` if unknown.
    times_out_after: Option<Instant>,
}

/// Returns the number of earlier attempts, if the client counts them. Only such clients retry.
pub(super) fn attempts_before(headers: &HeaderMap) -> Option<u32> {
    number(headers, RETRY_COUNT_HEADER)
}

fn number(headers: &HeaderMap, name: &str) -> Option<u32> {
    headers.get(name)?.to_str().ok()?.trim().parse().ok()
}

/// Returns the number of seconds in the header `name`.
pub(super) fn seconds(headers: &HeaderMap, name: &str) -> Option<Duration> {
    let value = headers.get(name)?.to_str().ok()?.trim().parse().ok()?;
    // Fails for NaN, infinite and negative numbers.
    Duration::try_from_secs_f64(value).ok()
}

/// Returns the earliest time at which leaving counts as a time-out. It counts from the arrival of the head, as
/// openai-node counts the upload of the body too.
fn times_out_after(headers: &HeaderMap, arrived: Instant) -> Option<Instant> {
    if PROXY_HEADERS.iter().any(|name| headers.contains_key(*name)) {
        return None;
    }
    let timeouts =
        [READ_TIMEOUT, HEAD_TIMEOUT].into_iter().filter_map(|name| seconds(headers, name));
    // A client with both time-outs gives up at the first one.
    let shortest = timeouts.min()?;
    let margin = (shortest / 10).max(LEAST_MARGIN);
    arrived.checked_add(shortest.saturating_sub(margin))
}

/// Returns the time within which a client that left in this attempt makes the next one.
fn retry_time(attempts_before: u32) -> Duration {
    let pause = MIN_PAUSE.saturating_mul(2_u32.saturating_pow(attempts_before));
    pause.min(LONGEST_PAUSE) + RECONNECT_TIME
}

impl ExpectedRetry {
    /// Returns the retry to expect by the headers of `call`, whose head has `arrived`.
    pub(super) fn of(headers: &HeaderMap, call: CallKey, arrived: Instant) -> Self {
        // Clients that count no attempts are no SDKs that retry.
        let Some(before) = attempts_before(headers) else { return Self::Never };
        if before >= number(headers, MAX_RETRIES_HEADER).unwrap_or(DEFAULT_MAX_RETRIES) {
            return Self::Never;
        }
        let times_out_after = times_out_after(headers, arrived);
        Self::Counted(Box::new(Counted { call, within: retry_time(before), times_out_after }))
    }

    /// Stores the job of a caller that receives an error to retry as an orphan.
    pub(super) async fn keep(&self, state: &AppState, job: &JobId) {
        let Self::Counted(counted) = self else { return };
        // One attempt only: the connection is about to close, and a longer wait would lose the answer as well.
        let kept = state.queue.orphans().put_orphan(&counted.call, job, RESTART);
        if !matches!(timeout(ORPHAN_TIMEOUT, kept).await, Ok(Ok(()))) {
            tracing::info!(job.id = %job, "cannot store an orphan for the retry of its call");
        }
    }

    /// Stores the job of a client that has just left as an orphan until its retry. Cancels the job once the time
    /// for the retry is over, unless it `outlives_caller`.
    pub(super) async fn after(
        self,
        state: &AppState,
        tenant: &TenantId,
        job: &JobId,
        outlives_caller: bool,
    ) -> Result<(), Error> {
        let is_stopping = state.stopping().is_cancelled();
        // While the process stops, nothing is cancelled: clients lose their connections through no fault of
        // theirs.
        let is_over = match self {
            Self::Never => !is_stopping,
            Self::Counted(counted) if !is_stopping && counted.is_given_up() => true,
            Self::Counted(counted) => expires_untaken(state, &counted, job).await?,
        };
        if outlives_caller || !is_over {
            return Ok(());
        }
        tracing::debug!(job.id = %job, "the client left for good; its job is cancelled");
        let until = Instant::now() + STORE_RETRY_TIME;
        look_until(until, || state.queue.cancel(tenant, job)).await.map(drop)
    }
}

impl Counted {
    /// True if the client leaves before its time-out, so it does not retry.
    fn is_given_up(&self) -> bool {
        self.times_out_after.is_some_and(|earliest| Instant::now() < earliest)
    }
}

/// Stores an orphan for the time of the retry; returns true if no retry took it.
async fn expires_untaken(state: &AppState, counted: &Counted, job: &JobId) -> Result<bool, Error> {
    let Counted { call, within, .. } = counted;
    let within = *within;
    let orphans = state.queue.orphans();
    let until = Instant::now() + STORE_RETRY_TIME;
    look_until(until, || orphans.put_orphan(call, job, within + SLACK)).await?;
    tracing::debug!(job.id = %job, "a job waits for the retry of its client");
    let has_stopped = tokio::select! {
        () = sleep(within) => false,
        // The next process must find the orphan, so it is stored for longer.
        () = state.stopping().cancelled_owned() => true,
    };
    // Removal comes first. An orphan that was taken must not be stored again.
    let until = Instant::now() + STORE_RETRY_TIME;
    let is_left = look_until(until, || orphans.remove_orphan(call, job)).await?;
    if is_left && has_stopped {
        orphans.put_orphan(call, job, RESTART).await?;
    }
    Ok(is_left && !has_stopped)
}

#[cfg(test)]
mod tests {
    use axum::http::{HeaderName, HeaderValue};
    use tokio::time::advance;

    use super::*;

    #[test]
    fn retries_may_arrive_after_the_pause() {
        assert_eq!(retry_time(0), Duration::from_millis(1500));
        assert_eq!(retry_time(2), Duration::from_secs(3));
        assert_eq!(retry_time(u32::MAX), Duration::from_secs(9));
    }

    #[tokio::test(start_paused = true)]
    async fn a_slow_upload_counts_for_the_time_out() {
        let headers: HeaderMap = [(RETRY_COUNT_HEADER, "0"), (HEAD_TIMEOUT, "5")]
            .map(|(name, value)| (HeaderName::from_static(name), HeaderValue::from_static(value)))
            .into_iter()
            .collect();
        let arrived = Instant::now();
        advance(Duration::from_secs(3)).await;
        let call = CallKey { tenant: TenantId::default_tenant(), digest: [0; 32] };
        let retry = ExpectedRetry::of(&headers, call, arrived);
        let ExpectedRetry::Counted(counted) = retry else { panic!("no retry is expected") };
        assert!(counted.is_given_up());
        advance(Duration::from_secs(1)).await;
        assert!(!counted.is_given_up(), "5 s after the head, less the margin");
    }

    #[tokio::test(start_paused = true)]
    async fn time_outs_have_a_margin() {
        let of = |pairs: &[(&'static str, &'static str)]| {
            let pairs = pairs.iter().map(|(name, value)| {
                (HeaderName::from_static(name), HeaderValue::from_static(value))
            });
            let after = times_out_after(&pairs.collect(), Instant::now());
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
