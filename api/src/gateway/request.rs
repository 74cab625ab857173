//! The parsed request of a call: its headers and the few members of its body that the queue needs.

use std::time::Duration;

use axum::http::{HeaderMap, HeaderName, HeaderValue};
use causeway_queue::{
    Class, JobId, NewJob, SessionKey, Spec, job::Idempotency, limits::Allowance, orphan::CallKey,
    session::ProfileChange,
};
use serde::{Deserialize, Deserializer, de::MapAccess};
use sha2::{Digest, Sha256};
use utoipa::ToSchema;

use super::{
    incoming::Incoming,
    retry::{ExpectedRetry, READ_TIMEOUT, attempts_before, seconds},
};
use crate::{
    error::ApiError,
    extract::parse,
    forward,
    jobs::name_job,
    members::{self, Members},
    openapi::schema,
    state::AppState,
    submit::{Peek, idempotency},
};

/// The interval of keep-alive comments in a silent stream, unless its client has a shorter time-out.
pub(super) const KEEP_ALIVE: Duration = Duration::from_secs(10);

/// The shortest interval of keep-alive comments.
const MIN_KEEP_ALIVE: Duration = Duration::from_millis(250);

/// A call, parsed and checked.
#[derive(Debug)]
pub(super) struct CallRequest {
    /// The job to submit.
    pub(super) job: NewJob,
    /// The kind of answer that the caller wants.
    pub(super) reply: ReplyMode,
    /// The interval of keep-alive comments in a silent stream.
    pub(super) keep_alive: Duration,
    /// True if the job continues after its caller has left.
    pub(super) outlives_caller: bool,
    /// The retry to expect when the caller gets no answer.
    pub(super) retry: ExpectedRetry,
    /// The key of the call that left an orphan for this one, if this is a retry.
    pub(super) retries: Option<CallKey>,
    /// The turn of its job in a conversation.
    pub(super) turn: Option<ConversationTurn>,
}

/// The turn that a call takes when its job is accepted.
#[derive(Debug)]
pub(super) struct ConversationTurn {
    pub(super) session: SessionKey,
    /// The change of the record; `None` if another turn is running.
    pub(super) change: Option<ProfileChange>,
}

/// The kind of answer that a caller wants.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum ReplyMode {
    /// The complete answer.
    Complete,
    /// The answer as a stream.
    Stream,
    /// A reference to the job.
    JobReference,
}

/// The members of the body that Causeway reads besides those of [`Peek`]. The upstream validates them.
#[derive(Debug, Default, ToSchema)]
#[schema(as = HeldRequest)]
pub(crate) struct RequestOptions {
    /// The members of all jobs, parsed in the same pass.
    #[schema(ignore)]
    peek: Peek,
    /// `flex` means the class batch, `priority` the class interactive; all other values are only forwarded.
    #[schema(schema_with = schema::anything)]
    service_tier: Option<String>,
    /// True if the job continues after its caller has left. Values of other types are only forwarded.
    #[schema(schema_with = schema::anything)]
    store: Option<bool>,
}

impl Members for RequestOptions {
    fn take<'de, M: MapAccess<'de>>(
        &mut self,
        name: &str,
        values: &mut M,
    ) -> Result<bool, M::Error> {
        match name {
            "service_tier" => self.service_tier = members::lenient(values)?,
            "store" => self.store = members::lenient(values)?,
            _ => return self.peek.take(name, values),
        }
        Ok(true)
    }
}

impl<'de> Deserialize<'de> for RequestOptions {
    fn deserialize<D: Deserializer<'de>>(source: D) -> Result<Self, D::Error> {
        members::read(source)
    }
}

impl CallRequest {
    /// Parses a call.
    pub(super) fn read(state: &AppState, incoming: &Incoming) -> Result<Self, ApiError> {
        let Incoming { caller, path, headers, arrived, body, .. } = incoming;
        let tenant = &caller.tenant;
        let RequestOptions { peek, service_tier, store } = parse(body)?;
        let class = class(headers, service_tier.as_deref())?;
        let completion = peek.completion();
        let stream = peek.streams(path);
        let spec = Spec {
            url: path.clone(),
            model: peek.model,
            stream,
            headers: forward::of_call(&state.settings.forward_headers, path, headers)?,
            ..Spec::default()
        };
        let digest: [u8; 32] =
            // The separator keeps different pairs of path and body from having the same digest.
            Sha256::new().chain_update(path).chain_update([0]).chain_update(body).finalize().into();
        let ttl = state.settings.idempotency_ttl;
        let idempotency =
            idempotency(headers)?.map(|key| Idempotency { key, digest, ttl, spans_job: true });
        let is_named = idempotency.is_some();
        let drafted = state.queue.draft(tenant.clone(), spec, body.clone(), completion);
        let call = CallKey { tenant: tenant.clone(), digest };
        let is_retry = !is_named && attempts_before(headers).is_some_and(|attempts| attempts > 0);
        let retries = is_retry.then(|| call.clone());
        // An idempotency key finds the job by itself and needs no orphan.
        let retry = if is_named {
            ExpectedRetry::Never
        } else {
            ExpectedRetry::of(headers, call, *arrived)
        };
        let job = NewJob { class, keeps_events: stream, idempotency, ..drafted };
        let outlives_caller = is_named || store.unwrap_or(false);
        let reply = if stream {
            ReplyMode::Stream
        } else if prefers_async(headers) {
            ReplyMode::JobReference
        } else {
            ReplyMode::Complete
        };
        let (keep_alive, turn) = (keep_alive(headers), None);
        Ok(Self { job, reply, keep_alive, outlives_caller, retry, retries, turn })
    }

    pub(super) fn model(&self) -> Option<&str> {
        self.job.spec.model.as_deref()
    }
}

/// True if `Prefer: respond-async` (RFC 7240, section 4.1) was sent.
fn prefers_async(headers: &HeaderMap) -> bool {
    let values = headers.get_all("prefer").iter().filter_map(|value| value.to_str().ok());
    values.flat_map(|value| value.split([',', ';'])).any(|one| one.trim() == "respond-async")
}

/// Returns the interval of keep-alive comments: half of the client's time-out.
fn keep_alive(headers: &HeaderMap) -> Duration {
    let client = seconds(headers, READ_TIMEOUT);
    client.map_or(KEEP_ALIVE, |client| (client / 2).clamp(MIN_KEEP_ALIVE, KEEP_ALIVE))
}

/// Returns the class of `x-causeway-class`, or else that of OpenAI's `service_tier`.
fn class(headers: &HeaderMap, tier: Option<&str>) -> Result<Class, ApiError> {
    let Some(name) = headers.get("x-causeway-class") else {
        return Ok(match tier {
            Some("flex") => Class::Batch,
            Some("priority") => Class::Interactive,
            _ => Class::Standard,
        });
    };
    // A name beyond ASCII is unknown in any case.
    let name = name.to_str().unwrap_or("?");
    Class::ALL.into_iter().find(|class| class.to_string() == name).ok_or_else(|| {
        let message =
            format!("x-causeway-class must be interactive, standard or batch; it is {name:?}");
        ApiError::invalid_param("x-causeway-class", message)
    })
}

/// Adds the job's id and the remaining allowance of the tenant to the headers of an answer.
pub(super) fn add_headers(headers: &mut HeaderMap, id: &JobId, allowance: Allowance) {
    name_job(headers, id);
    let mut set = |name: &'static str, value: String| {
        if let Ok(value) = HeaderValue::from_str(&value) {
            headers.insert(HeaderName::from_static(name), value);
        }
    };
    if let Some(rate) = allowance.requests {
        set("x-ratelimit-limit-requests", rate.limit.to_string());
        set("x-ratelimit-remaining-requests", rate.remaining.to_string());
        set("x-ratelimit-reset-requests", in_seconds(rate.reset_after));
    }
    if let Some(rate) = allowance.tokens {
        set("x-ratelimit-limit-tokens", rate.limit.to_string());
        set("x-ratelimit-remaining-tokens", rate.remaining.to_string());
        set("x-ratelimit-reset-tokens", in_seconds(rate.reset_after));
    }
}

/// Formats a duration like OpenAI.
fn in_seconds(span: Duration) -> String {
    format!("{}s", span.as_millis() as f64 / 1000.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(pairs: &[(&'static str, &'static str)]) -> HeaderMap {
        let pairs = pairs
            .iter()
            .map(|(name, value)| (HeaderName::from_static(name), HeaderValue::from_static(value)));
        pairs.collect()
    }

    #[test]
    fn header_or_tier_selects_the_class() {
        let of = |pairs, tier| class(&headers(pairs), tier);
        assert_eq!(of(&[], None), Ok(Class::Standard));
        assert_eq!(of(&[], Some("auto")), Ok(Class::Standard));
        assert_eq!(of(&[], Some("flex")), Ok(Class::Batch));
        assert_eq!(of(&[], Some("priority")), Ok(Class::Interactive));
        assert_eq!(of(&[("x-causeway-class", "batch")], Some("priority")), Ok(Class::Batch));
        assert!(of(&[("x-causeway-class", "fast")], None).is_err());
    }

    #[test]
    fn short_time_outs_shorten_the_keep_alive() {
        let of = |text| keep_alive(&headers(&[(READ_TIMEOUT, text)]));
        assert_eq!(of("600"), KEEP_ALIVE);
        assert_eq!(of("5"), Duration::from_millis(2500));
        assert_eq!(of("0.1"), MIN_KEEP_ALIVE);
        for text in ["None", "NaN", "inf", "-1"] {
            assert_eq!(of(text), KEEP_ALIVE, "{text}");
        }
        assert_eq!(keep_alive(&HeaderMap::new()), KEEP_ALIVE);
    }
}
