//! Measurements of Causeway itself.

pub(crate) mod queue;

use clap::{Args, Subcommand};

/// What to measure.
#[derive(Debug, Subcommand)]
pub(crate) enum Bench {
    /// Measure the engine: jobs that do nothing, without HTTP and without an upstream
    Queue(Box<Queue>),
}

/// What `bench queue` measures with.
#[derive(Debug, Clone, Args)]
pub(crate) struct Queue {
    /// The store: `embedded`, or the URL of an empty Redis, where the jobs stay for a minute
    #[arg(long, default_value = "embedded", value_name = "URL|embedded")]
    pub(crate) store: String,
    /// How many jobs
    #[arg(long, default_value_t = 20_000, value_parser = clap::value_parser!(u32).range(1..=10_000_000))]
    pub(crate) jobs: u32,
    /// Bytes of each job's body
    #[arg(long, default_value_t = 200, value_parser = clap::value_parser!(u32).range(2..=1_000_000))]
    pub(crate) payload: u32,
    /// Jobs per enqueue and per step; 1 is a call for each job
    #[arg(long, default_value_t = 32, value_parser = clap::value_parser!(u32).range(1..=1000))]
    pub(crate) batch: u32,
    /// Jobs per enqueue, where that differs [default: as many as --batch]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=10_000))]
    pub(crate) bulk: Option<u32>,
    /// Loops that enqueue, and then loops that drain, at once
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=256))]
    pub(crate) workers: u32,
    /// Tenants among whom the jobs are dealt in turn
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    pub(crate) tenants: u32,
    /// Print one JSON object instead of a table
    #[arg(long)]
    pub(crate) json: bool,
}
