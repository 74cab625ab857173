//! The verdict on an upstream: its problem, and the remedy.

use std::fmt;

use reqwest::StatusCode;

use super::list::{ListedModel, is_named};
use crate::upstream::{address::Address, client::UpstreamClient};

/// The result of `GET {base}/models`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Probe {
    /// A list of models.
    Models(Vec<ListedModel>),
    /// No response.
    Unreachable(String),
    /// An error status, with the upstream's message.
    Status(StatusCode, String),
    /// A redirect, with its target.
    Redirect(StatusCode, String),
    /// A success status with a body that is not JSON, and its content type.
    NoApi(String),
    /// JSON that is not a list of models.
    OtherJson,
}

/// Most models in a message.
const MAX_NAMED: usize = 5;

/// The result of a check of an upstream.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CheckResult {
    /// It answers and lists the configured models; with the number of all listed models.
    Good(usize),
    /// It answers, but does not list its models; with the reason.
    Unknown(String),
    /// It cannot answer jobs; with the problem and the remedy.
    Wrong(String),
}

impl CheckResult {
    /// Returns the verdict on a wrong base URL: the API is not at `base`, but at `right`.
    pub(super) fn elsewhere(base: &Address, right: &Address) -> Self {
        Self::Wrong(format!("there is no API at {base}, but at {right}: set `upstream` to that"))
    }

    pub(super) fn of(client: &UpstreamClient, probe: Probe, models: &[String]) -> Self {
        let finding = probe.to_string();
        match probe {
            Probe::Models(listed) => {
                let has = |model: &str| listed.iter().any(|listed| is_named(&listed.id, model));
                let missing: Vec<&str> =
                    models.iter().map(String::as_str).filter(|model| !has(model)).collect();
                if missing.is_empty() {
                    return Self::Good(listed.len());
                }
                let ids: Vec<&str> = listed.iter().map(|listed| listed.id.as_str()).collect();
                Self::Wrong(format!("it does not list {}; it lists {}", some(&missing), some(&ids)))
            }
            Probe::Unreachable(why) => Self::Wrong(format!("{finding}{}", advice(&why))),
            Probe::Redirect(..) => Self::Wrong(format!(
                "{finding}, and redirects are not followed: set `upstream` to the base of that URL"
            )),
            Probe::NoApi(_) => Self::Wrong(format!(
                "{finding}: set `upstream` to where its API begins, often …/v1"
            )),
            Probe::OtherJson => Self::Unknown(finding),
            Probe::Status(status, _) => of_status(client, status, finding),
        }
    }
}

fn of_status(client: &UpstreamClient, status: StatusCode, finding: String) -> CheckResult {
    match status {
        StatusCode::UNAUTHORIZED if client.has_credentials() => CheckResult::Wrong(format!(
            "{finding}: the key is not the right one; see `api_key_env`"
        )),
        // Some keys may call models but not list them.
        StatusCode::FORBIDDEN if client.has_credentials() => CheckResult::Unknown(format!(
            "{finding}: the key may not list models, or is not the right one"
        )),
        StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => CheckResult::Wrong(format!(
            "{finding}: it requires a key; name the variable that holds it in `api_key_env`"
        )),
        StatusCode::PROXY_AUTHENTICATION_REQUIRED => CheckResult::Wrong(format!(
            "{finding}: the proxy requires credentials; write http://user:password@host:port"
        )),
        // The server itself fails, so jobs would fail as well.
        status if status.is_server_error() => CheckResult::Wrong(finding),
        _ => CheckResult::Unknown(format!("{finding}, which says nothing of its other endpoints")),
    }
}

/// Returns the remedy for a failed connection; empty if there is none.
fn advice(why: &str) -> &'static str {
    let is_of_other_scheme = ["InvalidContentType", "handshake eof", "invalid HTTP version"];
    if why.contains("UnknownIssuer") {
        ": its certificate is not signed by a trusted root; name it, or its root, in `ca_file`"
    } else if is_of_other_scheme.iter().any(|sign| why.contains(sign)) {
        ": one side speaks TLS and the other does not; try the other of http:// and https://"
    } else {
        ""
    }
}

fn some(names: &[&str]) -> String {
    let more = if names.len() > MAX_NAMED { ", …" } else { "" };
    let named = names.get(..MAX_NAMED).unwrap_or(names);
    if named.is_empty() { "nothing".to_owned() } else { named.join(", ") + more }
}

impl fmt::Display for Probe {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Models(models) => write!(f, "it lists {} models", models.len()),
            Self::Unreachable(why) => write!(f, "it cannot be reached: {why}"),
            Self::Status(status, message) if message.is_empty() => {
                write!(f, "it answers GET /models with {status}")
            }
            Self::Status(status, message) => {
                write!(f, "it answers GET /models with {status} ({message})")
            }
            Self::Redirect(status, target) => {
                write!(f, "it answers GET /models with {status} to {target}")
            }
            Self::NoApi(kind) if kind.starts_with("text/html") => {
                f.write_str("it answers with a web page, not as an API")
            }
            Self::NoApi(kind) => write!(f, "it answers with {kind}, not with JSON"),
            Self::OtherJson => f.write_str("it answers GET /models with JSON of another form"),
        }
    }
}

impl fmt::Display for CheckResult {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Good(1) => f.write_str("good: it lists 1 model"),
            Self::Good(count) => write!(f, "good: it lists {count} models"),
            Self::Unknown(why) => write!(f, "cannot tell: {why}"),
            Self::Wrong(why) => write!(f, "wrong: {why}"),
        }
    }
}
