//! Budgets for the bytes and calls that requests hold in this process, in total and by tenant.
//!
//! A [`BudgetCharge`] is a value: dropping it returns its bytes. A charge travels with the bytes it stands for
//! ([`charged`]), so the budget reflects the memory that is really in use.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use bytes::Bytes;
use causeway_queue::TenantId;
use tokio::{sync::Notify, time::timeout};

/// Longest small body or answer, in bytes. Small ones have their own budget, so they never wait for large ones.
pub(crate) const SMALL: usize = 64 << 10;

/// The time that a request waits for room before it is refused.
const MAX_WAIT: Duration = Duration::from_secs(5);

/// With several tenants, each may hold at most 1/`PARTS` of a budget.
const PARTS: usize = 2;

/// The limit that was reached.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum BudgetLimit {
    /// The limit of the process.
    All,
    /// The tenant's share of that limit.
    Tenant,
}

/// A budget for bytes, or calls, of one kind.
#[derive(Debug)]
pub(crate) struct Budget {
    most: usize,
    held: Mutex<ChargedBytes>,
    returned: Notify,
}

#[derive(Debug, Default)]
struct ChargedBytes {
    all: usize,
    by_tenant: HashMap<TenantId, usize>,
}

/// The budgets of one direction: for small and for large bodies or answers.
#[derive(Debug)]
pub(crate) struct Budgets {
    small: Arc<Budget>,
    large: Arc<Budget>,
}

/// The tenant that is charged, and whether other tenants share the budget.
#[derive(Debug, Clone)]
pub(crate) struct Payer {
    pub(crate) tenant: TenantId,
    pub(crate) shares: bool,
}

/// Bytes that are charged to a tenant until the value is dropped.
#[derive(Debug)]
pub(crate) struct BudgetCharge {
    budget: Arc<Budget>,
    payer: Payer,
    bytes: usize,
}

impl Budgets {
    /// Returns budgets of `most` bytes each.
    pub(crate) fn new(most: usize) -> Self {
        let budget = || Arc::new(Budget::new(most));
        Self { small: budget(), large: budget() }
    }

    /// Charges `bytes` without waiting.
    ///
    /// # Errors
    /// The limit that leaves no room.
    pub(crate) fn take(&self, payer: &Payer, bytes: usize) -> Result<BudgetCharge, BudgetLimit> {
        self.of(bytes).take(payer, bytes)
    }

    /// Charges `bytes`; waits up to five seconds for room.
    ///
    /// # Errors
    /// As [`take`](Self::take).
    pub(crate) async fn take_soon(
        &self,
        payer: &Payer,
        bytes: usize,
    ) -> Result<BudgetCharge, BudgetLimit> {
        let budget = self.of(bytes);
        let waiting = async {
            loop {
                // Registering before the check misses no returned bytes.
                let returned = budget.returned.notified();
                let mut returned = std::pin::pin!(returned);
                returned.as_mut().enable();
                if let Ok(charge) = budget.take(payer, bytes) {
                    return charge;
                }
                returned.await;
            }
        };
        match timeout(MAX_WAIT, waiting).await {
            Ok(charge) => Ok(charge),
            // The last attempt names the limit that is exceeded.
            Err(_) => budget.take(payer, bytes),
        }
    }

    /// Replaces `charge` by one of `bytes`, without waiting.
    ///
    /// # Errors
    /// As [`take`](Self::take); `charge` is dropped then.
    pub(crate) fn grow(
        &self,
        charge: BudgetCharge,
        bytes: usize,
    ) -> Result<BudgetCharge, BudgetLimit> {
        // The new charge is taken before the old one is returned: a body that grows may move from the small
        // budget to the large one.
        let grown = self.of(bytes).take(&charge.payer, bytes);
        drop(charge);
        grown
    }

    fn of(&self, bytes: usize) -> &Arc<Budget> {
        if bytes <= SMALL { &self.small } else { &self.large }
    }
}

impl BudgetCharge {
    /// Returns the number of charged bytes.
    pub(crate) fn bytes(&self) -> usize {
        self.bytes
    }
}

impl Budget {
    /// Returns a budget of `most`.
    pub(crate) fn new(most: usize) -> Self {
        Self { most, held: Mutex::default(), returned: Notify::new() }
    }

    /// Charges `bytes` without waiting.
    ///
    /// # Errors
    /// The limit that leaves no room.
    pub(crate) fn take(
        self: &Arc<Self>,
        payer: &Payer,
        bytes: usize,
    ) -> Result<BudgetCharge, BudgetLimit> {
        let mut held = self.lock();
        // A single charge always fits, even above the limit. Otherwise it would never succeed.
        if held.all > 0 && held.all + bytes > self.most {
            return Err(BudgetLimit::All);
        }
        let own = held.by_tenant.get(&payer.tenant).copied().unwrap_or(0);
        // Likewise for the share of a tenant: its first charge always fits.
        if payer.shares && own > 0 && own + bytes > self.most / PARTS {
            return Err(BudgetLimit::Tenant);
        }
        held.all += bytes;
        held.by_tenant.insert(payer.tenant.clone(), own + bytes);
        drop(held);
        Ok(BudgetCharge { budget: Arc::clone(self), payer: payer.clone(), bytes })
    }

    fn lock(&self) -> MutexGuard<'_, ChargedBytes> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for BudgetCharge {
    fn drop(&mut self) {
        let mut held = self.budget.lock();
        held.all -= self.bytes;
        if let Some(own) = held.by_tenant.get_mut(&self.payer.tenant) {
            *own -= self.bytes;
            // Entries of tenants without charges are removed, so the map stays as small as the number of active
            // tenants.
            if *own == 0 {
                held.by_tenant.remove(&self.payer.tenant);
            }
        }
        drop(held);
        // All waiters retry, because the returned bytes may be enough for several of them.
        self.budget.returned.notify_waiters();
    }
}

/// Bytes together with a value that lives as long as they do.
struct WithCharge<T>(T, #[expect(dead_code, reason = "dropped with the bytes")] Box<dyn Send>);

impl<T: AsRef<[u8]>> AsRef<[u8]> for WithCharge<T> {
    fn as_ref(&self) -> &[u8] {
        self.0.as_ref()
    }
}

/// Wraps `bytes` so that `charge` is dropped with the last reference to them.
pub(crate) fn charged<T, C>(bytes: T, charge: C) -> Bytes
where
    T: AsRef<[u8]> + Send + 'static,
    C: Send + 'static,
{
    Bytes::from_owner(WithCharge(bytes, Box::new(charge)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn payer(tenant: &str, shares: bool) -> Payer {
        Payer { tenant: TenantId::new(tenant).unwrap(), shares }
    }

    #[test]
    fn a_tenant_may_hold_half() {
        let budgets = Budgets::new(4 * SMALL);
        let (ann, bob) = (payer("ann", true), payer("bob", true));
        let held = budgets.take(&ann, 2 * SMALL).unwrap();
        assert_eq!(budgets.take(&ann, 2 * SMALL).unwrap_err(), BudgetLimit::Tenant);
        let other = budgets.take(&bob, 2 * SMALL).unwrap();
        assert_eq!(budgets.take(&payer("eve", true), 2 * SMALL).unwrap_err(), BudgetLimit::All);
        drop((held, other));
        assert!(budgets.take(&payer("default", false), 4 * SMALL).is_ok());
    }

    #[test]
    fn large_bodies_leave_room_for_small_ones() {
        let budgets = Budgets::new(4 * SMALL);
        let all = payer("default", false);
        let _large = budgets.take(&all, 4 * SMALL).unwrap();
        assert!(budgets.take(&all, SMALL).is_ok());
    }

    #[test]
    fn bytes_keep_their_charge() {
        let budgets = Budgets::new(2 * SMALL);
        let all = payer("default", false);
        let bytes = charged(vec![0; 3], budgets.take(&all, 2 * SMALL).unwrap());
        let copy = bytes.slice(1..);
        drop(bytes);
        assert!(budgets.take(&all, 2 * SMALL).is_err());
        drop(copy);
        assert!(budgets.take(&all, 2 * SMALL).is_ok());
    }

    #[tokio::test(start_paused = true)]
    async fn a_request_waits_for_room() {
        let budgets = Budgets::new(2 * SMALL);
        let all = payer("default", false);
        let held = budgets.take(&all, 2 * SMALL).unwrap();
        let (taken, ()) = tokio::join!(budgets.take_soon(&all, 2 * SMALL), async { drop(held) });
        let _held = taken.unwrap();
        assert_eq!(budgets.take_soon(&all, 2 * SMALL).await.unwrap_err(), BudgetLimit::All);
    }
}
