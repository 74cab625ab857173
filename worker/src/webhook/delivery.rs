//! Classification of failed webhook deliveries. No failure stops the lane: a receiver that is slow, down or
//! overloaded delays its own events only.

#![warn(clippy::wildcard_enum_match_arm)]

use std::time::Duration;

use causeway_queue::job::AttemptError;

use crate::{
    attempt::disposition::Disposition,
    failure::{ErrorResponse, Failure},
};

/// Classifies `failure`; `delay` is the schedule's next delay.
pub(crate) fn disposition(failure: &Failure, delay: Duration) -> Disposition {
    match failure {
        Failure::Connect(_)
        | Failure::ConnectTimeout
        | Failure::FirstByteTimeout(_)
        | Failure::Stalled(_)
        | Failure::TotalTimeout(_)
        | Failure::Cut(_)
        | Failure::InStream(_)
        | Failure::TooLarge(_)
        | Failure::TooMany(_)
        | Failure::Unsendable(_)
        | Failure::NoAnswer { .. } => Disposition::Retry(Some(delay)),
        Failure::Exhausted(_) => Disposition::Released(Duration::ZERO),
        Failure::Deferred(delay) => Disposition::Released(*delay),
        Failure::Refused(refusal) => refused(refusal, delay),
    }
}

fn refused(refusal: &ErrorResponse, delay: Duration) -> Disposition {
    match (refusal.status_code, refusal.retry_after) {
        // 410 Gone: the receiver wants no more events.
        (410, _) => Disposition::Fatal,
        // The receiver's own delay counts only if it is longer: the schedule bounds the number of attempts.
        (429 | 503, Some(after)) => Disposition::Retry(Some(after.max(delay))),
        (_, _) => Disposition::Retry(Some(delay)),
    }
}

/// Describes the failure for the owner of the event.
pub(crate) fn describe(failure: &Failure, attempt: u32) -> AttemptError {
    let (code, message, status_code) = match failure {
        Failure::Connect(why) => {
            ("receiver_unreachable", format!("the receiver cannot be reached: {why}"), None)
        }
        Failure::ConnectTimeout => {
            let message = "the receiver did not accept a connection in time".to_owned();
            ("receiver_unreachable", message, None)
        }
        Failure::FirstByteTimeout(time) | Failure::Stalled(time) | Failure::TotalTimeout(time) => {
            let message = format!("the receiver did not answer within {} s", time.as_secs_f64());
            ("receiver_timeout", message, None)
        }
        Failure::Cut(why) => {
            ("receiver_cut", format!("the receiver's answer broke off: {why}"), None)
        }
        Failure::InStream(_)
        | Failure::TooLarge(_)
        | Failure::TooMany(_)
        | Failure::NoAnswer { .. } => ("receiver_error", failure.to_string(), None),
        Failure::Deferred(_) => ("receiver_busy", failure.to_string(), None),
        Failure::Exhausted(why) => {
            ("worker_exhausted", format!("the worker could not deliver: {why}"), None)
        }
        Failure::Unsendable(why) => ("not_sent", format!("the event was not sent: {why}"), None),
        Failure::Refused(refusal) => {
            let status = refusal.status_code;
            let hint = match status {
                300..400 => "; redirects are not followed",
                410 => ": it wants no more events, and this one is not retried",
                _ => "",
            };
            ("receiver_refused", format!("the receiver answered {status}{hint}"), Some(status))
        }
    };
    AttemptError { attempt, code: code.to_owned(), message, status_code }
}

#[cfg(test)]
mod tests {
    use super::*;

    const DELAY: Duration = Duration::from_secs(300);

    fn answered(status_code: u16, after_s: Option<u64>) -> Failure {
        let retry_after = after_s.map(Duration::from_secs);
        Failure::Refused(Box::new(ErrorResponse {
            status_code,
            retry_after,
            ..ErrorResponse::default()
        }))
    }

    #[test]
    fn only_status_410_ends_a_delivery() {
        let later = |delay| Disposition::Retry(Some(delay));
        let rows = [
            (answered(410, None), Disposition::Fatal),
            (answered(429, Some(900)), later(Duration::from_secs(900))),
            (answered(503, Some(7)), later(DELAY)),
            (answered(429, None), later(DELAY)),
            (answered(301, None), later(DELAY)),
            (answered(400, None), later(DELAY)),
            (answered(500, Some(900)), later(DELAY)),
            (Failure::Connect(String::new()), later(DELAY)),
            (Failure::ConnectTimeout, later(DELAY)),
            (Failure::TotalTimeout(DELAY), later(DELAY)),
            (Failure::Cut(String::new()), later(DELAY)),
            (Failure::Unsendable(String::new()), later(DELAY)),
            (Failure::Deferred(DELAY), Disposition::Released(DELAY)),
        ];
        for (failure, wanted) in rows {
            assert_eq!(disposition(&failure, DELAY), wanted, "{failure:?}");
        }
    }

    #[test]
    fn errors_name_the_receiver() {
        let error = describe(&answered(302, None), 3);
        assert_eq!((error.attempt, error.status_code), (3, Some(302)));
        assert_eq!(error.message, "the receiver answered 302; redirects are not followed");
        let error = describe(&Failure::Unsendable("no secret".to_owned()), 1);
        assert_eq!(error.code, "not_sent");
    }
}
