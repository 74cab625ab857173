//! Stores the streams of all attempts of a shard as events.
//!
//! Chunks that arrive within one window are stored with one call, in order for each job. The first and the last
//! chunks of an attempt are stored at once. After a call the emitter pauses as long as the call took, so events
//! occupy at most half of the store's time, however many streams there are. If more attempts have chunks than
//! one call takes, they take turns; chunks that wait are joined, so the window of an attempt widens.

use std::{
    collections::{HashSet, VecDeque},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use causeway_queue::{EventKind, LeaseKey, Queue, RawJson, Shard, backend::Emission};
use tokio::{
    sync::Notify,
    time::{Instant, sleep, sleep_until},
};

use crate::{
    chunk::{self, Chunk},
    interrupt::{Interrupt, Running},
};

/// First and longest pause between calls to a store that fails.
const PAUSE: (Duration, Duration) = (Duration::from_millis(50), Duration::from_secs(2));

/// Most attempts whose chunks one call stores; a call of this size takes about 10 ms.
const AT_ONCE: usize = 500;

/// Longest pause after a slow call. Without it one stalled call would delay the next for as long again.
const LONGEST_REST: Duration = Duration::from_secs(1);

/// The emitter of one shard.
#[derive(Debug)]
pub(crate) struct Emitter {
    queue: Queue,
    shard: Shard,
    /// Shortest time for which chunks are collected.
    window: Duration,
    running: Arc<Running>,
    /// Buffers with chunks, and those of them that must not wait for the window.
    filled: Mutex<VecDeque<Arc<Tap>>>,
    urgent: Mutex<Vec<Arc<Tap>>>,
    something: Notify,
    hurry: Notify,
}

/// The chunks of one attempt that are not stored yet.
#[derive(Debug)]
pub(crate) struct Tap {
    lease: LeaseKey,
    held: Mutex<Held>,
    emitted: Notify,
    lost: AtomicBool,
}

/// The state of a buffer. The counters count chunks and resets.
#[derive(Debug, Default)]
struct Held {
    reset: bool,
    chunks: Vec<Chunk>,
    /// Added to the buffer so far; of these drained for a call; of these stored.
    said: u64,
    taken: u64,
    stored: u64,
    /// The number of emissions so far, which the store uses to recognize repetitions.
    emitted: u32,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Tap {
    pub(crate) fn new(lease: LeaseKey) -> Arc<Self> {
        let (held, emitted, lost) = Default::default();
        Arc::new(Self { lease, held, emitted, lost })
    }
}

impl Emitter {
    pub(crate) fn new(queue: Queue, shard: Shard, window: Duration, running: Arc<Running>) -> Self {
        let (filled, urgent, something, hurry) = Default::default();
        Self { queue, shard, window, running, filled, urgent, something, hurry }
    }

    /// Adds a reset: the attempt starts anew, so the events of the previous attempt are void.
    pub(crate) fn reset(&self, tap: &Arc<Tap>) {
        self.fill(tap, |held| held.reset = true);
    }

    /// Adds a chunk of the upstream.
    pub(crate) fn push(&self, tap: &Arc<Tap>, chunk: Chunk) {
        self.fill(tap, |held| {
            let apart = match held.chunks.last_mut() {
                Some(last) => last.join(chunk),
                None => Some(chunk),
            };
            held.chunks.extend(apart);
        });
    }

    fn fill(&self, tap: &Arc<Tap>, change: impl FnOnce(&mut Held)) {
        let mut held = lock(&tap.held);
        change(&mut held);
        let (is_first, is_listed) = (held.said == 0, held.said > held.taken);
        held.said += 1;
        // The first chunk of an attempt is what a waiting reader sees first, so it skips the window.
        if is_first {
            lock(&self.urgent).push(Arc::clone(tap));
            self.hurry.notify_one();
        } else if !is_listed {
            lock(&self.filled).push_back(Arc::clone(tap));
            self.something.notify_one();
        }
    }

    /// Waits until all chunks of the attempt are stored. No chunk may be added meanwhile.
    pub(crate) async fn flush(&self, tap: &Arc<Tap>) {
        loop {
            // Registered before the check: a notification between check and wait would be lost.
            let emitted = tap.emitted.notified();
            let (is_stored, is_taken) = {
                let held = lock(&tap.held);
                (held.stored == held.said, held.taken == held.said)
            };
            if is_stored || tap.lost.load(Ordering::Relaxed) {
                return;
            }
            if !is_taken {
                lock(&self.urgent).push(Arc::clone(tap));
                self.hurry.notify_one();
            }
            emitted.await;
        }
    }

    /// Stores chunks, window by window, until the future is dropped.
    pub(crate) async fn run(self: Arc<Self>) {
        let mut next = Instant::now();
        loop {
            tokio::select! {
                () = self.filled_at(next) => {}
                () = self.hurry.notified() => {}
            }
            let began = Instant::now();
            let mut taps = std::mem::take(&mut *lock(&self.urgent));
            let is_due = began >= next;
            let mut is_rest = false;
            if is_due {
                let mut filled = lock(&self.filled);
                let count = filled.len().min(AT_ONCE);
                taps.extend(filled.drain(..count));
                is_rest = !filled.is_empty();
            }
            self.store(taps).await;
            if is_due {
                let window = if is_rest { Duration::ZERO } else { self.window };
                next = began + pause(window, began.elapsed());
            }
        }
    }

    /// Waits until a buffer has chunks and the time `next` has come.
    async fn filled_at(&self, next: Instant) {
        while lock(&self.filled).is_empty() {
            self.something.notified().await;
        }
        sleep_until(next).await;
    }

    async fn store(&self, taps: Vec<Arc<Tap>>) {
        let mut emissions: Vec<Emission> = taps.iter().flat_map(|tap| tap.take()).collect();
        let mut pause = PAUSE.0;
        let lost = loop {
            match self.queue.backend().emit(&self.shard, emissions.clone()).await {
                Ok(lost) => break lost,
                Err(error) => {
                    tracing::debug!(%error, "cannot store events; they are kept until the store answers");
                    // The failed call may have stored a part: the store then skips emissions that it knows.
                    emissions.iter_mut().for_each(|one| one.repeated = true);
                    sleep(pause).await;
                    pause = (pause * 2).min(PAUSE.1);
                }
            }
        };
        let lost: HashSet<LeaseKey> = lost.into_iter().collect();
        for tap in taps {
            if lost.contains(&tap.lease) {
                // Another attempt owns the job now: its events must not mix with those of this one.
                tap.lost.store(true, Ordering::Relaxed);
                self.running.interrupt(&tap.lease, Interrupt::Lost);
            }
            let mut held = lock(&tap.held);
            held.stored = held.taken;
            drop(held);
            tap.emitted.notify_waiters();
        }
    }
}

/// Returns the time from the start of a call that took `took` to the earliest start of the next.
fn pause(window: Duration, took: Duration) -> Duration {
    window.max(took + took.min(LONGEST_REST))
}

impl Tap {
    /// Drains the buffer.
    fn take(&self) -> Vec<Emission> {
        let mut held = lock(&self.held);
        held.taken = held.said;
        let mut emissions = Vec::with_capacity(1);
        let mut add = |held: &mut Held, kind, data| {
            held.emitted += 1;
            let (lease, number) = (self.lease.clone(), held.emitted);
            emissions.push(Emission { lease, number, repeated: false, kind, data });
        };
        if std::mem::take(&mut held.reset) {
            add(&mut held, EventKind::Reset, RawJson::default());
        }
        if !held.chunks.is_empty() {
            let data = chunk::array(&std::mem::take(&mut held.chunks));
            add(&mut held, EventKind::Delta, data);
        }
        emissions
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_pause_equals_the_call() {
        let ms = Duration::from_millis;
        assert_eq!(pause(ms(50), ms(1)), ms(50));
        assert_eq!(pause(ms(50), ms(100)), ms(200));
        assert_eq!(pause(ms(0), ms(10)), ms(20));
        assert_eq!(pause(ms(50), ms(5000)), ms(6000));
    }
}
