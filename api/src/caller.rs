//! Callers: the tenants, and the keys that they present.
//!
//! Only the SHA-256 of a key is stored. It is compared in constant time and never logged.

use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard};

use axum::http::HeaderMap;
use causeway_queue::TenantId;
use sha2::{Digest, Sha256};
use tokio::sync::watch;

use crate::error::ApiError;

/// A configured tenant.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tenant {
    /// Its id.
    pub id: TenantId,
    /// SHA-256 of each of its keys.
    pub key_sha256: Vec<[u8; 32]>,
    /// True if it may see and change the jobs and settings of all tenants.
    pub admin: bool,
    /// True if it has a rate limit, which its answers then report in headers.
    pub is_rated: bool,
    /// Its defaults for webhooks.
    pub webhooks: Webhooks,
}

/// The defaults of a tenant for webhooks.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Webhooks {
    /// The receiver of events, unless a job names another one.
    pub url: Option<Arc<str>>,
    /// True if the tenant has its own secrets to sign events with.
    pub signs: bool,
}

/// The list of tenants that may call. Cheap to clone; all clones see a replacement.
#[derive(Debug, Clone, Default)]
pub struct Tenants(Arc<CallerTable>);

#[derive(Debug, Default)]
struct CallerTable {
    tenants: RwLock<Vec<Tenant>>,
    /// Notified after each replacement.
    replaced: watch::Sender<()>,
}

/// The authenticated caller of a request.
#[derive(Debug, Clone)]
pub(crate) struct Caller {
    pub(crate) tenant: TenantId,
    pub(crate) admin: bool,
    pub(crate) is_rated: bool,
    /// SHA-256 of the key; `None` if the server has no tenants and thus needs no key.
    pub(crate) key_sha256: Option<[u8; 32]>,
    pub(crate) webhooks: Webhooks,
}

/// A caller with administrator rights.
#[derive(Debug, Clone)]
pub(crate) struct Admin(pub(crate) Caller);

impl Tenants {
    /// Returns an empty list: every caller is the tenant `default`, and no key is needed.
    #[must_use]
    pub fn open() -> Self {
        Self::default()
    }

    /// Returns a list of `tenants`.
    #[must_use]
    pub fn new(tenants: Vec<Tenant>) -> Self {
        Self(Arc::new(CallerTable {
            tenants: RwLock::new(tenants),
            replaced: watch::Sender::default(),
        }))
    }

    /// Replaces the list. Callers that are no longer in it lose their open connections.
    pub fn replace(&self, tenants: Vec<Tenant>) {
        let known = &mut *self.0.tenants.write().unwrap_or_else(PoisonError::into_inner);
        // The registry publishes each second. Only a real change may wake the tasks of all open connections.
        if *known != tenants {
            *known = tenants;
            self.0.replaced.send_replace(());
        }
    }

    /// Returns all tenants.
    pub(crate) fn all(&self) -> Vec<Tenant> {
        self.read().clone()
    }

    /// True if there are no tenants, so no key is needed.
    pub(crate) fn are_open(&self) -> bool {
        self.read().is_empty()
    }

    /// Returns the ids of all tenants; only that of the tenant `default` if there are none.
    pub(crate) fn ids(&self) -> Vec<TenantId> {
        let tenants = self.read();
        if tenants.is_empty() {
            return vec![TenantId::default_tenant()];
        }
        tenants.iter().map(|tenant| tenant.id.clone()).collect()
    }

    /// Authenticates a caller by the key in `headers`.
    ///
    /// # Errors
    /// `unauthorized` if a key is needed, and it is missing or unknown.
    pub(crate) fn caller(&self, headers: &HeaderMap) -> Result<Caller, ApiError> {
        let tenants = self.read();
        if tenants.is_empty() {
            return Ok(Caller::keyless());
        }
        let Some(key) = presented(headers) else {
            let message = "this server needs an API key: send `Authorization: Bearer <key>`";
            return Err(ApiError::unauthorized(message));
        };
        let digest: [u8; 32] = Sha256::digest(key.as_bytes()).into();
        key_owner(&tenants, digest).ok_or_else(|| ApiError::unauthorized("this API key is unknown"))
    }

    fn read(&self) -> RwLockReadGuard<'_, Vec<Tenant>> {
        self.0.tenants.read().unwrap_or_else(PoisonError::into_inner)
    }

    /// Completes when `caller` is no longer valid.
    pub(crate) async fn revoked(self, caller: Caller) {
        // Subscribing before the first check misses no replacement.
        let mut replaced = self.0.replaced.subscribe();
        while self.refresh(&caller).is_some() {
            if replaced.changed().await.is_err() {
                // The sender is gone, so no replacement can follow and nothing is ever revoked.
                std::future::pending::<()>().await;
            }
        }
    }

    /// Returns the present state of a `caller` that was authenticated before; `None` if it is no longer valid.
    pub(crate) fn refresh(&self, caller: &Caller) -> Option<Caller> {
        let tenants = self.read();
        let now = match caller.key_sha256 {
            None => tenants.is_empty().then(Caller::keyless),
            Some(digest) => key_owner(&tenants, digest),
        };
        // A key that moved to another tenant must not take over the connections of the former one.
        now.filter(|now| now.tenant == caller.tenant)
    }
}

/// Returns the caller with the key of this digest.
fn key_owner(tenants: &[Tenant], digest: [u8; 32]) -> Option<Caller> {
    let mut found = None;
    for tenant in tenants {
        for known in &tenant.key_sha256 {
            // All keys are compared in full, so the duration reveals nothing about any of them.
            if digests_equal(known, &digest) {
                found = Some(tenant);
            }
        }
    }
    found.map(|tenant| Caller {
        tenant: tenant.id.clone(),
        admin: tenant.admin,
        is_rated: tenant.is_rated,
        key_sha256: Some(digest),
        webhooks: tenant.webhooks.clone(),
    })
}

/// True if two digests are equal. The duration does not depend on their content.
fn digests_equal(a: &[u8; 32], b: &[u8; 32]) -> bool {
    let difference = a.iter().zip(b).fold(0, |difference, (a, b)| difference | (a ^ b));
    // Without the black box, the compiler may turn the fold into an early exit.
    std::hint::black_box(difference) == 0
}

/// The prefix of a key that is sent as the name of a WebSocket subprotocol.
const KEY_PROTOCOL: &str = "causeway.key.";

/// Returns the key from `Authorization: Bearer`, `x-api-key` (Anthropic's SDKs), `api-key` (Azure's), or from
/// the offered WebSocket subprotocols, since browsers cannot set headers for WebSockets.
pub(crate) fn presented(headers: &HeaderMap) -> Option<&str> {
    let bearer = || {
        let (scheme, key) = headers.get("authorization")?.to_str().ok()?.split_once(' ')?;
        scheme.eq_ignore_ascii_case("bearer").then_some(key.trim())
    };
    let offered = || {
        let offers = headers.get_all("sec-websocket-protocol").iter();
        let names = offers.filter_map(|offer| offer.to_str().ok()).flat_map(|o| o.split(','));
        names.map(str::trim).find_map(|name| name.strip_prefix(KEY_PROTOCOL))
    };
    let named = || {
        let names = ["x-api-key", "api-key"];
        names.into_iter().find_map(|name| headers.get(name)?.to_str().ok())
    };
    // The order matters only for clients that send several keys: the standard header wins.
    bearer().or_else(named).or_else(offered).filter(|key| !key.is_empty())
}

impl Caller {
    /// True if the caller may see and change the jobs of all tenants. Without configured tenants there is only
    /// one.
    pub(crate) fn acts_for_all(&self) -> bool {
        self.admin && self.key_sha256.is_some()
    }

    /// Returns the caller of a server without tenants.
    fn keyless() -> Self {
        let tenant = TenantId::default_tenant();
        // Without tenants, each caller is the operator of a local server and may administrate it.
        let (is_rated, key_sha256, webhooks) = Default::default();
        Self { tenant, admin: true, is_rated, key_sha256, webhooks }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PROTOCOL: &str = "sec-websocket-protocol";

    fn tenants() -> Tenants {
        let key_sha256 = vec![Sha256::digest(b"old").into(), Sha256::digest(b"new").into()];
        let id = TenantId::new("ann").unwrap();
        let (admin, is_rated, webhooks) = Default::default();
        Tenants::new(vec![Tenant { id, key_sha256, admin, is_rated, webhooks }])
    }

    fn call(tenants: &Tenants, name: &'static str, value: &str) -> Option<String> {
        let mut headers = HeaderMap::new();
        headers.insert(name, value.parse().unwrap());
        tenants.caller(&headers).ok().map(|caller| caller.tenant.to_string())
    }

    #[test]
    fn every_key_of_a_tenant_is_valid() {
        let tenants = tenants();
        assert_eq!(call(&tenants, "authorization", "Bearer old").as_deref(), Some("ann"));
        assert_eq!(call(&tenants, "authorization", "bearer new").as_deref(), Some("ann"));
        assert_eq!(call(&tenants, "authorization", "BEARER  new").as_deref(), Some("ann"));
        assert_eq!(call(&tenants, "x-api-key", "new").as_deref(), Some("ann"));
        assert_eq!(call(&tenants, "api-key", "new").as_deref(), Some("ann"));
        let offers = |key: &str| format!("causeway.v1, causeway.key.{key}");
        assert_eq!(call(&tenants, PROTOCOL, &offers("new")).as_deref(), Some("ann"));
        assert_eq!(call(&tenants, PROTOCOL, &offers("other")), None);
        assert_eq!(call(&tenants, "authorization", "Bearer other"), None);
        assert_eq!(call(&tenants, "authorization", "Basic old"), None);
        assert!(tenants.caller(&HeaderMap::new()).is_err());
    }

    #[test]
    fn an_empty_key_is_invalid() {
        let mut empty = tenants().read().clone();
        empty[0].key_sha256 = vec![Sha256::digest(b"").into()];
        let tenants = Tenants::new(empty);
        for name in ["x-api-key", "api-key"] {
            assert_eq!(call(&tenants, name, ""), None, "{name}");
        }
        assert_eq!(call(&tenants, "authorization", "Bearer "), None);
        assert_eq!(call(&tenants, PROTOCOL, "causeway.key."), None);
    }

    #[test]
    fn without_tenants_all_callers_are_default() {
        let caller = Tenants::open().caller(&HeaderMap::new()).unwrap();
        assert_eq!(caller.tenant, TenantId::default_tenant());
    }
}
