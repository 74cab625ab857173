//! The connections of this process: their number, their eviction, and their time-outs.
//!
//! A connection is a *stranger* until one of its requests is authenticated, *busy* while such a request is
//! answered, and *idle* between two of them. A new connection that finds no free place takes the place of the
//! oldest stranger without a request, else of the oldest stranger, else of the connection that has been idle for
//! the longest time. Busy connections keep their places, unless they send a body too slowly (see
//! [`reading`](super::reading)). Thus clients without a key, however many, neither keep out a client with a key nor
//! close its idle connections.

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

use super::reading::{Bodies, BodyReading};
use crate::budget::{BudgetCharge, BudgetLimit, Budgets, Payer, SMALL};

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

/// The received part of an incomplete WebSocket message.
#[derive(Debug)]
struct Unread {
    payer: Payer,
    bytes: usize,
    /// The charge for the bytes beyond a small message.
    charge: Option<BudgetCharge>,
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

    /// True if more connections are open than there are places, because evicted ones, or ones whose slow bodies were
    /// refused, have not ended yet.
    pub(super) fn is_crowded(&self) -> bool {
        self.table().open > self.most + EVICTED_AT_ONCE
    }

    /// Frees a handle: closes one connection that is not busy, or else one whose body is slow. Does nothing while
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

    /// Returns the tenant whose request is being answered.
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
        *self.unread() = Some(Unread { payer, bytes: 0, charge: None });
    }

    /// Records that a message of the WebSocket is complete.
    pub(crate) fn message_completed(&self) {
        if let Some(unread) = self.unread().as_mut() {
            (unread.bytes, unread.charge) = (0, None);
        }
    }

    /// Charges `bytes` that were received over a WebSocket.
    ///
    /// # Errors
    /// The limit that leaves no room for them.
    pub(super) fn charge_message(&self, bytes: usize) -> Result<(), BudgetLimit> {
        let mut unread = self.unread();
        let Some(unread) = unread.as_mut() else { return Ok(()) };
        unread.bytes += bytes;
        if unread.bytes <= SMALL
            || unread.charge.as_ref().is_some_and(|c| c.bytes() >= unread.bytes)
        {
            return Ok(());
        }
        // Charging in powers of two keeps the number of charges logarithmic.
        let room = unread.bytes.next_power_of_two();
        let bodies = &self.connections.bodies;
        unread.charge = Some(match unread.charge.take() {
            Some(charge) => bodies.grow(charge, room)?,
            None => bodies.take(&unread.payer, room)?,
        });
        Ok(())
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
mod tests {
    use super::*;

    fn tenant(name: &str) -> TenantId {
        TenantId::new(name).unwrap()
    }

    fn connections(most: usize) -> Arc<ConnectionRegistry> {
        ConnectionRegistry::new(most, Arc::new(Budgets::new(4 * SMALL)))
    }

    fn admit(connections: &Arc<ConnectionRegistry>) -> Option<Registered> {
        connections.admit(SocketAddr::from(([127, 0, 0, 1], 9)))
    }

    #[test]
    fn a_new_connection_evicts_the_oldest_stranger() {
        let connections = connections(2);
        let (first, second) = (admit(&connections).unwrap(), admit(&connections).unwrap());
        let third = admit(&connections).unwrap();
        assert!(first.0.is_evicted());
        assert!(!second.0.is_evicted() && !third.0.is_evicted());
    }

    #[test]
    fn strangers_leave_before_idle_connections() {
        let connections = connections(3);
        let all: Vec<_> = (0..3).map(|_| admit(&connections).unwrap()).collect();
        let [answering, idle, unused] = [&all[0].0, &all[1].0, &all[2].0];
        answering.request_started();
        idle.reserve_place(&tenant("ann"), false).unwrap();
        idle.answer_ended();
        for next in [unused, answering, idle] {
            assert!(!next.is_evicted());
            assert!(connections.table().evict());
            assert!(next.is_evicted());
        }
        assert!(!connections.table().evict());
    }

    #[test]
    fn an_evicted_connection_needs_no_place() {
        let connections = connections(2);
        let (stranger, idle) = (admit(&connections).unwrap(), admit(&connections).unwrap());
        idle.0.reserve_place(&tenant("ann"), false).unwrap();
        idle.0.answer_ended();
        drop(admit(&connections).unwrap());
        assert!(stranger.0.is_evicted());
        let _last = admit(&connections).unwrap();
        connections.free_handle();
        assert!(!idle.0.is_evicted(), "the stranger, which is about to end, makes room");
    }

    #[test]
    fn an_evicted_connection_reuses_a_free_place() {
        let connections = connections(1);
        let (first, second) = (admit(&connections).unwrap(), admit(&connections).unwrap());
        assert_eq!(first.0.reserve_place(&tenant("ann"), false), Err(NoPlace::Evicted));
        drop(second);
        assert_eq!(first.0.reserve_place(&tenant("ann"), false), Ok(()));
        assert!(!first.0.is_evicted());
    }

    #[test]
    fn busy_connections_keep_their_places() {
        let connections = connections(2);
        let (busy, idle) = (admit(&connections).unwrap(), admit(&connections).unwrap());
        busy.0.reserve_place(&tenant("ann"), false).unwrap();
        idle.0.reserve_place(&tenant("ann"), false).unwrap();
        assert!(admit(&connections).is_none());
        idle.0.answer_ended();
        let newcomer = admit(&connections).unwrap();
        assert!(idle.0.is_evicted() && !busy.0.is_evicted());
        drop((idle, newcomer));
        assert!(admit(&connections).is_some());
    }

    #[test]
    fn a_tenant_has_a_share_of_connections() {
        let connections = connections(5);
        let all: Vec<_> = (0..5).map(|_| admit(&connections).unwrap()).collect();
        for one in all.iter().take(4) {
            one.0.reserve_place(&tenant("ann"), true).unwrap();
        }
        assert_eq!(all[4].0.reserve_place(&tenant("ann"), true), Err(NoPlace::Share));
        all[4].0.reserve_place(&tenant("bob"), true).unwrap();
        all[0].0.answer_ended();
        all[0].0.reserve_place(&tenant("ann"), true).unwrap();
    }

    #[tokio::test(start_paused = true)]
    async fn only_heads_have_a_deadline() {
        let connection = admit(&connections(1)).unwrap();
        let connection = &connection.0;
        let left = || connection.deadline().map(|at| at.duration_since(Instant::now()));
        assert!(left().unwrap() < 2 * HEAD_TIMEOUT);
        connection.request_started();
        assert_eq!(left(), None);
        connection.answer_ended();
        assert!(left().unwrap() > 2 * HEAD_TIMEOUT);
        connection.bytes_received();
        assert!(left().unwrap() < 2 * HEAD_TIMEOUT);
    }

    #[test]
    fn incomplete_messages_are_charged() {
        let connections = connections(2);
        let (first, second) = (admit(&connections).unwrap(), admit(&connections).unwrap());
        for one in [&first, &second] {
            let payer = Payer { tenant: tenant("default"), shares: false };
            one.0.become_websocket(payer);
        }
        first.0.charge_message(SMALL).unwrap();
        first.0.charge_message(3 * SMALL).unwrap();
        assert_eq!(second.0.charge_message(SMALL + 1), Err(BudgetLimit::All));
        first.0.message_completed();
        second.0.charge_message(SMALL).unwrap();
    }
}
