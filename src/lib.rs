//! The command line. It reads the configuration, composes the crates, and runs one command.
//!
//! It is a library only for the time of a build: Cargo compiles it beside the crates that it uses, while it compiles a
//! program after them.

mod answer;
mod banner;
mod bench;
mod cli;
mod client;
mod config;
mod experiment;
mod exposed_secrets;
mod follow;
mod jobs;
mod lane;
mod listen;
mod logging;
mod memory;
mod metrics;
mod node;
mod open_files;
mod probe;
mod reload;
mod shell;
mod show;
mod signals;
mod simulate;
mod sse;
mod store;
mod submit;
mod table;
mod target;
mod tenant;
mod terminal;
mod timestamps;
mod upstream;
mod wait_reason;
mod watch;
mod webhook;
mod worker;
mod worker_metrics;

use std::{
    io::{self, Write as _},
    process::ExitCode,
};

use anyhow::Context as _;
use clap::Parser as _;
use serde_json::json;

use crate::{
    banner::Role,
    cli::{Cli, Command, JobsCommand, ServerArgs},
    config::{Config, ConfigSource, Environment},
};

/// Runs the command of the process's arguments, and returns its exit code.
#[must_use]
pub fn main() -> ExitCode {
    match start(Cli::parse().command) {
        Ok(code) => code,
        Err(error) if is_closed_pipe(&error) => ExitCode::SUCCESS,
        Err(error) => {
            // The message may quote a server's text, so control characters are removed.
            let written = writeln!(terminal::stderr(), "causeway: {error:#}");
            drop(written);
            ExitCode::FAILURE
        }
    }
}

/// Returns true if the reader of the output has closed it, as `head` does. That is no failure of
/// this command.
fn is_closed_pipe(error: &anyhow::Error) -> bool {
    let kind = error.downcast_ref::<io::Error>().map(io::Error::kind);
    kind == Some(io::ErrorKind::BrokenPipe)
}

fn start(command: Command) -> anyhow::Result<ExitCode> {
    // This fails only if a provider is installed already, which is as good.
    drop(rustls::crypto::ring::default_provider().install_default());
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .context("cannot start the runtime")?;
    // The main thread only waits; tasks run on the threads of the runtime.
    runtime.block_on(run(command))
}

async fn run(command: Command) -> anyhow::Result<ExitCode> {
    let environment: Environment = std::env::vars_os()
        // A variable that is not UTF-8 cannot be a setting.
        .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)))
        .collect();
    match command {
        Command::Submit(typed) => {
            submit::run(&client_config(&typed.server, &environment)?, *typed).await
        }
        Command::Watch(typed) => {
            watch::run(&client_config(&typed.server, &environment)?, &typed.job).await
        }
        Command::Jobs(typed) => {
            let server = match &typed {
                JobsCommand::List(list) => &list.server,
                JobsCommand::Show(job) => &job.server,
                JobsCommand::Cancel(job) => &job.server,
                JobsCommand::Retry(retry) => &retry.server,
            };
            jobs::run(&client_config(server, &environment)?, &typed).await
        }
        Command::Experiment(typed) => experiment::run(*typed).await,
        Command::Bench(what) => bench::run(what).await,
        Command::Up(typed) => {
            let source =
                ConfigSource { flags: json!(typed.flags), file: typed.file.config, environment };
            node::run(source, Role::Up).await
        }
        Command::Api(typed) => {
            let source =
                ConfigSource { flags: json!(typed.flags), file: typed.file.config, environment };
            node::run(source, Role::Api).await
        }
        Command::Worker(typed) => {
            if let Some(cli::WorkerCommand::List(list)) = &typed.other {
                return worker::list(&client_config(&list.server, &environment)?, list).await;
            }
            let source =
                ConfigSource { flags: json!(typed.flags), file: typed.file.config, environment };
            node::run(source, Role::Worker).await
        }
        Command::Upstream(cli::UpstreamCommand::Check(typed)) => {
            let config = config::load(&json!(typed.flags), typed.file.config, &environment)?;
            upstream::check::run(&config).await
        }
        Command::Completions { shell } => shell::completions(shell),
        Command::Man { directory } => shell::manual(directory.as_deref()),
        Command::Tenant(typed) => match typed.server() {
            None => tenant::key(),
            Some(server) => tenant::run(&client_config(server, &environment)?, &typed).await,
        },
        Command::Webhook(cli::WebhookCommand::Secret) => webhook::secret(),
        Command::Lane(typed) => {
            let server = match &typed {
                cli::LaneCommand::List(lanes) => &lanes.server,
                cli::LaneCommand::Pause(of) | cli::LaneCommand::Resume(of) => &of.lanes.server,
            };
            lane::run(&client_config(server, &environment)?, &typed).await
        }
        Command::Simulate(typed) => {
            let config = config::load(&json!(typed.flags), typed.file.config, &environment)?;
            simulate::run(&config, &environment).await
        }
    }
}

fn client_config(typed: &ServerArgs, environment: &Environment) -> anyhow::Result<Config> {
    let mut client = serde_json::Map::new();
    let flags = [("url", &typed.url), ("key_env", &typed.key_env)];
    // A flag that was not typed must not override the file.
    client.extend(
        flags.into_iter().filter_map(|(key, value)| Some((key.to_owned(), json!(value.as_ref()?)))),
    );
    let flags = json!({ "client": client });
    Ok(config::load(&flags, typed.file.config.clone(), environment)?)
}
