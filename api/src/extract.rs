//! Extractors of requests. Their errors say what is wrong and what would be right.

mod mismatch;

use std::{ops::RangeInclusive, time::Duration};

use axum::{
    extract::{FromRequest, FromRequestParts, Path, Request},
    http::{HeaderMap, StatusCode, header, request::Parts},
};
use bytes::Bytes;
use causeway_queue::json::syntax_error;
use serde::de::{DeserializeOwned, Error as _, IgnoredAny};
use serde_json::{Number, Value};

use self::mismatch::mismatch;
pub(crate) use self::mismatch::query_mismatch;
use self::mismatch::shown;
use crate::{body, budget::BudgetCharge, error::ApiError, state::AppState};

/// Highest count in a request: the largest integer that every JSON parser represents exactly.
pub(crate) const MAX_COUNT: u64 = (1 << 53) - 1;

/// The bytes of a JSON request.
#[derive(Debug)]
pub(crate) struct JsonBytes(pub(crate) Bytes);

impl FromRequest<AppState> for JsonBytes {
    type Rejection = ApiError;

    async fn from_request(request: Request, state: &AppState) -> Result<Self, ApiError> {
        check_content_type(request.headers())?;
        body::read(state, request).await.map(Self)
    }
}

/// The bytes of a JSON request that becomes a job, and their charge, which lasts until the job is stored.
#[derive(Debug)]
pub(crate) struct ChargedJson {
    pub(crate) bytes: Bytes,
    pub(crate) charge: Option<BudgetCharge>,
}

impl FromRequest<AppState> for ChargedJson {
    type Rejection = ApiError;

    async fn from_request(request: Request, state: &AppState) -> Result<Self, ApiError> {
        check_content_type(request.headers())?;
        let (bytes, charge) = body::read_apart(state, request).await?;
        Ok(Self { bytes, charge })
    }
}

/// The bytes of a request with an optional JSON body.
#[derive(Debug)]
pub(crate) struct MaybeJson(pub(crate) Bytes);

impl FromRequest<AppState> for MaybeJson {
    type Rejection = ApiError;

    async fn from_request(request: Request, state: &AppState) -> Result<Self, ApiError> {
        // The type is checked last: a request without a body may have any.
        let checked = check_content_type(request.headers());
        let bytes = body::read(state, request).await?;
        if bytes.is_empty() { Ok(Self(bytes)) } else { checked.map(|()| Self(bytes)) }
    }
}

/// The only variable segment of a path.
#[derive(Debug)]
pub(crate) struct Segment(pub(crate) String);

impl FromRequestParts<AppState> for Segment {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, state: &AppState) -> Result<Self, ApiError> {
        // axum's own rejection has another envelope and status.
        let path = Path::<String>::from_request_parts(parts, state).await;
        path.map(|Path(name)| Self(name)).map_err(|_| {
            let message = "there is nothing at this path: it has bytes that are not UTF-8";
            ApiError::not_found("unknown_route", message)
        })
    }
}

/// True if the content type is JSON.
pub(crate) fn is_json(headers: &HeaderMap) -> bool {
    let found = headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok());
    let essence = found.unwrap_or("").split(';').next().unwrap_or("").trim().to_ascii_lowercase();
    // Structured suffixes, such as `application/vnd.api+json` (RFC 6839).
    essence == "application/json" || essence.ends_with("+json")
}

fn check_content_type(headers: &HeaderMap) -> Result<(), ApiError> {
    if is_json(headers) {
        return Ok(());
    }
    let found = headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok());
    let found = found.map_or("there is none".to_owned(), |found| format!("it is {found:?}"));
    let message = format!("the content type must be application/json; {found}");
    Err(ApiError::invalid("unsupported_media_type", message)
        .with_status(StatusCode::UNSUPPORTED_MEDIA_TYPE))
}

/// Parses `bytes`, which must be one JSON object, as a `T`. Serde alone would also accept an array as the fields of
/// a struct.
pub(crate) fn parse<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, ApiError> {
    if bytes.is_empty() {
        return Err(ApiError::invalid("invalid_json", "the body is empty; send a JSON object"));
    }
    let other = other_than_object(bytes);
    let read = match other {
        None => serde_json::from_slice(bytes),
        Some(what) => Err(serde_json::Error::custom(format!("it is {what}, expected an object"))),
    };
    read.map_err(|error| {
        if let Err(error) = serde_json::from_slice::<IgnoredAny>(bytes) {
            let message = format!("the body is not JSON: {}", syntax_error(&error));
            return ApiError::invalid("invalid_json", message);
        }
        // The type of the whole is wrong, so there is no path to find.
        if other.is_some() {
            return mismatch(&error.to_string(), ".".to_owned());
        }
        // The error path costs time, so it is computed only after the fast parser has failed.
        let json = &mut serde_json::Deserializer::from_slice(bytes);
        let path = serde_path_to_error::deserialize::<_, T>(json).err();
        mismatch(&error.to_string(), path.map_or(".".to_owned(), |error| error.path().to_string()))
    })
}

/// Names the type of a JSON value that is not an object.
fn other_than_object(bytes: &[u8]) -> Option<&'static str> {
    match bytes.trim_ascii_start().first() {
        Some(b'{') => None,
        Some(b'[') => Some("an array"),
        Some(b'"') => Some("a string"),
        Some(b'n') => Some("null"),
        Some(b't' | b'f') => Some("a boolean"),
        Some(_) | None => Some("a number"),
    }
}

/// Converts an integer. `3.0` is one, as in JSON Schema.
pub(crate) fn whole(number: &Number) -> Option<u64> {
    let float = || number.as_f64().filter(|float| float.fract() == 0.0);
    // Formatting is exact, while a cast would saturate silently.
    number.as_u64().or_else(|| format!("{:.0}", float()?).parse().ok())
}

/// Checks the integer of `range` that was sent as `param`.
pub(crate) fn number(
    param: &str,
    sent: &Value,
    range: RangeInclusive<u64>,
) -> Result<u64, ApiError> {
    let found = sent.as_number().and_then(whole).filter(|found| range.contains(found));
    found.ok_or_else(|| {
        let (least, most) = range.into_inner();
        let sent = shown(&sent.to_string());
        let message =
            format!("{param} must be a whole number from {least} to {most}; it is {sent}");
        ApiError::invalid_param(param, message)
    })
}

/// Parses a number of seconds, at most `max`.
pub(crate) fn seconds(param: &str, text: &str, max: Duration) -> Result<Duration, ApiError> {
    let in_range = |seconds: &f64| (0.0..=max.as_secs_f64()).contains(seconds);
    match text.trim().parse::<f64>().ok().filter(in_range) {
        Some(seconds) => Ok(Duration::from_secs_f64(seconds)),
        None => {
            let max = max.as_secs();
            let message =
                format!("{param} must be a number of seconds from 0 to {max}; it is {text:?}");
            Err(ApiError::invalid_param(param, message))
        }
    }
}

/// Returns the wait of `Prefer: wait=N` (RFC 7240, section 4.3).
pub(crate) fn preferred_wait(
    headers: &HeaderMap,
    max: Duration,
) -> Result<Option<Duration>, ApiError> {
    for value in headers.get_all("prefer") {
        let preferences = value.to_str().unwrap_or("").split([',', ';']);
        for preference in preferences {
            let (name, value) = preference.trim().split_once('=').unwrap_or((preference, ""));
            if name.trim().eq_ignore_ascii_case("wait") {
                return seconds("Prefer: wait", value.trim().trim_matches('"'), max).map(Some);
            }
        }
    }
    Ok(None)
}
