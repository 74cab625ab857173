//! The stored document of tenants that were added at run time, and its changes.

use causeway_queue::{TenantId, clock::Millis, limits::TenantLimits};
use serde::{Deserialize, Serialize};

use super::key::{digest, hexadecimal};

/// Most stored tenants.
pub(super) const MAX_TENANTS: usize = 1000;

/// Most unexpired keys of one tenant.
pub(super) const MAX_KEYS: usize = 10;

/// Number of characters of a key's hash that serve as its name.
const NAME_CHARS: usize = 12;

/// The schema version of the document.
const SCHEMA: u32 = 1;

/// The stored tenants.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Document {
    schema: u32,
    pub(super) tenants: Vec<StoredTenant>,
}

/// A stored tenant.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct StoredTenant {
    pub(super) id: TenantId,
    pub(super) admin: bool,
    pub(super) limits: TenantLimits,
    pub(super) webhook_url: Option<String>,
    pub(super) keys: Vec<StoredKey>,
}

/// A key; only its hash is stored.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct StoredKey {
    /// Its SHA-256 in hexadecimal.
    sha256: String,
    pub(super) created_at: Millis,
    pub(super) expires_at: Option<Millis>,
}

/// The reason why a change is refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(super) enum TenantError {
    #[error("tenant {0} exists already; rotate its key, or choose another id")]
    Exists(TenantId),
    #[error("there is no tenant {0} in the store; `causeway tenant list` shows all")]
    Unknown(TenantId),
    #[error("tenant {0} has no key {1:?}; `causeway tenant list` shows the names of its keys")]
    UnknownKey(TenantId, String),
    #[error(
        "the first tenant must be an administrator (`--admin`) whose key does not expire: from \
         then on every call needs a key, and only an administrator can add tenants"
    )]
    FirstIsNoAdmin,
    #[error(
        "this would leave no administrator with a key that does not expire: add another administrator first"
    )]
    LastAdmin,
    #[error("the store holds {MAX_TENANTS} tenants, which is the maximum; revoke one")]
    TooManyTenants,
    #[error("tenant {0} has {MAX_KEYS} keys, which is the maximum; revoke one")]
    TooManyKeys(TenantId),
}

impl Default for Document {
    fn default() -> Self {
        Self { schema: SCHEMA, tenants: Vec::new() }
    }
}

impl StoredKey {
    pub(super) fn new(sha256: &[u8; 32], now: Millis, expires_at: Option<Millis>) -> Self {
        Self { sha256: hexadecimal(sha256), created_at: now, expires_at }
    }

    /// Returns the name of the key: the first characters of its hash.
    pub(super) fn name(&self) -> String {
        self.sha256.chars().take(NAME_CHARS).collect()
    }

    pub(super) fn is_valid(&self, now: Millis) -> bool {
        self.expires_at.is_none_or(|at| at > now)
    }

    pub(super) fn digest(&self) -> Option<[u8; 32]> {
        digest(&self.sha256)
    }
}

impl Document {
    /// Parses a document. An empty text is a store without tenants.
    ///
    /// # Errors
    /// If the schema version is unknown.
    pub(super) fn read(text: &str) -> Result<Self, String> {
        if text.is_empty() {
            return Ok(Self::default());
        }
        let document: Self = serde_json::from_str(text).map_err(|error| error.to_string())?;
        match document.schema {
            SCHEMA => Ok(document),
            other => Err(format!("its schema is {other}, and this version knows {SCHEMA}")),
        }
    }

    pub(super) fn tenant(&mut self, id: &TenantId) -> Result<&mut StoredTenant, TenantError> {
        let found = self.tenants.iter_mut().find(|tenant| tenant.id == *id);
        found.ok_or_else(|| TenantError::Unknown(id.clone()))
    }

    pub(super) fn add(&mut self, new: StoredTenant) -> Result<(), TenantError> {
        if self.tenants.iter().any(|tenant| tenant.id == new.id) {
            return Err(TenantError::Exists(new.id));
        }
        if self.tenants.len() >= MAX_TENANTS {
            return Err(TenantError::TooManyTenants);
        }
        self.tenants.push(new);
        Ok(())
    }

    /// Adds a key to a tenant; its other keys expire at `until` at the latest.
    pub(super) fn rotate(
        &mut self,
        id: &TenantId,
        key: StoredKey,
        until: Millis,
    ) -> Result<(), TenantError> {
        let tenant = self.tenant(id)?;
        // Without a grace period the old keys expire at once, so the number cannot grow.
        if tenant.keys.len() >= MAX_KEYS && until > key.created_at {
            return Err(TenantError::TooManyKeys(id.clone()));
        }
        // An earlier expiry of an old key remains.
        for old in &mut tenant.keys {
            old.expires_at = Some(old.expires_at.map_or(until, |at| at.min(until)));
        }
        tenant.keys.push(key);
        Ok(())
    }

    pub(super) fn revoke(&mut self, id: &TenantId) -> Result<(), TenantError> {
        self.tenant(id)?;
        self.tenants.retain(|tenant| tenant.id != *id);
        Ok(())
    }

    /// Revokes the key `name`: its complete hash, or the displayed prefix.
    pub(super) fn revoke_key(&mut self, id: &TenantId, name: &str) -> Result<(), TenantError> {
        let tenant = self.tenant(id)?;
        let before = tenant.keys.len();
        tenant.keys.retain(|key| key.name() != name && key.sha256 != name);
        if tenant.keys.len() == before {
            return Err(TenantError::UnknownKey(id.clone(), name.chars().take(64).collect()));
        }
        Ok(())
    }

    /// Removes expired keys.
    pub(super) fn purge(&mut self, now: Millis) {
        for tenant in &mut self.tenants {
            tenant.keys.retain(|key| key.is_valid(now));
        }
    }

    /// True if there is an administrator with a key that does not expire.
    pub(super) fn has_admin(&self) -> bool {
        let mut keys = self.tenants.iter().filter(|one| one.admin).flat_map(|one| &one.keys);
        keys.any(|key| key.expires_at.is_none())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Millis = Millis(1_000_000);

    fn id(name: &str) -> TenantId {
        TenantId::new(name).unwrap()
    }

    fn key(n: u8, expires_at: Option<Millis>) -> StoredKey {
        StoredKey::new(&[n; 32], NOW, expires_at)
    }

    fn stored(name: &str, admin: bool) -> StoredTenant {
        let limits = TenantLimits::default();
        StoredTenant { id: id(name), admin, limits, webhook_url: None, keys: vec![key(1, None)] }
    }

    fn with(tenants: &[StoredTenant]) -> Document {
        let mut document = Document::default();
        tenants.iter().for_each(|tenant| document.add(tenant.clone()).unwrap());
        document
    }

    #[test]
    fn a_document_survives_writing_and_reading() {
        let document = with(&[stored("ann", true), stored("bob", false)]);
        let text = serde_json::to_string(&document).unwrap();
        assert_eq!(Document::read(&text), Ok(document));
        assert_eq!(Document::read(""), Ok(Document::default()));
        let newer = text.replace("\"schema\":1", "\"schema\":2");
        assert!(Document::read(&newer).unwrap_err().contains("schema is 2"));
    }

    #[test]
    fn old_keys_expire_after_the_grace_period() {
        let mut document = with(&[stored("ann", true)]);
        let until = Millis(NOW.0 + 1000);
        document.rotate(&id("ann"), key(2, None), until).unwrap();
        let valid = |document: &mut Document, now: Millis| {
            let tenant = document.tenant(&id("ann")).unwrap();
            tenant.keys.iter().filter(|key| key.is_valid(now)).map(StoredKey::name).count()
        };
        assert_eq!(valid(&mut document, Millis(until.0 - 1)), 2);
        assert_eq!(valid(&mut document, until), 1);
        document.purge(until);
        assert_eq!(document.tenant(&id("ann")).unwrap().keys, [key(2, None)]);
    }

    #[test]
    fn the_last_admin_key_must_not_expire() {
        let mut document = with(&[stored("ann", true), stored("bob", false)]);
        assert!(document.has_admin());
        document.rotate(&id("ann"), key(2, Some(Millis(NOW.0 + 1))), NOW).unwrap();
        assert!(!document.has_admin());
        document.revoke(&id("bob")).unwrap();
        assert_eq!(document.revoke(&id("bob")), Err(TenantError::Unknown(id("bob"))));
    }

    #[test]
    fn a_key_is_revoked_by_its_name() {
        let mut document = with(&[stored("ann", true)]);
        let unknown = document.revoke_key(&id("ann"), "0101");
        assert_eq!(unknown, Err(TenantError::UnknownKey(id("ann"), "0101".to_owned())));
        document.revoke_key(&id("ann"), &"01".repeat(6)).unwrap();
        assert!(document.tenant(&id("ann")).unwrap().keys.is_empty());
    }

    #[test]
    fn tenants_and_keys_are_limited() {
        let mut document = Document::default();
        for n in 0..MAX_TENANTS {
            document.add(stored(&format!("t{n}"), false)).unwrap();
        }
        assert_eq!(document.add(stored("one-more", false)), Err(TenantError::TooManyTenants));
        let later = Millis(NOW.0 + 1);
        for n in 1..MAX_KEYS {
            document.rotate(&id("t0"), key(u8::try_from(n).unwrap(), None), later).unwrap();
        }
        let full = document.rotate(&id("t0"), key(99, None), later);
        assert_eq!(full, Err(TenantError::TooManyKeys(id("t0"))));
        document.rotate(&id("t0"), key(99, None), NOW).unwrap();
    }
}
