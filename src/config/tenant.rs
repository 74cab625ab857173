//! `[[tenant]]`: who may call, with which keys, and within which bounds.

use causeway_queue::{TenantId, limits::TenantLimits};
use causeway_worker::WebhookSecret;
use serde::{Deserialize, Serialize, Serializer, de};
use sha2::{Digest as _, Sha256};

/// One tenant.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Tenant {
    /// Its id: 1 to 64 of A-Z, a-z, 0-9, `.`, `_` and `-`.
    pub(crate) id: TenantId,
    /// SHA-256 of each of its keys, in hexadecimal; several, so that keys can be changed while
    /// both are in use.
    pub(crate) key_sha256: Vec<Digest>,
    /// Its share of tokens relative to others, 1 to 1,000. Default 1.
    #[serde(default = "one")]
    pub(crate) weight: u32,
    /// Most of its jobs that run at once in a lane. Default: no bound.
    #[serde(default)]
    pub(crate) max_running: Option<u32>,
    /// Most of its jobs that wait in a lane. Default: only the lane's bound.
    #[serde(default)]
    pub(crate) max_queued: Option<u64>,
    /// Most attempts begun per minute in a lane. Default: no bound.
    #[serde(default)]
    pub(crate) requests_per_minute: Option<u32>,
    /// Most tokens per minute in a lane. Default: no bound.
    #[serde(default)]
    pub(crate) tokens_per_minute: Option<u64>,
    /// Whether it may see and pause what concerns all tenants. Default false.
    #[serde(default)]
    pub(crate) admin: bool,
    /// Who is told when its background responses end and its jobs of `/v1/jobs`, unless a job says.
    /// Default: nobody.
    #[serde(default)]
    pub(crate) webhook_url: Option<String>,
    /// The environment variables that hold its own secrets for signing events, the newest first.
    /// Default: none, those of `webhooks.secret_env` sign.
    #[serde(default)]
    pub(crate) webhook_secret_env: Vec<String>,
    /// What these variables hold.
    #[serde(skip)]
    pub(crate) webhook_secrets: Vec<WebhookSecret>,
}

fn one() -> u32 {
    1
}

impl Tenant {
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

/// Keys that are guessed first.
const GUESSED: [&str; 16] = [
    "password", "passwort", "secret", "test", "admin", "root", "key", "api-key", "apikey",
    "changeme", "causeway", "default", "token", "123456", "12345678", "sk-test",
];

impl Digest {
    /// Says of what it is the hash, if that is no key: `printf %s "$UNSET" | sha256sum` makes one of nothing.
    pub(crate) fn weakness(&self) -> Option<&'static str> {
        let is_of = |key: &str| {
            // `echo` adds the line end.
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
        // A byte is also read of a sign and one digit.
        let is_hexadecimal = text.len() == 64 && text.bytes().all(|b| b.is_ascii_hexdigit());
        digest.filter(|_| is_hexadecimal).ok_or_else(|| {
            // What was written may be the key itself: it is not shown.
            de::Error::custom(
                "a key's SHA-256 has 64 hexadecimal digits; `causeway tenant key` makes a key and \
                 prints it",
            )
        })
    }
}
