//! The limit on direct calls that one API process makes at once.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use causeway_queue::TenantId;

use crate::error::ApiError;

/// Most direct calls at once in one API process, each with a body of at most `api.max_body_bytes`.
pub(crate) const MAX_CALLS: usize = 32;

/// Most direct calls at once of one tenant, so that one tenant leaves room for others.
pub(crate) const MAX_CALLS_OF_TENANT: usize = 16;

/// The `Retry-After` of a refused call, in seconds: no estimate of when a call ends exists.
const RETRY_AFTER_S: u64 = 1;

/// The calls under way, by tenant. A tenant without calls has no entry.
#[derive(Debug, Clone, Default)]
pub(crate) struct Slots(Arc<Mutex<HashMap<TenantId, usize>>>);

/// The slot of one call; dropping it frees the slot.
#[derive(Debug)]
pub(crate) struct Slot {
    slots: Slots,
    tenant: TenantId,
}

impl Slots {
    /// Takes a slot for a call of `tenant`.
    ///
    /// # Errors
    /// 429 when the tenant, or the process, has no free one.
    pub(crate) fn take(&self, tenant: &TenantId) -> Result<Slot, ApiError> {
        let mut calls = self.lock();
        let own = calls.get(tenant).copied().unwrap_or(0);
        if own >= MAX_CALLS_OF_TENANT || calls.values().sum::<usize>() >= MAX_CALLS {
            let message = format!(
                "this process makes {MAX_CALLS} calls of this kind at once, {MAX_CALLS_OF_TENANT} of one \
                 tenant, and all are under way; try again in {RETRY_AFTER_S} s"
            );
            return Err(ApiError::too_many("too_many_direct_calls", message, RETRY_AFTER_S));
        }
        calls.insert(tenant.clone(), own + 1);
        Ok(Slot { slots: self.clone(), tenant: tenant.clone() })
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<TenantId, usize>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        let mut calls = self.slots.lock();
        let left = calls.get(&self.tenant).map_or(0, |own| own.saturating_sub(1));
        if left == 0 {
            calls.remove(&self.tenant);
        } else {
            calls.insert(self.tenant.clone(), left);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tenant(name: &str) -> TenantId {
        TenantId::new(name).unwrap()
    }

    #[test]
    fn a_tenant_leaves_room_for_others() {
        let slots = Slots::default();
        let take = |name: &str| slots.take(&tenant(name));
        let anns: Vec<Slot> = (0..MAX_CALLS_OF_TENANT).map(|_| take("ann").unwrap()).collect();
        assert!(take("ann").is_err());
        let bobs: Vec<Slot> =
            (MAX_CALLS_OF_TENANT..MAX_CALLS).map(|_| take("bob").unwrap()).collect();
        assert!(take("cleo").is_err());
        drop(anns);
        assert!(take("cleo").is_ok());
        drop(bobs);
        assert!(slots.lock().is_empty());
    }
}
