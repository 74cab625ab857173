//! The statistics and the clean-up that measurements need.

use causeway_queue::{error::Error, id::Shard};
use redis::{FromRedisValue as _, Value};

use super::{RedisStore, info::ServerStats, keys, unavailable::unavailable};

/// A script that deletes the keys with the prefix `KEYS[1]` that one step of a scan returns. ARGV: the cursor of the
/// scan. Returns the next cursor, `0` at the end. It is a script because that runs on the node of the shard.
const ERASE: &str = "
local scan = redis.call('SCAN', ARGV[1], 'MATCH', KEYS[1] .. '*', 'COUNT', 1000)
for _, key in ipairs(scan[2]) do redis.call('UNLINK', key) end
return scan[1]
";

impl RedisStore {
    /// Returns the totals of the server; in a cluster, the sums over all masters.
    ///
    /// # Errors
    /// If the store does not answer.
    pub async fn server_stats(&self) -> Result<ServerStats, Error> {
        let mut stats = ServerStats::default();
        // A cluster returns the reply of each node under its address.
        let replies = match self.server.ask(redis::cmd("INFO").arg("everything")).await? {
            Value::Map(nodes) => nodes.into_iter().map(|(_, reply)| reply).collect(),
            one => vec![one],
        };
        for reply in replies {
            stats.add(&String::from_redis_value(reply).map_err(unavailable)?);
        }
        Ok(stats)
    }

    /// Deletes all keys of a shard; only for a shard without other users. Scans all keys of the server, a thousand a
    /// call.
    ///
    /// # Errors
    /// If the store does not answer.
    pub async fn erase(&self, shard: &Shard) -> Result<(), Error> {
        let mut cursor = "0".to_owned();
        loop {
            let mut command = redis::cmd("EVAL");
            command.arg(ERASE).arg(1).arg(keys::prefix(shard)).arg(&cursor);
            cursor = self.server.ask(&command).await?;
            if cursor == "0" {
                return Ok(());
            }
        }
    }
}
