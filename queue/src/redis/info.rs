//! What measurements need of a server: what it counts of itself, and that it forgets what they made.

use super::{RedisStore, keys};
use crate::{error::Error, id::Shard};

/// Deletes the keys that begin as `KEYS[1]` says, of those that one step of a scan sees. ARGV: where the
/// scan goes on. Returns where it goes on next, `0` at its end. A script, because it runs where the shard is.
const ERASE: &str = "
local scan = redis.call('SCAN', ARGV[1], 'MATCH', KEYS[1] .. '*', 'COUNT', 1000)
for _, key in ipairs(scan[2]) do redis.call('UNLINK', key) end
return scan[1]
";

/// Totals since the server's start.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct ServerStats {
    /// Commands run, those inside scripts included.
    pub commands: u64,
    /// Commands that clients sent: `commands` without those inside scripts.
    pub calls: u64,
    /// Time that the server spent in what clients sent, in microseconds.
    pub busy_us: f64,
    /// Memory in use, in bytes.
    pub memory_bytes: u64,
}

impl RedisStore {
    /// What a standalone server has done and holds.
    ///
    /// # Errors
    /// When the store does not answer.
    pub async fn server_stats(&self) -> Result<ServerStats, Error> {
        let text: String = self.server.ask(redis::cmd("INFO").arg("everything")).await?;
        let mut stats = ServerStats::default();
        for line in text.lines() {
            if let Some(bytes) = line.strip_prefix("used_memory:") {
                stats.memory_bytes = bytes.trim().parse().unwrap_or(0);
            }
            let Some((name, counts)) =
                line.strip_prefix("cmdstat_").and_then(|l| l.split_once(':'))
            else {
                continue;
            };
            let number = |field: &str| {
                let of = |part: &str| part.strip_prefix(field)?.strip_prefix('=')?.parse().ok();
                counts.split(',').find_map(of).unwrap_or(0.0)
            };
            #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a count")]
            let calls = number("calls") as u64;
            stats.commands += calls;
            // What a script runs is counted under its own name too, and its time within the script's.
            if ["fcall", "bzpopmin", "ping"].contains(&name) {
                stats.calls += calls;
                stats.busy_us += number("usec");
            }
        }
        Ok(stats)
    }

    /// Deletes all that a shard holds, whatever it is; for a shard that nobody else uses. Looks at all keys
    /// of the server, a thousand a call.
    ///
    /// # Errors
    /// When the store does not answer.
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
