//! The connections of this process: how many there are, which may be closed for others, and when one is overdue.
//!
//! A connection is a *stranger* until one of its requests was let in, *busy* while such a request is answered, and
//! *idle* between two of them. A new connection that finds no free place takes the place of the oldest stranger without
//! a request, else of the oldest stranger, else of the connection that has been idle for the longest time. Busy
//! connections keep their places, unless they send a body too slowly (see [`reading`](super::reading)). Thus clients
//! without a key, however many, neither keep out a client with a key nor close its idle connections.

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
use crate::budget::{Bound, Budgets, Charge, Payer, SMALL};

/// How long a head may take, from its first byte to its last; and until the first byte of a new connection.
pub(super) const HEAD: Duration = Duration::from_secs(10);

/// How long a connection may be idle between two requests.
pub(super) const IDLE: Duration = Duration::from_secs(75);

/// How often a connection is looked at: a head that begins in between is overdue so much later.
const LOOK: Duration = Duration::from_secs(5);

/// Most connections that may be about to end beyond those that have a place.
const EVICTED_AT_ONCE: usize = 16;

/// The most of the connections that one tenant may keep busy, in percent, where there are several tenants.
const SHARE_PERCENT: usize = 80;

/// All connections.
#[derive(Debug)]
pub(crate) struct Connections {
    most: usize,
    bodies: Arc<Budgets>,
    read: Arc<Bodies>,
    start: Instant,
    table: Mutex<Table>,
}

#[derive(Debug, Default)]
struct Table {
    open: usize,
    /// The open connections that have lost their places and have not ended yet.
    evicted: usize,
    /// Counts what enters a queue, so that the lowest number has been there for the longest time.
    next: u64,
    all: HashMap<u64, Arc<Connection>>,
    strangers: BTreeMap<u64, Arc<Connection>>,
    idle: BTreeMap<u64, Arc<Connection>>,
    busy: HashMap<TenantId, usize>,
}

/// One connection.
#[derive(Debug)]
pub(crate) struct Connection {
    id: u64,
    /// The client, or the proxy before it.
    pub(crate) peer: SocketAddr,
    connections: Arc<Connections>,
    place: Mutex<Place>,
    /// True while a request is answered, let in or not.
    answers: AtomicBool,
    has_had_request: AtomicBool,
    /// When the last request or answer ended, or bytes of it were sent; in milliseconds since the start.
    since_ms: AtomicU64,
    /// When the first byte of a head came that is not complete, likewise; 0 if there is none.
    head_ms: AtomicU64,
    is_evicted: AtomicBool,
    is_closing: AtomicBool,
    /// Of a WebSocket: the bytes that were received since its last message.
    unread: Mutex<Option<Unread>>,
    /// True if the last body was refused, so that its client may still be sending it.
    lingers: AtomicBool,
    attention: Notify,
}

/// What a WebSocket holds of a message that is not complete.
#[derive(Debug)]
struct Unread {
    payer: Payer,
    bytes: usize,
    /// Beyond what is small.
    charge: Option<Charge>,
}

/// Where a connection stands in the table, by its number in the queue.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Place {
    Stranger(u64),
    Busy(TenantId),
    Idle(u64),
}

/// A connection's place among all: dropping it frees the place.
#[derive(Debug)]
pub(super) struct Registered(pub(super) Arc<Connection>);

/// Why a request is not let in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum NoPlace {
    /// Too many connections of its tenant are busy already.
    Share,
    /// Another connection has taken the place of this one.
    Evicted,
}

impl Connections {
    /// A table with `most` places, at least one.
    pub(crate) fn new(most: usize, bodies: Arc<Budgets>) -> Arc<Self> {
        let (start, table, read) = (Instant::now(), Mutex::default(), Arc::default());
        Arc::new(Self { most: most.max(1), bodies, read, start, table })
    }

    /// Registers a new connection, and evicts another one where all places are taken. `None`: all are busy.
    pub(super) fn admit(self: &Arc<Self>, peer: SocketAddr) -> Option<Registered> {
        let mut table = self.table();
        if table.held() >= self.most && !table.evict() && !self.read.end_slow(None) {
            return None;
        }
        let id = table.number();
        let connection = Arc::new(Connection {
            id,
            peer,
            connections: Arc::clone(self),
            place: Mutex::new(Place::Stranger(id)),
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

    /// True if more connections are open than have a place: evicted ones have not ended yet.
    pub(super) fn is_crowded(&self) -> bool {
        self.table().open > self.most + EVICTED_AT_ONCE
    }

    /// Frees a handle: closes one connection that is not busy, or else one whose body is slow. Does nothing while
    /// another one is about to end.
    pub(super) fn free_handle(&self) {
        let mut table = self.table();
        if table.evicted == 0 && !table.evict() {
            self.read.end_slow(None);
        }
    }

    /// True if a request is answered on any connection; `None` if there is no connection.
    pub(super) fn are_answering(&self) -> Option<bool> {
        let table = self.table();
        let answers = |one: &Arc<Connection>| one.answers.load(Ordering::Acquire);
        (!table.all.is_empty()).then(|| table.all.values().any(answers))
    }

    /// Closes all: idle ones at once, others behind their answers.
    pub(super) fn close(&self) {
        for connection in self.table().all.values() {
            connection.is_closing.store(true, Ordering::Release);
            connection.attention.notify_one();
        }
    }

    fn table(&self) -> MutexGuard<'_, Table> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn now_ms(&self) -> u64 {
        u64::try_from(self.start.elapsed().as_millis()).unwrap_or(u64::MAX).max(1)
    }
}

impl Table {
    fn number(&mut self) -> u64 {
        self.next += 1;
        self.next
    }

    /// Returns the number of places that are taken.
    fn held(&self) -> usize {
        self.open - self.evicted
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

    fn leave(&mut self, place: &Place) {
        match place {
            Place::Stranger(number) => drop(self.strangers.remove(number)),
            Place::Idle(number) => drop(self.idle.remove(number)),
            Place::Busy(tenant) => {
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
    /// Lets a request of `tenant` in; `shares` says that other tenants need places too.
    ///
    /// # Errors
    /// When the tenant keeps its share of all connections busy, or this one was evicted and all places are taken.
    pub(crate) fn let_in(&self, tenant: &TenantId, shares: bool) -> Result<(), NoPlace> {
        let mut place = self.place();
        let mut table = self.connections.table();
        // Otherwise connections that were evicted would pile up beyond the bound, and no other would be accepted.
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
        *place = Place::Busy(tenant.clone());
        Ok(())
    }

    /// The tenant whose request is answered.
    pub(super) fn tenant(&self) -> Option<TenantId> {
        match &*self.place() {
            Place::Busy(tenant) => Some(tenant.clone()),
            Place::Stranger(_) | Place::Idle(_) => None,
        }
    }

    /// A request has come.
    pub(super) fn begins(&self) {
        self.answers.store(true, Ordering::Release);
        self.has_had_request.store(true, Ordering::Release);
        self.head_ms.store(0, Ordering::Release);
        self.lingers.store(false, Ordering::Release);
    }

    /// The body of a request of `tenant` is read until the result is dropped.
    pub(crate) fn reads_body(&self, tenant: TenantId) -> BodyReading {
        self.connections.read.begin(tenant)
    }

    /// The body of the request was refused.
    pub(super) fn refuses_body(&self) {
        self.lingers.store(true, Ordering::Release);
    }

    pub(super) fn lingers(&self) -> bool {
        self.lingers.load(Ordering::Acquire)
    }

    /// Its answer was taken.
    pub(super) fn ends(self: &Arc<Self>) {
        let mut place = self.place();
        if let Place::Busy(_) = *place {
            let mut table = self.connections.table();
            table.leave(&place);
            let number = table.number();
            table.idle.insert(number, Arc::clone(self));
            *place = Place::Idle(number);
        }
        self.moves();
        self.answers.store(false, Ordering::Release);
    }

    /// The connection becomes a WebSocket of `payer`.
    pub(crate) fn upgrades(&self, payer: Payer) {
        *self.unread() = Some(Unread { payer, bytes: 0, charge: None });
    }

    /// A message of the WebSocket is complete.
    pub(crate) fn took(&self) {
        if let Some(unread) = self.unread().as_mut() {
            (unread.bytes, unread.charge) = (0, None);
        }
    }

    /// Charges `bytes` that have come over a WebSocket.
    ///
    /// # Errors
    /// The bound that leaves no room for them.
    pub(super) fn receives(&self, bytes: usize) -> Result<(), Bound> {
        let mut unread = self.unread();
        let Some(unread) = unread.as_mut() else { return Ok(()) };
        unread.bytes += bytes;
        if unread.bytes <= SMALL
            || unread.charge.as_ref().is_some_and(|c| c.bytes() >= unread.bytes)
        {
            return Ok(());
        }
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

    /// True if another connection takes its place before it has had a request.
    pub(super) fn is_unserved(&self) -> bool {
        !self.has_had_request.load(Ordering::Acquire) && self.is_evicted()
    }

    /// Bytes have come.
    pub(super) fn reads(&self) {
        if !self.answers.load(Ordering::Acquire) && self.head_ms.load(Ordering::Acquire) == 0 {
            self.head_ms.store(self.connections.now_ms(), Ordering::Release);
        }
    }

    /// Bytes were sent.
    pub(super) fn moves(&self) {
        self.since_ms.store(self.connections.now_ms(), Ordering::Release);
    }

    /// When the connection is overdue unless something comes until then; `None` while it answers.
    pub(super) fn deadline(&self) -> Option<Instant> {
        if self.answers.load(Ordering::Acquire) {
            return None;
        }
        let (since, head) =
            (self.since_ms.load(Ordering::Acquire), self.head_ms.load(Ordering::Acquire));
        let (from, bound) = match (head, self.has_had_request.load(Ordering::Acquire)) {
            (0, true) => (since, IDLE),
            (0, false) => (since, HEAD),
            (head, _) => (head, HEAD),
        };
        Some(self.connections.start + Duration::from_millis(from) + bound)
    }

    /// When to look whether it is overdue.
    pub(super) fn next_look(&self) -> Instant {
        let latest = Instant::now() + LOOK;
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

    /// True if another connection takes this one's place.
    pub(super) fn is_evicted(&self) -> bool {
        self.is_evicted.load(Ordering::Acquire)
    }

    fn place(&self) -> MutexGuard<'_, Place> {
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

    fn connections(most: usize) -> Arc<Connections> {
        Connections::new(most, Arc::new(Budgets::new(4 * SMALL)))
    }

    fn admit(connections: &Arc<Connections>) -> Option<Registered> {
        connections.admit(SocketAddr::from(([127, 0, 0, 1], 9)))
    }

    #[test]
    fn a_newcomer_takes_the_place_of_the_oldest_stranger() {
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
        answering.begins();
        idle.let_in(&tenant("ann"), false).unwrap();
        idle.ends();
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
        idle.0.let_in(&tenant("ann"), false).unwrap();
        idle.0.ends();
        drop(admit(&connections).unwrap());
        assert!(stranger.0.is_evicted());
        let _last = admit(&connections).unwrap();
        connections.free_handle();
        assert!(!idle.0.is_evicted(), "the stranger, which is about to end, makes room");
    }

    #[test]
    fn an_evicted_connection_goes_on_where_a_place_is_free() {
        let connections = connections(1);
        let (first, second) = (admit(&connections).unwrap(), admit(&connections).unwrap());
        assert_eq!(first.0.let_in(&tenant("ann"), false), Err(NoPlace::Evicted));
        drop(second);
        assert_eq!(first.0.let_in(&tenant("ann"), false), Ok(()));
        assert!(!first.0.is_evicted());
    }

    #[test]
    fn busy_connections_keep_their_places() {
        let connections = connections(2);
        let (busy, idle) = (admit(&connections).unwrap(), admit(&connections).unwrap());
        busy.0.let_in(&tenant("ann"), false).unwrap();
        idle.0.let_in(&tenant("ann"), false).unwrap();
        assert!(admit(&connections).is_none());
        idle.0.ends();
        let newcomer = admit(&connections).unwrap();
        assert!(idle.0.is_evicted() && !busy.0.is_evicted());
        drop((idle, newcomer));
        assert!(admit(&connections).is_some());
    }

    #[test]
    fn a_tenant_keeps_a_share_of_the_connections_busy() {
        let connections = connections(5);
        let all: Vec<_> = (0..5).map(|_| admit(&connections).unwrap()).collect();
        for one in all.iter().take(4) {
            one.0.let_in(&tenant("ann"), true).unwrap();
        }
        assert_eq!(all[4].0.let_in(&tenant("ann"), true), Err(NoPlace::Share));
        all[4].0.let_in(&tenant("bob"), true).unwrap();
        all[0].0.ends();
        all[0].0.let_in(&tenant("ann"), true).unwrap();
    }

    #[tokio::test(start_paused = true)]
    async fn a_head_has_a_deadline_and_an_answer_has_none() {
        let connection = admit(&connections(1)).unwrap();
        let connection = &connection.0;
        let left = || connection.deadline().map(|at| at.duration_since(Instant::now()));
        assert!(left().unwrap() < 2 * HEAD);
        connection.begins();
        assert_eq!(left(), None);
        connection.ends();
        assert!(left().unwrap() > 2 * HEAD);
        connection.reads();
        assert!(left().unwrap() < 2 * HEAD);
    }

    #[test]
    fn messages_that_are_not_complete_are_charged() {
        let connections = connections(2);
        let (first, second) = (admit(&connections).unwrap(), admit(&connections).unwrap());
        for one in [&first, &second] {
            let payer = Payer { tenant: tenant("default"), shares: false };
            one.0.upgrades(payer);
        }
        first.0.receives(SMALL).unwrap();
        first.0.receives(3 * SMALL).unwrap();
        assert_eq!(second.0.receives(SMALL + 1), Err(Bound::All));
        first.0.took();
        second.0.receives(SMALL).unwrap();
    }
}
