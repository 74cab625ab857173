//! How the bounds of a lane are divided among its shards.

use std::collections::HashMap;

use super::Queue;
use crate::{
    id::{LaneName, Shard},
    limits::LaneLimits,
};

/// What a shard is to get of its lane's bounds.
#[derive(Debug)]
pub(super) struct Part {
    pub(super) shard: Shard,
    pub(super) bounds: LaneLimits,
    /// Whether the present configuration no longer uses the shard.
    pub(super) is_former: bool,
    /// Whether others of its lane share with it.
    is_shared: bool,
}

impl Part {
    /// What may be set before it is known what runs elsewhere, after `before`: it lets nothing begin that
    /// did not so far. Of a former shard whose bounds are not known that is nothing at all; one in use
    /// must not stand still, whatever becomes of this process.
    pub(super) fn lowered(&self, before: Option<&LaneLimits>) -> LaneLimits {
        let most_before = match before {
            _ if !self.is_shared => u32::MAX,
            Some(before) => before.max_running.unwrap_or(u32::MAX),
            None if self.is_former => 0,
            None => u32::MAX,
        };
        let max_running = self.bounds.max_running.map(|most| most.min(most_before));
        LaneLimits { max_running, ..self.bounds.clone() }
    }
}

impl Queue {
    /// The shards of the lanes, former ones too, with what each gets of these bounds. Former shards in
    /// which something runs or can begin come first, so that they become empty where a bound does not
    /// suffice for all; the other former ones are closed, so that what comes due there waits until they
    /// are given a part. Only shards in use share in how many jobs may wait.
    pub(super) fn parts(&self, lanes: &HashMap<LaneName, LaneLimits>) -> Vec<Part> {
        let (former, active) = (self.former_shards(), self.active_shards());
        let mut parts = Vec::new();
        for layout in self.layouts() {
            let whole = lanes.get(&layout.lane).cloned().unwrap_or_default();
            let former = former.iter().filter(|shard| shard.lane == layout.lane);
            let (open, closed): (Vec<_>, Vec<_>) =
                former.cloned().partition(|shard| active.contains(shard));
            let is_shared = open.len() + closed.len() > 0 || layout.shards > 1;
            let ahead = u16::try_from(open.len()).unwrap_or(u16::MAX);
            let shards = ahead.saturating_add(layout.shards);
            let mut add = |shard, bounds: LaneLimits, max_queued, is_former| {
                let bounds = LaneLimits { max_queued, ..bounds };
                parts.push(Part { shard, bounds, is_former, is_shared });
            };
            for (index, shard) in (0..).zip(open) {
                add(shard, whole.part(index, shards), whole.max_queued, true);
            }
            for shard in closed {
                add(shard, whole.closed(), whole.max_queued, true);
            }
            for shard in layout.all() {
                let waiting = whole.part(shard.index, layout.shards).max_queued;
                let part = whole.part(ahead.saturating_add(shard.index), shards);
                add(shard, part, waiting, false);
            }
        }
        parts
    }
}
