//! The memory limit for the answers in flight of one process.
//!
//! A call takes memory while its answer arrives, and returns all of it at its end. If none is left, the call waits and
//! stops reading from its connection. To prevent a deadlock of waiting calls, one of them at a time holds the
//! *reserve*, which suffices for the largest answer. That call never waits for memory, so it ends by itself or by its
//! time-outs, and the next call in line gets the reserve.

use std::sync::{
    Arc, Mutex, PoisonError,
    atomic::{AtomicBool, Ordering::Relaxed},
};

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::failure::Failure;

/// Memory is taken in units of this size in bytes: rarely compared to the pieces, and little for a short answer.
const UNIT: usize = 4 << 10;

/// The memory for answers of one process.
#[derive(Debug)]
pub struct AnswerMemory {
    /// Units that all calls may take.
    common: Arc<Semaphore>,
    /// One permit: the right to take up to `most` units in addition to the common ones.
    reserve: Arc<Semaphore>,
    /// Units of the largest answer.
    most: usize,
}

impl AnswerMemory {
    /// Returns the memory of `bytes` for all answers together; one answer has at most `largest` bytes.
    #[must_use]
    pub fn new(bytes: usize, largest: usize) -> Arc<Self> {
        let (all, most) = (bytes.div_ceil(UNIT), largest.min(bytes).div_ceil(UNIT));
        let common = Semaphore::new(all.saturating_sub(most).min(Semaphore::MAX_PERMITS));
        Arc::new(Self { common: Arc::new(common), reserve: Arc::new(Semaphore::new(1)), most })
    }

    /// Returns the share of one call, which is empty at first.
    #[must_use]
    pub fn share(self: &Arc<Self>) -> Share {
        let (permits, waits) = Default::default();
        Share(Some(Arc::new(Taken { memory: Arc::clone(self), permits, waits })))
    }
}

/// The memory of one call. Clones are the same share; dropping the last one returns it. The default share is
/// unlimited.
#[derive(Debug, Clone, Default)]
pub struct Share(Option<Arc<Taken>>);

#[derive(Debug)]
struct Taken {
    memory: Arc<AnswerMemory>,
    permits: Mutex<Permits>,
    waits: AtomicBool,
}

#[derive(Debug, Default)]
struct Permits {
    common: Option<OwnedSemaphorePermit>,
    reserve: Option<OwnedSemaphorePermit>,
}

impl Share {
    /// Extends the share to `bytes` in all, and waits for free memory. A share never shrinks.
    ///
    /// # Errors
    /// If a single answer may not be that large.
    pub async fn hold(&self, bytes: usize) -> Result<(), Failure> {
        let Some(taken) = &self.0 else { return Ok(()) };
        let units = bytes.div_ceil(UNIT);
        if units > taken.memory.most {
            return Err(Failure::TooLarge(taken.memory.most * UNIT));
        }
        let missing = taken.missing(units);
        if missing == 0 {
            return Ok(());
        }
        // Read after a total time-out: a call that waited for memory is not the upstream's failure.
        taken.waits.store(true, Relaxed);
        let common = Arc::clone(&taken.memory.common).acquire_many_owned(missing);
        let reserve = Arc::clone(&taken.memory.reserve).acquire_owned();
        tokio::select! {
            // Biased: the reserve is the last resort, and taken only if the common memory is exhausted.
            biased;
            Ok(permits) = common => taken.add(permits),
            Ok(permit) = reserve => taken.locked().reserve = Some(permit),
            // The semaphores are never closed.
            else => {}
        }
        taken.waits.store(false, Relaxed);
        Ok(())
    }

    /// Returns the bytes of the share, in whole units, without those of the reserve.
    #[cfg(test)]
    pub(crate) fn held(&self) -> usize {
        let units = |taken: &Arc<Taken>| {
            taken.locked().common.as_ref().map_or(0, OwnedSemaphorePermit::num_permits)
        };
        self.0.as_ref().map_or(0, units) * UNIT
    }

    /// True while the call waits for memory.
    pub(crate) fn is_waiting(&self) -> bool {
        self.0.as_ref().is_some_and(|taken| taken.waits.load(Relaxed))
    }
}

impl Taken {
    fn locked(&self) -> std::sync::MutexGuard<'_, Permits> {
        self.permits.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Returns how many of `units` the share lacks; none if the call holds the reserve.
    fn missing(&self, units: usize) -> u32 {
        let permits = self.locked();
        if permits.reserve.is_some() {
            return 0;
        }
        let taken = permits.common.as_ref().map_or(0, OwnedSemaphorePermit::num_permits);
        u32::try_from(units.saturating_sub(taken)).unwrap_or(u32::MAX)
    }

    fn add(&self, more: OwnedSemaphorePermit) {
        let mut permits = self.locked();
        match &mut permits.common {
            Some(common) => common.merge(more),
            none => *none = Some(more),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::pin::pin;

    use futures_util::{FutureExt as _, future::join_all};

    use super::*;

    /// Tries to extend the share to `units`; true if that did not wait.
    fn holds(share: &Share, units: usize) -> bool {
        pin!(share.hold(units * UNIT)).now_or_never().is_some_and(|held| held.is_ok())
    }

    #[test]
    fn the_limit_applies_to_each_answer() {
        let share = AnswerMemory::new(10 * UNIT, 4 * UNIT).share();
        assert!(holds(&share, 4));
        let refused = pin!(share.hold(4 * UNIT + 1)).now_or_never();
        assert_eq!(refused, Some(Err(Failure::TooLarge(4 * UNIT))));
        // A limit for all answers that is below the limit for one answer replaces it.
        let refused = pin!(AnswerMemory::new(UNIT, 4 * UNIT).share().hold(2 * UNIT)).now_or_never();
        assert_eq!(refused, Some(Err(Failure::TooLarge(UNIT))));
    }

    #[test]
    fn exhausted_memory_makes_calls_wait() {
        let memory = AnswerMemory::new(10 * UNIT, 4 * UNIT);
        let [a, b, reserved, waiting] = [(); 4].map(|()| memory.share());
        assert!(holds(&a, 3) && holds(&b, 3));
        assert!(holds(&reserved, 1), "it has the reserve");
        assert!(holds(&reserved, 4), "and goes on up to the largest answer");
        assert!(!holds(&waiting, 1) && !holds(&a, 4));
        drop(b);
        assert!(holds(&waiting, 1) && holds(&a, 4));
    }

    #[test]
    fn the_reserve_passes_to_the_next_call() {
        let memory = AnswerMemory::new(2 * UNIT, 2 * UNIT);
        let [first, second] = [(); 2].map(|()| memory.share());
        assert!(holds(&first, 1) && !holds(&second, 1));
        drop(first);
        assert!(holds(&second, 2));
    }

    #[test]
    fn a_dropped_wait_blocks_no_share() {
        let memory = AnswerMemory::new(2 * UNIT, UNIT);
        let [a, b, c] = [(); 3].map(|()| memory.share());
        assert!(holds(&a, 1) && holds(&b, 1) && !holds(&c, 1));
        assert!(c.is_waiting());
        drop((a, c));
        assert!(holds(&memory.share(), 1));
    }

    #[tokio::test]
    async fn calls_in_exhausted_memory_all_end() {
        let memory = AnswerMemory::new(20 * UNIT, 8 * UNIT);
        let call = |_| {
            let memory = Arc::clone(&memory);
            async move {
                let share = memory.share();
                for units in 1..=8 {
                    share.hold(units * UNIT).await?;
                    tokio::task::yield_now().await;
                }
                Ok::<(), Failure>(())
            }
        };
        let ended = join_all((0..200).map(call)).await;
        assert!(ended.iter().all(Result::is_ok));
        assert_eq!(memory.common.available_permits(), 12);
        assert_eq!(memory.reserve.available_permits(), 1);
    }
}
