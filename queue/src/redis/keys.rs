//! The names that Redis knows, apart from those that scripts make from the prefix.

use crate::{
    id::{IdempotencyKey, JobId, Shard, TenantId},
    orphan::CallKey,
    webhook::shard_of_deliveries,
};

/// Pattern of the channels on which scripts publish the news: one channel per shard. It is written as the right
/// to all channels of Causeway is (`&cw:*`): Redis permits a pattern only to users with the very same right.
pub(super) const NEWS: &str = "cw:*";

/// A channel of the pattern that belongs to no shard: to publish there shows whether a user may.
pub(super) const NO_NEWS: &str = "cw:{}:news";

/// The prefix of the keys that belong to no shard: the registry of workers and the layouts. The name of a shard has a
/// colon.
pub(super) const FLEET: &str = "cw:{fleet}:";

/// Nothing is ever there: to delete it shows whether a server takes writes.
pub(super) const NOTHING: &str = "cw:nothing";

/// What every key of a shard begins with. The braces put them all into one slot of a cluster.
pub(super) fn prefix(shard: &Shard) -> String {
    format!("cw:{{{shard}}}:")
}

/// The shard whose news come over `channel`.
pub(super) fn shard_of_channel(channel: &str) -> Option<Shard> {
    channel.strip_prefix("cw:{")?.strip_suffix("}:news")?.parse().ok()
}

/// Where idle workers wait: a sorted set with at most one member. Whoever takes it looks for work, and
/// what is left wakes another.
pub(super) fn wake(shard: &Shard) -> String {
    format!("{}wake", prefix(shard))
}

/// A job's record.
pub(super) fn job(id: &JobId) -> String {
    format!("{}job:{}", prefix(id.shard()), id.key())
}

/// The body of a job whose body is too large for its record.
pub(super) fn body(id: &JobId) -> String {
    format!("{}body:{}", prefix(id.shard()), id.key())
}

/// The bytes that the API has attached to a job.
pub(super) fn attached(id: &JobId) -> String {
    format!("{}attached:{}", prefix(id.shard()), id.key())
}

/// Which job was accepted under an idempotency key: the digest of the request (32 bytes), then the job's
/// key.
pub(super) fn idempotency(shard: &Shard, tenant: &TenantId, key: &IdempotencyKey) -> String {
    format!("{}idem:{tenant}:{key}", prefix(shard))
}

/// The orphans of a call: a sorted set of job keys, by the time at which each is forgotten.
pub(super) fn orphans(shard: &Shard, of: &CallKey) -> String {
    format!("{}orphans:{}", prefix(shard), call(of))
}

/// The part of a name that stands for a call.
pub(super) fn call(call: &CallKey) -> String {
    format!("{}:{}", call.tenant, call.hex())
}

/// The shard beside whose keys the directory is kept: every configuration has it.
pub(super) fn home() -> Shard {
    shard_of_deliveries()
}

/// Is there once the bounds of a shard were set.
pub(super) fn bounded(shard: &Shard) -> String {
    format!("{}bounded", prefix(shard))
}

/// The names of paused tenants; an empty one says that the whole shard is.
pub(super) fn paused(shard: &Shard) -> String {
    format!("{}paused", prefix(shard))
}

/// The ends of a shard that are to be handed on: a sorted set, by time.
pub(super) fn outbox(shard: &Shard) -> String {
    format!("{}outbox", prefix(shard))
}

/// A job's event log: a stream.
pub(super) fn events(id: &JobId) -> String {
    format!("{}events:{}", prefix(id.shard()), id.key())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::id::LaneName;

    #[test]
    fn a_channel_names_its_shard() {
        let shard = Shard { lane: LaneName::new("gpu-1").unwrap(), index: 7 };
        assert_eq!(shard_of_channel(&format!("{}news", prefix(&shard))), Some(shard));
        assert_eq!(shard_of_channel("cw:news"), None);
    }
}
