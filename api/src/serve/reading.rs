//! The bodies that are being read. A slow one is cancelled when another client needs the place of its connection.

use std::{
    collections::BTreeMap,
    sync::{
        Arc, Mutex, MutexGuard, OnceLock, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use causeway_queue::TenantId;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

/// The minimum rate of a body after its grace time, in bytes per second.
pub(crate) const LEAST_RATE: usize = 16 << 10;

/// The time that a body may take regardless of its length before it can count as slow.
pub(crate) const SLOW_AFTER: Duration = Duration::from_secs(1);

/// All bodies that are being read, in the order of their start.
#[derive(Debug, Default)]
pub(super) struct Bodies(Mutex<BodyTable>);

#[derive(Debug, Default)]
struct BodyTable {
    next: u64,
    all: BTreeMap<u64, Arc<ReadBody>>,
}

#[derive(Debug)]
struct ReadBody {
    tenant: TenantId,
    /// The start of reading; unset while the body waits for room in the budget.
    start: OnceLock<Instant>,
    bytes: AtomicUsize,
    cancelled: CancellationToken,
}

/// A registered body, until it is dropped.
#[derive(Debug)]
pub(crate) struct BodyReading {
    bodies: Arc<Bodies>,
    number: u64,
    body: Arc<ReadBody>,
}

impl Bodies {
    /// Registers a body of `tenant`.
    pub(super) fn register(self: &Arc<Self>, tenant: TenantId) -> BodyReading {
        let (bytes, cancelled) = (AtomicUsize::new(0), CancellationToken::new());
        let body = Arc::new(ReadBody { tenant, start: OnceLock::new(), bytes, cancelled });
        let mut table = self.table();
        table.next += 1;
        let number = table.next;
        table.all.insert(number, Arc::clone(&body));
        drop(table);
        BodyReading { bodies: Arc::clone(self), number, body }
    }

    /// Cancels the oldest slow body, only of `tenant` if one is given. False if none is slow.
    pub(super) fn end_slow(&self, tenant: Option<&TenantId>) -> bool {
        let mut table = self.table();
        let is_slow =
            |body: &ReadBody| tenant.is_none_or(|one| *one == body.tenant) && body.is_slow();
        let found = table.all.iter().find(|(_, body)| is_slow(body)).map(|(number, _)| *number);
        // Removed at once, so each slow body yields one place only.
        let ended = found.and_then(|number| table.all.remove(&number));
        if let Some(body) = &ended {
            body.cancelled.cancel();
        }
        ended.is_some()
    }

    fn table(&self) -> MutexGuard<'_, BodyTable> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl ReadBody {
    fn is_slow(&self) -> bool {
        let seconds = self.bytes.load(Ordering::Relaxed) / LEAST_RATE;
        let allowed = SLOW_AFTER + Duration::from_secs(seconds.try_into().unwrap_or(0));
        self.start.get().is_some_and(|start| start.elapsed() > allowed)
    }
}

impl BodyReading {
    /// Starts the clock: the body has found room, so its client may send.
    pub(crate) fn start(&self) {
        // A second call changes nothing.
        self.body.start.get_or_init(Instant::now);
    }

    /// Records the total number of received bytes.
    pub(crate) fn record_progress(&self, bytes: usize) {
        self.body.bytes.store(bytes, Ordering::Relaxed);
    }

    /// Completes when the body is cancelled.
    pub(crate) async fn cancelled(&self) {
        self.body.cancelled.cancelled().await;
    }
}

impl Drop for BodyReading {
    fn drop(&mut self) {
        self.bodies.table().all.remove(&self.number);
    }
}

#[cfg(test)]
mod tests {
    use tokio::time::advance;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn only_slow_bodies_are_cancelled() {
        let bodies = Arc::new(Bodies::default());
        let (ann, bob) = (TenantId::new("ann").unwrap(), TenantId::new("bob").unwrap());
        // It waits for room, so its client is not slow.
        let waiting = bodies.register(ann.clone());
        let (fast, slow) = (bodies.register(ann.clone()), bodies.register(ann));
        fast.start();
        slow.start();
        advance(SLOW_AFTER).await;
        assert!(!bodies.end_slow(None), "both may be fast");
        fast.record_progress(2 * LEAST_RATE);
        advance(SLOW_AFTER).await;
        assert!(!bodies.end_slow(Some(&bob)));
        assert!(bodies.end_slow(None));
        slow.cancelled().await;
        assert!(!bodies.end_slow(None), "each gives way once");
        assert!(!fast.body.cancelled.is_cancelled() && !waiting.body.cancelled.is_cancelled());
    }
}
