//! From the streams of all attempts of a shard into their event logs: what comes within one window
//! goes in one call, and of each job in order. The first words of an attempt go at once, and so does
//! what comes after a pause. A store that is slower than the window widens it: what comes meanwhile
//! goes with the next call.

use std::{
    collections::VecDeque,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use causeway_queue::{EventKind, LeaseKey, Queue, RawJson, Shard, backend::Emission};
use serde_json::Value;
use tokio::{sync::Notify, time::Instant};

use crate::interrupt::{Interrupt, Running};

/// First pause after the store failed, and the longest.
const PAUSE: (Duration, Duration) = (Duration::from_millis(50), Duration::from_secs(2));

/// The emitter of one shard.
#[derive(Debug)]
pub(crate) struct Emitter {
    queue: Queue,
    shard: Shard,
    window: Duration,
    running: Arc<Running>,
    /// The taps that hold something.
    filled: Mutex<VecDeque<Arc<Tap>>>,
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
    chunks: Vec<Value>,
    /// Whether its first words were said.
    has_begun: bool,
    /// Whether the emitter has this tap in its list, or is storing what was in it.
    is_listed: bool,
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
        let (filled, something, hurry) = Default::default();
        Self { queue, shard, window, running, filled, something, hurry }
    }

    /// Says that the attempt begins anew: what its readers have is void.
    pub(crate) fn reset(&self, tap: &Arc<Tap>) {
        self.fill(tap, |held| held.reset = true);
    }

    /// Adds a chunk of the upstream's.
    pub(crate) fn push(&self, tap: &Arc<Tap>, chunk: Value) {
        self.fill(tap, |held| match held.chunks.last_mut() {
            Some(last) if is_text(last) && is_text(&chunk) && index(last) == index(&chunk) => {
                join(last, &chunk);
            }
            _ => held.chunks.push(chunk),
        });
    }

    fn fill(&self, tap: &Arc<Tap>, change: impl FnOnce(&mut Held)) {
        let mut held = lock(&tap.held);
        change(&mut held);
        if !std::mem::replace(&mut held.is_listed, true) {
            lock(&self.filled).push_back(Arc::clone(tap));
            self.something.notify_one();
        }
        if !std::mem::replace(&mut held.has_begun, true) {
            self.hurry.notify_one();
        }
    }

    /// Waits until everything is stored that the attempt has said.
    pub(crate) async fn flush(&self, tap: &Tap) {
        loop {
            let emitted = tap.emitted.notified();
            if !lock(&tap.held).is_listed || tap.lost.load(Ordering::Relaxed) {
                return;
            }
            self.hurry.notify_one();
            emitted.await;
        }
    }

    /// Stores what is said, window by window, until it is dropped.
    pub(crate) async fn run(self: Arc<Self>) {
        let mut next = Instant::now();
        loop {
            self.something.notified().await;
            tokio::select! {
                () = tokio::time::sleep_until(next) => {}
                () = self.hurry.notified() => {}
            }
            next = Instant::now() + self.window;
            let taps = std::mem::take(&mut *lock(&self.filled));
            self.store(taps).await;
        }
    }

    async fn store(&self, taps: VecDeque<Arc<Tap>>) {
        let emissions: Vec<Emission> = taps.iter().flat_map(|tap| emissions(tap)).collect();
        let mut pause = PAUSE.0;
        let lost = loop {
            match self.queue.backend().emit(&self.shard, emissions.clone()).await {
                Ok(lost) => break lost,
                Err(error) => {
                    tracing::debug!(%error, "events are kept until the store is back");
                    tokio::time::sleep(pause).await;
                    pause = (pause * 2).min(PAUSE.1);
                }
            }
        };
        for tap in taps {
            if lost.contains(&tap.lease) {
                tap.lost.store(true, Ordering::Relaxed);
                self.running.interrupt(&tap.lease, Interrupt::Lost);
            }
            let mut held = lock(&tap.held);
            let is_empty = held.chunks.is_empty() && !held.reset;
            held.is_listed = !is_empty;
            if !is_empty {
                lock(&self.filled).push_back(Arc::clone(&tap));
                self.something.notify_one();
            }
            drop(held);
            tap.emitted.notify_waiters();
        }
    }
}

fn emissions(tap: &Tap) -> Vec<Emission> {
    let mut held = lock(&tap.held);
    let mut emissions = Vec::with_capacity(2);
    let mut add = |kind, data| emissions.push(Emission { lease: tap.lease.clone(), kind, data });
    if std::mem::take(&mut held.reset) {
        add(EventKind::Reset, RawJson::default());
    }
    if !held.chunks.is_empty() {
        let chunks = std::mem::take(&mut held.chunks);
        add(EventKind::Delta, RawJson::of(&chunks).unwrap_or_default());
    }
    emissions
}

/// The only choice of a chunk that carries nothing but text.
fn text_choice(chunk: &Value) -> Option<&Value> {
    let [choice] = chunk.get("choices")?.as_array()?.as_slice() else { return None };
    let has_more = choice.get("finish_reason").is_some_and(|reason| !reason.is_null())
        || choice.get("logprobs").is_some_and(|logprobs| !logprobs.is_null())
        || chunk.get("usage").is_some_and(|usage| !usage.is_null());
    let delta = choice.get("delta")?.as_object()?;
    let only_text = delta.len() == 1 && delta.get("content").is_some_and(Value::is_string);
    (only_text && !has_more).then_some(choice)
}

fn is_text(chunk: &Value) -> bool {
    text_choice(chunk).is_some()
}

fn index(chunk: &Value) -> Option<&Value> {
    text_choice(chunk)?.get("index")
}

/// Appends the text of `chunk` to `last`; both carry nothing but text.
fn join(last: &mut Value, chunk: &Value) {
    let more = chunk["choices"][0]["delta"]["content"].as_str().unwrap_or_default();
    if let Value::String(text) = &mut last["choices"][0]["delta"]["content"] {
        text.push_str(more);
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn chunk(delta: &Value, finish: Option<&str>) -> Value {
        json!({ "choices": [{ "index": 0, "delta": delta, "finish_reason": finish }] })
    }

    #[test]
    fn only_texts_are_joined() {
        let mut text = chunk(&json!({ "content": "a" }), None);
        let more = chunk(&json!({ "content": "b" }), None);
        assert!(is_text(&text) && is_text(&more));
        join(&mut text, &more);
        assert_eq!(text["choices"][0]["delta"]["content"], "ab");
        assert!(!is_text(&chunk(&json!({ "content": "a", "role": "assistant" }), None)));
        assert!(!is_text(&chunk(&json!({ "content": "a" }), Some("stop"))));
        assert!(!is_text(&chunk(&json!({ "tool_calls": [] }), None)));
        assert!(!is_text(&json!({ "choices": [], "usage": {} })));
    }
}
