//! The outbox of a shard: ended jobs with a webhook, until their deliveries are accepted.

use std::collections::{BTreeMap, HashMap};

use causeway_queue::{clock::Millis, webhook::End};

/// The entries, in the order in which they are due.
#[derive(Debug, Default)]
pub(super) struct OutboxEntries {
    /// The entries, by the time at which each is due, its job and its generation.
    entries: BTreeMap<(Millis, u128, u64), End>,
    /// The times at which delayed entries are due, by job and generation; every other entry is due at the time of its
    /// end.
    postponed: HashMap<(u128, u64), Millis>,
}

impl OutboxEntries {
    pub(super) fn insert(&mut self, end: End) {
        self.entries.insert((end.at, end.job.number(), end.life), end);
    }

    /// Returns the entries that are due, at most `most`. If there are more, half of the page are the oldest and half
    /// the newest, so that a new entry does not wait behind a backlog.
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

    /// Removes an entry; `None` if it is missing.
    pub(super) fn take_out(&mut self, end: &End) -> Option<End> {
        let name = (end.job.number(), end.life);
        let due = self.postponed.remove(&name).unwrap_or(end.at);
        self.entries.remove(&(due, name.0, name.1))
    }

    /// Delays an entry until `due`.
    pub(super) fn postpone(&mut self, end: &End, due: Millis) {
        let Some(end) = self.take_out(end) else { return };
        let name = (end.job.number(), end.life);
        self.postponed.insert(name, due);
        self.entries.insert((due, name.0, name.1), end);
    }

    /// Deletes the entries with a due time for which `before` is true.
    pub(super) fn forget(&mut self, before: impl Fn(Millis) -> bool) {
        self.entries.retain(|(due, _, _), _| !before(*due));
        self.postponed.retain(|_, due| !before(*due));
    }
}
