//! The reason why a Causeway cannot be reached, in one sentence.

use std::{error::Error, io, iter::successors, time::Duration};

use anyhow::anyhow;
use reqwest::Url;

/// The time-out of a connection attempt.
pub(super) const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// The longest silence of the server. Its event streams send pings more often.
pub(super) const READ_TIMEOUT: Duration = Duration::from_secs(60);

/// Describes a call of the Causeway at `base` that got no complete answer.
pub(super) fn unreachable(base: &Url, error: &reqwest::Error) -> anyhow::Error {
    let why = reason(error);
    anyhow!(
        "cannot reach Causeway at {base}: {why}; is `causeway up` running? --url names another address"
    )
}

/// Returns the error and its causes, the outermost first.
fn chain<'a>(error: &'a (dyn Error + 'static)) -> impl Iterator<Item = &'a (dyn Error + 'static)> {
    successors(Some(error), |&error| error.source())
}

/// Describes the failure in plain words, without those of the HTTP client.
fn reason(error: &reqwest::Error) -> String {
    if error.is_timeout() && error.is_connect() {
        return format!("no connection within {} s", CONNECT_TIMEOUT.as_secs());
    }
    if error.is_timeout() {
        return format!("no answer within {} s", READ_TIMEOUT.as_secs());
    }
    let causes = || chain(error);
    // The HTTP client has no type for this error.
    if causes().any(|cause| cause.to_string() == "dns error") {
        return "the host is not found".to_owned();
    }
    let root = causes().last().map(ToString::to_string).unwrap_or_default();
    let kind = causes().find_map(|cause| cause.downcast_ref()).map(io::Error::kind);
    match kind {
        Some(io::ErrorKind::ConnectionRefused) => "the connection is refused".to_owned(),
        // To TLS, a plain HTTP answer is a corrupt message.
        _ if root.contains("corrupt message") => "it does not speak TLS; try http://".to_owned(),
        // The number of the error means nothing to most users.
        _ if error.is_connect() => root.split(" (os error").next().unwrap_or_default().to_owned(),
        _ if root.starts_with("invalid HTTP") => "it does not speak HTTP".to_owned(),
        _ => "the connection broke off".to_owned(),
    }
}
