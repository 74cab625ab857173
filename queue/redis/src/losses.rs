//! Warnings about settings of the server that lose jobs.

use redis::{Cmd, FromRedisValue as _, Value};

use super::server::Server;

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
}
