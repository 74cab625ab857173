//! Warnings about the server's settings, and the server statistics and clean-up that measurements need.

use redis::{Cmd, FromRedisValue as _, Value};

use super::{RedisStore, Server, keys, unavailable};
use causeway_queue::{error::Error, id::Shard};

/// A script that deletes the keys with the prefix `KEYS[1]` that one step of a scan returns. ARGV: the cursor of the
/// scan. Returns the next cursor, `0` at the end. It is a script because that runs on the node of the shard.
const ERASE: &str = "
local scan = redis.call('SCAN', ARGV[1], 'MATCH', KEYS[1] .. '*', 'COUNT', 1000)
for _, key in ipairs(scan[2]) do redis.call('UNLINK', key) end
return scan[1]
";

/// The line of INFO that shows a server without an append-only file.
const NO_AOF: &str = "aof_enabled:0";

/// The eviction policy of a server that keeps all data.
const KEEPS_ALL: &str = "noeviction";

/// Warns of a server that would lose accepted jobs: by evicting keys when its memory is full, or at its next restart.
/// A server that does not report its settings causes no warning.
pub(super) async fn warn_of_losses(server: &Server) {
    warn_of_eviction(server).await;
    let persistence = texts(server, redis::cmd("INFO").arg("persistence")).await;
    if persistence.iter().any(|text| text.lines().any(|line| line.trim_end() == NO_AOF)) {
        tracing::warn!(
            "the Redis writes no append-only file: at its next restart it loses the jobs that were accepted after its \
             last snapshot, all if it makes none: set appendonly yes"
        );
    }
}

async fn warn_of_eviction(server: &Server) {
    let mut replies = texts(server, redis::cmd("INFO").arg("memory")).await;
    // A server may refuse INFO to this user; CONFIG reports the policy too.
    if replies.is_empty() {
        replies = texts(server, redis::cmd("CONFIG").arg("GET").arg("maxmemory-policy")).await;
    }
    let policies = replies.iter().flat_map(|text| text.lines().filter_map(policy));
    if let Some(policy) = policies.into_iter().find(|policy| *policy != KEEPS_ALL) {
        tracing::warn!(
            policy,
            "the Redis evicts keys when it is full, and loses jobs with them: set maxmemory-policy to \
             noeviction"
        );
    }
}

/// Returns the policy in a line of INFO, or of the reply to CONFIG GET.
fn policy(line: &str) -> Option<&str> {
    line.trim_end().strip_prefix("maxmemory_policy:").or_else(|| {
        let policies = [KEEPS_ALL, "allkeys-", "volatile-"];
        policies.iter().any(|policy| line.starts_with(policy)).then(|| line.trim_end())
    })
}

/// Returns all texts in the reply to a command, of every node; none if the command is refused.
async fn texts(server: &Server, command: &Cmd) -> Vec<String> {
    fn collect(value: Value, into: &mut Vec<String>) {
        match value {
            Value::Map(pairs) => pairs.into_iter().for_each(|(_, value)| collect(value, into)),
            Value::Array(values) => values.into_iter().for_each(|value| collect(value, into)),
            other => into.extend(String::from_redis_value(other)),
        }
    }
    let mut found = Vec::new();
    if let Ok(value) = server.ask::<Value>(command).await {
        collect(value, &mut found);
    }
    found
}

/// The server's totals since its start.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct ServerStats {
    /// Executed commands, with those inside scripts.
    pub commands: u64,
    /// Commands that clients sent, without those inside scripts.
    pub calls: u64,
    /// The time that the server spent on commands of clients, in microseconds.
    pub busy_us: f64,
    /// The used memory, in bytes.
    pub memory_bytes: u64,
}

impl ServerStats {
    /// Adds the figures of one server. Replicas repeat the work of their masters, so they are left out.
    fn add(&mut self, info: &str) {
        if info.lines().any(|line| line.trim_end() == "role:slave") {
            return;
        }
        for line in info.lines() {
            if let Some(bytes) = line.strip_prefix("used_memory:") {
                self.memory_bytes += bytes.trim().parse().unwrap_or(0);
            } else if let Some((name, counts)) =
                line.strip_prefix("cmdstat_").and_then(|rest| rest.split_once(':'))
            {
                self.add_command(name, counts);
            }
        }
    }

    fn add_command(&mut self, name: &str, counts: &str) {
        let number = |field: &str| {
            let of = |part: &str| part.strip_prefix(field)?.strip_prefix('=')?.parse().ok();
            counts.split(',').find_map(of).unwrap_or(0.0)
        };
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a count")]
        let calls = number("calls") as u64;
        self.commands += calls;
        // INFO counts commands inside a script also under their own names, and their time within the script's.
        if ["fcall", "bzpopmin", "ping"].contains(&name) {
            self.calls += calls;
            self.busy_us += number("usec");
        }
    }
}

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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_policy_is_found_in_both_answers() {
        assert_eq!(policy("maxmemory_policy:allkeys-lru\r"), Some("allkeys-lru"));
        assert_eq!(policy("volatile-ttl"), Some("volatile-ttl"));
        assert_eq!(policy("maxmemory-policy"), None);
        assert_eq!(policy("used_memory:1"), None);
    }

    #[test]
    fn masters_are_added_up_and_replicas_left_out() {
        let master = "role:master\r\nused_memory:1000\r\n\
                      cmdstat_fcall:calls=3,usec=60,usec_per_call=20.00\r\n\
                      cmdstat_zadd:calls=5,usec=10,usec_per_call=2.00\r\n";
        let mut stats = ServerStats::default();
        for info in [master, master, &master.replace("role:master", "role:slave")] {
            stats.add(info);
        }
        let twice = ServerStats { commands: 16, calls: 6, busy_us: 120.0, memory_bytes: 2000 };
        assert_eq!(stats, twice);
    }
}
