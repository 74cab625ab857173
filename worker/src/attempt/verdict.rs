//! The consequences of a failure: one exhaustive match, and the arithmetic of retries.

#![warn(clippy::wildcard_enum_match_arm)]

use std::time::Duration;

use causeway_queue::{
    Fault, Outcome,
    job::{AttemptError, Output, Response},
    retry::Backoff,
};

use super::{
    cause, describe,
    disposition::{Attempt, Disposition},
};
use crate::{
    failure::Failure,
    webhook::{delivery, schedule::Schedule},
};

/// The rules by which failures are classified.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Rules {
    /// The rules of calls to models.
    Calls(Backoff),
    /// The rules of webhook deliveries.
    Deliveries(Schedule),
}

/// A classified failure.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Verdict {
    pub(crate) disposition: Disposition,
    /// The delay by the retry policy.
    pub(crate) backoff: Duration,
    /// The error that the job shows.
    pub(crate) error: AttemptError,
}

impl Rules {
    /// Classifies `failure` of `attempt`; `unit` is a random number in [0, 1).
    pub(crate) fn judge(&self, failure: &Failure, attempt: &Attempt<'_>, unit: f64) -> Verdict {
        match self {
            Self::Calls(backoff) => {
                let (cause, after) = cause::cause(failure, attempt.url);
                let disposition = cause.disposition(after);
                let backoff = backoff.delay(attempt.number, unit);
                let error = describe::error(failure, cause, attempt);
                Verdict { disposition, backoff, error }
            }
            Self::Deliveries(schedule) => {
                let backoff = schedule.delay(attempt.number, unit);
                let disposition = delivery::disposition(failure, backoff);
                let error = delivery::describe(failure, attempt.number);
                Verdict { disposition, backoff, error }
            }
        }
    }
}

/// Returns the outcome of a failed attempt: a fault, which the store judges, or a result that concerns the job only.
pub(crate) fn outcome(
    verdict: Verdict,
    failure: &Failure,
    attempt: &Attempt<'_>,
    unit: f64,
) -> Outcome {
    let Verdict { disposition, backoff, error } = verdict;
    // The store knows the lane's other jobs, so it decides about faults, also on the last attempt.
    let (fault, after) = match disposition {
        Disposition::Rate(wait) => (Fault::Rate(wait), Some(wait)),
        Disposition::Unavailable(wait) => (Fault::Unavailable, Some(wait)),
        Disposition::Upstream { at_once: true, after } => (Fault::Certain, after),
        Disposition::Upstream { at_once: false, after } => (Fault::Upstream, after),
        Disposition::Unclear(after) => (Fault::Unclear, after),
        // The remaining failures concern the job or the worker only, so the store need not judge them.
        Disposition::Retry(after) if attempt.number < attempt.max => {
            return Outcome::Retry { delay: after.unwrap_or_default().max(backoff), error };
        }
        Disposition::Retry(_) | Disposition::Fatal => {
            return Outcome::Failed { output: output(failure, error) };
        }
        Disposition::Released(delay) => return Outcome::Released { delay },
    };
    // The upstream's time may be shorter than the backoff, which protects the upstream from a retry storm.
    let delay = after.unwrap_or_default().max(backoff);
    Outcome::Faulted { fault, delay, unit, output: output(failure, error.clone()), error }
}

/// Returns the output of a job that this failure ends. An error under a success status is not kept as the
/// response: a client would take it for an answer.
fn output(failure: &Failure, error: AttemptError) -> Output {
    let response = match failure {
        Failure::Refused(refusal) if refusal.status_code >= 400 => {
            Some(Response { status_code: refusal.status_code, body: refusal.body.clone() })
        }
        Failure::Refused(_)
        | Failure::Connect(_)
        | Failure::ConnectTimeout
        | Failure::FirstByteTimeout(_)
        | Failure::Stalled(_)
        | Failure::TotalTimeout(_)
        | Failure::Cut(_)
        | Failure::TooLarge(_)
        | Failure::TooMany(_)
        | Failure::InStream(_)
        | Failure::Unsendable(_)
        | Failure::NoAnswer { .. }
        | Failure::Deferred(_)
        | Failure::Exhausted(_) => None,
    };
    Output { response, error: Some(error), ..Output::default() }
}

#[cfg(test)]
mod tests {
    use causeway_queue::RawJson;

    use super::*;
    use crate::failure::ErrorResponse;

    fn answered(status_code: u16, after_s: Option<u64>) -> Failure {
        let retry_after = after_s.map(Duration::from_secs);
        Failure::Refused(Box::new(ErrorResponse {
            status_code,
            retry_after,
            ..ErrorResponse::default()
        }))
    }

    fn attempt(number: u32, max: u32) -> Attempt<'static> {
        Attempt { number, max, url: "/v1/chat/completions", target: None }
    }

    fn ends(failure: &Failure, attempt: &Attempt<'_>) -> Outcome {
        let verdict = Rules::Calls(Backoff::default()).judge(failure, attempt, 0.5);
        outcome(verdict, failure, attempt, 0.5)
    }

    #[test]
    fn the_last_attempt_ends_the_job() {
        let failure = answered(409, None);
        let delay = Duration::from_millis(250);
        let first = ends(&failure, &attempt(1, 2));
        assert!(matches!(first, Outcome::Retry { delay: after, .. } if after == delay));
        let last = ends(&failure, &attempt(2, 2));
        let Outcome::Failed { output } = last else { panic!("{last:?}") };
        assert_eq!(output.response.unwrap().status_code, 409);
        assert_eq!(output.error.unwrap().code, "upstream_refused");
    }

    #[test]
    fn no_retry_precedes_the_backoff() {
        let delay = |status, after| match ends(&answered(status, Some(after)), &attempt(1, 2)) {
            Outcome::Retry { delay, .. } | Outcome::Faulted { delay, .. } => delay.as_millis(),
            Outcome::Succeeded { .. }
            | Outcome::Failed { .. }
            | Outcome::Released { .. }
            | Outcome::Cancelled
            | Outcome::Expired => 0,
        };
        for status in [409, 500, 502] {
            assert_eq!([delay(status, 0), delay(status, 1)], [250, 1000], "{status}");
        }
    }

    #[test]
    fn the_store_judges_faults() {
        let rows = [
            (answered(429, Some(2)), Fault::Rate(Duration::from_secs(2))),
            (answered(503, Some(2)), Fault::Unavailable),
            (answered(502, None), Fault::Upstream),
            (answered(401, None), Fault::Certain),
            (answered(500, None), Fault::Unclear),
        ];
        for (failure, wanted) in rows {
            // On the last attempt as well: the store decides whether the job fails.
            let ended = ends(&failure, &attempt(2, 2));
            let Outcome::Faulted { fault, output, error, .. } = ended else { panic!("{ended:?}") };
            assert_eq!((fault, output.error), (wanted, Some(error)), "{failure:?}");
        }
    }

    #[test]
    fn an_exhausted_worker_spends_no_attempt() {
        let failure = Failure::Exhausted("too many open files".to_owned());
        let delay = Duration::ZERO;
        assert_eq!(ends(&failure, &attempt(5, 5)), Outcome::Released { delay });
    }

    #[test]
    fn an_error_under_200_is_not_stored() {
        let body = RawJson::parse(r#"{"error":{"message":"m","code":400}}"#.to_owned()).unwrap();
        let refusal = ErrorResponse { status_code: 200, body, ..ErrorResponse::default() };
        let ended = ends(&Failure::Refused(Box::new(refusal)), &attempt(1, 5));
        let Outcome::Failed { output } = ended else { panic!("{ended:?}") };
        assert_eq!((output.response, output.error.unwrap().status_code), (None, Some(200)));
    }
}
