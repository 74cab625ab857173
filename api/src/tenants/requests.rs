//! Requests of administrators about tenants.

use std::time::Duration;

use causeway_queue::{TenantId, clock::Millis, limits::TenantLimits};
use serde::{Deserialize, Deserializer};
use serde_json::Value;
use utoipa::ToSchema;

use crate::{
    error::ApiError,
    extract::{MAX_COUNT, number},
};

/// Longest life of a key that expires, and longest time of grace, in seconds: ten years.
const MAX_SECONDS: u64 = 10 * 365 * 86_400;

/// A tenant to be added.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct TenantRequest {
    /// 1 to 64 of A-Z, a-z, 0-9, `.`, `_` and `-`.
    pub(super) id: String,
    /// True for a tenant that may see and change what concerns all tenants.
    #[serde(default)]
    pub(super) admin: bool,
    /// The receiver of the events of its jobs, unless a job names one.
    #[serde(default)]
    pub(super) webhook_url: Option<String>,
    /// Its share of tokens relative to others, 1 to 1,000; 1 unless you say.
    #[serde(default, deserialize_with = "given")]
    #[schema(value_type = Option<u64>)]
    weight: Option<Value>,
    /// Most of its jobs that run at once in a lane; null for no bound.
    #[serde(default, deserialize_with = "given")]
    #[schema(value_type = Option<u64>)]
    max_running: Option<Value>,
    /// Most of its jobs that wait in a lane; null for the lane's bound only.
    #[serde(default, deserialize_with = "given")]
    #[schema(value_type = Option<u64>)]
    max_queued: Option<Value>,
    /// Most attempts that start per minute in a lane; null for no bound.
    #[serde(default, deserialize_with = "given")]
    #[schema(value_type = Option<u64>)]
    requests_per_minute: Option<Value>,
    /// Most tokens per minute in a lane; null for no bound.
    #[serde(default, deserialize_with = "given")]
    #[schema(value_type = Option<u64>)]
    tokens_per_minute: Option<Value>,
    /// In how many seconds its key expires; null for a key that does not.
    #[serde(default)]
    #[schema(value_type = Option<u64>)]
    expires_in: Option<Value>,
}

/// Limits of a tenant to be changed; what is left out stays as it is.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct LimitsRequest {
    /// Its share of tokens relative to others, 1 to 1,000; null for 1.
    #[serde(default, deserialize_with = "given")]
    #[schema(value_type = Option<u64>)]
    weight: Option<Value>,
    /// Most of its jobs that run at once in a lane; null for no bound.
    #[serde(default, deserialize_with = "given")]
    #[schema(value_type = Option<u64>)]
    max_running: Option<Value>,
    /// Most of its jobs that wait in a lane; null for the lane's bound only.
    #[serde(default, deserialize_with = "given")]
    #[schema(value_type = Option<u64>)]
    max_queued: Option<Value>,
    /// Most attempts that start per minute in a lane; null for no bound.
    #[serde(default, deserialize_with = "given")]
    #[schema(value_type = Option<u64>)]
    requests_per_minute: Option<Value>,
    /// Most tokens per minute in a lane; null for no bound.
    #[serde(default, deserialize_with = "given")]
    #[schema(value_type = Option<u64>)]
    tokens_per_minute: Option<Value>,
}

/// Another key of a tenant.
#[derive(Debug, Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct KeyRequest {
    /// In how many seconds it expires; null for a key that does not.
    #[serde(default)]
    #[schema(value_type = Option<u64>)]
    expires_in: Option<Value>,
    /// For how many seconds the tenant's other keys stay valid; 0 unless you say.
    #[serde(default)]
    #[schema(value_type = Option<u64>)]
    keep_old: Option<Value>,
}

/// Reads a null as a value, which a field that is left out does not have.
fn given<'de, D: Deserializer<'de>>(from: D) -> Result<Option<Value>, D::Error> {
    Value::deserialize(from).map(Some)
}

impl TenantRequest {
    /// Checks each field.
    pub(super) fn checked(self, now: Millis) -> Result<Checked, ApiError> {
        let id = tenant_id(&self.id)?;
        let limits = LimitsRequest {
            weight: self.weight,
            max_running: self.max_running,
            max_queued: self.max_queued,
            requests_per_minute: self.requests_per_minute,
            tokens_per_minute: self.tokens_per_minute,
        };
        let mut new = TenantLimits::default();
        limits.change(&mut new)?;
        let expires_at = expiry(self.expires_in.as_ref(), now)?;
        Ok(Checked { id, limits: new, expires_at })
    }
}

/// A checked request for a tenant.
pub(super) struct Checked {
    pub(super) id: TenantId,
    pub(super) limits: TenantLimits,
    pub(super) expires_at: Option<Millis>,
}

impl LimitsRequest {
    /// Changes what is given.
    pub(super) fn change(&self, limits: &mut TenantLimits) -> Result<(), ApiError> {
        if let Some(sent) = &self.weight {
            let weight = bound("weight", sent, 1000)?;
            limits.weight = weight.map_or(1, small);
        }
        if let Some(sent) = &self.max_running {
            limits.max_running = bound("max_running", sent, u32::MAX.into())?.map(small);
        }
        if let Some(sent) = &self.max_queued {
            limits.max_queued = bound("max_queued", sent, MAX_COUNT)?;
        }
        if let Some(sent) = &self.requests_per_minute {
            let most = bound("requests_per_minute", sent, u32::MAX.into())?;
            limits.requests_per_minute = most.map(small);
        }
        if let Some(sent) = &self.tokens_per_minute {
            limits.tokens_per_minute = bound("tokens_per_minute", sent, MAX_COUNT)?;
        }
        Ok(())
    }
}

impl KeyRequest {
    /// Returns the times when the new key expires, and when the others do.
    pub(super) fn checked(&self, now: Millis) -> Result<(Option<Millis>, Millis), ApiError> {
        let keep = match self.keep_old.as_ref().filter(|sent| !sent.is_null()) {
            Some(sent) => Duration::from_secs(number("keep_old", sent, 0..=MAX_SECONDS)?),
            None => Duration::ZERO,
        };
        Ok((expiry(self.expires_in.as_ref(), now)?, now.after(keep)))
    }
}

/// A tenant's id.
pub(super) fn tenant_id(text: &str) -> Result<TenantId, ApiError> {
    TenantId::new(text).map_err(|error| ApiError::invalid_param("id", error.to_string()))
}

fn expiry(sent: Option<&Value>, now: Millis) -> Result<Option<Millis>, ApiError> {
    let Some(sent) = sent.filter(|sent| !sent.is_null()) else { return Ok(None) };
    let seconds = number("expires_in", sent, 1..=MAX_SECONDS)?;
    Ok(Some(now.after(Duration::from_secs(seconds))))
}

/// A bound from 1 to `most`; `None` for null.
fn bound(param: &str, sent: &Value, most: u64) -> Result<Option<u64>, ApiError> {
    if sent.is_null() { Ok(None) } else { number(param, sent, 1..=most).map(Some) }
}

/// A number whose range was checked.
fn small(number: u64) -> u32 {
    u32::try_from(number).unwrap_or(u32::MAX)
}
