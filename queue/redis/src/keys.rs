//! The names of keys in Redis, besides those that scripts derive from the prefix.

use causeway_queue::{
    id::{IdempotencyKey, JobId, Shard, TenantId},
    orphan::CallKey,
    webhook::shard_of_deliveries,
};

/// The pattern of the channels on which scripts publish the news, one channel per shard. It has the form of the right
/// to all channels of Causeway (`&cw:*`), because Redis permits a pattern only to users with exactly that right.
pub(super) const NEWS: &str = "cw:*";

/// A channel of the pattern that belongs to no shard. Publishing to it shows whether the user may publish.
pub(super) const NO_NEWS: &str = "cw:{}:news";

/// The prefix of the keys that belong to no shard: the registry of workers and the layouts. The name of a shard has a
/// colon.
pub(super) const FLEET: &str = "cw:{fleet}:";

/// A key that never exists. Deleting it shows whether the server accepts writes.
pub(super) const NOTHING: &str = "cw:nothing";

/// Returns the prefix of every key of a shard. The braces map all of them to one slot of a cluster.
pub(super) fn prefix(shard: &Shard) -> String {
    format!("cw:{{{shard}}}:")
}

/// Returns the shard of the news channel `channel`.
pub(super) fn shard_of_channel(channel: &str) -> Option<Shard> {
    channel.strip_prefix("cw:{")?.strip_suffix("}:news")?.parse().ok()
}

/// Returns the key on which idle workers wait: a sorted set with at most one member. The worker that pops it looks
/// for work, and wakes another one if work is left.
pub(super) fn wake(shard: &Shard) -> String {
    format!("{}wake", prefix(shard))
}

/// Returns the key of a job's record.
pub(super) fn job(id: &JobId) -> String {
    format!("{}job:{}", prefix(id.shard()), id.key())
}

/// Returns the key of a body that is too large for its job's record.
pub(super) fn body(id: &JobId) -> String {
    format!("{}body:{}", prefix(id.shard()), id.key())
}

/// Returns the key of the bytes that the API has attached to a job.
pub(super) fn attached(id: &JobId) -> String {
    format!("{}attached:{}", prefix(id.shard()), id.key())
}

/// Returns the key of an idempotency key. Its value is the digest of the request (32 bytes), then the job's key.
pub(super) fn idempotency(shard: &Shard, tenant: &TenantId, key: &IdempotencyKey) -> String {
    format!("{}idem:{tenant}:{key}", prefix(shard))
}

/// Returns the key of a call's orphans: a sorted set of job keys, by the time at which each expires.
pub(super) fn orphans(shard: &Shard, of: &CallKey) -> String {
    format!("{}orphans:{}", prefix(shard), call(of))
}

/// Returns the part of a key that identifies a call.
pub(super) fn call(call: &CallKey) -> String {
    format!("{}:{}", call.tenant, call.hex())
}

/// Returns the shard that holds the directory: one that every configuration has.
pub(super) fn home() -> Shard {
    shard_of_deliveries()
}

/// Returns the key that exists if the limits of a shard were ever set.
pub(super) fn bounded(shard: &Shard) -> String {
    format!("{}bounded", prefix(shard))
}

/// Returns the key of the set of paused tenants; an empty name means the whole shard.
pub(super) fn paused(shard: &Shard) -> String {
    format!("{}paused", prefix(shard))
}

/// Returns the key of a shard's outbox: a sorted set of ends, by the time at which each is due.
pub(super) fn outbox(shard: &Shard) -> String {
    format!("{}outbox", prefix(shard))
}

/// Returns the key of a job's event log: a stream.
pub(super) fn events(id: &JobId) -> String {
    format!("{}events:{}", prefix(id.shard()), id.key())
}

#[cfg(test)]
mod tests {
    use super::*;
    use causeway_queue::id::LaneName;

    #[test]
    fn a_channel_names_its_shard() {
        let shard = Shard { lane: LaneName::new("gpu-1").unwrap(), index: 7 };
        assert_eq!(shard_of_channel(&format!("{}news", prefix(&shard))), Some(shard));
        assert_eq!(shard_of_channel("cw:news"), None);
    }
}
