//! A check of an upstream by its list of models (`GET {base}/models`), which costs nothing. It covers the
//! connection, the base URL, the key and the configured models.

mod list;
mod verdict;

use std::time::Duration;

use futures_util::TryStreamExt as _;
use reqwest::{Response, StatusCode, header};
use tokio::time::timeout;

use super::{
    address::Address, answer::location, body::root_cause, client::UpstreamClient, mask::hidden,
    secret::UpstreamSecret,
};

use self::verdict::Probe;
pub use self::{list::ListedModel, verdict::CheckResult};

/// Time-out of one request of a check.
const TIMEOUT: Duration = Duration::from_secs(5);

/// Largest list of models, in bytes. The longest known one, of a model broker, has 1 MiB.
const MAX_BYTES: usize = 8 << 20;

/// Longest quotation from an upstream, in characters.
const MAX_QUOTED_CHARS: usize = 200;

impl UpstreamClient {
    /// Fetches the models that the upstream lists.
    ///
    /// # Errors
    /// If it does not list them within 5 s; the text is the reason.
    pub async fn models(&self) -> Result<Vec<ListedModel>, String> {
        match probe(self, self.address()).await {
            Probe::Models(models) => Ok(models),
            other => Err(other.to_string()),
        }
    }

    /// Checks the upstream, and that it lists `models`. Takes at most 10 s.
    pub async fn check(&self, models: &[String]) -> CheckResult {
        let base = self.address();
        let found = probe(self, base).await;
        let is_elsewhere = match &found {
            Probe::Status(status, _) => *status == StatusCode::NOT_FOUND,
            Probe::NoApi(_) => true,
            Probe::Models(_) | Probe::Unreachable(_) | Probe::Redirect(..) | Probe::OtherJson => {
                false
            }
        };
        // The likeliest mistake is a base URL with one `/v1` too few or too many, so the other form is tried.
        if is_elsewhere {
            let other = base.with_prefix(&other_prefix(base.prefix()));
            if speaks(&probe(self, &other).await) {
                return CheckResult::elsewhere(base, &other);
            }
        }
        CheckResult::of(self, found, models)
    }
}

/// True if there is an API, even if it requires another key.
fn speaks(probe: &Probe) -> bool {
    match probe {
        Probe::Models(_) => true,
        Probe::Status(status, _) => *status == StatusCode::UNAUTHORIZED,
        Probe::Unreachable(_) | Probe::Redirect(..) | Probe::NoApi(_) | Probe::OtherJson => false,
    }
}

/// Returns the prefix without its `/v1`, or with one added.
fn other_prefix(prefix: &str) -> String {
    prefix.strip_suffix("/v1").map_or_else(|| format!("{prefix}/v1"), str::to_owned)
}

async fn probe(client: &UpstreamClient, base: &Address) -> Probe {
    let probing = async {
        match client.get(base, "/v1/models").send().await {
            Ok(response) => read(response, &client.secrets).await,
            Err(error) => Probe::Unreachable(hidden(root_cause(&error), &client.secrets)),
        }
    };
    let silent = || Probe::Unreachable(format!("no answer within {} s", TIMEOUT.as_secs()));
    timeout(TIMEOUT, probing).await.unwrap_or_else(|_| silent())
}

async fn read(response: Response, secrets: &[UpstreamSecret]) -> Probe {
    let status = response.status();
    let header = |name| response.headers().get(name).and_then(|value| value.to_str().ok());
    let kind = header(header::CONTENT_TYPE).unwrap_or("no content type").to_owned();
    if status.is_redirection() {
        let target = location(&response).unwrap_or_else(|| "nowhere".to_owned());
        return Probe::Redirect(status, short(target, secrets));
    }
    let body = match body(response).await {
        Ok(body) => body,
        Err(why) => return Probe::Unreachable(why),
    };
    if !status.is_success() {
        return Probe::Status(status, short(error_message(&body), secrets));
    }
    match serde_json::from_slice(&body) {
        Err(_) => Probe::NoApi(short(kind, secrets)),
        Ok(json) => list::read(json).map_or(Probe::OtherJson, Probe::Models),
    }
}

async fn body(response: Response) -> Result<Vec<u8>, String> {
    let mut body = Vec::new();
    let mut pieces = response.bytes_stream();
    while let Some(piece) = pieces.try_next().await.map_err(|error| root_cause(&error))? {
        if body.len() + piece.len() > MAX_BYTES {
            return Err(format!("its list of models is larger than {MAX_BYTES} bytes"));
        }
        body.extend_from_slice(&piece);
    }
    Ok(body)
}

/// Returns the message of an error in any of the usual envelopes; empty if there is none.
fn error_message(body: &[u8]) -> String {
    let json: serde_json::Value = serde_json::from_slice(body).unwrap_or_default();
    let paths = ["/error/message", "/message", "/error", "/detail", "/0/error/message"];
    let found = paths.iter().find_map(|path| json.pointer(path)?.as_str());
    found.unwrap_or_default().to_owned()
}

/// Returns at most [`MAX_QUOTED_CHARS`] characters of `text`, on one line and masked for `secrets`.
fn short(text: String, secrets: &[UpstreamSecret]) -> String {
    let clean = |c: char| if c.is_control() { ' ' } else { c };
    hidden(text, secrets).trim().chars().take(MAX_QUOTED_CHARS).map(clean).collect()
}

#[cfg(test)]
mod tests;
