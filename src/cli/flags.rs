//! The flags of settings: each is also a key of the configuration file and an environment variable.

use std::{
    net::{IpAddr, SocketAddr},
    time::Duration,
};

use clap::{Args, builder::RangedI64ValueParser as Whole};
use serde::Serialize;

use crate::config::{LogFormat, duration};

#[derive(Debug, Default, Args, Serialize)]
pub(crate) struct ListenFlags {
    /// The address of the API; port 0 takes a free one [default: 127.0.0.1:4004]
    #[arg(long, value_name = "ADDR:PORT", value_parser = address)]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) bind: Option<SocketAddr>,
    /// Serve every client without a key, although the port is open beyond this machine and no
    /// tenant is configured
    #[arg(long)]
    #[serde(skip_serializing_if = "is_false")]
    pub(crate) allow_open_bind: bool,
}

#[derive(Debug, Default, Args, Serialize)]
pub(crate) struct StoreFlags {
    /// The Redis that holds the queue, e.g. `redis://127.0.0.1:6379`; api and worker need one
    /// [default: embedded in up]
    #[arg(long, value_name = "URL")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) redis: Option<String>,
}

#[derive(Debug, Default, Args, Serialize)]
pub(crate) struct UpstreamFlags {
    /// The OpenAI-compatible server to call, e.g. `http://127.0.0.1:9101/v1` [default: simulated
    /// without --redis]
    #[arg(long, value_name = "URL")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) upstream: Option<String>,
    /// The environment variable that holds the server's API key [default: no key]
    #[arg(long, value_name = "NAME")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) api_key_env: Option<String>,
}

#[derive(Debug, Default, Args, Serialize)]
// `allow_negative_numbers` makes a negative number a value, so that its error names the flag and
// its range.
pub(crate) struct CallFlags {
    #[command(flatten)]
    #[serde(flatten)]
    pub(crate) upstream: UpstreamFlags,
    /// Permit simulated answers where no upstream is configured; needed with a Redis
    #[arg(long)]
    #[serde(skip_serializing_if = "is_false")]
    pub(crate) simulate: bool,
    /// The number of concurrent calls [default: 256]
    #[arg(long, value_name = "N", allow_negative_numbers = true, value_parser = Whole::<usize>::new().range(1..=100_000))]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) concurrency: Option<usize>,
    /// The time that running calls may take after a signal to stop [default: 30]
    #[arg(long, value_name = "SECONDS", allow_negative_numbers = true, value_parser = duration::parse)]
    #[serde(with = "duration::optional", skip_serializing_if = "Option::is_none")]
    pub(crate) drain: Option<Duration>,
    /// The time without a sign of life after which a worker's jobs go to another [default: 15]
    #[arg(long, value_name = "SECONDS", allow_negative_numbers = true, value_parser = duration::parse)]
    #[serde(with = "duration::optional", skip_serializing_if = "Option::is_none")]
    pub(crate) lease: Option<Duration>,
}

#[derive(Debug, Default, Args, Serialize)]
pub(crate) struct LogFlags {
    /// The messages to log, e.g. debug or `info,causeway_worker=trace` [default: info]
    #[arg(id = "log_filter", long = "log-filter", value_name = "FILTER")]
    #[serde(skip_serializing_if = "Option::is_none")]
    filter: Option<String>,
    /// The format of messages [default: text]
    #[arg(id = "log_format", long = "log-format", value_name = "FORMAT")]
    #[serde(skip_serializing_if = "Option::is_none")]
    format: Option<LogFormat>,
}

#[derive(Debug, Default, Args, Serialize)]
pub(crate) struct SimulatedFlags {
    /// The address to listen on [default: 127.0.0.1]
    #[arg(long, value_name = "ADDR")]
    #[serde(skip_serializing_if = "Option::is_none")]
    host: Option<IpAddr>,
    /// The port; 0 takes a free one [default: 9100]
    #[arg(long, value_name = "PORT", allow_negative_numbers = true)]
    #[serde(skip_serializing_if = "Option::is_none")]
    port: Option<u16>,
    /// The time to the first token [default: 200ms]
    #[arg(long, value_name = "SECONDS", allow_negative_numbers = true, value_parser = duration::parse)]
    #[serde(with = "duration::optional", skip_serializing_if = "Option::is_none")]
    first_token: Option<Duration>,
    /// Tokens per second after the first [default: 50]
    #[arg(long, value_name = "N", allow_negative_numbers = true)]
    #[serde(skip_serializing_if = "Option::is_none")]
    tokens_per_second: Option<f64>,
    /// The number of tokens of an answer, unless the request allows fewer [default: 64]
    #[arg(long, value_name = "N", allow_negative_numbers = true)]
    #[serde(skip_serializing_if = "Option::is_none")]
    tokens: Option<u32>,
    /// The duration of each whole call, instead of a rate of tokens [default: not fixed]
    #[arg(long, value_name = "SECONDS", allow_negative_numbers = true, value_parser = duration::parse)]
    #[serde(with = "duration::optional", skip_serializing_if = "Option::is_none")]
    call: Option<Duration>,
    /// Make each token its number and its due time, for `bench streams`
    #[arg(long)]
    #[serde(skip_serializing_if = "is_false")]
    stamps: bool,
    /// The seed of the failures: the same seed gives the same failures [default: 1]
    #[arg(long, value_name = "N", allow_negative_numbers = true, value_parser = Whole::<u64>::new().range(0..))]
    #[serde(skip_serializing_if = "Option::is_none")]
    seed: Option<u64>,
    /// Share of calls refused with 429 and Retry-After, 0 to 1 [default: 0]
    #[arg(long, value_name = "SHARE", allow_negative_numbers = true)]
    #[serde(skip_serializing_if = "Option::is_none")]
    rate_limited: Option<f64>,
    /// The Retry-After of refused calls [default: 1]
    #[arg(long, value_name = "SECONDS", allow_negative_numbers = true, value_parser = duration::parse)]
    #[serde(with = "duration::optional", skip_serializing_if = "Option::is_none")]
    retry_after: Option<Duration>,
    /// Share of calls that fail with 500, 0 to 1 [default: 0]
    #[arg(long, value_name = "SHARE", allow_negative_numbers = true)]
    #[serde(skip_serializing_if = "Option::is_none")]
    errors: Option<f64>,
    /// Share of calls that never answer, 0 to 1 [default: 0]
    #[arg(long, value_name = "SHARE", allow_negative_numbers = true)]
    #[serde(skip_serializing_if = "Option::is_none")]
    hangs: Option<f64>,
    /// Share of calls that are cut off in the middle of the answer, 0 to 1 [default: 0]
    #[arg(long, value_name = "SHARE", allow_negative_numbers = true)]
    #[serde(skip_serializing_if = "Option::is_none")]
    cuts: Option<f64>,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "the signature that serde calls")]
fn is_false(flag: &bool) -> bool {
    !flag
}

/// Parses an address with a port.
fn address(text: &str) -> Result<SocketAddr, &'static str> {
    text.parse().map_err(|_| "write an IP address with a port, such as 127.0.0.1:4004")
}
