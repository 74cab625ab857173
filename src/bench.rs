//! Measurements of Causeway itself.

mod args;
mod gateway;
mod http_connection;
mod percentile;
mod queue;
mod streams;

use std::process::ExitCode;

pub(crate) use self::args::BenchCommand;

/// Runs the measurement and prints its results.
///
/// # Errors
/// If the target is not reachable.
pub(crate) async fn run(what: BenchCommand) -> anyhow::Result<ExitCode> {
    match what {
        BenchCommand::Queue(options) => queue::run(*options).await,
        BenchCommand::Gateway(options) => gateway::run(*options).await,
        BenchCommand::Streams(options) => streams::run(*options).await,
    }
}
