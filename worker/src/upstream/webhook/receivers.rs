//! Limits the concurrent deliveries to each receiver, so that one that does not answer occupies few permits.
//!
//! A receiver is a URL of one tenant, without its query. A new one gets a small window, which grows with every
//! answer. A delivery without an answer within [`SLOW`] shrinks the window to one: after a cool-down one delivery at a
//! time tries the receiver. Deliveries beyond the window are deferred, unspent. Each worker judges for itself.
//!
//! Until it has answered, a receiver also needs room in the window of its origin (scheme, host and port): a dead host
//! whose URLs differ from job to job holds no more permits than one with a single URL. The cool-down of an origin stays
//! short, so a dead path of it, which waits longer each time, leaves the next probe to the other paths.

use std::{
    collections::{HashMap, hash_map::RandomState},
    hash::BuildHasher as _,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use causeway_queue::TenantId;
use reqwest::Url;
use tokio::{
    sync::Notify,
    time::{Instant, sleep},
};

/// The window of a receiver that has not answered yet, and the largest window.
const WINDOW: (usize, usize) = (4, 1024);

/// Time without an answer after which a receiver is slow.
const SLOW: Duration = Duration::from_secs(2);

/// Longest wait of a delivery for room in the window. It holds its permit meanwhile; then it is deferred.
const PATIENCE: Duration = Duration::from_secs(1);

/// The first cool-down, which doubles with each failed probe, and the longest. Of an origin all are like the first.
const COOL_DOWN: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(60));

/// The shortest and the longest delay of a deferred delivery.
const DELAY: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(300));

/// The interval between deferred deliveries of one receiver: at most a hundred return per second.
const SPACING: Duration = Duration::from_millis(10);

/// Most receivers and origins that are remembered; idle ones are forgotten first.
const MAX_KNOWN: usize = 10_000;

/// The receivers and origins that a worker knows.
#[derive(Debug, Default)]
pub(super) struct Receivers {
    /// By the hash of tenant and URL, or origin: a URL may have 2 KiB.
    known: Mutex<HashMap<u64, Arc<Receiver>>>,
    hasher: RandomState,
}

/// One receiver.
#[derive(Debug)]
struct Receiver {
    longest_cool_down: Duration,
    state: Mutex<State>,
    /// Notified when a delivery has ended.
    left: Notify,
}

/// The state of a receiver.
#[derive(Debug)]
struct State {
    window: usize,
    under_way: usize,
    /// Time of the last answer, or of the start of the first running delivery.
    heard: Instant,
    /// Zero for a receiver that answers.
    cool_down: Duration,
    /// Nothing is sent before this time.
    closed_until: Instant,
    /// Time when the latest deferred delivery returns.
    last_return: Instant,
}

/// The reaction of a receiver to a delivery.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Seen {
    /// An answer with any status.
    Answer,
    /// No answer.
    Silence,
    /// No reaction: the delivery was not sent.
    Nothing,
}

/// The places of one delivery: in the window of its receiver, and in that of a new receiver's origin.
#[derive(Debug)]
pub(super) struct Pass(Place, Option<Place>);

/// The place of one delivery in one window.
#[derive(Debug)]
struct Place {
    receiver: Arc<Receiver>,
    started: Instant,
}

/// The result of a request for a place.
enum Entry {
    Entered,
    /// There may be room soon.
    Full,
    /// There is no room soon; with the delay of the delivery.
    Closed(Duration),
}

impl Receivers {
    /// Admits a delivery of `tenant` to `url`.
    ///
    /// # Errors
    /// With the delay after which the delivery should be tried again.
    pub(super) async fn admit(&self, tenant: &TenantId, url: &Url) -> Result<Pass, Duration> {
        let path = url.as_str().split(['?', '#']).next().unwrap_or_default();
        let receiver = self.known(tenant, path, COOL_DOWN.1);
        let place = receiver.admit().await?;
        if lock(&receiver.state).has_answered() {
            return Ok(Pass(place, None));
        }
        let origin = self.known(tenant, &url.origin().ascii_serialization(), COOL_DOWN.0);
        Ok(Pass(place, Some(origin.admit().await?)))
    }

    fn known(&self, tenant: &TenantId, name: &str, longest_cool_down: Duration) -> Arc<Receiver> {
        let key = self.hasher.hash_one((tenant, name));
        let mut known = lock(&self.known);
        if known.len() >= MAX_KNOWN {
            let now = Instant::now();
            // A receiver that cools down is kept if possible: forgetting it would open its window again.
            known.retain(|_, one| Arc::strong_count(one) > 1 || lock(&one.state).is_closed(now));
        }
        if known.len() >= MAX_KNOWN {
            known.retain(|_, one| Arc::strong_count(one) > 1);
        }
        Arc::clone(known.entry(key).or_insert_with(|| Receiver::new(longest_cool_down)))
    }
}

impl Receiver {
    fn new(longest_cool_down: Duration) -> Arc<Self> {
        let now = Instant::now();
        let state = State {
            window: WINDOW.0,
            under_way: 0,
            heard: now,
            cool_down: Duration::ZERO,
            closed_until: now,
            last_return: now,
        };
        Arc::new(Self { longest_cool_down, state: Mutex::new(state), left: Notify::new() })
    }

    async fn admit(self: &Arc<Self>) -> Result<Place, Duration> {
        let mut patience = std::pin::pin!(sleep(PATIENCE));
        loop {
            let mut left = std::pin::pin!(self.left.notified());
            // Before the look: a delivery that ends between the two is not missed.
            left.as_mut().enable();
            let now = Instant::now();
            match lock(&self.state).enter(now) {
                Entry::Entered => return Ok(Place { receiver: Arc::clone(self), started: now }),
                Entry::Closed(delay) => return Err(delay),
                Entry::Full => {}
            }
            tokio::select! {
                () = left => {}
                () = &mut patience => return Err(lock(&self.state).defer(Instant::now())),
            }
        }
    }
}

impl State {
    /// True if its latest deliveries were answered.
    fn has_answered(&self) -> bool {
        self.window > WINDOW.0
    }

    fn is_closed(&self, now: Instant) -> bool {
        now < self.closed_until
    }

    fn enter(&mut self, now: Instant) -> Entry {
        let is_silent = self.under_way > 0 && now.duration_since(self.heard) >= SLOW;
        if self.is_closed(now) || is_silent {
            return Entry::Closed(self.defer(now));
        }
        if self.under_way >= self.window {
            // While the receiver is probed, room comes at the speed of the probes, so waiting is of no use.
            let is_probed = !self.cool_down.is_zero();
            return if is_probed { Entry::Closed(self.defer(now)) } else { Entry::Full };
        }
        if self.under_way == 0 {
            self.heard = now;
        }
        self.under_way += 1;
        Entry::Entered
    }

    /// Returns the delay of a delivery that is deferred now; it returns after those deferred before.
    fn defer(&mut self, now: Instant) -> Duration {
        let earliest = (now + DELAY.0).max(self.closed_until);
        let back = (self.last_return + SPACING).clamp(earliest, now + DELAY.1);
        self.last_return = back;
        back.duration_since(now)
    }

    fn leave(&mut self, seen: Seen, now: Instant, longest_cool_down: Duration) {
        match seen {
            Seen::Answer => {
                self.window = (self.window + 1).clamp(WINDOW.0, WINDOW.1);
                self.heard = now;
                self.cool_down = Duration::ZERO;
                self.closed_until = now;
                self.last_return = now;
            }
            // Deliveries that fail during the same cool-down count once.
            Seen::Silence if !self.is_closed(now) => {
                self.window = 1;
                self.cool_down = (self.cool_down * 2).clamp(COOL_DOWN.0, longest_cool_down);
                self.closed_until = now + self.cool_down;
            }
            Seen::Silence | Seen::Nothing => {}
        }
    }
}

impl Pass {
    /// Records the reaction of the receiver.
    pub(super) fn saw(&self, seen: Seen) {
        let Self(place, origin) = self;
        place.saw(seen);
        if let Some(origin) = origin {
            origin.saw(seen);
        }
    }
}

impl Place {
    /// Records a reaction. A failure that came at once held no permit for long, and is no silence.
    fn saw(&self, seen: Seen) {
        let now = Instant::now();
        let is_quick = now.duration_since(self.started) < SLOW;
        let seen = if seen == Seen::Silence && is_quick { Seen::Nothing } else { seen };
        lock(&self.receiver.state).leave(seen, now, self.receiver.longest_cool_down);
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        lock(&self.receiver.state).under_way -= 1;
        self.receiver.left.notify_waiters();
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests;
