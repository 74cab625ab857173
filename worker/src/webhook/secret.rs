//! Secrets and signatures of webhook events, by the scheme of Standard Webhooks: HMAC-SHA256 over `id.timestamp.body`.
//! Secrets come from the configuration and are never written to the store.

use std::{
    collections::HashMap,
    fmt,
    ops::RangeInclusive,
    sync::{Arc, PoisonError, RwLock},
};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use causeway_queue::TenantId;
use hmac::{Hmac, Mac as _};
use sha2::Sha256;

/// The prefix of every secret.
const PREFIX: &str = "whsec_";

/// The permitted length of a secret in bytes.
const BYTES: RangeInclusive<usize> = 24..=64;

/// The length of a new secret in bytes.
const NEW_BYTES: usize = 32;

/// A secret shared with a receiver. `Debug` does not show it.
#[derive(Clone, PartialEq, Eq)]
pub struct WebhookSecret(Vec<u8>);

/// A text that is not a secret; the message does not contain it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error(
    "a webhook's secret is whsec_ and the base64 of 24 to 64 bytes; `causeway webhook secret` makes one"
)]
pub struct InvalidSecret;

impl WebhookSecret {
    /// Parses `whsec_…`.
    ///
    /// # Errors
    /// If `text` is not a secret.
    pub fn parse(text: &str) -> Result<Self, InvalidSecret> {
        let bytes = text.strip_prefix(PREFIX).and_then(|text| STANDARD.decode(text).ok());
        bytes.filter(|bytes| BYTES.contains(&bytes.len())).map(Self).ok_or(InvalidSecret)
    }

    /// Returns the text of a new secret, from 32 random bytes.
    #[must_use]
    pub fn write(random: [u8; NEW_BYTES]) -> String {
        format!("{PREFIX}{}", STANDARD.encode(random))
    }

    /// Returns the signature of `body`, in the format of `webhook-signature`.
    fn sign(&self, id: &str, timestamp: i64, body: &[u8]) -> Option<String> {
        let mut mac = Hmac::<Sha256>::new_from_slice(&self.0).ok()?;
        mac.update(format!("{id}.{timestamp}.").as_bytes());
        mac.update(body);
        Some(format!("v1,{}", STANDARD.encode(mac.finalize().into_bytes())))
    }
}

impl fmt::Debug for WebhookSecret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("WebhookSecret(…)")
    }
}

/// The secrets of all tenants. Cheap to clone; all clones see a replacement.
#[derive(Debug, Clone, Default)]
pub struct Signing(Arc<RwLock<Secrets>>);

#[derive(Debug, Default)]
struct Secrets {
    general: Vec<WebhookSecret>,
    own: HashMap<TenantId, Vec<WebhookSecret>>,
}

impl Signing {
    /// Returns the secrets: those of a tenant in `own`, else the `general` ones; the newest first.
    #[must_use]
    pub fn new(general: Vec<WebhookSecret>, own: HashMap<TenantId, Vec<WebhookSecret>>) -> Self {
        Self(Arc::new(RwLock::new(Secrets { general, own })))
    }

    /// Replaces the secrets by those of `other`.
    pub fn replace(&self, other: &Self) {
        // Both locks are never held together, so two replacements cannot deadlock.
        let other = std::mem::take(&mut *other.0.write().unwrap_or_else(PoisonError::into_inner));
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = other;
    }

    /// Returns the value of `webhook-signature`: a signature for each secret of `tenant`; `None` if it has no secret.
    pub(super) fn signature(
        &self,
        tenant: &TenantId,
        id: &str,
        timestamp: i64,
        body: &[u8],
    ) -> Option<String> {
        let secrets = self.0.read().unwrap_or_else(PoisonError::into_inner);
        let secrets = secrets.own.get(tenant).unwrap_or(&secrets.general);
        let signed = secrets.iter().filter_map(|secret| secret.sign(id, timestamp, body));
        Some(signed.collect::<Vec<_>>().join(" ")).filter(|signature| !signature.is_empty())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The example in the specification of Standard Webhooks.
    const SECRET: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";
    const ID: &str = "msg_p5jXN8AQM9LWM0D4loKWxJek";
    const BODY: &[u8] = br#"{"test": 2432232314}"#;
    const SIGNATURE: &str = "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=";

    #[test]
    fn the_signature_is_that_of_the_specification() {
        let signing = Signing::new(vec![WebhookSecret::parse(SECRET).unwrap()], HashMap::new());
        let signed = signing.signature(&TenantId::default_tenant(), ID, 1_614_265_330, BODY);
        assert_eq!(signed.as_deref(), Some(SIGNATURE));
    }

    #[test]
    fn own_secrets_replace_the_general_ones() {
        let new = WebhookSecret::parse(&WebhookSecret::write([7; 32])).unwrap();
        let old = WebhookSecret::parse(SECRET).unwrap();
        let ann = TenantId::new("ann").unwrap();
        let own = HashMap::from([(ann.clone(), vec![old.clone()])]);
        let signing = Signing::new(vec![new, old], own);
        let signed =
            |tenant: &TenantId| signing.signature(tenant, ID, 1_614_265_330, BODY).unwrap();
        assert_eq!(signed(&ann), SIGNATURE);
        let both = signed(&TenantId::default_tenant());
        assert_eq!(both.split(' ').count(), 2);
        assert!(both.ends_with(SIGNATURE) && !both.starts_with(SIGNATURE));
        signing.replace(&Signing::default());
        assert_eq!(signing.signature(&ann, ID, 1, BODY), None);
    }

    #[test]
    fn invalid_secrets_are_refused() {
        for text in ["", "whsec_", "MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw", "whsec_MfKQ9r8G", "whsec_*"]
        {
            assert_eq!(WebhookSecret::parse(text), Err(InvalidSecret), "{text}");
        }
        let long = format!("{PREFIX}{}", STANDARD.encode([1; 65]));
        assert_eq!(WebhookSecret::parse(&long), Err(InvalidSecret));
        assert!(!format!("{:?}", WebhookSecret::parse(SECRET)).contains("MfKQ"));
    }
}
