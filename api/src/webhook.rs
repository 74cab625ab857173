//! The webhook of a job, checked before the job is accepted.
//!
//! Only the URL itself is checked here, including an IP address in it. The worker checks the resolved addresses at
//! each attempt.

use causeway_queue::{Webhook, address::Allowed, webhook::Subject};
use serde::Deserialize;
use url::Url;
use utoipa::ToSchema;

use crate::{caller::Caller, error::ApiError, settings::Settings};

/// Longest URL of a webhook, in bytes.
const MAX_URL_BYTES: usize = 2048;

/// The webhook of a job as it is submitted.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct WebhookRequest {
    /// The receiver: http or https, with a public address unless the configuration allows others.
    url: String,
}

/// Returns the webhook of a job of `caller`: the requested one, or else that of its tenant.
///
/// # Errors
/// If the URL is not allowed, or there is no secret to sign with.
pub(crate) fn of_job(
    settings: &Settings,
    caller: &Caller,
    requested: Option<WebhookRequest>,
) -> Result<Option<Webhook>, ApiError> {
    let default = || caller.webhooks.url.as_deref().map(str::to_owned);
    let Some(url) = requested.map(|requested| requested.url).or_else(default) else {
        return Ok(None);
    };
    check_url(&settings.webhooks.allowed, &url)
        .map_err(|why| ApiError::invalid_param("webhook.url", why.to_string()))?;
    if !(caller.webhooks.signs || settings.webhooks.signs) {
        let message = format!(
            "tenant {} has no secret to sign events with; `causeway webhook secret` makes one, and \
             webhooks.secret_env in the configuration names the variable that holds it",
            caller.tenant
        );
        return Err(ApiError::invalid_param("webhook", message).with_code("no_webhook_secret"));
    }
    Ok(Some(Webhook { url, subject: Subject::Job }))
}

/// Returns the webhook of the response `id` of `caller`: that of its tenant.
///
/// # Errors
/// As [`of_job`].
pub(crate) fn of_response(
    settings: &Settings,
    caller: &Caller,
    id: String,
) -> Result<Option<Webhook>, ApiError> {
    let webhook = of_job(settings, caller, None)?;
    Ok(webhook.map(|webhook| Webhook { subject: Subject::Response(id), ..webhook }))
}

/// The reason why a webhook URL is refused, with its remedy.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct InvalidWebhookUrl(String);

/// Checks a webhook URL, and an IP address in it. The error does not repeat the URL, which may contain a secret.
///
/// # Errors
/// If events could not be sent there.
pub fn check_url(allowed: &Allowed, text: &str) -> Result<(), InvalidWebhookUrl> {
    check(allowed, text).map_err(InvalidWebhookUrl)
}

fn check(allowed: &Allowed, text: &str) -> Result<(), String> {
    if text.len() > MAX_URL_BYTES {
        let found = text.len();
        return Err(format!("a webhook's url may have {MAX_URL_BYTES} bytes; it has {found}"));
    }
    let form = "a webhook's url must look like https://host/path";
    let url: Url = text.parse().map_err(|error| format!("{form}: {error}"))?;
    let Some(host) = url.host_str().filter(|_| matches!(url.scheme(), "http" | "https")) else {
        return Err(format!("{form}, with http or https"));
    };
    // Credentials in a URL would appear in logs and in the list of deliveries.
    if !url.username().is_empty() || url.password().is_some() {
        return Err(format!(
            "{form}, without a user name or password: the receiver recognises Causeway by the signature"
        ));
    }
    if allowed.permits_spelling(host) {
        return Ok(());
    }
    Err(format!(
        "{host} is not a public address; webhooks.allow in the configuration can allow others"
    ))
}
