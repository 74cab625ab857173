//! The flags of the commands for jobs.

use std::{path::PathBuf, time::Duration};

use clap::{Args, Subcommand};
use jiff::Timestamp;
use serde::Serialize;

use super::server::ServerArgs;
use crate::{config::duration, timestamps};

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub(crate) enum JobClass {
    Interactive,
    Standard,
    Batch,
}

#[derive(Debug, Args)]
// Exactly one of both is required.
#[command(group = clap::ArgGroup::new("what").args(["prompt", "file"]).required(true))]
pub(crate) struct SubmitArgs {
    /// The message to the model
    #[arg(value_parser = prompt)]
    pub(crate) prompt: Option<String>,
    /// A file of jobs, `-` for standard input: one job (with a `body`) or only its body as JSON,
    /// `{"jobs": […]}`, or a line of JSON for each job
    #[arg(long, value_name = "FILE")]
    pub(crate) file: Option<PathBuf>,
    /// Wait for the answer and print it
    #[arg(long)]
    pub(crate) wait: bool,
    /// Print the answer's tokens as they arrive
    #[arg(long)]
    pub(crate) stream: bool,
    /// Print a line of JSON for each job: as accepted, or with --wait as ended
    #[arg(long, conflicts_with = "stream")]
    pub(crate) json: bool,
    #[command(flatten)]
    pub(crate) job: JobFlags,
    /// Make it safe to repeat this command: the same key gives the same job
    #[arg(long, value_name = "KEY")]
    pub(crate) idempotency_key: Option<String>,
    #[command(flatten)]
    pub(crate) server: ServerArgs,
}

/// The flags that apply to each submitted job.
#[derive(Debug, Args)]
pub(crate) struct JobFlags {
    /// The model [default: default]
    #[arg(long, value_name = "NAME")]
    pub(crate) model: Option<String>,
    /// The urgency of the job [default: standard]
    #[arg(long, value_name = "CLASS")]
    pub(crate) class: Option<JobClass>,
    /// The session that orders the job [default: none]
    #[arg(long, value_name = "KEY")]
    pub(crate) session: Option<String>,
    /// A label, which is returned with the job; can be given several times
    #[arg(long, value_name = "NAME=VALUE", value_parser = label)]
    pub(crate) metadata: Vec<(String, String)>,
    /// The time that the job waits before it may run
    #[arg(long, value_name = "SECONDS", allow_negative_numbers = true, value_parser = duration::parse)]
    pub(crate) delay: Option<Duration>,
    /// The time by which the job must have ended, counted from now; more than --delay
    #[arg(long, value_name = "SECONDS", allow_negative_numbers = true, value_parser = duration::parse)]
    pub(crate) deadline: Option<Duration>,
    /// The receiver of the job's webhook event [default: the tenant's own, if any]
    #[arg(long, value_name = "URL")]
    pub(crate) webhook: Option<String>,
}

fn prompt(text: &str) -> Result<String, &'static str> {
    if text.trim().is_empty() { Err("it is empty: write the message") } else { Ok(text.to_owned()) }
}

fn label(text: &str) -> Result<(String, String), String> {
    let (name, value) = text.split_once('=').ok_or("it must be NAME=VALUE")?;
    Ok((name.to_owned(), value.to_owned()))
}

#[derive(Debug, Args)]
pub(crate) struct JobArgs {
    /// The job's id
    pub(crate) job: String,
    #[command(flatten)]
    pub(crate) server: ServerArgs,
}

#[derive(Debug, Subcommand)]
pub(crate) enum JobsCommand {
    /// List jobs, newest first
    List(Box<JobsList>),
    /// Show one job: its state, its failed attempts, its request and its answer
    Show(JobsShow),
    /// Cancel a waiting or running job
    Cancel(JobArgs),
    /// Retry a failed, cancelled or expired job, or all jobs of one state
    Retry(Box<JobsRetry>),
}

#[derive(Debug, Args)]
pub(crate) struct JobsShow {
    /// The job's id
    pub(crate) job: String,
    /// Print JSON
    #[arg(long)]
    pub(crate) json: bool,
    #[command(flatten)]
    pub(crate) server: ServerArgs,
}

/// The flags that select jobs.
#[derive(Debug, Args)]
pub(crate) struct JobFilter {
    /// Only those in this state: queued, scheduled, running, succeeded, failed, cancelled, expired
    #[arg(long, value_name = "STATUS")]
    pub(crate) status: Option<String>,
    /// Only those of this class
    #[arg(long, value_name = "CLASS")]
    pub(crate) class: Option<JobClass>,
    /// Only those of this session
    #[arg(long, value_name = "KEY")]
    pub(crate) session: Option<String>,
    /// Only those that were accepted since a time: how long ago, e.g. 90m or 2h, or a timestamp,
    /// e.g. 2026-01-31T12:00:00Z
    #[arg(long, value_name = "TIME", value_parser = timestamps::parse)]
    pub(crate) since: Option<Timestamp>,
    /// Only those of this model
    #[arg(long, value_name = "NAME")]
    pub(crate) model: Option<String>,
    /// Only those that ended with this error code, e.g. `upstream_timeout` or cancelled
    #[arg(long, value_name = "CODE")]
    pub(crate) error_code: Option<String>,
    /// Those of this tenant; only administrators see other tenants' jobs [default: your own]
    #[arg(long, value_name = "ID")]
    pub(crate) tenant: Option<String>,
}

#[derive(Debug, Args)]
pub(crate) struct JobsList {
    #[command(flatten)]
    pub(crate) filter: JobFilter,
    /// The number of jobs, 1 to 1000
    #[arg(long, value_name = "N", default_value_t = 20, allow_negative_numbers = true, value_parser = clap::value_parser!(u16).range(1..=1000))]
    pub(crate) limit: u16,
    /// Only those older than this job
    #[arg(long, value_name = "JOB")]
    pub(crate) after: Option<String>,
    /// Those of all tenants that `tenant list` shows, for administrators; makes one call for each
    /// tenant
    #[arg(long, conflicts_with_all = ["tenant", "after"])]
    pub(crate) all_tenants: bool,
    /// Print a line of JSON for each job instead of a table
    #[arg(long)]
    pub(crate) json: bool,
    #[command(flatten)]
    pub(crate) server: ServerArgs,
}

/// The flags that select many jobs, which exclude the id of one.
const SELECTORS: [&str; 6] = ["class", "session", "since", "model", "error_code", "tenant"];

#[derive(Debug, Args)]
// A retry without any selection would concern every job.
#[command(group = clap::ArgGroup::new("which").args(["job", "status"]).required(true))]
pub(crate) struct JobsRetry {
    /// The job's id
    #[arg(conflicts_with_all = SELECTORS)]
    pub(crate) job: Option<String>,
    #[command(flatten)]
    pub(crate) filter: JobFilter,
    #[command(flatten)]
    pub(crate) server: ServerArgs,
}
