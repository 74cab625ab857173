//! The connections of this process: their number, their eviction, and their time-outs.
//!
//! A connection is a *stranger* until one of its requests is authenticated, *busy* while such a request is
//! answered, and *idle* between two of them. A new connection that finds no free place takes the place of the
//! oldest stranger without a request, else of the oldest stranger, else of the connection that has been idle for
//! the longest time. Busy connections keep their places, unless they send a body too slowly (see
//! [`reading`](super::reading)). Thus clients without a key, however many, neither keep out a client with a key nor
//! close its idle connections.

mod unread;

use std::{
    collections::{BTreeMap, HashMap},
    net::SocketAddr,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

use causeway_queue::TenantId;
use tokio::{sync::Notify, time::Instant};

use self::unread::Unread;
use super::reading::{Bodies, BodyReading};
use crate::budget::{BudgetLimit, Budgets, Payer};

/// The time-out of a head, from its first to its last byte, and of the first byte of a new connection.
pub(super) const HEAD_TIMEOUT: Duration = Duration::from_secs(10);

/// The time-out of an idle connection.
pub(super) const IDLE_TIMEOUT: Duration = Duration::from_secs(75);

/// The interval of checks for overdue connections. A head that starts in between times out later by as much.
const CHECK_INTERVAL: Duration = Duration::from_secs(5);

/// Most evicted connections that have not ended yet.
const EVICTED_AT_ONCE: usize = 16;

/// The share of all connections that one tenant may keep busy, in percent, if there are several tenants.
const SHARE_PERCENT: usize = 80;

/// The table of all connections.
#[derive(Debug)]
pub(crate) struct ConnectionRegistry {
    most: usize,
    bodies: Arc<Budgets>,
    read: Arc<Bodies>,
    start: Instant,
    table: Mutex<ConnectionTable>,
}

#[derive(Debug, Default)]
struct ConnectionTable {
    open: usize,
    /// The open connections that have lost their places and have not ended yet.
    evicted: usize,
    /// The next number of a queue entry. Numbers grow, so the lowest one is the oldest.
    next: u64,
    all: HashMap<u64, Arc<Connection>>,
    strangers: BTreeMap<u64, Arc<Connection>>,
    idle: BTreeMap<u64, Arc<Connection>>,
    busy: HashMap<TenantId, usize>,
}

/// The state of one connection.
#[derive(Debug)]
pub(crate) struct Connection {
    id: u64,
    /// The address of the client, or of the proxy before it.
    pub(crate) peer: SocketAddr,
    connections: Arc<ConnectionRegistry>,
    place: Mutex<Position>,
    /// True while a request is answered, authenticated or not.
    answers: AtomicBool,
    has_had_request: AtomicBool,
    /// The time of the latest end of a request or answer, or of its latest sent bytes, in milliseconds since the
    /// start.
    since_ms: AtomicU64,
    /// The time of the first byte of an incomplete head, in the same unit; 0 if there is none.
    head_ms: AtomicU64,
    is_evicted: AtomicBool,
    is_closing: AtomicBool,
    /// The bytes that a WebSocket received since its last message.
    unread: Mutex<Option<Unread>>,
    /// True if the last body was refused, so its client may still be sending it.
    lingers: AtomicBool,
    attention: Notify,
}

/// The position of a connection in the table, with its number in the queue.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Position {
    Stranger(u64),
    Busy(TenantId),
    Idle(u64),
}

/// The place of a connection; dropping it frees the place.
#[derive(Debug)]
pub(super) struct Registered(pub(super) Arc<Connection>);

/// The reason why a request gets no place.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum NoPlace {
    /// The tenant keeps its share of connections busy.
    Share,
    /// Another connection has replaced this one.
    Evicted,
}

impl ConnectionRegistry {
    /// Returns a table with `most` places, at least one.
    pub(crate) fn new(most: usize, bodies: Arc<Budgets>) -> Arc<Self> {
        let (start, table, read) = (Instant::now(), Mutex::default(), Arc::default());
        Arc::new(Self { most: most.max(1), bodies, read, start, table })
    }

    /// Registers a new connection, and evicts another one if all places are taken. `None` if all are busy.
    pub(super) fn admit(self: &Arc<Self>, peer: SocketAddr) -> Option<Registered> {
        let mut table = self.table();
        // In the order of least harm: unused connections, then slow uploads, then refusal.
        if table.held() >= self.most && !table.evict() && !self.read.end_slow(None) {
            return None;
        }
        // The id is also the position in the queue of strangers.
        let id = table.number();
        let connection = Arc::new(Connection {
            id,
            peer,
            connections: Arc::clone(self),
            place: Mutex::new(Position::Stranger(id)),
            answers: AtomicBool::new(false),
            has_had_request: AtomicBool::new(false),
            since_ms: AtomicU64::new(self.now_ms()),
            head_ms: AtomicU64::new(0),
            is_evicted: AtomicBool::new(false),
            is_closing: AtomicBool::new(false),
            unread: Mutex::default(),
            lingers: AtomicBool::new(false),
            attention: Notify::new(),
        });
        table.open += 1;
        table.all.insert(id, Arc::clone(&connection));
        table.strangers.insert(id, Arc::clone(&connection));
        Some(Registered(connection))
    }

    /// True if more connections are open than there are places, because evicted ones, or ones with slow bodies that were
    /// refused, have not ended yet.
    pub(super) fn is_crowded(&self) -> bool {
        self.table().open > self.most + EVICTED_AT_ONCE
    }

    /// Frees a handle: closes one connection that is not busy, or else one with a slow body. Does nothing while
    /// another one is about to end.
    pub(super) fn free_handle(&self) {
        if !self.evict_one() {
            self.read.end_slow(None);
        }
    }

    /// Closes one connection that is not busy, unless another one is about to end. Returns false if all are busy.
    pub(super) fn evict_one(&self) -> bool {
        let mut table = self.table();
        table.evicted > 0 || table.evict()
    }

    /// True if any connection is answering a request; `None` if there is no connection.
    pub(super) fn are_answering(&self) -> Option<bool> {
        let table = self.table();
        let answers = |one: &Arc<Connection>| one.answers.load(Ordering::Acquire);
        (!table.all.is_empty()).then(|| table.all.values().any(answers))
    }

    /// Closes all connections: idle ones at once, others after their answer.
    pub(super) fn close(&self) {
        for connection in self.table().all.values() {
            connection.is_closing.store(true, Ordering::Release);
            connection.attention.notify_one();
        }
    }

    fn table(&self) -> MutexGuard<'_, ConnectionTable> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn now_ms(&self) -> u64 {
        u64::try_from(self.start.elapsed().as_millis()).unwrap_or(u64::MAX).max(1)
    }
}

impl ConnectionTable {
    /// Returns the number of places that are taken.
    fn held(&self) -> usize {
        self.open - self.evicted
    }

    fn number(&mut self) -> u64 {
        self.next += 1;
        self.next
    }

    fn evict(&mut self) -> bool {
        let unused = self.strangers.values().find(|one| !one.answers.load(Ordering::Acquire));
        let unused = unused.map(|one| one.id).and_then(|id| self.strangers.remove_entry(&id));
        // A refused client that does not read its answer is a stranger that answers: it goes before idle connections.
        let evicted = unused.or_else(|| self.strangers.pop_first());
        let evicted = evicted.or_else(|| self.idle.pop_first());
        let Some((_, connection)) = evicted else { return false };
        connection.is_evicted.store(true, Ordering::Release);
        self.evicted += 1;
        connection.attention.notify_one();
        true
    }

    fn leave(&mut self, place: &Position) {
        match place {
            Position::Stranger(number) => drop(self.strangers.remove(number)),
            Position::Idle(number) => drop(self.idle.remove(number)),
            Position::Busy(tenant) => {
                if let Some(count) = self.busy.get_mut(tenant) {
                    *count -= 1;
                    if *count == 0 {
                        self.busy.remove(tenant);
                    }
                }
            }
        }
    }
}

impl Connection {
    /// Reserves the place of this connection for a request of `tenant`; `shares` is true if other tenants need
    /// places too.
    ///
    /// # Errors
    /// If the tenant keeps its share of connections busy, or this connection was evicted and all places are taken.
    pub(crate) fn reserve_place(&self, tenant: &TenantId, shares: bool) -> Result<(), NoPlace> {
        let mut place = self.place();
        let mut table = self.connections.table();
        // Otherwise evicted connections would accumulate beyond the limit and block the accept loop.
        if self.is_evicted() && table.held() >= self.connections.most {
            return Err(NoPlace::Evicted);
        }
        let busy = table.busy.get(tenant).copied().unwrap_or(0);
        let share = (self.connections.most * SHARE_PERCENT / 100).max(1);
        if shares && busy >= share && !self.connections.read.end_slow(Some(tenant)) {
            return Err(NoPlace::Share);
        }
        if self.is_evicted.swap(false, Ordering::AcqRel) {
            table.evicted -= 1;
        }
        table.leave(&place);
        table.busy.insert(tenant.clone(), busy + 1);
        *place = Position::Busy(tenant.clone());
        Ok(())
    }

    /// Returns the tenant of the request that is being answered.
    pub(super) fn tenant(&self) -> Option<TenantId> {
        match &*self.place() {
            Position::Busy(tenant) => Some(tenant.clone()),
            Position::Stranger(_) | Position::Idle(_) => None,
        }
    }

    /// Records the start of a request.
    pub(super) fn request_started(&self) {
        self.answers.store(true, Ordering::Release);
        self.has_had_request.store(true, Ordering::Release);
        self.head_ms.store(0, Ordering::Release);
        self.lingers.store(false, Ordering::Release);
    }

    /// Registers the body of a request of `tenant` as being read, until the result is dropped.
    pub(crate) fn register_body(&self, tenant: TenantId) -> BodyReading {
        self.connections.read.register(tenant)
    }

    /// Records that the body of the request was refused.
    pub(super) fn body_refused(&self) {
        self.lingers.store(true, Ordering::Release);
    }

    pub(super) fn lingers(&self) -> bool {
        self.lingers.load(Ordering::Acquire)
    }

    /// Records that the client has read the answer.
    pub(super) fn answer_ended(self: &Arc<Self>) {
        let mut place = self.place();
        if let Position::Busy(_) = *place {
            let mut table = self.connections.table();
            table.leave(&place);
            let number = table.number();
            table.idle.insert(number, Arc::clone(self));
            *place = Position::Idle(number);
        }
        // The idle time starts now.
        self.bytes_sent();
        self.answers.store(false, Ordering::Release);
    }

    /// Turns the connection into a WebSocket of `payer`.
    pub(crate) fn become_websocket(&self, payer: Payer) {
        *self.unread() = Some(Unread::new(payer));
    }

    /// Records that a message of the WebSocket is complete.
    pub(crate) fn message_completed(&self) {
        if let Some(unread) = self.unread().as_mut() {
            unread.complete();
        }
    }

    /// Charges `bytes` that were received over a WebSocket.
    ///
    /// # Errors
    /// The limit that leaves no room for them.
    pub(super) fn charge_message(&self, bytes: usize) -> Result<(), BudgetLimit> {
        match self.unread().as_mut() {
            Some(unread) => unread.receive(bytes, &self.connections.bodies),
            None => Ok(()),
        }
    }

    fn unread(&self) -> MutexGuard<'_, Option<Unread>> {
        self.unread.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// True if the connection was evicted before its first request.
    pub(super) fn is_unserved(&self) -> bool {
        !self.has_had_request.load(Ordering::Acquire) && self.is_evicted()
    }

    /// Records received bytes.
    pub(super) fn bytes_received(&self) {
        if !self.answers.load(Ordering::Acquire) && self.head_ms.load(Ordering::Acquire) == 0 {
            self.head_ms.store(self.connections.now_ms(), Ordering::Release);
        }
    }

    /// Records sent bytes.
    pub(super) fn bytes_sent(&self) {
        self.since_ms.store(self.connections.now_ms(), Ordering::Release);
    }

    /// Returns the time at which the connection is overdue without further bytes; `None` while it answers.
    pub(super) fn deadline(&self) -> Option<Instant> {
        if self.answers.load(Ordering::Acquire) {
            return None;
        }
        let (since, head) =
            (self.since_ms.load(Ordering::Acquire), self.head_ms.load(Ordering::Acquire));
        let (from, timeout) = match (head, self.has_had_request.load(Ordering::Acquire)) {
            (0, true) => (since, IDLE_TIMEOUT),
            // A new connection must send its first request quickly.
            (0, false) => (since, HEAD_TIMEOUT),
            (head, _) => (head, HEAD_TIMEOUT),
        };
        Some(self.connections.start + Duration::from_millis(from) + timeout)
    }

    /// Returns the time of the next check for being overdue.
    pub(super) fn next_check(&self) -> Instant {
        let latest = Instant::now() + CHECK_INTERVAL;
        self.deadline().map_or(latest, |deadline| deadline.min(latest))
    }

    pub(super) fn is_overdue(&self) -> bool {
        self.deadline().is_some_and(|deadline| deadline <= Instant::now())
    }

    /// Completes when [`is_closing`](Self::is_closing) or [`is_evicted`](Self::is_evicted) may have changed.
    pub(super) async fn attention(&self) {
        self.attention.notified().await;
    }

    pub(super) fn is_closing(&self) -> bool {
        self.is_closing.load(Ordering::Acquire)
    }

    /// True if another connection has replaced this one.
    pub(super) fn is_evicted(&self) -> bool {
        self.is_evicted.load(Ordering::Acquire)
    }

    fn place(&self) -> MutexGuard<'_, Position> {
        self.place.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Registered {
    fn drop(&mut self) {
        let place = self.0.place();
        let mut table = self.0.connections.table();
        table.leave(&place);
        table.all.remove(&self.0.id);
        table.open -= 1;
        if self.0.is_evicted() {
            table.evicted -= 1;
        }
    }
}

#[cfg(test)]
mod tests;
