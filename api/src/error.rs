//! Errors as clients see them, in the envelope that OpenAI's SDKs parse.

#![warn(clippy::wildcard_enum_match_arm)]

use std::time::Duration;

use axum::{
    Json,
    http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
};
use causeway_queue::{
    JobId, TenantId,
    error::{Error, Scope},
};
use serde::Serialize;
use utoipa::ToSchema;

use crate::{budget::BudgetLimit, outage::StoreRefusal, serve::connection::NoPlace};

/// Longest `Retry-After` that SDKs obey, in seconds.
const MAX_RETRY_AFTER_S: u64 = 120;

/// An error on its way to a client.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ApiError {
    status: StatusCode,
    kind: &'static str,
    code: &'static str,
    message: String,
    param: Option<String>,
    headers: Vec<(HeaderName, HeaderValue)>,
    is_anthropic: bool,
    /// The cause of a refusal by the store, for the log only.
    refusal: Option<Box<StoreRefusal>>,
}

/// An error as OpenAI's SDKs parse it.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Error)]
pub(crate) struct Envelope<'a> {
    #[schema(inline)]
    error: ErrorDetail<'a>,
}

/// The error and its remedy.
#[derive(Debug, Serialize, ToSchema)]
struct ErrorDetail<'a> {
    /// Text for people.
    message: &'a str,
    /// The kind of error, by OpenAI's names.
    r#type: &'a str,
    /// The wrong field or parameter, if there is one.
    #[schema(required = true)]
    param: Option<&'a str>,
    /// A constant for programs.
    code: &'a str,
}

/// An error as Anthropic's SDKs parse it.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = AnthropicError)]
pub(crate) struct AnthropicEnvelope<'a> {
    /// Always `error`.
    r#type: &'a str,
    #[schema(inline)]
    error: AnthropicErrorDetail<'a>,
}

/// The error and its remedy.
#[derive(Debug, Serialize, ToSchema)]
struct AnthropicErrorDetail<'a> {
    /// The kind of error, by Anthropic's names.
    r#type: &'a str,
    /// Text for people.
    message: &'a str,
    /// A constant for programs.
    code: &'a str,
}

const X_SHOULD_RETRY: HeaderName = HeaderName::from_static("x-should-retry");

/// The header that names the job in every answer about one job.
pub(crate) const X_CAUSEWAY_JOB_ID: HeaderName = HeaderName::from_static("x-causeway-job-id");

impl ApiError {
    fn new(
        status: StatusCode,
        kind: &'static str,
        code: &'static str,
        message: impl Into<String>,
    ) -> Self {
        let (param, headers, is_anthropic, refusal) = Default::default();
        Self { status, kind, code, message: message.into(), param, headers, is_anthropic, refusal }
    }

    /// Builds the error of a wrong request; `message` says what is wrong, and what would be right.
    pub(crate) fn invalid(code: &'static str, message: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, "invalid_request_error", code, message)
    }

    /// Builds the error of a wrong field or parameter.
    pub(crate) fn invalid_param(param: &str, message: impl Into<String>) -> Self {
        let error = Self::invalid("invalid_value", message);
        Self { param: Some(param.to_owned()), ..error }
    }

    /// Replaces the status.
    pub(crate) fn with_status(self, status: StatusCode) -> Self {
        Self { status, ..self }
    }

    /// Replaces the code.
    pub(crate) fn with_code(self, code: &'static str) -> Self {
        Self { code, ..self }
    }

    /// Appends the remedy to the message.
    pub(crate) fn with_hint(self, hint: &str) -> Self {
        Self { message: format!("{}; {hint}", self.message), ..self }
    }

    /// Prefixes message and parameter with the `place` of the wrong part in a larger request.
    pub(crate) fn within(self, place: &str) -> Self {
        let param = match &self.param {
            Some(param) => format!("{place}.{param}"),
            None => place.to_owned(),
        };
        let message = format!("{place}: {}", self.message);
        Self { param: Some(param), message, ..self }
    }

    /// Builds the error of a missing or unknown key.
    pub(crate) fn unauthorized(message: impl Into<String>) -> Self {
        let kind = "authentication_error";
        let error = Self::new(StatusCode::UNAUTHORIZED, kind, "invalid_api_key", message);
        error.with_header(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"))
    }

    /// Builds the error of a caller that is not an administrator.
    pub(crate) fn forbidden(tenant: &TenantId) -> Self {
        let message = format!(
            "tenant {tenant} is not an administrator; use the key of a tenant with `admin = true`"
        );
        Self::new(StatusCode::FORBIDDEN, "permission_error", "not_an_admin", message)
    }

    /// Builds the error of a page of another origin, on a server without tenants.
    pub(crate) fn foreign_page() -> Self {
        let message = "a page of another origin may not act on a server without tenants; add the \
                       origin to api.cors_origins, or configure a [[tenant]] and send its key \
                       (over a WebSocket as the protocol `causeway.key.<key>`)";
        Self::new(StatusCode::FORBIDDEN, "permission_error", "foreign_origin", message)
    }

    /// Builds the error of a request for an unknown host, on a server without tenants.
    pub(crate) fn unknown_host(name: &str) -> Self {
        let name: String = name.chars().take(100).collect();
        let message = format!(
            "without tenants this server answers as localhost only, not as {name:?}; add the name to \
             api.hosts, or configure a [[tenant]]"
        );
        Self::new(StatusCode::FORBIDDEN, "permission_error", "unknown_host", message)
    }

    /// Builds the error of an object that does not exist or belongs to another tenant.
    pub(crate) fn not_found(code: &'static str, message: impl Into<String>) -> Self {
        Self::new(StatusCode::NOT_FOUND, "invalid_request_error", code, message)
    }

    /// Builds the error of an object that no longer exists.
    pub(crate) fn gone(message: impl Into<String>) -> Self {
        Self::new(StatusCode::GONE, "invalid_request_error", "result_expired", message)
    }

    /// Builds the error of a job that was cancelled, so it has no answer.
    pub(crate) fn no_result(message: impl Into<String>) -> Self {
        Self::new(StatusCode::GONE, "invalid_request_error", "no_result", message)
    }

    /// Builds the error of a job that ended without an answer. SDKs do not retry it: that would only submit the job
    /// again.
    pub(crate) fn upstream(is_timeout: bool, message: impl Into<String>) -> Self {
        let (status, code) = if is_timeout {
            (StatusCode::GATEWAY_TIMEOUT, "upstream_timeout")
        } else {
            (StatusCode::BAD_GATEWAY, "upstream_error")
        };
        let error = Self::new(status, "upstream_error", code, message);
        error.with_header(X_SHOULD_RETRY, HeaderValue::from_static("false"))
    }

    /// Builds the error of a call that ends with its process. The SDK's retry reaches another process and finds the job.
    pub(crate) fn draining() -> Self {
        let message = "this process is stopping; send the same request again, and it attaches to \
                       the job of this one";
        let status = StatusCode::SERVICE_UNAVAILABLE;
        let error = Self::new(status, "service_unavailable_error", "draining", message);
        error.retry_after(1).with_header(X_SHOULD_RETRY, HeaderValue::from_static("true"))
    }

    /// Builds the error of a call that ends with its process, if a retry would not find the job `id`.
    pub(crate) fn stopped(id: &JobId) -> Self {
        let message = format!(
            "this process is stopping; job {id} continues, poll /v1/jobs/{id} instead of sending the \
             request again"
        );
        let status = StatusCode::SERVICE_UNAVAILABLE;
        let error = Self::new(status, "service_unavailable_error", "draining", message);
        error.with_header(X_SHOULD_RETRY, HeaderValue::from_static("false"))
    }

    /// Builds the error of a request that a stopping process does not accept.
    pub(crate) fn accepts_no_more() -> Self {
        let message = "this process is stopping and accepts no more jobs; connect again, and \
                       submit there";
        Self { message: message.to_owned(), ..Self::draining() }
    }

    /// Builds the error of a job that did not end within the hold time. `cause` is the known reason; `then` says
    /// how the job continues.
    pub(crate) fn waited_too_long(
        id: &JobId,
        held: Duration,
        cause: Option<&str>,
        then: &str,
    ) -> Self {
        let cause = cause.map(|cause| format!("; {cause}")).unwrap_or_default();
        let message =
            format!("job {id} did not end within {} s{cause}; {then}", held.as_secs_f64());
        Self::upstream(true, message).with_code("wait_too_long")
    }

    /// Adds the job `id`, which is accepted, to the answer, so that the caller can poll it.
    pub(crate) fn about(self, id: &JobId) -> Self {
        let name = HeaderValue::from_str(&id.to_string()).ok();
        name.into_iter().fold(self, |error, name| error.with_header(X_CAUSEWAY_JOB_ID, name))
    }

    /// Builds the same error for a job `id` that is accepted: SDKs must not submit it again.
    pub(crate) fn after_acceptance(error: Error, id: &JobId) -> Self {
        let error = Self::from(error);
        // Only an unavailable store is worth the advice to poll; all other errors keep their own.
        let message = match error.status {
            StatusCode::SERVICE_UNAVAILABLE => format!(
                "job {id} is accepted, but the store is not available now; do not send the \
                 request again, poll /v1/jobs/{id}"
            ),
            _ => format!("job {id} is accepted, but {}", error.message),
        };
        let error = Self { message, ..error }.about(id);
        error.with_header(X_SHOULD_RETRY, HeaderValue::from_static("false"))
    }

    /// Adds the header that stops SDKs from retrying, where a retry would only submit the job again.
    pub(crate) fn forbid_retry(headers: &mut HeaderMap) {
        headers.insert(X_SHOULD_RETRY, HeaderValue::from_static("false"));
    }

    /// Selects the envelope that the SDKs of `path` parse.
    pub(crate) fn in_shape_of(self, path: &str) -> Self {
        if is_anthropic(path) { self.in_anthropic_shape() } else { self }
    }

    /// Selects the envelope that Anthropic's SDKs parse.
    pub(crate) fn in_anthropic_shape(mut self) -> Self {
        self.is_anthropic = true;
        self
    }

    /// Builds the error of a reached limit, with `Retry-After: after_s`.
    pub(crate) fn too_many(code: &'static str, message: impl Into<String>, after_s: u64) -> Self {
        let status = StatusCode::TOO_MANY_REQUESTS;
        Self::new(status, "rate_limit_error", code, message).retry_after(after_s)
    }

    /// Builds the error of a connection without a place.
    pub(crate) fn too_many_connections(why: NoPlace) -> Self {
        const CODE: &str = "too_many_connections";
        match why {
            NoPlace::Share => {
                let message = "your calls keep most connections of this process busy \
                               (api.max_connections); try again in 1 s";
                Self::too_many(CODE, message, 1)
            }
            NoPlace::Evicted => {
                let message = "all connections of this process are taken (api.max_connections, or \
                               fewer if its limit of open files is low); try again in 1 s";
                Self { message: message.to_owned(), code: CODE, ..Self::unavailable() }
            }
        }
    }

    /// Builds the error of a full budget for `what`.
    pub(crate) fn too_many_bytes(reason: BudgetLimit, what: &str) -> Self {
        match reason {
            BudgetLimit::All => {
                let message = format!(
                    "the memory for {what} is full (api.max_body_memory); try again in 1 s"
                );
                Self { message, ..Self::unavailable() }
            }
            BudgetLimit::Tenant => {
                let message = format!(
                    "your share of the memory for {what} is full (half of api.max_body_memory); \
                     send fewer at once"
                );
                Self::too_many("too_many_bytes", message, 1)
            }
        }
    }

    /// Builds the error of a store that does not answer or is full.
    pub(crate) fn unavailable() -> Self {
        let message = "the store is not available; try again in a second, with the same \
                       Idempotency-Key if you sent one, so that nothing runs twice";
        let status = StatusCode::SERVICE_UNAVAILABLE;
        let kind = "service_unavailable_error";
        Self::new(status, kind, "server_is_overloaded", message).retry_after(1)
    }

    pub(crate) fn with_header(mut self, name: HeaderName, value: HeaderValue) -> Self {
        self.headers.push((name, value));
        self
    }

    fn retry_after(self, seconds: u64) -> Self {
        // SDKs ignore a longer delay and retry with their own pauses, which are far shorter.
        let seconds = seconds.clamp(1, MAX_RETRY_AFTER_S);
        self.with_header(header::RETRY_AFTER, seconds.into())
    }

    /// Returns the envelope.
    pub(crate) fn body(&self) -> serde_json::Value {
        if self.is_anthropic {
            let kind = match self.status {
                // Anthropic's API has other names for the errors of these statuses.
                StatusCode::BAD_GATEWAY | StatusCode::INTERNAL_SERVER_ERROR => "api_error",
                StatusCode::GATEWAY_TIMEOUT => "timeout_error",
                StatusCode::SERVICE_UNAVAILABLE => "overloaded_error",
                StatusCode::NOT_FOUND => "not_found_error",
                _ => self.kind,
            };
            let error =
                AnthropicErrorDetail { r#type: kind, message: &self.message, code: self.code };
            let envelope = AnthropicEnvelope { r#type: "error", error };
            return serde_json::to_value(envelope).unwrap_or_default();
        }
        let (message, param) = (&self.message, self.param.as_deref());
        let error = ErrorDetail { message, r#type: self.kind, param, code: self.code };
        serde_json::to_value(Envelope { error }).unwrap_or_default()
    }
}

/// True for the paths that Anthropic's SDKs call.
pub(crate) fn is_anthropic(path: &str) -> bool {
    path == "/v1/messages" || path.starts_with("/v1/messages/")
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        let mut response = (self.status, Json(self.body())).into_response();
        response.headers_mut().extend(self.headers);
        if let Some(refusal) = self.refusal {
            response.extensions_mut().insert(*refusal);
        }
        response
    }
}

impl From<Error> for ApiError {
    fn from(error: Error) -> Self {
        match error {
            Error::Unavailable(why) => {
                tracing::debug!(cause = why, "the store is not available");
                Self { refusal: Some(Box::new(StoreRefusal(why))), ..Self::unavailable() }
            }
            Error::Full { scope, limit, waiting, new, retry_after } => {
                let reason = match scope {
                    Scope::Tenant => format!("you may have {limit} jobs waiting in a lane"),
                    Scope::Lane => {
                        format!("the lane has room for {limit} waiting jobs in the shard of yours")
                    }
                };
                if new > limit {
                    let message = format!(
                        "{reason}, and this call adds {new}: it can never fit; send fewer in a call"
                    );
                    return Self::invalid("too_many_jobs", message);
                }
                let after = retry_after.as_secs();
                let message = format!(
                    "{reason}: {waiting} wait, and this call adds {new}; try again in \
                     {after} s"
                );
                Self::too_many("queue_full", message, after)
            }
            Error::IdempotencyKeyReused { ref key } => {
                let message = format!(
                    "the idempotency key {key:?} was used for another request; use a new key for \
                     a new request"
                );
                Self::invalid("idempotency_key_reused", message)
                    .with_status(StatusCode::UNPROCESSABLE_ENTITY)
            }
            Error::ConversationLocked => {
                let message = "Another process is currently operating on this conversation: a response of it is \
                               under way, or another call changes it. Please retry in a few seconds";
                let error = Self::invalid_param("conversation", message);
                // The message begins like OpenAI's, which clients match.
                let error = error.with_code("conversation_locked").retry_after(1);
                error.with_header(X_SHOULD_RETRY, HeaderValue::from_static("true"))
            }
            // The queue's own message says why.
            Error::NotRetryable { .. } => Self::invalid("job_not_retryable", error.to_string()),
            Error::UnknownCursor(_) => {
                let error = Self::invalid("unknown_cursor", error.to_string());
                Self { param: Some("after".to_owned()), ..error }
            }
            Error::Corrupt(ref what) => {
                tracing::error!(%what, "the store contains unreadable data");
                let message = "the store contains data that this version cannot read";
                Self::new(
                    StatusCode::INTERNAL_SERVER_ERROR,
                    "server_error",
                    "store_corrupt",
                    message,
                )
            }
        }
    }
}
