//! The flags of `causeway tenant`.

use std::time::Duration;

use clap::{Args, Subcommand, value_parser};
use serde_json::{Map, Value, json};

use super::server::ServerArgs;
use crate::config::duration;

#[derive(Debug, Subcommand)]
pub(crate) enum TenantCommand {
    /// Add a tenant, and print its key once
    Add(TenantAdd),
    /// List tenants, including those of the configuration file
    List(TenantListArgs),
    /// Make a new key and print it once; the old keys end
    Rotate(TenantRotate),
    /// Revoke a tenant with all its keys, or one key; its jobs run on
    Revoke(TenantRevoke),
    /// Change limits; those that are not named stay
    Limit(TenantLimit),
    /// Make a key for the configuration file, and print it once
    Key,
}

impl TenantCommand {
    /// Returns the server to call; `None` if the command needs none.
    pub(crate) fn server(&self) -> Option<&ServerArgs> {
        match self {
            Self::Add(typed) => Some(&typed.server),
            Self::List(typed) => Some(&typed.server),
            Self::Rotate(typed) => Some(&typed.server),
            Self::Revoke(typed) => Some(&typed.server),
            Self::Limit(typed) => Some(&typed.server),
            Self::Key => None,
        }
    }
}

#[derive(Debug, Args)]
pub(crate) struct TenantAdd {
    /// The tenant's id: 1 to 64 of A-Z, a-z, 0-9, `.`, `_` and `-`
    pub(crate) id: String,
    /// Make it an administrator, which sees and changes the data of all tenants
    #[arg(long)]
    pub(crate) admin: bool,
    #[command(flatten)]
    pub(crate) limits: LimitFlags,
    /// The receiver of the webhook events of its jobs, unless a job names one [default: none]
    #[arg(long, value_name = "URL")]
    pub(crate) webhook_url: Option<String>,
    /// The lifetime of its key, e.g. 90d [default: unlimited]
    #[arg(long, value_name = "SPAN", value_parser = duration::parse)]
    pub(crate) expires: Option<Duration>,
    #[command(flatten)]
    pub(crate) server: ServerArgs,
}

#[derive(Debug, Args)]
pub(crate) struct TenantListArgs {
    /// Print JSON instead of a table
    #[arg(long)]
    pub(crate) json: bool,
    #[command(flatten)]
    pub(crate) server: ServerArgs,
}

#[derive(Debug, Args)]
pub(crate) struct TenantRotate {
    /// The tenant's id
    pub(crate) id: String,
    /// The time for which the old keys stay valid, e.g. 1h [default: they end at once]
    #[arg(long, value_name = "SPAN", value_parser = duration::parse)]
    pub(crate) keep_old: Option<Duration>,
    /// The lifetime of the new key, e.g. 90d [default: unlimited]
    #[arg(long, value_name = "SPAN", value_parser = duration::parse)]
    pub(crate) expires: Option<Duration>,
    #[command(flatten)]
    pub(crate) server: ServerArgs,
}

#[derive(Debug, Args)]
pub(crate) struct TenantRevoke {
    /// The tenant's id
    pub(crate) id: String,
    /// Only this key, by the name that `tenant list` shows
    #[arg(long, value_name = "NAME")]
    pub(crate) key: Option<String>,
    #[command(flatten)]
    pub(crate) server: ServerArgs,
}

#[derive(Debug, Args)]
pub(crate) struct TenantLimit {
    /// The tenant's id
    pub(crate) id: String,
    #[command(flatten)]
    pub(crate) limits: LimitFlags,
    #[command(flatten)]
    pub(crate) server: ServerArgs,
}

/// The limits of a tenant; `none` lifts one.
#[derive(Debug, Args)]
pub(crate) struct LimitFlags {
    /// Its share of tokens relative to other tenants, 1 to 1000 [default: 1]
    #[arg(long, value_name = "N", value_parser = value_parser!(u32).range(1..=1000))]
    weight: Option<u32>,
    /// The most of its jobs that run at once in a lane, or none [default: none]
    #[arg(long, value_name = "N", value_parser = limit)]
    max_running: Option<Value>,
    /// The most of its jobs that wait in a lane, or none [default: none]
    #[arg(long, value_name = "N", value_parser = limit)]
    max_queued: Option<Value>,
    /// The most attempts that start per minute in a lane, or none [default: none]
    #[arg(long, value_name = "N", value_parser = limit)]
    requests_per_minute: Option<Value>,
    /// The most tokens per minute in a lane, or none [default: none]
    #[arg(long, value_name = "N", value_parser = limit)]
    tokens_per_minute: Option<Value>,
}

impl LimitFlags {
    /// Returns the typed limits as the API takes them.
    pub(crate) fn typed(&self) -> Map<String, Value> {
        let fields = [
            ("weight", &self.weight.map(Value::from)),
            ("max_running", &self.max_running),
            ("max_queued", &self.max_queued),
            ("requests_per_minute", &self.requests_per_minute),
            ("tokens_per_minute", &self.tokens_per_minute),
        ];
        let given = |(name, value): (&str, &Option<Value>)| Some((name.to_owned(), value.clone()?));
        fields.into_iter().filter_map(given).collect()
    }
}

fn limit(text: &str) -> Result<Value, String> {
    if text == "none" {
        return Ok(Value::Null);
    }
    let number = text.parse::<u64>().ok().filter(|number| *number > 0);
    number.map(|number| json!(number)).ok_or_else(|| "a whole number from 1 on, or none".to_owned())
}
