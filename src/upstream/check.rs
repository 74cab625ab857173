//! Checks of the upstreams: by `causeway upstream check`, and once after the start of a worker.

use std::{
    io::{self, Write as _},
    process::ExitCode,
    time::Duration,
};

use causeway_worker::{CheckResult, UpstreamClient};
use futures_util::future::join_all;
use tokio::time::sleep;

use super::{Clients, client};
use crate::{
    config::{Config, ConfiguredLane, ConfiguredUpstream},
    table,
};

const COLUMNS: [&str; 4] = ["UPSTREAM", "LANES", "PROXY", "RESULT"];

/// The delay between a worker's start and the check of upstreams that no job has called yet. A call
/// is a check by itself, and no call waits for a check.
const CHECK_DELAY: Duration = Duration::from_secs(2);

/// Checks all upstreams and prints a table.
///
/// # Errors
/// If a key or file of an upstream is unusable, or standard output is closed.
pub(crate) async fn run(config: &Config) -> anyhow::Result<ExitCode> {
    let upstreams = config.upstreams();
    if upstreams.is_empty() {
        let hint = "there is no upstream to check: answers are simulated; --upstream URL names one";
        writeln!(io::stderr(), "{hint}")?;
        return Ok(ExitCode::SUCCESS);
    }
    let mut clients = Vec::new();
    for (configured, _) in &upstreams {
        clients.push(client(configured, config)?);
    }
    let verdicts = upstreams.iter().zip(&clients).map(|((_, lanes), client)| check(client, lanes));
    let verdicts = join_all(verdicts).await;
    let rows = upstreams.iter().zip(&verdicts).map(|((configured, lanes), verdict)| {
        let proxy = configured.settings.proxy.as_ref();
        [
            configured.settings.address.to_string(),
            named(lanes),
            proxy.map_or_else(|| "-".to_owned(), ToString::to_string),
            verdict.to_string(),
        ]
    });
    table::write(&COLUMNS, rows, &mut io::stdout())?;
    let is_wrong = verdicts.iter().any(|verdict| matches!(verdict, CheckResult::Wrong(_)));
    Ok(if is_wrong { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}

/// Checks each upstream once: soon after the start if no job has called it, else when a call gets a
/// 404, which may mean a wrong base URL or a wrong model. A wrong upstream is logged as one
/// warning.
pub(crate) async fn after_start(config: Config, clients: Clients) {
    let upstreams = config.upstreams();
    for (configured, _) in &upstreams {
        if let (Some(proxy), Some(from)) = (&configured.settings.proxy, configured.proxy_from) {
            let upstream = &configured.settings.address;
            tracing::info!(%upstream, %proxy, from, "the upstream is called through a proxy");
        }
    }
    sleep(CHECK_DELAY).await;
    let checks = upstreams.iter().zip(&clients.0).map(|((configured, lanes), (_, client))| async {
        // A call has checked the connection; only a 404 leaves a doubt.
        if client.was_called() {
            client.not_found().await;
        }
        report(configured, lanes, &check(client, lanes).await);
    });
    join_all(checks).await;
}

fn report(configured: &ConfiguredUpstream, lanes: &[&ConfiguredLane], verdict: &CheckResult) {
    let (upstream, lanes) = (&configured.settings.address, named(lanes));
    match verdict {
        CheckResult::Good(models) => {
            tracing::info!(%upstream, lanes, models, "the upstream answers");
        }
        CheckResult::Unknown(why) => {
            tracing::info!(%upstream, lanes, why, "the upstream does not say whether it is right");
        }
        CheckResult::Wrong(why) => {
            tracing::warn!(%upstream, lanes, why, "the upstream will not answer jobs as configured");
        }
    }
}

async fn check(client: &UpstreamClient, lanes: &[&ConfiguredLane]) -> CheckResult {
    let models: Vec<String> = lanes.iter().flat_map(|lane| lane.models.iter().cloned()).collect();
    client.check(&models).await
}

fn named(lanes: &[&ConfiguredLane]) -> String {
    let names: Vec<&str> = lanes.iter().map(|lane| lane.name.as_str()).collect();
    if names.is_empty() { "default".to_owned() } else { names.join(", ") }
}
