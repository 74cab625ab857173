//! Error messages of failed calls for people: the status, the URL, and the upstream's own words.

#![warn(clippy::wildcard_enum_match_arm)]

use causeway_queue::job::AttemptError;
use reqwest::StatusCode;

use super::{cause::Cause, disposition::Attempt};
use crate::{
    failure::{ErrorResponse, Failure, NoAnswer},
    upstream::{
        error_body::{ErrorBody, clean},
        target::CallTarget,
    },
};

/// Returns the error of a failed attempt as the job shows it.
pub(crate) fn error(failure: &Failure, cause: Cause, attempt: &Attempt<'_>) -> AttemptError {
    let message = message(failure, attempt.target.as_ref());
    let status_code = match failure {
        Failure::Refused(refusal) => Some(refusal.status_code),
        Failure::NoAnswer { status_code, .. } => *status_code,
        Failure::Connect(_)
        | Failure::ConnectTimeout
        | Failure::FirstByteTimeout(_)
        | Failure::Stalled(_)
        | Failure::TotalTimeout(_)
        | Failure::Cut(_)
        | Failure::TooLarge(_)
        | Failure::TooMany(_)
        | Failure::InStream(_)
        | Failure::Unsendable(_)
        | Failure::Deferred(_)
        | Failure::Exhausted(_) => None,
    };
    AttemptError { attempt: attempt.number, code: cause.code().to_owned(), message, status_code }
}

/// Describes the failure of a call to `target` in one sentence.
pub(crate) fn message(failure: &Failure, target: Option<&CallTarget>) -> String {
    let url = target.map_or("the upstream", |target| &target.url);
    let origin = target.map_or("the upstream", |target| &target.origin);
    match failure {
        Failure::Connect(why) => {
            // rustls reports a private certificate authority in this way; `ca_file` is the remedy.
            let advice = if why.contains("UnknownIssuer") { "; see `ca_file`" } else { "" };
            format!("cannot connect to {origin}: {why}{advice}")
        }
        Failure::ConnectTimeout => {
            format!("cannot connect to {origin}: no connection within `timeouts.connect`")
        }
        Failure::FirstByteTimeout(time) => {
            format!("no answer from {url} began within {} s", time.as_secs_f64())
        }
        Failure::Stalled(time) => {
            format!("the answer from {url} fell silent for {} s", time.as_secs_f64())
        }
        Failure::TotalTimeout(time) => {
            format!("the call to {url} took longer than {} s", time.as_secs_f64())
        }
        Failure::Cut(why) => format!("the answer from {url} broke off: {why}"),
        Failure::TooLarge(bytes) => {
            format!("the answer from {url} is larger than {bytes} bytes (`max_response_bytes`)")
        }
        Failure::TooMany(most) => {
            format!("the stream from {url} has more than {most} choices, tool calls or parts")
        }
        Failure::InStream(event) => {
            let message = ErrorBody::read(event).message;
            let message = message.unwrap_or_else(|| "it has no message".to_owned());
            format!("error in the stream from {url}: {message}")
        }
        Failure::Unsendable(why) => format!("the call to {url} was not sent: {why}"),
        Failure::Refused(refusal) => refused(refusal, url),
        Failure::NoAnswer { status_code, what } => {
            let status = status_code.map(|status| format!("{status} from ")).unwrap_or_default();
            format!("{status}{url} is no answer: {what}{}", advice(what))
        }
        Failure::Deferred(_) => failure.to_string(),
        Failure::Exhausted(why) => format!("the worker could not call {url}: {why}"),
    }
}

fn refused(refusal: &ErrorResponse, url: &str) -> String {
    let status = refusal.status_code;
    let reason = || StatusCode::from_u16(status).ok()?.canonical_reason().and_then(clean);
    let message = ErrorBody::read(&refusal.body).message.or_else(reason).unwrap_or_default();
    match status {
        401 => format!("{status} from {url}: {message}; check `api_key_env`"),
        400.. => format!("{status} from {url}: {message}"),
        0..400 => format!("{status} from {url}, with an error as its body: {message}"),
    }
}

/// Returns the remedy, if there is a known one.
fn advice(what: &NoAnswer) -> &'static str {
    match what {
        NoAnswer::Redirect(_) => "; redirects are not followed: set `upstream` to the new address",
        NoAnswer::WebPage(_) => "; does the path of `upstream` lack a `/v1`?",
        NoAnswer::Empty
        | NoAnswer::Coding(_)
        | NoAnswer::Unreadable(_)
        | NoAnswer::Stream(_)
        | NoAnswer::Whole => "",
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use causeway_queue::RawJson;

    use super::*;
    use crate::attempt::cause::cause;

    fn described(failure: &Failure) -> AttemptError {
        let url = "/v1/chat/completions";
        let target = CallTarget::of("http://me:secret@host:1/v1/chat/completions?key=secret");
        let attempt = Attempt { number: 3, max: 5, url, target };
        error(failure, cause(failure, url).0, &attempt)
    }

    fn refusal(status_code: u16, body: &str) -> Failure {
        let body = RawJson::parse(body.to_owned()).unwrap();
        Failure::Refused(Box::new(ErrorResponse { status_code, body, ..ErrorResponse::default() }))
    }

    #[test]
    fn a_message_has_status_url_and_cause() {
        let url = "http://host:1/v1/chat/completions";
        let no = |status, what| Failure::NoAnswer { status_code: Some(status), what };
        let rows = [
            (
                refusal(401, r#"{"error":{"message":"Incorrect API key provided"}}"#),
                format!("401 from {url}: Incorrect API key provided; check `api_key_env`"),
            ),
            (refusal(503, "\"\""), format!("503 from {url}: Service Unavailable")),
            (
                refusal(502, "\"<html><title>502 Bad Gateway</title>\""),
                format!("502 from {url}: 502 Bad Gateway"),
            ),
            (
                refusal(200, r#"{"error":{"message":"the provider failed","code":502}}"#),
                format!("200 from {url}, with an error as its body: the provider failed"),
            ),
            (
                Failure::Connect("connection refused".to_owned()),
                "cannot connect to http://host:1: connection refused".to_owned(),
            ),
            (
                Failure::Connect("TLS: invalid peer certificate: UnknownIssuer".to_owned()),
                "cannot connect to http://host:1: TLS: invalid peer certificate: UnknownIssuer; \
                 see `ca_file`"
                    .to_owned(),
            ),
            (
                Failure::InStream(
                    RawJson::parse(r#"{"error":"out of memory"}"#.to_owned()).unwrap(),
                ),
                format!("error in the stream from {url}: out of memory"),
            ),
            (
                no(301, NoAnswer::Redirect(Some("http://host/x".to_owned()))),
                format!(
                    "301 from {url} is no answer: a redirect to http://host/x; redirects are not \
                     followed: set `upstream` to the new address"
                ),
            ),
            (
                Failure::Stalled(Duration::from_secs(60)),
                format!("the answer from {url} fell silent for 60 s"),
            ),
        ];
        for (failure, wanted) in rows {
            let error = described(&failure);
            assert_eq!((error.message, error.attempt), (wanted, 3), "{failure:?}");
        }
    }

    #[test]
    fn an_invalid_answer_keeps_its_status() {
        let failure = Failure::NoAnswer { status_code: Some(204), what: NoAnswer::Empty };
        assert_eq!(described(&failure).status_code, Some(204));
    }
}
