//! Bounds the deliveries under way to each receiver, so that one that does not answer holds few permits.
//!
//! A receiver is an origin (scheme, host and port) of one tenant. A new one gets a small window, which grows
//! with every answer. A delivery without an answer within [`SLOW`] shrinks the window to one: after a cool-down
//! one delivery at a time tries the receiver. Deliveries beyond the window are deferred, unspent. Each worker judges
//! for itself.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use causeway_queue::TenantId;
use tokio::{
    sync::Notify,
    time::{Instant, sleep},
};

/// The window of a receiver that has not answered yet, and the largest.
const WINDOW: (usize, usize) = (4, 1024);

/// A receiver is slow after so long without an answer.
const SLOW: Duration = Duration::from_secs(2);

/// The longest wait of a delivery for room in the window; it holds its permit meanwhile, and is deferred then.
const PATIENCE: Duration = Duration::from_secs(1);

/// The first cool-down, which doubles with each failed probe, and the longest.
const COOL_DOWN: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(60));

/// The shortest and the longest delay of a deferred delivery.
const DELAY: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(300));

/// The distance between deferred deliveries of one receiver: a hundred come back each second.
const SPACING: Duration = Duration::from_millis(10);

/// Most receivers that are remembered; idle ones are forgotten first.
const MAX_KNOWN: usize = 10_000;

/// The receivers that a worker knows.
#[derive(Debug, Default)]
pub(super) struct Receivers(Mutex<HashMap<(TenantId, String), Arc<Receiver>>>);

#[derive(Debug)]
struct Receiver {
    state: Mutex<State>,
    /// Notified when a delivery has ended.
    left: Notify,
}

#[derive(Debug)]
struct State {
    window: usize,
    under_way: usize,
    /// The time of the last answer, or of the start of the first delivery under way.
    heard: Instant,
    /// Zero for a receiver that answers.
    cool_down: Duration,
    /// Nothing is sent before that time.
    closed_until: Instant,
    /// The time when the latest deferred delivery comes back.
    last_return: Instant,
}

/// The reaction of a receiver to a delivery.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Seen {
    /// An answer, whichever.
    Answer,
    /// No answer.
    Silence,
    /// Nothing: the delivery was not sent.
    Nothing,
}

/// The place of one delivery in the window of its receiver.
#[derive(Debug)]
pub(super) struct Pass {
    receiver: Arc<Receiver>,
    started: Instant,
}

enum Entry {
    Entered,
    /// There may be room soon.
    Full,
    /// There will be none soon; come back after so long.
    Closed(Duration),
}

impl Receivers {
    /// Admits a delivery of `tenant` to `origin`.
    ///
    /// # Errors
    /// With the delay after which the delivery should be tried again.
    pub(super) async fn admit(&self, tenant: &TenantId, origin: String) -> Result<Pass, Duration> {
        let receiver = self.receiver(tenant, origin);
        let mut patience = std::pin::pin!(sleep(PATIENCE));
        loop {
            let mut left = std::pin::pin!(receiver.left.notified());
            // Before the look: a delivery that ends between the two is not missed.
            left.as_mut().enable();
            let now = Instant::now();
            match lock(&receiver.state).enter(now) {
                Entry::Entered => {
                    return Ok(Pass { receiver: Arc::clone(&receiver), started: now });
                }
                Entry::Closed(delay) => return Err(delay),
                Entry::Full => {}
            }
            tokio::select! {
                () = left => {}
                () = &mut patience => return Err(lock(&receiver.state).defer(Instant::now())),
            }
        }
    }

    fn receiver(&self, tenant: &TenantId, origin: String) -> Arc<Receiver> {
        let mut known = lock(&self.0);
        if known.len() >= MAX_KNOWN {
            let now = Instant::now();
            known.retain(|_, one| Arc::strong_count(one) > 1 || lock(&one.state).is_closed(now));
        }
        if known.len() >= MAX_KNOWN {
            known.retain(|_, one| Arc::strong_count(one) > 1);
        }
        Arc::clone(known.entry((tenant.clone(), origin)).or_insert_with(Receiver::new))
    }
}

impl Receiver {
    fn new() -> Arc<Self> {
        let now = Instant::now();
        let state = State {
            window: WINDOW.0,
            under_way: 0,
            heard: now,
            cool_down: Duration::ZERO,
            closed_until: now,
            last_return: now,
        };
        Arc::new(Self { state: Mutex::new(state), left: Notify::new() })
    }
}

impl State {
    fn is_closed(&self, now: Instant) -> bool {
        now < self.closed_until
    }

    fn enter(&mut self, now: Instant) -> Entry {
        let is_silent = self.under_way > 0 && now.duration_since(self.heard) >= SLOW;
        if self.is_closed(now) || is_silent {
            return Entry::Closed(self.defer(now));
        }
        if self.under_way >= self.window {
            let is_probed = !self.cool_down.is_zero();
            return if is_probed { Entry::Closed(self.defer(now)) } else { Entry::Full };
        }
        if self.under_way == 0 {
            self.heard = now;
        }
        self.under_way += 1;
        Entry::Entered
    }

    /// Returns the delay of a delivery that is deferred now: behind those that were deferred before.
    fn defer(&mut self, now: Instant) -> Duration {
        let earliest = (now + DELAY.0).max(self.closed_until);
        let back = (self.last_return + SPACING).clamp(earliest, now + DELAY.1);
        self.last_return = back;
        back.duration_since(now)
    }

    fn leave(&mut self, seen: Seen, now: Instant) {
        match seen {
            Seen::Answer => {
                self.window = (self.window + 1).clamp(WINDOW.0, WINDOW.1);
                self.heard = now;
                self.cool_down = Duration::ZERO;
                self.closed_until = now;
                self.last_return = now;
            }
            // Deliveries that fail together count once.
            Seen::Silence if !self.is_closed(now) => {
                self.window = 1;
                self.cool_down = (self.cool_down * 2).clamp(COOL_DOWN.0, COOL_DOWN.1);
                self.closed_until = now + self.cool_down;
            }
            Seen::Silence | Seen::Nothing => {}
        }
    }
}

impl Pass {
    /// Records the reaction of the receiver. A failure that came at once held no permit for long, and is no silence.
    pub(super) fn saw(&self, seen: Seen) {
        let now = Instant::now();
        let is_quick = now.duration_since(self.started) < SLOW;
        let seen = if seen == Seen::Silence && is_quick { Seen::Nothing } else { seen };
        lock(&self.receiver.state).leave(seen, now);
    }
}

impl Drop for Pass {
    fn drop(&mut self) {
        lock(&self.receiver.state).under_way -= 1;
        self.receiver.left.notify_waiters();
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt as _;
    use tokio::time::advance;

    use super::*;

    const ORIGIN: &str = "https://example.com";

    async fn admit(receivers: &Receivers, origin: &str) -> Result<Pass, Duration> {
        receivers.admit(&TenantId::default_tenant(), origin.to_owned()).await
    }

    /// Fills the first window of a receiver, and lets it be silent for `time`.
    async fn silent(receivers: &Receivers, time: Duration) -> Vec<Pass> {
        let mut passes = Vec::new();
        for _ in 0..WINDOW.0 {
            passes.push(admit(receivers, ORIGIN).await.unwrap());
        }
        advance(time).await;
        passes
    }

    #[tokio::test(start_paused = true)]
    async fn a_new_receiver_gets_few_deliveries() {
        let receivers = Receivers::default();
        let _passes = silent(&receivers, Duration::ZERO).await;
        let start = Instant::now();
        let delay = admit(&receivers, ORIGIN).await.unwrap_err();
        assert_eq!((start.elapsed(), delay), (PATIENCE, DELAY.0));
        assert!(admit(&receivers, "https://example.org").await.is_ok(), "others are apart");
    }

    #[tokio::test(start_paused = true)]
    async fn answers_widen_the_window() {
        let receivers = Receivers::default();
        for pass in silent(&receivers, Duration::ZERO).await {
            pass.saw(Seen::Answer);
        }
        let mut passes = Vec::new();
        for _ in 0..2 * WINDOW.0 {
            passes.push(admit(&receivers, ORIGIN).await.unwrap());
        }
        assert!(admit(&receivers, ORIGIN).await.is_err());
    }

    #[tokio::test(start_paused = true)]
    async fn a_delivery_takes_the_place_of_one_that_ended() {
        let receivers = Receivers::default();
        let mut passes = silent(&receivers, Duration::ZERO).await;
        let mut next = std::pin::pin!(admit(&receivers, ORIGIN));
        assert!(next.as_mut().now_or_never().is_none());
        passes.pop();
        assert!(next.await.is_ok());
    }

    #[tokio::test(start_paused = true)]
    async fn a_silent_receiver_defers_deliveries_at_once() {
        let receivers = Receivers::default();
        let _passes = silent(&receivers, SLOW).await;
        for n in 0..100 {
            let delay = admit(&receivers, ORIGIN).now_or_never().unwrap().unwrap_err();
            assert_eq!(delay, DELAY.0 + SPACING * n);
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_silent_receiver_is_probed_by_one_at_a_time() {
        let receivers = Receivers::default();
        let fail = async |passes: Vec<Pass>| passes.iter().for_each(|pass| pass.saw(Seen::Silence));
        fail(silent(&receivers, SLOW).await).await;
        for cool_down in [1, 2, 4, 8, 16, 32, 60, 60].map(Duration::from_secs) {
            advance(cool_down - Duration::from_millis(1)).await;
            assert!(admit(&receivers, ORIGIN).now_or_never().unwrap().is_err());
            advance(Duration::from_millis(1)).await;
            let probe = admit(&receivers, ORIGIN).now_or_never().unwrap().unwrap();
            assert!(admit(&receivers, ORIGIN).now_or_never().unwrap().is_err());
            advance(SLOW).await;
            fail(vec![probe]).await;
        }
        advance(COOL_DOWN.1).await;
        admit(&receivers, ORIGIN).await.unwrap().saw(Seen::Answer);
        assert_eq!(silent(&receivers, Duration::ZERO).await.len(), WINDOW.0);
    }

    #[tokio::test(start_paused = true)]
    async fn a_quick_failure_closes_nothing() {
        let receivers = Receivers::default();
        admit(&receivers, ORIGIN).await.unwrap().saw(Seen::Silence);
        assert!(admit(&receivers, ORIGIN).await.is_ok());
    }

    #[tokio::test(start_paused = true)]
    async fn receivers_are_not_remembered_without_bound() {
        let receivers = Receivers::default();
        let kept = admit(&receivers, ORIGIN).await.unwrap();
        for n in 0..2 * MAX_KNOWN {
            drop(admit(&receivers, &format!("https://{n}.example.com")).await.unwrap());
        }
        assert!(lock(&receivers.0).len() <= MAX_KNOWN);
        drop(kept);
    }
}
