//! What the server counts of itself, for measurements.

use super::RedisStore;
use crate::error::Error;

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
}
