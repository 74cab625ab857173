//! Causes of failed attempts, and their owners: the table "Every failure has one owner" of ARCHITECTURE.md.
//!
//! [`cause`] classifies a failure. [`Cause::disposition`] and [`Cause::code`] are the table, without a wildcard.

#![warn(clippy::wildcard_enum_match_arm)]

use std::time::Duration;

use super::disposition::Disposition;
use crate::{
    failure::{ErrorResponse, Failure, NoAnswer},
    upstream::{error_body::ErrorBody, shape::Endpoint},
};

/// Wait of a lane after a rate limit for which the upstream named no time.
pub(crate) const DEFAULT_RATE_WAIT: Duration = Duration::from_secs(1);

/// Shortest wait after a rate limit. It keeps an upstream that names a shorter one from being called in a loop.
const SHORTEST_RATE_WAIT: Duration = Duration::from_millis(100);

/// The cause of a failed attempt.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Cause {
    Unreachable,
    Silent,
    Unavailable,
    Busy,
    RateLimited,
    BudgetSpent,
    KeyRefused,
    ModelMissing,
    EndpointMissing,
    Redirected,
    NoAnswer,
    Unreadable,
    UnknownError,
    ServerError,
    Cut,
    TimedOut,
    Conflict,
    RetryAdvised,
    RetryDiscouraged,
    Refused,
    TooLarge,
    Unsendable,
    Exhausted,
}

/// A cause, and the time that the upstream named for the next call.
pub(crate) type Judged = (Cause, Option<Duration>);

impl Cause {
    /// Returns the owner of the failure and its consequence; `after` is the time that the upstream named.
    pub(crate) fn disposition(self, after: Option<Duration>) -> Disposition {
        match self {
            Self::RateLimited => Disposition::Rate(match after {
                // "At once" or a date in the past names no time.
                None | Some(Duration::ZERO) => DEFAULT_RATE_WAIT,
                Some(after) => after.max(SHORTEST_RATE_WAIT),
            }),
            Self::Busy => Disposition::Unavailable(after.unwrap_or_default()),
            Self::BudgetSpent | Self::KeyRefused | Self::ModelMissing => {
                Disposition::Upstream { at_once: true, after }
            }
            Self::Unreachable
            | Self::Silent
            | Self::Unavailable
            | Self::Redirected
            | Self::NoAnswer
            | Self::Unreadable
            | Self::UnknownError => Disposition::Upstream { at_once: false, after },
            // The server may lack this one endpoint, or the base URL may be wrong: other jobs of the lane show which.
            Self::ServerError | Self::Cut | Self::TimedOut | Self::EndpointMissing => {
                Disposition::Unclear(after)
            }
            Self::Conflict | Self::RetryAdvised => Disposition::Retry(after),
            Self::RetryDiscouraged | Self::Refused | Self::TooLarge | Self::Unsendable => {
                Disposition::Fatal
            }
            Self::Exhausted => Disposition::Released(Duration::ZERO),
        }
    }

    /// Returns the public error code: `error.code` of the job.
    pub(crate) fn code(self) -> &'static str {
        match self {
            Self::Unreachable => "upstream_unreachable",
            Self::Silent | Self::TimedOut => "upstream_timeout",
            Self::RateLimited => "upstream_rate_limited",
            Self::BudgetSpent => "upstream_budget_spent",
            Self::Redirected => "upstream_redirected",
            Self::NoAnswer => "upstream_no_answer",
            Self::Unreadable => "upstream_unreadable",
            Self::Cut => "upstream_cut",
            Self::TooLarge => "upstream_answer_too_large",
            Self::KeyRefused
            | Self::ModelMissing
            | Self::EndpointMissing
            | Self::Conflict
            | Self::RetryAdvised
            | Self::RetryDiscouraged
            | Self::Refused => "upstream_refused",
            Self::Unavailable
            | Self::Busy
            | Self::UnknownError
            | Self::ServerError
            | Self::Unsendable => "upstream_error",
            Self::Exhausted => "worker_exhausted",
        }
    }
}

/// Classifies `failure` of a call to `url`.
pub(crate) fn cause(failure: &Failure, url: &str) -> Judged {
    match failure {
        Failure::Connect(_) | Failure::ConnectTimeout => (Cause::Unreachable, None),
        Failure::FirstByteTimeout(_) => (Cause::Silent, None),
        Failure::Stalled(_) | Failure::TotalTimeout(_) => (Cause::TimedOut, None),
        Failure::Cut(_) => (Cause::Cut, None),
        Failure::TooLarge(_) | Failure::TooMany(_) => (Cause::TooLarge, None),
        Failure::Unsendable(_) => (Cause::Unsendable, None),
        // `Deferred` comes from webhook deliveries only, which have their own rules.
        Failure::Deferred(_) | Failure::Exhausted(_) => (Cause::Exhausted, None),
        Failure::NoAnswer { what, .. } => (no_answer(what), None),
        Failure::Refused(refusal) => refused(refusal, url),
        Failure::InStream(event) => in_stream(&ErrorBody::read(event), url),
    }
}

fn no_answer(what: &NoAnswer) -> Cause {
    match what {
        NoAnswer::Redirect(_) => Cause::Redirected,
        NoAnswer::Empty | NoAnswer::WebPage(_) => Cause::NoAnswer,
        NoAnswer::Coding(_) | NoAnswer::Unreadable(_) | NoAnswer::Stream(_) | NoAnswer::Whole => {
            Cause::Unreadable
        }
    }
}

fn refused(refusal: &ErrorResponse, url: &str) -> Judged {
    let body = ErrorBody::read(&refusal.body);
    let after = refusal.retry_after.or(body.retry_after);
    let is_error = refusal.status_code >= 400;
    let status = if is_error { Some(refusal.status_code) } else { body.status() };
    let cause = by_status(status, &body, url, after).unwrap_or(Cause::UnknownError);
    (apply_should_retry(refusal.should_retry, cause, after), after)
}

/// Classifies an error within a stream. Its 5xx do not mean "unavailable": the upstream had started to answer.
fn in_stream(body: &ErrorBody, url: &str) -> Judged {
    let cause = match by_status(body.status(), body, url, body.retry_after) {
        None | Some(Cause::Unavailable) => Cause::ServerError,
        Some(cause) => cause,
    };
    (cause, body.retry_after)
}

/// Classifies an error by `status` (400 to 599) and its body; `None` if neither is conclusive.
fn by_status(
    status: Option<u16>,
    body: &ErrorBody,
    url: &str,
    after: Option<Duration>,
) -> Option<Cause> {
    // Budget and key come before the status: some upstreams report them under an unrelated one.
    if body.is_budget(status) {
        return Some(Cause::BudgetSpent);
    }
    if names_key(body) {
        return Some(Cause::KeyRefused);
    }
    // Zero seconds is no useful time: the lane then cools down by its own schedule.
    let is_named = after.is_some_and(|after| !after.is_zero());
    Some(match status? {
        403 if blames_content(body) => Cause::Refused,
        401 | 403 | 407 => Cause::KeyRefused,
        404 => not_found(body, url),
        405 => no_such_endpoint(url),
        408 => Cause::TimedOut,
        409 | 425 => Cause::Conflict,
        // Groq answers 498 if its flexible tier has no capacity.
        429 | 498 => Cause::RateLimited,
        501 => Cause::Refused,
        503 | 529 if is_named => Cause::Busy,
        // Cloudflare answers 520 to 530 if it cannot reach or understand the origin server.
        502..=504 | 508 | 511 | 520..=530 => Cause::Unavailable,
        500.. => Cause::ServerError,
        0..500 => Cause::Refused,
    })
}

/// True if the error says that the key is unknown, whatever its status: xAI and Google use 400. Words count only
/// at the beginning of the message, as validation errors quote the request.
fn names_key(body: &ErrorBody) -> bool {
    let names = ["invalid_api_key", "incorrect_api_key", "api_key_invalid", "authentication_error"];
    let phrases = ["incorrect api key", "invalid api key", "api key not valid"];
    names.iter().any(|name| body.is_named(name)) || body.begins_with(&phrases)
}

/// True if a 403 is about the content of the request, such as `OpenRouter`'s moderation.
fn blames_content(body: &ErrorBody) -> bool {
    let names =
        ["content_filter", "content_policy_violation", "moderation_error", "content_flagged"];
    let phrases =
        ["your chosen model requires moderation", "input was flagged", "content violates"];
    names.iter().any(|name| body.is_named(name)) || body.begins_with(&phrases)
}

/// Classifies a 404: a missing model, a missing endpoint, or an object that the request names.
fn not_found(body: &ErrorBody, url: &str) -> Cause {
    if body.is_named("model_not_found") || body.param() == Some("model") {
        return Cause::ModelMissing;
    }
    if names_own_object(body) {
        return Cause::Refused;
    }
    match Endpoint::of(url) {
        // Requests to these endpoints name nothing else that an upstream could lack.
        Endpoint::Chat | Endpoint::Completions => Cause::ModelMissing,
        Endpoint::Embeddings | Endpoint::Responses | Endpoint::Messages
            if speaks_of_model(body) =>
        {
            Cause::ModelMissing
        }
        Endpoint::Embeddings | Endpoint::Responses | Endpoint::Messages | Endpoint::Other => {
            no_such_endpoint(url)
        }
    }
}

/// Classifies a missing endpoint. A standard one may be the lane's fault; any other was the job's choice.
fn no_such_endpoint(url: &str) -> Cause {
    match Endpoint::of(url) {
        Endpoint::Chat
        | Endpoint::Completions
        | Endpoint::Embeddings
        | Endpoint::Responses
        | Endpoint::Messages => Cause::EndpointMissing,
        Endpoint::Other => Cause::Refused,
    }
}

/// True if the error is about an object that the request names, such as an earlier response or a file.
pub(crate) fn names_own_object(body: &ErrorBody) -> bool {
    let names = ["previous_response_not_found", "response_not_found", "file_not_found"];
    let params = ["previous_response_id", "conversation", "file_id", "container"];
    let phrases = [
        "previous response",
        "response with id",
        "item with id",
        "conversation with id",
        "container with id",
        "no such file",
        "file not found",
        "file with id",
    ];
    names.iter().any(|name| body.is_named(name))
        || body.param().is_some_and(|param| params.contains(&param))
        || body.begins_with(&phrases)
}

/// True if the message of a 404 begins with the model, as with Anthropic, vLLM and Ollama.
fn speaks_of_model(body: &ErrorBody) -> bool {
    body.begins_with(&["model", "the model", "unknown model", "no such model", "no model"])
}

/// Applies `x-should-retry` to failures that may be the job's. A failure of the lane or its rate keeps its owner: the
/// header advises one client, but a lane waits for all its jobs. Another Causeway sends `false` with 503 and 504.
fn apply_should_retry(should_retry: Option<bool>, cause: Cause, after: Option<Duration>) -> Cause {
    match (should_retry, cause.disposition(after)) {
        (Some(true), Disposition::Fatal) => Cause::RetryAdvised,
        (Some(false), Disposition::Unclear(_) | Disposition::Retry(_)) => Cause::RetryDiscouraged,
        (None, _)
        | (
            Some(_),
            Disposition::Upstream { .. }
            | Disposition::Rate(_)
            | Disposition::Unavailable(_)
            | Disposition::Released(_),
        )
        | (Some(true), Disposition::Unclear(_) | Disposition::Retry(_))
        | (Some(false), Disposition::Fatal) => cause,
    }
}

#[cfg(test)]
mod tests;
