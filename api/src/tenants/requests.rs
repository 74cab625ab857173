//! The bodies of `/v1/tenants`.

use std::time::Duration;

use causeway_queue::{TenantId, clock::Millis, limits::TenantLimits};
use serde::{Deserialize, Deserializer};
use serde_json::Value;
use utoipa::ToSchema;

use crate::{
    error::ApiError,
    extract::{MAX_COUNT, number},
};

/// Longest lifetime of a key that expires, and longest grace period, in seconds: ten years.
const MAX_SECONDS: u64 = 10 * 365 * 86_400;

/// A tenant to add.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct TenantRequest {
    /// 1 to 64 characters of A-Z, a-z, 0-9, `.`, `_` and `-`.
    pub(super) id: String,
    /// True for an administrator, who may see and change the jobs and settings of all tenants.
    #[serde(default)]
    pub(super) admin: bool,
    /// The receiver of webhook events, unless a job names another one.
    #[serde(default)]
    pub(super) webhook_url: Option<String>,
    /// Its share of tokens relative to other tenants, 1 to 1,000; by default 1.
    #[serde(default, deserialize_with = "given")]
    #[schema(value_type = Option<u64>)]
    weight: Option<Value>,
    /// Most running jobs in a lane; null for no limit.
    #[serde(default, deserialize_with = "given")]
    #[schema(value_type = Option<u64>)]
    max_running: Option<Value>,
    /// Most waiting jobs in a lane; null for the lane's limit only.
    #[serde(default, deserialize_with = "given")]
    #[schema(value_type = Option<u64>)]
    max_queued: Option<Value>,
    /// Most attempts that start per minute in a lane; null for no limit.
    #[serde(default, deserialize_with = "given")]
    #[schema(value_type = Option<u64>)]
    requests_per_minute: Option<Value>,
    /// Most tokens per minute in a lane; null for no limit.
    #[serde(default, deserialize_with = "given")]
    #[schema(value_type = Option<u64>)]
    tokens_per_minute: Option<Value>,
    /// Lifetime of its key in seconds; null for no expiry.
    #[serde(default)]
    #[schema(value_type = Option<u64>)]
    expires_in: Option<Value>,
}

/// Changed limits of a tenant. Absent ones remain.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct LimitsRequest {
    /// Its share of tokens relative to other tenants, 1 to 1,000; null for 1.
    #[serde(default, deserialize_with = "given")]
    #[schema(value_type = Option<u64>)]
    weight: Option<Value>,
    /// Most running jobs in a lane; null for no limit.
    #[serde(default, deserialize_with = "given")]
    #[schema(value_type = Option<u64>)]
    max_running: Option<Value>,
    /// Most waiting jobs in a lane; null for the lane's limit only.
    #[serde(default, deserialize_with = "given")]
    #[schema(value_type = Option<u64>)]
    max_queued: Option<Value>,
    /// Most attempts that start per minute in a lane; null for no limit.
    #[serde(default, deserialize_with = "given")]
    #[schema(value_type = Option<u64>)]
    requests_per_minute: Option<Value>,
    /// Most tokens per minute in a lane; null for no limit.
    #[serde(default, deserialize_with = "given")]
    #[schema(value_type = Option<u64>)]
    tokens_per_minute: Option<Value>,
}

/// A further key of a tenant.
#[derive(Debug, Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct KeyRequest {
    /// Its lifetime in seconds; null for no expiry.
    #[serde(default)]
    #[schema(value_type = Option<u64>)]
    expires_in: Option<Value>,
    /// Seconds for which the tenant's other keys stay valid; by default 0.
    #[serde(default)]
    #[schema(value_type = Option<u64>)]
    keep_old: Option<Value>,
}

/// Reads null as `Some`, to distinguish it from an absent field.
fn given<'de, D: Deserializer<'de>>(from: D) -> Result<Option<Value>, D::Error> {
    Value::deserialize(from).map(Some)
}

impl TenantRequest {
    /// Checks all fields.
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

/// A checked [`TenantRequest`].
pub(super) struct Checked {
    pub(super) id: TenantId,
    pub(super) limits: TenantLimits,
    pub(super) expires_at: Option<Millis>,
}

impl LimitsRequest {
    /// Applies the present fields.
    pub(super) fn change(&self, limits: &mut TenantLimits) -> Result<(), ApiError> {
        if let Some(sent) = &self.weight {
            let weight = optional_limit("weight", sent, 1000)?;
            limits.weight = weight.map_or(1, to_u32);
        }
        if let Some(sent) = &self.max_running {
            limits.max_running = optional_limit("max_running", sent, u32::MAX.into())?.map(to_u32);
        }
        if let Some(sent) = &self.max_queued {
            limits.max_queued = optional_limit("max_queued", sent, MAX_COUNT)?;
        }
        if let Some(sent) = &self.requests_per_minute {
            let most = optional_limit("requests_per_minute", sent, u32::MAX.into())?;
            limits.requests_per_minute = most.map(to_u32);
        }
        if let Some(sent) = &self.tokens_per_minute {
            limits.tokens_per_minute = optional_limit("tokens_per_minute", sent, MAX_COUNT)?;
        }
        Ok(())
    }
}

impl KeyRequest {
    /// Returns the expiry of the new key, and that of all others.
    pub(super) fn checked(&self, now: Millis) -> Result<(Option<Millis>, Millis), ApiError> {
        let keep = match self.keep_old.as_ref().filter(|sent| !sent.is_null()) {
            Some(sent) => Duration::from_secs(number("keep_old", sent, 0..=MAX_SECONDS)?),
            None => Duration::ZERO,
        };
        Ok((expiry(self.expires_in.as_ref(), now)?, now.after(keep)))
    }
}

/// Parses a tenant id.
pub(super) fn tenant_id(text: &str) -> Result<TenantId, ApiError> {
    TenantId::new(text).map_err(|error| ApiError::invalid_param("id", error.to_string()))
}

fn expiry(sent: Option<&Value>, now: Millis) -> Result<Option<Millis>, ApiError> {
    let Some(sent) = sent.filter(|sent| !sent.is_null()) else { return Ok(None) };
    let seconds = number("expires_in", sent, 1..=MAX_SECONDS)?;
    Ok(Some(now.after(Duration::from_secs(seconds))))
}

/// Parses a limit from 1 to `most`; `None` for null.
fn optional_limit(param: &str, sent: &Value, most: u64) -> Result<Option<u64>, ApiError> {
    if sent.is_null() { Ok(None) } else { number(param, sent, 1..=most).map(Some) }
}

/// Converts a number of checked range.
fn to_u32(number: u64) -> u32 {
    u32::try_from(number).unwrap_or(u32::MAX)
}
