//! Open-file limits: every connection takes a handle.

/// Handles that a process takes apart from its connections.
const SPARE: u64 = 100;

/// Raises the process's limit of open files as far as it may, and answers with what it is then; a
/// limit that cannot be raised stays.
pub(crate) fn raise() -> u64 {
    match rlimit::increase_nofile_limit(u64::MAX) {
        Ok(limit) => limit,
        Err(_) => rlimit::getrlimit(rlimit::Resource::NOFILE).map_or(1024, |(soft, _)| soft),
    }
}

/// What to tell a person when `limit` handles cannot hold `connections`; `None` when they can.
pub(crate) fn shortage(limit: u64, connections: u64) -> Option<String> {
    let needed = connections.saturating_add(SPARE);
    (limit < needed).then(|| {
        format!(
            "this process may open {limit} files, {connections} connections need {needed}: raise \
             the hard limit (ulimit -Hn, or LimitNOFILE= of the service)"
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_limit_that_cannot_be_enough_is_told() {
        assert!(shortage(1024, 10_000).unwrap().contains("10100"));
        assert_eq!(shortage(1_048_576, 10_000), None);
        assert!(raise() >= 256);
    }
}
