//! The names of errors at the known providers, and the HTTP statuses that they correspond to.

/// Names of an exhausted budget, in lower case. Waiting does not help: a person has to pay or to raise the budget.
const BUDGET_NAMES: [&str; 18] = [
    // OpenAI, and gateways that copy it.
    "insufficient_quota",
    "billing_hard_limit_reached",
    "billing_not_active",
    "credit_balance_exhausted",
    "organization_spend_limit_exceeded",
    "project_spend_limit_exceeded",
    "organization_usage_limit_exceeded",
    // Anthropic.
    "billing_error",
    // Moonshot.
    "exceeded_current_quota_error",
    // LiteLLM.
    "budget_exceeded",
    "budgetexceedederror",
    // DeepSeek, Together, Zhipu and others.
    "insufficient_balance",
    "insufficient_credits",
    "insufficient_funds",
    "credits_exhausted",
    "quota_exhausted",
    "payment_required",
    "arrearage",
];

/// Phrases about an exhausted budget, in lower case.
const BUDGET_PHRASES: [&str; 14] = [
    "exceeded your current quota",
    "no credit",
    "out of credit",
    "available credits",
    "insufficient credit",
    "insufficient balance",
    "insufficient funds",
    "insufficient quota",
    "credit balance",
    "account balance",
    "spending limit",
    "spend limit",
    "budget has been exceeded",
    "billing details",
];

/// True for the name of an exhausted budget.
pub(super) fn is_budget_name(name: &str) -> bool {
    BUDGET_NAMES.contains(&name)
}

/// True for a message about an exhausted budget; `message` must be in lower case.
pub(super) fn is_budget_message(message: &str) -> bool {
    BUDGET_PHRASES.iter().any(|phrase| message.contains(phrase))
}

/// Returns the HTTP status for a number in an error. `FastChat`'s codes have five digits; its 403xx mean faults of
/// the request.
pub(super) fn status_of_number(number: u64) -> Option<u16> {
    match number {
        400..=599 => u16::try_from(number).ok(),
        40_100..=40_199 => Some(401),
        40_000..=40_499 => Some(400),
        42_902 => Some(402),
        42_900..=42_999 => Some(429),
        50_000..=59_999 => Some(500),
        _ => None,
    }
}

/// Returns the HTTP status for a name, which must be in lower case.
pub(super) fn status_of_name(name: &str) -> Option<u16> {
    Some(match name {
        "invalid_request_error"
        | "invalid_request"
        | "invalid_prompt"
        | "invalid_argument"
        | "invalid_value"
        | "context_length_exceeded"
        | "string_above_max_length"
        | "content_filter"
        | "content_policy_violation"
        | "bad_request"
        | "bad_request_error"
        | "badrequesterror"
        | "validation_error"
        | "exceed_context_size_error"
        | "valueerror" => 400,
        "authentication_error"
        | "authenticationerror"
        | "invalid_api_key"
        | "invalid_authentication_error"
        | "unauthenticated"
        | "unauthorized" => 401,
        "permission_error" | "permission_denied" | "permissiondeniederror" | "forbidden" => 403,
        "model_not_found" | "not_found_error" | "not_found" | "notfounderror" => 404,
        "request_too_large" => 413,
        "unprocessableentityerror" | "unprocessable_entity" => 422,
        "rate_limit_exceeded"
        | "rate_limit_error"
        | "rate_limit_reached_error"
        | "ratelimiterror"
        | "rate_limited"
        | "resource_exhausted"
        | "too_many_requests"
        | "tokens"
        | "requests"
        | "throttlingexception" => 429,
        "server_error"
        | "api_error"
        | "internal"
        | "internal_error"
        | "internal_server_error"
        | "internalservererror"
        | "internalserverexception" => 500,
        "not_implemented" | "notimplementederror" | "unimplemented" | "not_supported_error" => 501,
        "bad_gateway" => 502,
        "overloaded"
        | "overloaded_error"
        | "engine_overloaded"
        | "engine_overloaded_error"
        | "server_is_overloaded"
        | "slow_down"
        | "unavailable"
        | "unavailable_error"
        | "service_unavailable"
        | "service_unavailable_error"
        | "serviceunavailableerror"
        | "serviceunavailableexception" => 503,
        "timeout" | "timeout_error" | "timeouterror" | "deadline_exceeded" => 504,
        _ => return None,
    })
}
