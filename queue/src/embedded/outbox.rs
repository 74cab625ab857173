//! The ends of a shard that wait for their delivery.

use std::collections::{BTreeMap, HashMap};

use crate::{clock::Millis, webhook::End};

/// The ends, in the order in which they are to be handed on.
#[derive(Debug, Default)]
pub(super) struct Outbox {
    /// By the time when an end is due, its job and its life.
    entries: BTreeMap<(Millis, u128, u64), End>,
    /// The times when postponed ends are due, by job and life; every other end is due at once.
    postponed: HashMap<(u128, u64), Millis>,
}

impl Outbox {
    pub(super) fn insert(&mut self, end: End) {
        self.entries.insert((end.at, end.job.number(), end.life), end);
    }

    /// Returns ends that are due, at most `most`: where there are more, half of them the oldest and half the newest.
    /// So no end waits behind all those that were there before.
    pub(super) fn page(&self, most: usize, now: Millis) -> Vec<End> {
        let due = || self.entries.range(..=(now, u128::MAX, u64::MAX)).map(|(_, end)| end.clone());
        if due().nth(most).is_none() {
            return due().collect();
        }
        let newest = most / 2;
        let mut page: Vec<End> = due().take(most - newest).collect();
        let mut last: Vec<End> = due().rev().take(newest).collect();
        last.reverse();
        page.append(&mut last);
        page
    }

    /// Removes an end; `None` if it is not there any more.
    pub(super) fn take_out(&mut self, end: &End) -> Option<End> {
        let name = (end.job.number(), end.life);
        let due = self.postponed.remove(&name).unwrap_or(end.at);
        self.entries.remove(&(due, name.0, name.1))
    }

    /// Has an end wait until `due`.
    pub(super) fn postpone(&mut self, end: &End, due: Millis) {
        let Some(end) = self.take_out(end) else { return };
        let name = (end.job.number(), end.life);
        self.postponed.insert(name, due);
        self.entries.insert((due, name.0, name.1), end);
    }

    /// Forgets the ends that were due before that time, or then.
    pub(super) fn forget(&mut self, before: impl Fn(Millis) -> bool) {
        self.entries.retain(|(due, _, _), _| !before(*due));
        self.postponed.retain(|_, due| !before(*due));
    }
}
