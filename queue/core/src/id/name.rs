//! The names of lanes, tenants, sessions and submissions.

use std::{fmt, str::FromStr, sync::Arc};

use serde::{Deserialize, Serialize, de, ser};

/// The longest lane name, in bytes.
pub const MAX_LANE_BYTES: usize = 32;
/// The longest tenant id, in bytes.
pub const MAX_TENANT_BYTES: usize = 64;
/// The longest session key and idempotency key, in bytes.
pub const MAX_KEY_BYTES: usize = 255;

/// The most characters of an invalid text that its error quotes: the text may be as long as a body.
pub(super) const QUOTED_CHARS: usize = 80;

/// The reason why a text is not a name of the expected kind.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{text:?} is not a {kind}: {rule}")]
pub struct InvalidName {
    pub(super) kind: &'static str,
    pub(super) rule: &'static str,
    pub(super) text: String,
}

/// Declares a validated name that is cheap to clone.
macro_rules! name {
    ($(#[$doc:meta])* $type:ident, $kind:literal, $rule:literal, $valid:expr) => {
        $(#[$doc])*
        #[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub struct $type(Arc<str>);

        impl $type {
            /// Checks `text`.
            ///
            /// # Errors
            #[doc = concat!("When the text breaks the rule: ", $rule, ".")]
            pub fn new(text: &str) -> Result<Self, InvalidName> {
                let valid: fn(&str) -> bool = $valid;
                if valid(text) {
                    Ok(Self(text.into()))
                } else {
                    let text = text.chars().take(QUOTED_CHARS).collect();
                    Err(InvalidName { kind: $kind, rule: $rule, text })
                }
            }

            /// Returns the name as text.
            #[must_use]
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Debug for $type {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Debug::fmt(&self.0, f)
            }
        }

        impl fmt::Display for $type {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl FromStr for $type {
            type Err = InvalidName;
            fn from_str(text: &str) -> Result<Self, Self::Err> {
                Self::new(text)
            }
        }

        impl Serialize for $type {
            fn serialize<S: ser::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.serialize_str(&self.0)
            }
        }

        impl<'de> Deserialize<'de> for $type {
            fn deserialize<D: de::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                let text = String::deserialize(deserializer)?;
                Self::new(&text).map_err(de::Error::custom)
            }
        }
    };
}

name!(
    /// A pool of upstreams that is rate limited together.
    LaneName,
    "lane name",
    "1 to 32 of a-z, 0-9 and -",
    |text| (1..=MAX_LANE_BYTES).contains(&text.len())
        && text.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-')
);

name!(
    /// The authenticated owner of jobs. Fair queueing and limits apply per tenant.
    TenantId,
    "tenant id",
    "1 to 64 of A-Z, a-z, 0-9, '.', '_' and '-'",
    |text| (1..=MAX_TENANT_BYTES).contains(&text.len())
        && text.bytes().all(|b| b.is_ascii_alphanumeric() || b"._-".contains(&b))
);

name!(
    /// An ordering key of a tenant: its jobs run one at a time, in the order of acceptance.
    SessionKey,
    "session key",
    "1 to 255 bytes without control characters",
    valid_key
);

name!(
    /// A client's name for one submission, by which a repetition is recognised.
    IdempotencyKey,
    "idempotency key",
    "1 to 255 bytes without control characters",
    valid_key
);

fn valid_key(text: &str) -> bool {
    (1..=MAX_KEY_BYTES).contains(&text.len()) && !text.chars().any(char::is_control)
}

impl TenantId {
    /// Returns the tenant of every request if no tenant is configured.
    #[must_use]
    pub fn default_tenant() -> Self {
        Self("default".into())
    }
}

impl LaneName {
    /// Returns the lane of every model that no other lane claims.
    #[must_use]
    pub fn default_lane() -> Self {
        Self("default".into())
    }

    /// Returns the lane of webhook deliveries. It is reserved: no model is routed to it.
    #[must_use]
    pub fn webhooks() -> Self {
        Self("webhooks".into())
    }
}
