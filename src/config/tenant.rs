//! `[[tenant]]`: a client of Causeway, its keys and its limits.

use causeway_queue::{TenantId, limits::TenantLimits};
use causeway_worker::WebhookSecret;
use serde::{Deserialize, Serialize, Serializer, de};
use sha2::{Digest as _, Sha256};

/// One configured tenant.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct ConfiguredTenant {
    /// The tenant's id: 1 to 64 characters of A-Z, a-z, 0-9, `.`, `_` and `-`.
    pub(crate) id: TenantId,
    /// The SHA-256 of each of its keys, in hexadecimal, at least one; a second key allows to
    /// replace the first without an interruption.
    pub(crate) key_sha256: Vec<Digest>,
    /// The tenant's share of tokens relative to other tenants, 1 to 1,000. Default: 1.
    #[serde(default = "one")]
    pub(crate) weight: u32,
    /// The most of its jobs that run at once in a lane, at least 1. Default: no limit.
    #[serde(default)]
    pub(crate) max_running: Option<u32>,
    /// The most of its jobs that wait in a lane, at least 1. Default: only the lane's limit.
    #[serde(default)]
    pub(crate) max_queued: Option<u64>,
    /// The most of its attempts that start per minute in a lane, at least 1. Default: no limit.
    #[serde(default)]
    pub(crate) requests_per_minute: Option<u32>,
    /// The most of its tokens per minute in a lane, at least 1. Default: no limit.
    #[serde(default)]
    pub(crate) tokens_per_minute: Option<u64>,
    /// Makes the tenant an administrator: it sees and changes the data of all tenants. Default:
    /// `false`.
    #[serde(default)]
    pub(crate) admin: bool,
    /// The URL of the webhook receiver for its background responses and its jobs of `/v1/jobs`,
    /// unless a job names another. Default: none.
    #[serde(default)]
    pub(crate) webhook_url: Option<String>,
    /// The environment variables that hold the tenant's own secrets for signing webhook events, the
    /// newest first. Default: none, the secrets of `webhooks.secret_env` sign.
    #[serde(default)]
    pub(crate) webhook_secret_env: Vec<String>,
    /// The values of these variables.
    #[serde(skip)]
    pub(crate) webhook_secrets: Vec<WebhookSecret>,
}

fn one() -> u32 {
    1
}

impl ConfiguredTenant {
    pub(crate) fn limits(&self) -> TenantLimits {
        TenantLimits {
            weight: self.weight,
            max_running: self.max_running,
            max_queued: self.max_queued,
            requests_per_minute: self.requests_per_minute,
            tokens_per_minute: self.tokens_per_minute,
        }
    }
}

/// A SHA-256, written as 64 hexadecimal digits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct Digest(pub(crate) [u8; 32]);

/// Keys that an attacker guesses first.
const GUESSED: [&str; 16] = [
    "password", "passwort", "secret", "test", "admin", "root", "key", "api-key", "apikey",
    "changeme", "causeway", "default", "token", "123456", "12345678", "sk-test",
];

impl Digest {
    /// Describes the hashed text if it is not a key: the hash of an unset variable, for example, is
    /// that of an empty text.
    pub(crate) fn weakness(&self) -> Option<&'static str> {
        let is_of = |key: &str| {
            // `echo` appends a line end.
            [key.to_owned(), format!("{key}\n")].iter().any(|key| Sha256::digest(key)[..] == self.0)
        };
        if is_of("") {
            return Some("an empty text");
        }
        if GUESSED.iter().any(|key| is_of(key)) {
            return Some("a word that is guessed first");
        }
        let is_short = (' '..='~').any(|char| is_of(&char.to_string()));
        is_short.then_some("a single character")
    }
}

impl std::fmt::Display for Digest {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl Serialize for Digest {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Digest {
    fn deserialize<D: de::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        let byte = |pair: &[u8]| u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok();
        let bytes: Option<Vec<u8>> = text.as_bytes().chunks(2).map(byte).collect();
        let digest = bytes.and_then(|bytes| bytes.try_into().ok()).map(Self);
        // `from_str_radix` also accepts a sign and one digit.
        let is_hexadecimal = text.len() == 64 && text.bytes().all(|b| b.is_ascii_hexdigit());
        digest.filter(|_| is_hexadecimal).ok_or_else(|| {
            // The text is not shown: it may be the key itself.
            de::Error::custom(
                "a key's SHA-256 has 64 hexadecimal digits; `causeway tenant key` makes a key and \
                 prints it",
            )
        })
    }
}
