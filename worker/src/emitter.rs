//! From the streams of all attempts of a shard into their event logs: what comes within one window
//! goes in one call, and of each job in order. The first words of an attempt, and the last, go at
//! once. Between two calls the store rests as long as the last one took, so that events take at most
//! half of its time, however many streams there are. Where these are more than one call takes, they
//! take turns, and what an attempt says until it is its turn is joined: its window widens.

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

/// First pause after the store failed, and the longest.
const PAUSE: (Duration, Duration) = (Duration::from_millis(50), Duration::from_secs(2));

/// Most attempts of which one call takes what they said; a call this large takes some 10 ms.
const AT_ONCE: usize = 500;

/// The longest rest of a store that was slow.
const LONGEST_REST: Duration = Duration::from_secs(1);

/// The emitter of one shard.
#[derive(Debug)]
pub(crate) struct Emitter {
    queue: Queue,
    shard: Shard,
    /// How long pieces are gathered at least.
    window: Duration,
    running: Arc<Running>,
    /// The taps that hold something, and those of them that cannot wait for the window.
    filled: Mutex<VecDeque<Arc<Tap>>>,
    urgent: Mutex<Vec<Arc<Tap>>>,
    something: Notify,
    hurry: Notify,
}

/// What one attempt has said that is not stored yet.
#[derive(Debug)]
pub(crate) struct Tap {
    lease: LeaseKey,
    held: Mutex<Held>,
    emitted: Notify,
    lost: AtomicBool,
}

#[derive(Debug, Default)]
struct Held {
    reset: bool,
    chunks: Vec<Chunk>,
    /// How many things were said; how many of them were taken out to be stored; how many are.
    said: u64,
    taken: u64,
    stored: u64,
    /// How many emissions were made of them.
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

    /// Says that the attempt begins anew: what its readers have is void.
    pub(crate) fn reset(&self, tap: &Arc<Tap>) {
        self.fill(tap, |held| held.reset = true);
    }

    /// Adds a chunk of the upstream's.
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
        if is_first {
            lock(&self.urgent).push(Arc::clone(tap));
            self.hurry.notify_one();
        } else if !is_listed {
            lock(&self.filled).push_back(Arc::clone(tap));
            self.something.notify_one();
        }
    }

    /// Waits until everything is stored that the attempt has said. It says nothing meanwhile.
    pub(crate) async fn flush(&self, tap: &Arc<Tap>) {
        loop {
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

    /// Stores what is said, window by window, until it is dropped.
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

    /// Ends when a tap is filled, and this time has come.
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
                    tracing::debug!(%error, "events are kept until the store is back");
                    emissions.iter_mut().for_each(|one| one.repeated = true);
                    sleep(pause).await;
                    pause = (pause * 2).min(PAUSE.1);
                }
            }
        };
        let lost: HashSet<LeaseKey> = lost.into_iter().collect();
        for tap in taps {
            if lost.contains(&tap.lease) {
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

/// How long after the beginning of a call that took so long the next one begins, at least.
fn pause(window: Duration, took: Duration) -> Duration {
    window.max(took + took.min(LONGEST_REST))
}

impl Tap {
    /// Takes out what is to be stored.
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
    fn the_store_rests_as_long_as_it_worked() {
        let ms = Duration::from_millis;
        assert_eq!(pause(ms(50), ms(1)), ms(50));
        assert_eq!(pause(ms(50), ms(100)), ms(200));
        assert_eq!(pause(ms(0), ms(10)), ms(20));
        assert_eq!(pause(ms(50), ms(5000)), ms(6000));
    }
}
