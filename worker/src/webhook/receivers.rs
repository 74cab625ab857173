//! Limits the concurrent deliveries to each receiver, so that one that does not answer occupies few permits.
//!
//! A receiver is a URL of one tenant, without its query. A new one gets a small window, which grows with every
//! answer. A delivery without an answer within [`SLOW`] shrinks the window to one: after a cool-down, one delivery at
//! a time probes the receiver. Deliveries beyond the window are deferred, without spending an attempt. Each worker
//! decides on its own.
//!
//! Until it has answered, a receiver also needs room in the window of its origin (scheme, host and port). A dead host
//! with a new URL for each job thus occupies no more permits than one with a single URL. The cool-down of an origin
//! stays short: a dead path waits longer each time and leaves the next probe of the origin to the other paths.

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
const MAX_WAIT: Duration = Duration::from_secs(1);

/// The first cool-down, which doubles with each failed probe, and the longest. Those of an origin do not grow.
const COOL_DOWN: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(60));

/// The shortest and the longest delay of a deferred delivery.
const DELAY: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(300));

/// The interval between deferred deliveries of one receiver: at most a hundred return per second.
const SPACING: Duration = Duration::from_millis(10);

/// Most receivers and origins that are remembered; idle ones are dropped first.
const MAX_KNOWN: usize = 10_000;

/// The known receivers and origins of a worker.
#[derive(Debug, Default)]
pub(super) struct Receivers {
    /// By the hash of the tenant and the URL or origin. A hash bounds the memory: a URL may have 2 KiB.
    known: Mutex<HashMap<u64, Arc<Receiver>>>,
    hasher: RandomState,
}

/// One receiver, or one origin.
#[derive(Debug)]
struct Receiver {
    longest_cool_down: Duration,
    state: Mutex<ReceiverState>,
    /// Notified when a delivery has ended.
    left: Notify,
}

/// The state of a receiver.
#[derive(Debug)]
struct ReceiverState {
    window: usize,
    running: usize,
    /// Time of the last answer, or of the start of the first running delivery.
    answered_at: Instant,
    /// Zero for a receiver that answers.
    cool_down: Duration,
    /// Nothing is sent before this time.
    closed_until: Instant,
    /// Time when the latest deferred delivery returns.
    last_return: Instant,
}

/// The reaction of a receiver to a delivery.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Reaction {
    /// An answer with any status.
    Answer,
    /// No answer.
    Silence,
    /// No reaction: the delivery was not sent.
    Nothing,
}

/// The slots of one delivery: in the window of its receiver and, for a new receiver, in that of its origin.
#[derive(Debug)]
pub(super) struct Pass(Slot, Option<Slot>);

/// The slot of one delivery in one window.
#[derive(Debug)]
struct Slot {
    receiver: Arc<Receiver>,
    started: Instant,
}

/// The result of a request for a slot.
enum Admission {
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
    /// The delay after which the delivery should be tried again.
    pub(super) async fn admit(&self, tenant: &TenantId, url: &Url) -> Result<Pass, Duration> {
        let path = url.as_str().split(['?', '#']).next().unwrap_or_default();
        let receiver = self.known(tenant, path, COOL_DOWN.1);
        let slot = receiver.admit().await?;
        if lock(&receiver.state).has_answered() {
            return Ok(Pass(slot, None));
        }
        let origin = self.known(tenant, &url.origin().ascii_serialization(), COOL_DOWN.0);
        Ok(Pass(slot, Some(origin.admit().await?)))
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
        let state = ReceiverState {
            window: WINDOW.0,
            running: 0,
            answered_at: now,
            cool_down: Duration::ZERO,
            closed_until: now,
            last_return: now,
        };
        Arc::new(Self { longest_cool_down, state: Mutex::new(state), left: Notify::new() })
    }

    async fn admit(self: &Arc<Self>) -> Result<Slot, Duration> {
        let mut deadline = std::pin::pin!(sleep(MAX_WAIT));
        loop {
            let mut left = std::pin::pin!(self.left.notified());
            // Enabled before the check: a delivery that ends between the two is not missed.
            left.as_mut().enable();
            let now = Instant::now();
            match lock(&self.state).enter(now) {
                Admission::Entered => return Ok(Slot { receiver: Arc::clone(self), started: now }),
                Admission::Closed(delay) => return Err(delay),
                Admission::Full => {}
            }
            tokio::select! {
                () = left => {}
                () = &mut deadline => return Err(lock(&self.state).defer(Instant::now())),
            }
        }
    }
}

impl ReceiverState {
    /// True if its latest deliveries were answered.
    fn has_answered(&self) -> bool {
        self.window > WINDOW.0
    }

    fn is_closed(&self, now: Instant) -> bool {
        now < self.closed_until
    }

    /// Takes a slot of the window, if one is free.
    fn enter(&mut self, now: Instant) -> Admission {
        // Running deliveries without an answer count as silence even before they time out.
        let is_silent = self.running > 0 && now.duration_since(self.answered_at) >= SLOW;
        if self.is_closed(now) || is_silent {
            return Admission::Closed(self.defer(now));
        }
        if self.running >= self.window {
            // While the receiver is probed, room comes at the speed of the probes, so waiting is of no use.
            let is_probed = !self.cool_down.is_zero();
            return if is_probed { Admission::Closed(self.defer(now)) } else { Admission::Full };
        }
        if self.running == 0 {
            self.answered_at = now;
        }
        self.running += 1;
        Admission::Entered
    }

    /// Returns the delay of a delivery that is deferred now; it returns after those deferred before.
    fn defer(&mut self, now: Instant) -> Duration {
        let earliest = (now + DELAY.0).max(self.closed_until);
        let back = (self.last_return + SPACING).clamp(earliest, now + DELAY.1);
        self.last_return = back;
        back.duration_since(now)
    }

    /// Adapts the window and the cool-down to a reaction.
    fn leave(&mut self, reaction: Reaction, now: Instant, longest_cool_down: Duration) {
        match reaction {
            Reaction::Answer => {
                self.window = (self.window + 1).clamp(WINDOW.0, WINDOW.1);
                self.answered_at = now;
                self.cool_down = Duration::ZERO;
                self.closed_until = now;
                self.last_return = now;
            }
            // Deliveries that fail during the same cool-down count once.
            Reaction::Silence if !self.is_closed(now) => {
                self.window = 1;
                self.cool_down = (self.cool_down * 2).clamp(COOL_DOWN.0, longest_cool_down);
                self.closed_until = now + self.cool_down;
            }
            Reaction::Silence | Reaction::Nothing => {}
        }
    }
}

impl Pass {
    /// Records the reaction of the receiver.
    pub(super) fn record(&self, reaction: Reaction) {
        let Self(slot, origin) = self;
        slot.record(reaction);
        if let Some(origin) = origin {
            origin.record(reaction);
        }
    }
}

impl Slot {
    /// Records a reaction. A failure within [`SLOW`] does not count as silence: it held its permit only briefly.
    fn record(&self, reaction: Reaction) {
        let now = Instant::now();
        let is_quick = now.duration_since(self.started) < SLOW;
        let reaction =
            if reaction == Reaction::Silence && is_quick { Reaction::Nothing } else { reaction };
        lock(&self.receiver.state).leave(reaction, now, self.receiver.longest_cool_down);
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        lock(&self.receiver.state).running -= 1;
        self.receiver.left.notify_waiters();
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests;
