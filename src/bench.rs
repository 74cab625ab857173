//! Measurements of Causeway itself.

mod gateway;
mod line;
mod percentile;
mod queue;
mod streams;

use std::process::ExitCode;

use clap::{Args, Subcommand, value_parser};

/// What to measure.
#[derive(Debug, Subcommand)]
pub(crate) enum Bench {
    /// Measure the engine: jobs that do nothing, without HTTP and without an upstream
    Queue(Box<Queue>),
    /// Measure what a chat call costs on its way through Causeway
    Gateway(Box<Gateway>),
    /// Let many clients read a stream at once, and check each token
    Streams(Box<Streams>),
}

/// What `bench queue` measures with.
#[derive(Debug, Clone, Args)]
pub(crate) struct Queue {
    /// The store: `embedded`, or the URL of a Redis, best an empty one; what is made there is removed
    #[arg(long, default_value = "embedded", value_name = "URL|embedded")]
    pub(crate) store: String,
    /// How many jobs
    #[arg(long, default_value_t = 20_000, allow_negative_numbers = true, value_parser = value_parser!(u32).range(1..=10_000_000))]
    pub(crate) jobs: u32,
    /// Bytes of each job's body
    #[arg(long, default_value_t = 200, allow_negative_numbers = true, value_parser = value_parser!(u32).range(2..=1_000_000))]
    pub(crate) payload: u32,
    /// Jobs per enqueue and per step; 1 is a call for each job
    #[arg(long, default_value_t = 32, allow_negative_numbers = true, value_parser = value_parser!(u32).range(1..=1000))]
    pub(crate) batch: u32,
    /// Jobs per enqueue, where that differs [default: as many as --batch]
    #[arg(long, value_name = "N", allow_negative_numbers = true, value_parser = value_parser!(u32).range(1..=10_000))]
    pub(crate) bulk: Option<u32>,
    /// Loops that enqueue, and then loops that drain, at once
    #[arg(long, default_value_t = 1, allow_negative_numbers = true, value_parser = value_parser!(u32).range(1..=256))]
    pub(crate) workers: u32,
    /// Tenants among whom the jobs are dealt in turn
    #[arg(long, default_value_t = 1, allow_negative_numbers = true, value_parser = value_parser!(u32).range(1..=1_000_000))]
    pub(crate) tenants: u32,
    /// Print one JSON object instead of a table
    #[arg(long)]
    pub(crate) json: bool,
}

/// What `bench gateway` measures with.
#[derive(Debug, Clone, Args)]
pub(crate) struct Gateway {
    /// The upstream itself, for comparison, e.g. `http://127.0.0.1:9100`
    #[arg(long, value_name = "URL", required_unless_present = "saturate")]
    pub(crate) direct: Option<String>,
    /// The Causeway before that upstream, e.g. `http://127.0.0.1:4004`
    #[arg(long, value_name = "URL")]
    pub(crate) via: String,
    /// Pairs of calls a second, each begun at its time whether or not the earlier ones have ended
    #[arg(long, default_value_t = 200, allow_negative_numbers = true, value_parser = value_parser!(u32).range(1..=20_000))]
    pub(crate) rate: u32,
    /// For how long
    #[arg(long, default_value_t = 10, allow_negative_numbers = true, value_parser = value_parser!(u32).range(1..=3600))]
    pub(crate) seconds: u32,
    /// Let the calls stream, and measure to the first token
    #[arg(long)]
    pub(crate) stream: bool,
    /// Measure how many calls a second end when each connection begins one after another
    #[arg(long, conflicts_with = "direct")]
    pub(crate) saturate: bool,
    /// Connections of --saturate
    #[arg(long, default_value_t = 64, allow_negative_numbers = true, value_parser = value_parser!(u32).range(1..=10_000))]
    pub(crate) connections: u32,
    /// Print one JSON object instead of a table
    #[arg(long)]
    pub(crate) json: bool,
}

/// What `bench streams` measures with. The upstream must be a simulated one with `stamps`, and as
/// fast as is said here.
#[derive(Debug, Clone, Args)]
pub(crate) struct Streams {
    /// The Causeway, e.g. `http://127.0.0.1:4004`
    #[arg(long, value_name = "URL")]
    pub(crate) url: String,
    /// How many clients
    #[arg(long, default_value_t = 10_000, allow_negative_numbers = true, value_parser = value_parser!(u32).range(1..=50_000))]
    pub(crate) clients: u32,
    /// How long each stream lasts
    #[arg(long, default_value_t = 60, allow_negative_numbers = true, value_parser = value_parser!(u32).range(1..=3600))]
    pub(crate) seconds: u32,
    /// Tokens a second of each stream
    #[arg(long, default_value_t = 5, allow_negative_numbers = true, value_parser = value_parser!(u32).range(1..=1000))]
    pub(crate) tokens_per_second: u32,
    /// Over how many seconds the clients begin
    #[arg(long, default_value_t = 10, allow_negative_numbers = true, value_parser = value_parser!(u32).range(0..=600))]
    pub(crate) ramp: u32,
    /// Print one JSON object instead of a table
    #[arg(long)]
    pub(crate) json: bool,
}

/// Measures and prints.
///
/// # Errors
/// When what is to be measured is not there.
pub(crate) async fn run(what: Bench) -> anyhow::Result<ExitCode> {
    match what {
        Bench::Queue(options) => queue::run(*options).await,
        Bench::Gateway(options) => gateway::run(*options).await,
        Bench::Streams(options) => streams::run(*options).await,
    }
}
