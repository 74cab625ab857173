//! The command line. Flags become settings in [`config`](crate::config), which documents each of
//! them with its default and its environment variable; no decision is made here.

mod flags;
mod jobs;
mod server;
mod tenant;

use std::{net::SocketAddr, path::PathBuf, time::Duration};

use clap::{Args, Parser, Subcommand};
use serde::Serialize;

use self::flags::{CallFlags, ListenFlags, LogFlags, SimulatedFlags, StoreFlags, UpstreamFlags};
pub(crate) use self::jobs::{
    JobArgs, JobClass, JobFilter, JobFlags, JobsCommand, JobsList, JobsRetry, SubmitArgs,
};
pub(crate) use self::server::{ConfigFile, ServerArgs};
pub(crate) use self::tenant::{TenantAdd, TenantCommand, TenantRevoke, TenantRotate};
use crate::config::duration;

/// The version of the package, and the commit if it is known.
const VERSION: &str = env!("BUILD_VERSION");

const PRECEDENCE: &str = "\
Every flag of up, api, worker and simulate is also a key of the configuration file and an
environment variable: --api-key-env is `api_key_env` and CAUSEWAY_API_KEY_ENV. Flags win over
variables, variables over the file. causeway.example.toml describes every key.";

/// Every LLM request as a job: accepted at once, queued, resumable.
#[derive(Debug, Parser)]
#[command(name = "causeway", version = VERSION, after_help = PRECEDENCE)]
pub(crate) struct Cli {
    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Run API, worker and queue in one process
    Up(Box<UpArgs>),
    /// Run an API process over a Redis; it calls the upstream only for models, audio, images,
    /// moderations and counts
    Api(Box<ApiArgs>),
    /// Run a worker process over a Redis, or list the running ones
    Worker(Box<WorkerArgs>),
    /// Run a server that speaks the OpenAI wire format with made-up answers
    Simulate(Box<SimulateArgs>),
    /// Submit a prompt, or a file of jobs
    Submit(Box<SubmitArgs>),
    /// Follow a job until it ends
    Watch(JobArgs),
    /// List, show, cancel or retry jobs
    #[command(subcommand)]
    Jobs(JobsCommand),
    /// List, pause and resume lanes
    #[command(subcommand)]
    Lane(LaneCommand),
    /// Check that upstreams answer, accept their keys and serve their models
    #[command(subcommand)]
    Upstream(UpstreamCommand),
    /// List tenants; add, limit and revoke them, and rotate their keys, while Causeway runs
    #[command(subcommand)]
    Tenant(TenantCommand),
    /// Make secrets for signing webhook events
    #[command(subcommand)]
    Webhook(WebhookCommand),
    /// Let many users send a message at the same moment, and measure how long each waits
    Experiment(Box<ExperimentArgs>),
    /// Measure Causeway itself
    #[command(subcommand)]
    Bench(crate::bench::BenchCommand),
    /// Print the completion script of a shell
    Completions {
        /// The shell
        shell: clap_complete::Shell,
    },
    /// Print the manual page
    Man {
        /// Write the pages of all commands into this directory instead
        directory: Option<PathBuf>,
    },
}

#[derive(Debug, Args)]
pub(crate) struct UpArgs {
    #[command(flatten)]
    pub(crate) file: ConfigFile,
    #[command(flatten)]
    pub(crate) flags: UpFlags,
}

#[derive(Debug, Default, Args, Serialize)]
pub(crate) struct UpFlags {
    #[command(flatten)]
    #[serde(flatten)]
    pub(crate) listen: ListenFlags,
    #[command(flatten)]
    #[serde(flatten)]
    pub(crate) store: StoreFlags,
    #[command(flatten)]
    #[serde(flatten)]
    pub(crate) call: CallFlags,
    #[command(flatten)]
    pub(crate) log: LogFlags,
}

#[derive(Debug, Args)]
pub(crate) struct ApiArgs {
    #[command(flatten)]
    pub(crate) file: ConfigFile,
    #[command(flatten)]
    pub(crate) flags: ApiFlags,
}

#[derive(Debug, Args, Serialize)]
pub(crate) struct ApiFlags {
    #[command(flatten)]
    #[serde(flatten)]
    listen: ListenFlags,
    #[command(flatten)]
    #[serde(flatten)]
    store: StoreFlags,
    #[command(flatten)]
    #[serde(flatten)]
    upstream: UpstreamFlags,
    #[command(flatten)]
    log: LogFlags,
}

#[derive(Debug, Args)]
// `causeway worker list` takes none of the flags of a running worker.
#[command(args_conflicts_with_subcommands = true)]
pub(crate) struct WorkerArgs {
    #[command(subcommand)]
    pub(crate) other: Option<WorkerCommand>,
    #[command(flatten)]
    pub(crate) file: ConfigFile,
    #[command(flatten)]
    pub(crate) flags: WorkerFlags,
}

/// The commands of `causeway worker` other than running one.
#[derive(Debug, Subcommand)]
pub(crate) enum WorkerCommand {
    /// Show worker processes: their status, running jobs and lanes
    List(WorkerListArgs),
}

#[derive(Debug, Args)]
pub(crate) struct WorkerListArgs {
    /// Print JSON instead of a table
    #[arg(long)]
    pub(crate) json: bool,
    #[command(flatten)]
    pub(crate) server: ServerArgs,
}

#[derive(Debug, Args, Serialize)]
pub(crate) struct WorkerFlags {
    #[command(flatten)]
    #[serde(flatten)]
    store: StoreFlags,
    #[command(flatten)]
    #[serde(flatten)]
    call: CallFlags,
    /// The address on which this worker serves /healthz and /metrics [default: none]
    #[arg(long, value_name = "ADDR:PORT")]
    #[serde(skip_serializing_if = "Option::is_none")]
    probe: Option<SocketAddr>,
    /// The name of this worker in `worker list` [default: host and process id]
    #[arg(long, value_name = "TEXT")]
    #[serde(skip_serializing_if = "Option::is_none")]
    worker_name: Option<String>,
    #[command(flatten)]
    log: LogFlags,
}

#[derive(Debug, Args)]
pub(crate) struct SimulateArgs {
    #[command(flatten)]
    pub(crate) file: ConfigFile,
    #[command(flatten)]
    pub(crate) flags: SimulateFlags,
}

#[derive(Debug, Args, Serialize)]
pub(crate) struct SimulateFlags {
    #[command(flatten)]
    simulated: SimulatedFlags,
    #[command(flatten)]
    log: LogFlags,
}

#[derive(Debug, Subcommand)]
pub(crate) enum UpstreamCommand {
    /// Request the models of each configured upstream; fails if one is wrong
    Check(UpstreamCheck),
}

#[derive(Debug, Args)]
pub(crate) struct UpstreamCheck {
    #[command(flatten)]
    pub(crate) file: ConfigFile,
    #[command(flatten)]
    pub(crate) flags: UpstreamFlags,
}

#[derive(Debug, Subcommand)]
pub(crate) enum LaneCommand {
    /// Show the counters of lanes, over all tenants
    List(LaneArgs),
    /// Start no more jobs in a lane, or of one tenant in it; running jobs go on
    Pause(LaneSwitchArgs),
    /// Start jobs again
    Resume(LaneSwitchArgs),
}

#[derive(Debug, Args)]
pub(crate) struct LaneArgs {
    /// The lane [default: all]
    pub(crate) lane: Option<String>,
    #[command(flatten)]
    pub(crate) server: ServerArgs,
}

#[derive(Debug, Args)]
pub(crate) struct LaneSwitchArgs {
    /// Only this tenant
    #[arg(long, value_name = "ID")]
    pub(crate) tenant: Option<String>,
    #[command(flatten)]
    pub(crate) lanes: LaneArgs,
}

#[derive(Debug, Subcommand)]
pub(crate) enum WebhookCommand {
    /// Make a secret, print it once, and show the setting that uses it
    Secret,
}

#[derive(Debug, Args)]
pub(crate) struct ExperimentArgs {
    /// The server to call, e.g. `http://127.0.0.1:4004` [default: a Causeway in this process]
    #[arg(long, value_name = "URL")]
    pub(crate) target: Option<String>,
    /// The number of users who send a message at the same moment, 1 to 50,000
    #[arg(long, value_name = "N", default_value_t = 10, allow_negative_numbers = true, value_parser = clap::value_parser!(u32).range(1..=50_000))]
    pub(crate) users: u32,
    /// The time after which a user gives up
    #[arg(long, value_name = "SECONDS", default_value = "30", allow_negative_numbers = true, value_parser = duration::parse)]
    pub(crate) timeout: Duration,
    /// The name of the target in the plot [default: its address, or Causeway]
    #[arg(long, value_name = "TEXT")]
    pub(crate) title: Option<String>,
    /// The path to which the messages are posted
    #[arg(long, value_name = "PATH", default_value = "/bridge/chat")]
    pub(crate) path: String,
    /// The duration of a simulated call; only without --target
    #[arg(long, value_name = "SECONDS", default_value = "5", allow_negative_numbers = true, value_parser = duration::parse, conflicts_with = "target")]
    pub(crate) call: Duration,
    /// The number of concurrent calls of the Causeway in this process [default: as `causeway up`,
    /// 256]
    #[arg(long, value_name = "N", allow_negative_numbers = true, value_parser = clap::value_parser!(u32).range(1..=100_000), conflicts_with = "target")]
    pub(crate) concurrency: Option<u32>,
    /// The Redis of the Causeway in this process [default: embedded]
    #[arg(long, value_name = "URL", conflicts_with = "target")]
    pub(crate) redis: Option<String>,
    /// Print each user's wait and the summary as JSON; the table goes to standard error
    #[arg(long)]
    pub(crate) json: bool,
    /// Draw the share of answered users over time into this SVG file
    #[arg(long, value_name = "FILE")]
    pub(crate) plot: Option<PathBuf>,
    /// Draw earlier runs in the same plot: files with the output of --json
    #[arg(long, value_name = "FILE", num_args = 1.., requires = "plot")]
    pub(crate) beside: Vec<PathBuf>,
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::*;

    #[track_caller]
    fn refusal(line: &str) -> String {
        let error = Cli::try_parse_from(line.split(' ')).expect_err("must be refused");
        assert_eq!(error.exit_code(), 2, "{line}");
        error.to_string()
    }

    #[test]
    fn the_commands_are_well_formed() {
        Cli::command().debug_assert();
    }

    #[test]
    fn an_api_process_takes_an_upstream() {
        let line = "causeway api --upstream http://127.0.0.1:9/v1 --api-key-env KEY";
        let Command::Api(api) = Cli::try_parse_from(line.split(' ')).unwrap().command else {
            panic!("another command");
        };
        let flags = serde_json::json!(api.flags);
        assert_eq!(flags["upstream"], "http://127.0.0.1:9/v1");
        assert_eq!(flags["api_key_env"], "KEY");
    }

    #[test]
    fn usage_errors_name_the_flag_and_value() {
        for (line, parts) in [
            ("causeway up --bind localhost", ["--bind", "such as 127.0.0.1:4004"]),
            ("causeway up --drain soon", ["--drain", "250ms"]),
            ("causeway up --concurency 5", ["--concurency", "--concurrency"]),
            ("causeway submit", ["PROMPT", "required"]),
            ("causeway submit ", ["PROMPT", "it is empty"]),
            ("causeway submit hello --class urgent", ["urgent", "interactive"]),
            ("causeway experiment --users 0", ["--users", "1..=50000"]),
            ("causeway jobs list --limit 5000", ["--limit", "1..=1000"]),
            ("causeway jobs list --limit -3", ["-3", "1..=1000"]),
            ("causeway up --lease -1", ["'-1' for '--lease", "10 years"]),
            ("causeway up --drain --bind 127.0.0.1:0", ["--drain", "value is required"]),
            ("causeway up --concurrency -1", ["-1", "1..=100000"]),
            ("causeway experiment --users -1", ["-1", "1..=50000"]),
            ("causeway experiment --concurrency 0", ["--concurrency", "1..=100000"]),
            ("causeway experiment --beside a.json", ["--plot", "required"]),
            ("causeway simulate --port -1", ["-1", "0..=65535"]),
            ("causeway simulate --seed -1", ["-1", "0.."]),
            ("causeway bench queue --jobs -1", ["-1", "1..=10000000"]),
            ("causeway jobs retry JOB --class batch", ["--class", "JOB"]),
            ("causeway jobs retry JOB --session s", ["--session", "JOB"]),
            ("causeway jobs retry --session s", ["JOB", "--status"]),
            ("causeway jobs list --since yesterday", ["--since", "24h"]),
            ("causeway submit x --metadata team", ["--metadata", "NAME=VALUE"]),
            ("causeway submit x --json --stream", ["--json", "--stream"]),
            ("causeway lane list --tenant ann", ["--tenant", "unexpected"]),
            ("causeway worker --probe 127.0.0.1:0 list", ["list", "cannot be used"]),
        ] {
            let text = refusal(line);
            assert!(parts.iter().all(|part| text.contains(part)), "{line}: {text}");
        }
    }
}
