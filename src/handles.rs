//! Open-file limits: every connection takes a handle.

use rlimit::{Resource, getrlimit, increase_nofile_limit, setrlimit};

/// Handles that a process takes apart from its connections.
const SPARE: u64 = 100;

/// Raises the process's limit of open files to the hard limit, and beyond it where `connections`
/// need more and the process is allowed to; answers with what it is then.
pub(crate) fn raise(connections: u64) -> u64 {
    let Ok((soft, hard)) = getrlimit(Resource::NOFILE) else { return 0 };
    let wanted = hard.max(connections.saturating_add(SPARE));
    if setrlimit(Resource::NOFILE, wanted, wanted).is_ok() {
        return wanted;
    }
    increase_nofile_limit(hard).unwrap_or(soft)
}

/// Fewest connections of clients, however few handles there are.
const FEWEST: u64 = 16;

/// How many connections clients may have, at most `most`, so that `own` connections of this process find handles too.
pub(crate) fn for_clients(most: usize, own: u64) -> usize {
    let Ok((limit, _)) = getrlimit(Resource::NOFILE) else { return most };
    most.min(usize::try_from(left_for_clients(limit, own)).unwrap_or(usize::MAX))
}

fn left_for_clients(limit: u64, own: u64) -> u64 {
    let free = limit.saturating_sub(SPARE);
    (free - own.min(free / 2)).max(FEWEST)
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
        assert!(raise(500) >= 256);
    }

    #[test]
    fn clients_leave_handles_to_the_process() {
        assert_eq!(left_for_clients(1100, 300), 700);
        assert_eq!(left_for_clients(200, 512), 50);
        assert_eq!(left_for_clients(50, 0), FEWEST);
    }
}
