//! The limit of open files: every connection takes a handle.

use rlimit::{Resource, getrlimit, increase_nofile_limit, setrlimit};

use crate::{banner::Role, config::Config};

/// Handles that a process needs in addition to its connections.
const SPARE: u64 = 100;

/// Raises the process's limit of open files to the hard limit, and beyond it if `connections` need
/// more and the process has the permission; returns the limit in force.
pub(crate) fn raise(connections: u64) -> u64 {
    let Ok((soft, hard)) = getrlimit(Resource::NOFILE) else { return 0 };
    let wanted = hard.max(connections.saturating_add(SPARE));
    // Only a privileged process may raise its hard limit.
    if setrlimit(Resource::NOFILE, wanted, wanted).is_ok() {
        return wanted;
    }
    increase_nofile_limit(hard).unwrap_or(soft)
}

/// The fewest client connections, even if the limit is very low.
const FEWEST: u64 = 16;

/// Raises the limit of open files for a process of `role`; returns a warning if it is still too
/// low.
pub(crate) fn raise_for(config: &Config, role: Role) -> Option<String> {
    let own = own_connections(config, role);
    let most = match role {
        Role::Up | Role::Api => config.api.max_connections as u64,
        Role::Worker => return shortage(raise(own), own),
    };
    shortage_of_clients(raise(most.saturating_add(own)), most, own)
}

/// Returns the number of client connections for a process of `role` that leaves handles for its own
/// connections.
pub(crate) fn for_clients(config: &Config, role: Role) -> usize {
    let most = config.api.max_connections;
    let Ok((limit, _)) = getrlimit(Resource::NOFILE) else { return most };
    let left = left_for_clients(limit, own_connections(config, role));
    most.min(usize::try_from(left).unwrap_or(usize::MAX))
}

/// Returns the most connections that the worker of a process opens: two for each upstream call, as
/// one may be idle or closing, and one for each delivery. Simulated calls need none.
fn own_connections(config: &Config, role: Role) -> u64 {
    let has_upstream =
        config.upstream.is_some() || config.lanes.iter().any(|lane| lane.upstream.is_some());
    let calls = if has_upstream { 2 * config.concurrency as u64 } else { 0 };
    match role {
        Role::Up | Role::Worker => calls.saturating_add(config.webhooks.concurrency as u64),
        Role::Api => 0,
    }
}

fn left_for_clients(limit: u64, own: u64) -> u64 {
    // Half of the free handles stay with clients, however many the worker wants.
    let free = limit.saturating_sub(SPARE);
    (free - own.min(free / 2)).max(FEWEST)
}

/// Describes the shortage if `limit` handles are too few for `connections`; `None` if they suffice.
pub(crate) fn shortage(limit: u64, connections: u64) -> Option<String> {
    let needed = connections.saturating_add(SPARE);
    (limit < needed).then(|| {
        format!(
            "this process may open {limit} files, {connections} connections need {needed}: raise \
             the hard limit (ulimit -Hn, or LimitNOFILE= of the service)"
        )
    })
}

fn shortage_of_clients(limit: u64, most: u64, own: u64) -> Option<String> {
    let shortage = shortage(limit, most.saturating_add(own))?;
    let left = left_for_clients(limit, own).min(most);
    Some(format!(
        "clients may have {left} connections at once, not {most} (api.max_connections), as {own} are kept for \
         calls and deliveries: {shortage}"
    ))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::HiddenText;

    #[test]
    fn an_insufficient_limit_is_reported() {
        assert!(shortage(1024, 10_000).unwrap().contains("10100"));
        assert_eq!(shortage(1_048_576, 10_000), None);
        assert!(raise(500) >= 256);
    }

    #[test]
    fn own_connections_keep_their_handles() {
        assert_eq!(left_for_clients(1100, 300), 700);
        assert_eq!(left_for_clients(200, 512), 50);
        assert_eq!(left_for_clients(50, 0), FEWEST);
    }

    #[test]
    fn fewer_client_connections_are_reported() {
        let warning = shortage_of_clients(20_000, 16_384, 20_256).unwrap();
        assert!(
            warning.starts_with("clients may have 9950 connections at once, not 16384"),
            "{warning}"
        );
        assert_eq!(shortage_of_clients(20_000, 16_384, 768), None);
    }

    #[test]
    fn simulated_calls_take_no_handles() {
        let simulated = Config { concurrency: 10_000, ..Config::default() };
        let deliveries = simulated.webhooks.concurrency as u64;
        assert_eq!(own_connections(&simulated, Role::Up), deliveries);
        let upstream = Some(HiddenText::new("http://127.0.0.1:9101/v1"));
        let called = Config { upstream, ..simulated };
        assert_eq!(own_connections(&called, Role::Worker), 20_000 + deliveries);
        assert_eq!(own_connections(&called, Role::Api), 0);
    }
}
