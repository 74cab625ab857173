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

use super::interrupt::{Interrupt, Running};
use crate::assembly::chunk::{self, StreamChunk};

/// First and longest pause between calls to a store that fails.
const PAUSE: (Duration, Duration) = (Duration::from_millis(50), Duration::from_secs(2));

/// Most attempts that one call stores chunks of; a call of this size takes about 10 ms.
const MAX_BUFFERS_PER_CALL: usize = 500;

/// Longest pause after a slow call. Without it one stalled call would delay the next for as long again.
const LONGEST_PAUSE: Duration = Duration::from_secs(1);

/// The emitter of one shard.
#[derive(Debug)]
pub(crate) struct Emitter {
    queue: Queue,
    shard: Shard,
    /// Shortest time for which chunks are collected.
    window: Duration,
    running: Arc<Running>,
    /// Buffers with chunks, and those of them that must not wait for the window.
    ready: Mutex<VecDeque<Arc<EventBuffer>>>,
    urgent: Mutex<Vec<Arc<EventBuffer>>>,
    ready_added: Notify,
    urgent_added: Notify,
}

/// The chunks of one attempt that are not stored yet.
#[derive(Debug)]
pub(crate) struct EventBuffer {
    lease: LeaseKey,
    state: Mutex<BufferState>,
    emitted: Notify,
    lost: AtomicBool,
}

/// The state of a buffer. The counters count chunks and resets.
#[derive(Debug, Default)]
struct BufferState {
    reset: bool,
    chunks: Vec<StreamChunk>,
    /// Added to the buffer so far; of these drained for a call; of these stored.
    added: u64,
    drained: u64,
    stored: u64,
    /// The number of emissions so far, which the store uses to recognize repetitions.
    emitted: u32,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl EventBuffer {
    pub(crate) fn new(lease: LeaseKey) -> Arc<Self> {
        let (state, emitted, lost) = Default::default();
        Arc::new(Self { lease, state, emitted, lost })
    }
}

impl Emitter {
    pub(crate) fn new(queue: Queue, shard: Shard, window: Duration, running: Arc<Running>) -> Self {
        let (ready, urgent, ready_added, urgent_added) = Default::default();
        Self { queue, shard, window, running, ready, urgent, ready_added, urgent_added }
    }

    /// Adds a reset: the attempt starts anew, so the events of the previous attempt are void.
    pub(crate) fn reset(&self, buffer: &Arc<EventBuffer>) {
        self.add(buffer, |state| state.reset = true);
    }

    /// Adds a chunk of the upstream.
    pub(crate) fn push(&self, buffer: &Arc<EventBuffer>, chunk: StreamChunk) {
        self.add(buffer, |state| {
            let apart = match state.chunks.last_mut() {
                Some(last) => last.join(chunk),
                None => Some(chunk),
            };
            state.chunks.extend(apart);
        });
    }

    fn add(&self, buffer: &Arc<EventBuffer>, change: impl FnOnce(&mut BufferState)) {
        let mut state = lock(&buffer.state);
        change(&mut state);
        let (is_first, is_ready) = (state.added == 0, state.added > state.drained);
        state.added += 1;
        // The first chunk of an attempt is what a waiting reader sees first, so it skips the window.
        if is_first {
            lock(&self.urgent).push(Arc::clone(buffer));
            self.urgent_added.notify_one();
        } else if !is_ready {
            lock(&self.ready).push_back(Arc::clone(buffer));
            self.ready_added.notify_one();
        }
    }

    /// Waits until all chunks of the attempt are stored. No chunk may be added meanwhile.
    pub(crate) async fn flush(&self, buffer: &Arc<EventBuffer>) {
        loop {
            // Registered before the check: a notification between check and wait would be lost.
            let emitted = buffer.emitted.notified();
            let (is_stored, is_drained) = {
                let state = lock(&buffer.state);
                (state.stored == state.added, state.drained == state.added)
            };
            if is_stored || buffer.lost.load(Ordering::Relaxed) {
                return;
            }
            if !is_drained {
                lock(&self.urgent).push(Arc::clone(buffer));
                self.urgent_added.notify_one();
            }
            emitted.await;
        }
    }

    /// Stores chunks, window by window, until the future is dropped.
    pub(crate) async fn run(self: Arc<Self>) {
        let mut next = Instant::now();
        loop {
            tokio::select! {
                () = self.ready_at(next) => {}
                () = self.urgent_added.notified() => {}
            }
            let started = Instant::now();
            let mut buffers = std::mem::take(&mut *lock(&self.urgent));
            let is_due = started >= next;
            let mut has_more = false;
            if is_due {
                let mut ready = lock(&self.ready);
                let count = ready.len().min(MAX_BUFFERS_PER_CALL);
                buffers.extend(ready.drain(..count));
                has_more = !ready.is_empty();
            }
            self.store(buffers).await;
            if is_due {
                let window = if has_more { Duration::ZERO } else { self.window };
                next = started + pause(window, started.elapsed());
            }
        }
    }

    /// Waits until a buffer has chunks and the time `next` has come.
    async fn ready_at(&self, next: Instant) {
        while lock(&self.ready).is_empty() {
            self.ready_added.notified().await;
        }
        sleep_until(next).await;
    }

    /// Stores the chunks of `buffers`. It retries until the store answers: events must not get lost or out of order.
    async fn store(&self, buffers: Vec<Arc<EventBuffer>>) {
        let mut emissions: Vec<Emission> =
            buffers.iter().flat_map(|buffer| buffer.drain()).collect();
        let mut pause = PAUSE.0;
        let lost = loop {
            match self.queue.transitions().emit(&self.shard, emissions.clone()).await {
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
        // The store refuses events of a lease that is no longer valid.
        let lost: HashSet<LeaseKey> = lost.into_iter().collect();
        for buffer in buffers {
            if lost.contains(&buffer.lease) {
                // Another attempt owns the job now: its events must not mix with those of this one.
                buffer.lost.store(true, Ordering::Relaxed);
                self.running.interrupt(&buffer.lease, Interrupt::Lost);
            }
            let mut state = lock(&buffer.state);
            state.stored = state.drained;
            drop(state);
            buffer.emitted.notify_waiters();
        }
    }
}

/// Returns the time from the start of a call that took `took` to the earliest start of the next.
fn pause(window: Duration, took: Duration) -> Duration {
    window.max(took + took.min(LONGEST_PAUSE))
}

impl EventBuffer {
    /// Drains the buffer.
    fn drain(&self) -> Vec<Emission> {
        let mut state = lock(&self.state);
        state.drained = state.added;
        let mut emissions = Vec::with_capacity(1);
        let mut add = |state: &mut BufferState, kind, data| {
            state.emitted += 1;
            let (lease, number) = (self.lease.clone(), state.emitted);
            emissions.push(Emission { lease, number, repeated: false, kind, data });
        };
        if std::mem::take(&mut state.reset) {
            add(&mut state, EventKind::Reset, RawJson::default());
        }
        if !state.chunks.is_empty() {
            let data = chunk::array(&std::mem::take(&mut state.chunks));
            add(&mut state, EventKind::Delta, data);
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
