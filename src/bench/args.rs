//! The options of the measurements.

use clap::{Args, Subcommand, value_parser};

/// The measurements of `causeway bench`.
#[derive(Debug, Subcommand)]
pub(crate) enum BenchCommand {
    /// Measure the engine: jobs that do nothing, without HTTP and without an upstream
    Queue(Box<QueueBench>),
    /// Measure what a chat call costs on its way through Causeway
    Gateway(Box<GatewayBench>),
    /// Let many clients read a stream at once, and check each token
    Streams(Box<StreamsBench>),
}

/// The options of `causeway bench queue`.
#[derive(Debug, Clone, Args)]
pub(crate) struct QueueBench {
    /// The store: `embedded`, or the URL of a Redis, preferably an empty one; the measurement
    /// removes its keys
    #[arg(long, default_value = "embedded", value_name = "URL|embedded")]
    pub(crate) store: String,
    /// The number of jobs
    #[arg(long, default_value_t = 20_000, allow_negative_numbers = true, value_parser = value_parser!(u32).range(1..=10_000_000))]
    pub(crate) jobs: u32,
    /// Bytes of each job's body
    #[arg(long, default_value_t = 200, allow_negative_numbers = true, value_parser = value_parser!(u32).range(2..=1_000_000))]
    pub(crate) payload: u32,
    /// Jobs per enqueue call and per claim; 1 makes a call for each job
    #[arg(long, default_value_t = 32, allow_negative_numbers = true, value_parser = value_parser!(u32).range(1..=1000))]
    pub(crate) batch: u32,
    /// Jobs per enqueue call, if different [default: as many as --batch]
    #[arg(long, value_name = "N", allow_negative_numbers = true, value_parser = value_parser!(u32).range(1..=10_000))]
    pub(crate) bulk: Option<u32>,
    /// The number of concurrent loops that enqueue, and later of those that drain
    #[arg(long, default_value_t = 1, allow_negative_numbers = true, value_parser = value_parser!(u32).range(1..=256))]
    pub(crate) workers: u32,
    /// The number of tenants that own the jobs in turn
    #[arg(long, default_value_t = 1, allow_negative_numbers = true, value_parser = value_parser!(u32).range(1..=1_000_000))]
    pub(crate) tenants: u32,
    /// Print one JSON object instead of a table
    #[arg(long)]
    pub(crate) json: bool,
}

/// The options of `causeway bench gateway`.
#[derive(Debug, Clone, Args)]
pub(crate) struct GatewayBench {
    /// The upstream for direct calls, e.g. `http://127.0.0.1:9100`
    #[arg(long, value_name = "URL", required_unless_present = "saturate")]
    pub(crate) direct: Option<String>,
    /// The Causeway in front of that upstream, e.g. `http://127.0.0.1:4004`
    #[arg(long, value_name = "URL")]
    pub(crate) via: String,
    /// Pairs of calls per second; each pair starts on schedule, even while earlier ones run
    #[arg(long, default_value_t = 200, allow_negative_numbers = true, value_parser = value_parser!(u32).range(1..=20_000))]
    pub(crate) rate: u32,
    /// The duration of the measurement in seconds
    #[arg(long, default_value_t = 10, allow_negative_numbers = true, value_parser = value_parser!(u32).range(1..=3600))]
    pub(crate) seconds: u32,
    /// Request streams, and measure the time to the first token
    #[arg(long)]
    pub(crate) stream: bool,
    /// Measure the calls per second of connections that start the next call when the last one ends
    #[arg(long, conflicts_with = "direct")]
    pub(crate) saturate: bool,
    /// The number of connections of --saturate
    #[arg(long, default_value_t = 64, allow_negative_numbers = true, value_parser = value_parser!(u32).range(1..=10_000))]
    pub(crate) connections: u32,
    /// Print one JSON object instead of a table
    #[arg(long)]
    pub(crate) json: bool,
}

/// The options of `causeway bench streams`. The upstream must be `causeway simulate --stamps`, with
/// the same rate of tokens.
#[derive(Debug, Clone, Args)]
pub(crate) struct StreamsBench {
    /// The Causeway, e.g. `http://127.0.0.1:4004`
    #[arg(long, value_name = "URL")]
    pub(crate) url: String,
    /// The number of clients
    #[arg(long, default_value_t = 10_000, allow_negative_numbers = true, value_parser = value_parser!(u32).range(1..=50_000))]
    pub(crate) clients: u32,
    /// The duration of each stream in seconds
    #[arg(long, default_value_t = 60, allow_negative_numbers = true, value_parser = value_parser!(u32).range(1..=3600))]
    pub(crate) seconds: u32,
    /// Tokens per second of each stream
    #[arg(long, default_value_t = 5, allow_negative_numbers = true, value_parser = value_parser!(u32).range(1..=1000))]
    pub(crate) tokens_per_second: u32,
    /// The number of seconds within which all clients start
    #[arg(long, default_value_t = 10, allow_negative_numbers = true, value_parser = value_parser!(u32).range(0..=600))]
    pub(crate) ramp: u32,
    /// Print one JSON object instead of a table
    #[arg(long)]
    pub(crate) json: bool,
}
