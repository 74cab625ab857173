//! What a call asks of the queue, read from its headers and from the few fields of its body that
//! concern it.

use std::time::Duration;

use axum::http::{HeaderMap, HeaderName, HeaderValue};
use bytes::Bytes;
use causeway_queue::{
    Class, JobId, NewJob, Spec, TenantId, job::Idempotency, limits::Allowance, orphan::CallKey,
};
use serde::{Deserialize, Deserializer, de::MapAccess};
use sha2::{Digest, Sha256};
use utoipa::ToSchema;

use super::retry::Retry;
use crate::{
    error::ApiError,
    extract::parse,
    forward,
    members::{self, Members},
    openapi::schema,
    state::AppState,
    submit::{Peek, idempotency},
};

/// How much earlier than its client the call gives up, so that the client hears why.
const MARGIN: Duration = Duration::from_secs(5);

/// How long an SDK waits before its second try, and at most before a later one: it doubles.
const FIRST_PAUSE: Duration = Duration::from_millis(500);
const LONGEST_PAUSE: Duration = Duration::from_secs(8);

/// How much longer a client that left may take to come again.
const RETURN: Duration = Duration::from_secs(1);

/// Headers in which SDKs say how many seconds they wait: of Python, and of JavaScript.
const TIMEOUTS: [&str; 2] = ["x-stainless-read-timeout", "x-stainless-timeout"];

/// A call, read and checked.
#[derive(Debug)]
pub(super) struct Asked {
    /// The job that it would be.
    pub(super) job: NewJob,
    /// What the caller wants to hear.
    pub(super) reply: Reply,
    /// How long the caller waits.
    pub(super) patience: Duration,
    /// Whether the job goes on when the caller has gone.
    pub(super) stays: bool,
    /// How the caller retries when it went without an answer.
    pub(super) retry: Retry,
    /// Whether this is a retry already.
    pub(super) is_retry: bool,
}

/// What a caller wants to hear.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Reply {
    /// The answer, when it is there.
    Whole,
    /// The answer, as it comes.
    Stream,
    /// Only where the job is.
    Place,
}

/// The members of the body of a held call that Causeway reads besides those of every upstream's request.
/// Their upstream validates them.
#[derive(Debug, Default, ToSchema)]
#[schema(as = HeldRequest)]
pub(crate) struct Wishes {
    /// `flex` is the class batch, `priority` the class interactive; any value passes through.
    #[schema(schema_with = schema::anything)]
    service_tier: Option<String>,
    /// Whether the job goes on when its caller goes away; any value passes through.
    #[schema(schema_with = schema::anything)]
    store: Option<bool>,
}

impl Members for Wishes {
    fn take<'de, M: MapAccess<'de>>(
        &mut self,
        name: &str,
        values: &mut M,
    ) -> Result<bool, M::Error> {
        match name {
            "service_tier" => self.service_tier = members::lenient(values)?,
            "store" => self.store = members::lenient(values)?,
            _ => return Ok(false),
        }
        Ok(true)
    }
}

/// All members of the body that Causeway reads, in one pass.
#[derive(Debug, Default)]
struct BothMembers {
    peek: Peek,
    wishes: Wishes,
}

impl Members for BothMembers {
    fn take<'de, M: MapAccess<'de>>(
        &mut self,
        name: &str,
        values: &mut M,
    ) -> Result<bool, M::Error> {
        Ok(self.peek.take(name, values)? || self.wishes.take(name, values)?)
    }
}

impl<'de> Deserialize<'de> for BothMembers {
    fn deserialize<D: Deserializer<'de>>(source: D) -> Result<Self, D::Error> {
        members::read(source)
    }
}

impl Asked {
    /// Reads a call to `path`.
    pub(super) fn read(
        state: &AppState,
        tenant: &TenantId,
        path: &str,
        headers: &HeaderMap,
        body: &Bytes,
    ) -> Result<Self, ApiError> {
        let BothMembers { peek, wishes } = parse(body)?;
        let class = class(headers, wishes.service_tier.as_deref())?;
        let completion = peek.completion();
        let stream = peek.streams(path);
        let spec = Spec {
            url: path.to_owned(),
            model: peek.model,
            stream,
            headers: forward::of_call(&state.settings.forward_headers, path, headers)?,
            ..Spec::default()
        };
        let digest: [u8; 32] =
            Sha256::new().chain_update(path).chain_update([0]).chain_update(body).finalize().into();
        let patience = patience(headers, state.settings.hold);
        let ttl = state.settings.idempotency_ttl;
        let idempotency =
            idempotency(headers)?.map(|key| Idempotency { key, digest, ttl, spans_job: true });
        let is_named = idempotency.is_some();
        let drafted = state.queue.draft(tenant.clone(), spec, body.clone(), completion);
        let retry = retry(headers, tenant, idempotency.is_some(), digest);
        let job = NewJob { class, keeps_events: stream, idempotency, ..drafted };
        let stays = wishes.store.unwrap_or(false);
        let reply = if stream {
            Reply::Stream
        } else if prefers_async(headers) {
            Reply::Place
        } else {
            Reply::Whole
        };
        let is_retry = retries(headers).is_some_and(|count| count > 0);
        Ok(Self { job, reply, patience, stays, retry, is_retry })
    }

    pub(super) fn model(&self) -> Option<&str> {
        self.job.spec.model.as_deref()
    }
}

/// How a caller retries.
fn retry(headers: &HeaderMap, tenant: &TenantId, is_named: bool, digest: [u8; 32]) -> Retry {
    let within = retries(headers).map(comes_again);
    match (is_named, within) {
        (true, within) => Retry::Named(within.unwrap_or_default()),
        (false, Some(within)) => {
            Retry::Counted(Box::new(CallKey { tenant: tenant.clone(), digest }), within)
        }
        (false, None) => Retry::Never,
    }
}

/// Whether `Prefer: respond-async` (RFC 7240, section 4.1) was sent.
fn prefers_async(headers: &HeaderMap) -> bool {
    let said = headers.get_all("prefer").iter().filter_map(|value| value.to_str().ok());
    said.flat_map(|value| value.split([',', ';'])).any(|one| one.trim() == "respond-async")
}

/// Which try this is, counted from 0, where the client says it: then it tries again.
fn retries(headers: &HeaderMap) -> Option<u32> {
    headers.get("x-stainless-retry-count")?.to_str().ok()?.trim().parse().ok()
}

/// How long a client that left with its try `retries` may take to come with the next one.
fn comes_again(retries: u32) -> Duration {
    FIRST_PAUSE.saturating_mul(2_u32.saturating_pow(retries)).min(LONGEST_PAUSE) + RETURN
}

/// How long to hold a call: a little less than its client would wait, at most `most`. A client that
/// waits less than a second may say that it waits for none.
fn patience(headers: &HeaderMap, most: Duration) -> Duration {
    let said = |name| headers.get(name)?.to_str().ok()?.trim().parse::<f64>().ok();
    let client = TIMEOUTS.into_iter().find_map(said).filter(|seconds| *seconds > 0.0);
    let Some(Ok(client)) = client.map(Duration::try_from_secs_f64) else { return most };
    client.saturating_sub(MARGIN).max(client / 2).min(most)
}

/// The class by `x-causeway-class`, else by OpenAI's `service_tier`.
fn class(headers: &HeaderMap, tier: Option<&str>) -> Result<Class, ApiError> {
    let Some(name) = headers.get("x-causeway-class") else {
        return Ok(match tier {
            Some("flex") => Class::Batch,
            Some("priority") => Class::Interactive,
            _ => Class::Standard,
        });
    };
    let name = name.to_str().unwrap_or("?");
    Class::ALL.into_iter().find(|class| class.to_string() == name).ok_or_else(|| {
        let message =
            format!("x-causeway-class must be interactive, standard or batch; it is {name:?}");
        ApiError::invalid_param("x-causeway-class", message)
    })
}

/// Says in the answer which job it was, and what the tenant has left of its rates.
pub(super) fn tell(headers: &mut HeaderMap, id: &JobId, allowance: Allowance) {
    let mut set = |name: &'static str, value: String| {
        if let Ok(value) = HeaderValue::from_str(&value) {
            headers.insert(HeaderName::from_static(name), value);
        }
    };
    set("x-causeway-job-id", id.to_string());
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

/// A span as OpenAI writes it.
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
    fn the_class_is_said_by_header_or_tier() {
        let of = |pairs, tier| class(&headers(pairs), tier);
        assert_eq!(of(&[], None), Ok(Class::Standard));
        assert_eq!(of(&[], Some("auto")), Ok(Class::Standard));
        assert_eq!(of(&[], Some("flex")), Ok(Class::Batch));
        assert_eq!(of(&[], Some("priority")), Ok(Class::Interactive));
        assert_eq!(of(&[("x-causeway-class", "batch")], Some("priority")), Ok(Class::Batch));
        assert!(of(&[("x-causeway-class", "fast")], None).is_err());
    }

    #[test]
    fn a_call_gives_up_before_its_client_does() {
        let most = Duration::from_secs(600);
        let held = |text| patience(&headers(&[("x-stainless-read-timeout", text)]), most);
        assert_eq!(held("60"), Duration::from_secs(55));
        assert_eq!(held("4"), Duration::from_secs(2));
        assert_eq!(held("2.5"), Duration::from_millis(1250));
        for text in ["0", "None", "NaN", "inf", "-1"] {
            assert_eq!(held(text), most, "{text}");
        }
        assert_eq!(held("6000"), most);
        assert_eq!(patience(&HeaderMap::new(), most), most);
        let javascript = headers(&[("x-stainless-timeout", "60")]);
        assert_eq!(patience(&javascript, most), Duration::from_secs(55));
    }

    #[test]
    fn a_client_has_longer_to_come_again_than_it_pauses() {
        assert_eq!(comes_again(0), Duration::from_millis(1500));
        assert_eq!(comes_again(2), Duration::from_secs(3));
        assert_eq!(comes_again(u32::MAX), Duration::from_secs(9));
    }
}
