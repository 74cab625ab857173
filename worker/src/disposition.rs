//! What a failure means: one exhaustive match, and the arithmetic that follows.

#![warn(clippy::wildcard_enum_match_arm)]

use std::time::Duration;

use causeway_queue::{
    Fault, Outcome, RawJson,
    job::{AttemptError, Output, Response},
    retry::Backoff,
};

use crate::{
    delivery,
    schedule::Schedule,
    upstream::{Failure, Refusal},
};

/// How long a lane stops when its upstream refused for the rate and did not say for how long.
const LANE_STOP: Duration = Duration::from_secs(1);

/// The shortest stop of a lane: however soon the upstream wants to be asked again, it is not asked in a
/// loop.
const SHORTEST_STOP: Duration = Duration::from_millis(100);

/// Most characters that are kept of what an upstream says in its stream about its failure.
const MAX_WORDS: usize = 1000;

/// Codes of refusals with 429 that mean a budget, not a rate: waiting does not help.
const BUDGET: [&str; 5] = [
    "insufficient_quota",
    "credit_balance_exhausted",
    "organization_spend_limit_exceeded",
    "project_spend_limit_exceeded",
    "organization_usage_limit_exceeded",
];

/// What is to be done about a failure.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Disposition {
    /// The whole lane waits so long; no attempt is spent.
    StopLane(Duration),
    /// Try again after the time that the upstream named, but no sooner than the policy's backoff.
    RetryAfter(Duration),
    /// Try again after the policy's backoff.
    Backoff,
    /// Trying again would not help.
    Fatal,
}

/// What `failure` means.
#[must_use]
pub fn disposition(failure: &Failure) -> Disposition {
    match failure {
        Failure::Connect(_)
        | Failure::ConnectTimeout
        | Failure::FirstByteTimeout(_)
        | Failure::Stalled(_)
        | Failure::TotalTimeout(_)
        | Failure::Cut(_) => Disposition::Backoff,
        Failure::InStream(said) => said_in_stream(said),
        Failure::TooLarge(_) | Failure::Unsendable(_) => Disposition::Fatal,
        Failure::Refused(refusal) => refused(refusal),
    }
}

fn refused(refusal: &Refusal) -> Disposition {
    let is_budget = refusal.code.as_deref().is_some_and(|code| BUDGET.contains(&code));
    match (refusal.status_code, refusal.retry_after) {
        (429, _) if is_budget => Disposition::Fatal,
        // "At once", or a date that has passed, names no time.
        (429, Some(Duration::ZERO) | None) => Disposition::StopLane(LANE_STOP),
        (429, Some(after)) => Disposition::StopLane(after.max(SHORTEST_STOP)),
        (503, Some(after)) => Disposition::RetryAfter(after),
        (408 | 409 | 500.., _) => Disposition::Backoff,
        (_, _) => Disposition::Fatal,
    }
}

/// What an error means that the upstream told in its stream, by its code.
fn said_in_stream(said: &RawJson) -> Disposition {
    let said: serde_json::Value = said.read().unwrap_or_default();
    let places = ["/error/code", "/response/error/code", "/code"];
    let code = places.iter().find_map(|place| said.pointer(place)?.as_str());
    match code {
        Some(code) if code == "invalid_prompt" || BUDGET.contains(&code) => Disposition::Fatal,
        Some(_) | None => Disposition::Backoff,
    }
}

/// By which rules failures are judged.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Rules {
    /// Of calls to models.
    Calls(Backoff),
    /// Of deliveries.
    Deliveries(Schedule),
}

impl Rules {
    /// What `failure` of the `attempt`-th attempt means, and the delay of a backoff.
    fn judge(&self, failure: &Failure, attempt: u32, unit: f64) -> (Disposition, Duration) {
        match self {
            Self::Calls(backoff) => (disposition(failure), backoff.delay(attempt, unit)),
            Self::Deliveries(schedule) => {
                let delay = schedule.delay(attempt, unit);
                (delivery::disposition(failure, delay), delay)
            }
        }
    }

    fn describe(&self, failure: &Failure, attempt: u32) -> AttemptError {
        match self {
            Self::Calls(_) => describe(failure, attempt),
            Self::Deliveries(_) => delivery::describe(failure, attempt),
        }
    }
}

/// Where a failed attempt stands.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Attempts {
    /// Which attempt it was, from 1.
    pub(crate) attempt: u32,
    /// How many the job may spend.
    pub(crate) max: u32,
}

/// The outcome of an attempt that failed; `unit` is a random number in [0, 1).
pub(crate) fn outcome(failure: &Failure, attempts: Attempts, rules: &Rules, unit: f64) -> Outcome {
    let error = rules.describe(failure, attempts.attempt);
    let has_more = attempts.attempt < attempts.max;
    let (disposition, backoff) = rules.judge(failure, attempts.attempt, unit);
    match disposition {
        Disposition::StopLane(stop) => {
            let output = output(failure, error.clone());
            Outcome::Faulted {
                fault: Fault::Rate(stop),
                delay: stop.max(backoff),
                unit,
                output,
                error,
            }
        }
        Disposition::RetryAfter(delay) if has_more => {
            Outcome::Retry { delay: delay.max(backoff), error }
        }
        Disposition::Backoff if has_more => Outcome::Retry { delay: backoff, error },
        Disposition::RetryAfter(_) | Disposition::Backoff | Disposition::Fatal => {
            Outcome::Failed { output: output(failure, error) }
        }
    }
}

/// What a job ends with that ends by this failure.
fn output(failure: &Failure, error: AttemptError) -> Output {
    let response = match failure {
        Failure::Refused(refusal) => {
            Some(Response { status_code: refusal.status_code, body: refusal.body.clone() })
        }
        Failure::Connect(_)
        | Failure::ConnectTimeout
        | Failure::FirstByteTimeout(_)
        | Failure::Stalled(_)
        | Failure::TotalTimeout(_)
        | Failure::Cut(_)
        | Failure::TooLarge(_)
        | Failure::InStream(_)
        | Failure::Unsendable(_) => None,
    };
    Output { response, error: Some(error), usage: None }
}

/// The failure as its job's reader sees it.
fn describe(failure: &Failure, attempt: u32) -> AttemptError {
    let (code, status_code) = match failure {
        Failure::Connect(_) | Failure::ConnectTimeout => ("upstream_unreachable", None),
        Failure::FirstByteTimeout(_) | Failure::Stalled(_) | Failure::TotalTimeout(_) => {
            ("upstream_timeout", None)
        }
        Failure::Cut(_) => ("upstream_cut", None),
        Failure::TooLarge(_) => ("upstream_answer_too_large", None),
        Failure::InStream(_) | Failure::Unsendable(_) => ("upstream_error", None),
        Failure::Refused(refusal) => {
            let code = match refusal.status_code {
                429 => "upstream_rate_limited",
                400..=499 => "upstream_refused",
                _ => "upstream_error",
            };
            (code, Some(refusal.status_code))
        }
    };
    let message = match failure {
        Failure::InStream(said) => words(said).map(|words| format!("{failure}: {words}")),
        Failure::Connect(_)
        | Failure::ConnectTimeout
        | Failure::FirstByteTimeout(_)
        | Failure::Stalled(_)
        | Failure::TotalTimeout(_)
        | Failure::Cut(_)
        | Failure::TooLarge(_)
        | Failure::Unsendable(_)
        | Failure::Refused(_) => None,
    };
    let message = message.unwrap_or_else(|| failure.to_string());
    AttemptError { attempt, code: code.to_owned(), message, status_code }
}

/// What an error in a stream says to a person: the job's reader sees it, the log does not.
fn words(said: &RawJson) -> Option<String> {
    let said: serde_json::Value = said.read().ok()?;
    let places = ["/error/message", "/error", "/response/error/message", "/message"];
    let words = places.iter().find_map(|place| said.pointer(place)?.as_str())?;
    Some(words.chars().take(MAX_WORDS).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answered(status_code: u16, retry_after: Option<u64>, code: Option<&str>) -> Failure {
        Failure::Refused(Box::new(Refusal {
            status_code,
            retry_after: retry_after.map(Duration::from_secs),
            code: code.map(str::to_owned),
            body: RawJson::default(),
        }))
    }

    fn failed(code: &str) -> Failure {
        let said = serde_json::json!({ "response": { "error": { "code": code } } });
        Failure::InStream(RawJson::of(&said).unwrap())
    }

    #[test]
    fn every_failure_has_its_disposition() {
        let second = Duration::from_secs(1);
        let rows = [
            (answered(429, Some(7), None), Disposition::StopLane(second * 7)),
            (answered(429, None, None), Disposition::StopLane(LANE_STOP)),
            (answered(429, Some(0), None), Disposition::StopLane(LANE_STOP)),
            (answered(429, Some(7), Some("insufficient_quota")), Disposition::Fatal),
            (answered(503, Some(3), None), Disposition::RetryAfter(second * 3)),
            (answered(503, None, None), Disposition::Backoff),
            (answered(500, Some(3), None), Disposition::Backoff),
            (answered(502, None, None), Disposition::Backoff),
            (answered(408, None, None), Disposition::Backoff),
            (answered(409, None, None), Disposition::Backoff),
            (answered(400, None, None), Disposition::Fatal),
            (answered(401, None, None), Disposition::Fatal),
            (answered(403, None, None), Disposition::Fatal),
            (answered(404, None, None), Disposition::Fatal),
            (answered(413, None, None), Disposition::Fatal),
            (answered(422, None, None), Disposition::Fatal),
            (Failure::Connect(String::new()), Disposition::Backoff),
            (Failure::ConnectTimeout, Disposition::Backoff),
            (Failure::FirstByteTimeout(second), Disposition::Backoff),
            (Failure::Stalled(second), Disposition::Backoff),
            (Failure::TotalTimeout(second), Disposition::Backoff),
            (Failure::Cut(String::new()), Disposition::Backoff),
            (Failure::InStream(RawJson::default()), Disposition::Backoff),
            (failed("server_error"), Disposition::Backoff),
            (failed("invalid_prompt"), Disposition::Fatal),
            (failed("insufficient_quota"), Disposition::Fatal),
            (Failure::TooLarge(1), Disposition::Fatal),
            (Failure::Unsendable(String::new()), Disposition::Fatal),
        ];
        for (failure, wanted) in rows {
            assert_eq!(disposition(&failure), wanted, "{failure:?}");
        }
    }

    #[test]
    fn the_last_attempt_ends_the_job() {
        let outcome = |attempt| {
            let attempts = Attempts { attempt, max: 2 };
            outcome(&answered(500, None, None), attempts, &Rules::Calls(Backoff::default()), 0.5)
        };
        let delay = Duration::from_millis(250);
        assert!(matches!(outcome(1), Outcome::Retry { delay: after, .. } if after == delay));
        let Outcome::Failed { output } = outcome(2) else { panic!("it goes on") };
        assert_eq!(output.response.unwrap().status_code, 500);
        assert_eq!(output.error.unwrap().code, "upstream_error");
    }

    #[test]
    fn no_retry_comes_sooner_than_the_backoff() {
        let outcome = |after| {
            let attempts = Attempts { attempt: 1, max: 2 };
            let failure = answered(503, Some(after), None);
            outcome(&failure, attempts, &Rules::Calls(Backoff::default()), 0.5)
        };
        let (backoff, second) = (Duration::from_millis(250), Duration::from_secs(1));
        assert!(matches!(outcome(0), Outcome::Retry { delay, .. } if delay == backoff));
        assert!(matches!(outcome(1), Outcome::Retry { delay, .. } if delay == second));
    }

    #[test]
    fn what_the_upstream_said_in_its_stream_is_told() {
        let failure = |said: &str| Failure::InStream(RawJson::parse(said.to_owned()).unwrap());
        let told = |said: &str| describe(&failure(said), 1).message;
        assert!(told(r#"{"error":{"message":"out of memory"}}"#).ends_with(": out of memory"));
        assert!(told(r#"{"error":"out of memory"}"#).ends_with(": out of memory"));
        let event = r#"{"type":"error","code":"server_error","message":"out of memory"}"#;
        assert!(told(event).ends_with(": out of memory"));
        assert_eq!(told(r#"{"error":{}}"#), "the upstream reported an error in its stream");
    }
}
