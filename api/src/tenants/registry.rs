//! The registry of tenants: those of the configuration and those of the store.
//!
//! The file has priority: its entry replaces a stored tenant with the same id. A server that has had tenants keeps
//! requiring keys, so a store that lost its data does not open the server.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use causeway_queue::{
    Error, LaneName, Queue, TenantId,
    clock::{Clock, Millis, SystemClock},
    directory::Directory,
    limits::{LaneLimits, TenantLimits},
};
use uuid::Uuid;

use super::document::{Document, StoredKey, StoredTenant, TenantError};
use crate::{
    caller::{Tenant, Tenants, Webhooks},
    error::ApiError,
};

/// Most attempts of a change that conflicts with changes by other processes.
const TRIES: usize = 10;

/// The registry of this process. Cheap to clone.
#[derive(Debug, Clone)]
pub struct TenantRegistry(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    queue: Queue,
    /// The list that authenticates keys; it receives the merged tenants.
    callers: Tenants,
    known: Mutex<MergedTenants>,
    /// Serialises the setting of limits, so the newest ones are set last.
    turn: tokio::sync::Mutex<()>,
}

#[derive(Debug, Default)]
struct MergedTenants {
    configured: Vec<(Tenant, TenantLimits)>,
    stored: Document,
    /// The version of the document that was read last, valid or not.
    version: u64,
    /// The error of an invalid document, which must not be overwritten.
    unreadable: Option<String>,
}

/// A tenant and its source.
#[derive(Debug)]
pub(super) enum Listed {
    Configured(Tenant, TenantLimits),
    Stored(StoredTenant),
}

impl TenantRegistry {
    /// Returns the registry of `queue`'s store and of `callers`, which holds the configured tenants.
    pub(crate) fn new(queue: Queue, callers: Tenants) -> Self {
        let configured = callers.all().into_iter().map(|tenant| (tenant, TenantLimits::default()));
        let known = MergedTenants { configured: configured.collect(), ..MergedTenants::default() };
        let (known, turn) = (Mutex::new(known), tokio::sync::Mutex::default());
        Self(Arc::new(Inner { queue, callers, known, turn }))
    }

    /// Applies a new configuration, reads the store, and sets all limits.
    ///
    /// # Errors
    /// If the store does not answer. The tenants are applied nevertheless.
    pub async fn configure(
        &self,
        tenants: Vec<(Tenant, TenantLimits)>,
        lanes: HashMap<LaneName, LaneLimits>,
    ) -> Result<(), Error> {
        let _turn = self.0.turn.lock().await;
        self.known().configured = tenants;
        let read = self.read().await;
        // Before the store is written: keys of the file must be valid even while the store is down.
        self.publish_merged(SystemClock::default().now());
        let limits = self.limits();
        self.0.queue.set_limits(lanes, &limits).await?;
        read.map(drop)
    }

    /// Applies changes in the store, and removes expired keys. Must be called each second.
    ///
    /// # Errors
    /// If the store does not answer, or its document is of an unknown version. The known tenants stay in force.
    pub async fn refresh(&self) -> Result<(), Error> {
        self.refresh_at(SystemClock::default().now()).await
    }

    async fn refresh_at(&self, now: Millis) -> Result<(), Error> {
        let _turn = self.0.turn.lock().await;
        let is_new = self.read().await?;
        self.publish_merged(now);
        if is_new { self.0.queue.set_tenant_limits(&self.limits()).await } else { Ok(()) }
    }

    /// True if only the configuration can contain tenants.
    #[must_use]
    pub fn stores_none(&self) -> bool {
        self.known().stored.tenants.is_empty()
    }

    /// True if any tenant is an administrator.
    #[must_use]
    pub fn has_admin(&self) -> bool {
        self.list().iter().any(|tenant| match tenant {
            Listed::Configured(tenant, _) => tenant.admin,
            Listed::Stored(stored) => stored.admin,
        })
    }

    /// Returns the number of tenants.
    #[must_use]
    pub fn count(&self) -> usize {
        self.list().len()
    }

    /// Changes the stored tenants. The change is effective here at once, and in other processes within two seconds.
    pub(super) async fn update<T>(
        &self,
        change: impl Fn(&mut Document) -> Result<T, TenantError>,
    ) -> Result<T, ApiError> {
        let now = SystemClock::default().now();
        for _ in 0..TRIES {
            let turn = self.0.turn.lock().await;
            self.read().await?;
            let (version, mut document) = {
                let known = self.known();
                known.check_is_readable()?;
                (known.version, known.stored.clone())
            };
            let was_open = self.0.callers.are_open();
            document.purge(now);
            let changed = change(&mut document)?;
            document.purge(now);
            // Checked on the changed document: the change itself may be what removes the last one.
            self.check_admin_remains(&document, was_open)?;
            if self.write(version, &document).await? {
                // `refresh_at` takes the same lock.
                drop(turn);
                // The change is stored, and a new key is shown only in this answer. An error would lose it.
                if let Err(error) = self.refresh_at(now).await {
                    tracing::warn!(
                        %error,
                        "cannot apply the changed tenants now; they are applied when the store answers"
                    );
                }
                return Ok(changed);
            }
        }
        let message = "other processes are changing the tenants; send the request again";
        Err(ApiError::invalid("concurrent_change", message))
    }

    /// Returns all tenants, those of the configuration first.
    pub(super) fn list(&self) -> Vec<Listed> {
        let known = self.known();
        let configured = known.configured.iter().cloned();
        let configured = configured.map(|(tenant, limits)| Listed::Configured(tenant, limits));
        configured.chain(known.added().cloned().map(Listed::Stored)).collect()
    }

    /// Refuses to change a tenant of the configuration.
    pub(super) fn check_is_not_configured(&self, id: &TenantId) -> Result<(), ApiError> {
        if self.known().names(id) {
            let message =
                format!("tenant {id} is defined in the configuration file; change it there");
            return Err(ApiError::invalid("tenant_configured", message));
        }
        Ok(())
    }

    fn check_admin_remains(&self, document: &Document, was_open: bool) -> Result<(), TenantError> {
        let is_configured = self.known().configured.iter().any(|(tenant, _)| tenant.admin);
        if is_configured || document.has_admin() {
            return Ok(());
        }
        Err(if was_open { TenantError::FirstIsNoAdmin } else { TenantError::LastAdmin })
    }

    /// Reads the document if its version has changed; returns true if so.
    async fn read(&self) -> Result<bool, Error> {
        let version = self.known().version;
        let Some(found) = self.0.queue.directory().directory(version).await? else {
            return Ok(false);
        };
        let mut known = self.known();
        known.version = found.version;
        // The store had a document before, since `directory` only reports other versions than the known one.
        if found.version == 0 {
            known.unreadable = None;
            tracing::warn!(
                "the store has lost its tenants; the known ones stay in force until this process \
                 restarts, and the next change stores them again"
            );
            return Ok(false);
        }
        match Document::read(&found.text) {
            Ok(document) => (known.stored, known.unreadable) = (document, None),
            Err(why) => {
                tracing::error!(
                    why,
                    "cannot read the tenants in the store; the known ones stay in force"
                );
                known.unreadable = Some(why);
            }
        }
        known.check_is_readable().map(|()| true)
    }

    async fn write(&self, known: u64, document: &Document) -> Result<bool, Error> {
        let text = serde_json::to_string(document);
        let text = text.map_err(|error| Error::Corrupt(format!("the tenants: {error}")))?;
        // A random version detects a store that was restored to an earlier state, which a counter would not.
        let version = Uuid::new_v4().as_u64_pair().1;
        self.0.queue.directory().set_directory(known, &Directory { version, text }).await
    }

    /// Publishes the merged tenants that are valid at `now`.
    fn publish_merged(&self, now: Millis) {
        let known = self.known();
        let configured = known.configured.iter().map(|(tenant, _)| tenant.clone());
        let added = known.added().map(|stored| caller(stored, now));
        self.0.callers.replace(configured.chain(added).collect());
    }

    fn limits(&self) -> Vec<(TenantId, TenantLimits)> {
        let known = self.known();
        let configured =
            known.configured.iter().map(|(one, limits)| (one.id.clone(), limits.clone()));
        let added = known.added().map(|stored| (stored.id.clone(), stored.limits.clone()));
        configured.chain(added).collect()
    }

    fn known(&self) -> MutexGuard<'_, MergedTenants> {
        self.0.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl MergedTenants {
    fn check_is_readable(&self) -> Result<(), Error> {
        match &self.unreadable {
            Some(why) => Err(Error::Corrupt(format!("the tenants: {why}"))),
            None => Ok(()),
        }
    }

    fn names(&self, id: &TenantId) -> bool {
        self.configured.iter().any(|(tenant, _)| tenant.id == *id)
    }

    /// Returns the stored tenants that the configuration does not replace.
    fn added(&self) -> impl Iterator<Item = &StoredTenant> {
        self.stored.tenants.iter().filter(|stored| !self.names(&stored.id))
    }
}

/// Converts a stored tenant, with its valid keys.
fn caller(stored: &StoredTenant, now: Millis) -> Tenant {
    let keys = stored.keys.iter().filter(|key| key.is_valid(now));
    let limits = &stored.limits;
    Tenant {
        id: stored.id.clone(),
        key_sha256: keys.filter_map(StoredKey::digest).collect(),
        admin: stored.admin,
        is_rated: limits.requests_per_minute.is_some() || limits.tokens_per_minute.is_some(),
        // Secrets of tenants come from the environment and so from the file only.
        webhooks: Webhooks { url: stored.webhook_url.as_deref().map(Into::into), signs: false },
    }
}

/// True if the store of `queue` contains tenants.
///
/// # Errors
/// If it does not answer.
pub async fn has_tenants(queue: &Queue) -> Result<bool, Error> {
    let registry = TenantRegistry::new(queue.clone(), Tenants::open());
    registry.read().await?;
    Ok(!registry.stores_none())
}

#[cfg(test)]
mod tests {
    use std::{sync::Arc, time::Duration};

    use axum::http::HeaderMap;
    use causeway_embedded::Embedded;
    use causeway_queue::{Policy, clock::ManualClock};

    use super::*;
    use crate::tenants::key::new_key;

    #[tokio::test]
    async fn a_key_expires() {
        let store = Embedded::new(Policy::default(), Arc::new(ManualClock::new(Millis(0))));
        let callers = Tenants::open();
        let registry =
            TenantRegistry::new(Queue::new(Arc::new(store), Vec::new()), callers.clone());
        let (lasting, expiring) = (new_key().unwrap(), new_key().unwrap());
        let now = SystemClock::default().now();
        let until = now.after(Duration::from_secs(60));
        let keys = vec![
            StoredKey::new(&lasting.sha256, now, None),
            StoredKey::new(&expiring.sha256, now, Some(until)),
        ];
        let limits = TenantLimits::default();
        let id = TenantId::new("ann").unwrap();
        let ann = StoredTenant { id, admin: true, limits, webhook_url: None, keys };
        registry.update(|document| document.add(ann.clone())).await.unwrap();
        let opens = |key: &str| {
            let headers = HeaderMap::from_iter([(
                axum::http::header::AUTHORIZATION,
                format!("Bearer {key}").parse().unwrap(),
            )]);
            callers.caller(&headers).is_ok()
        };
        assert!(opens(&lasting.text) && opens(&expiring.text));
        registry.refresh_at(until).await.unwrap();
        assert!(opens(&lasting.text) && !opens(&expiring.text));
    }
}
