//! `causeway tenant`.

use std::time::Duration;

use clap::{Args, Subcommand, value_parser};
use serde_json::{Map, Value, json};

use super::Server;
use crate::config::span;

#[derive(Debug, Subcommand)]
pub(crate) enum Tenant {
    /// Add a tenant, and print its key, this once
    Add(TenantAdd),
    /// List tenants, those of the configuration file too
    List(TenantList),
    /// Make a new key, and print it, this once; the old ones end
    Rotate(TenantRotate),
    /// Revoke a tenant with all its keys, or one key; its jobs run on
    Revoke(TenantRevoke),
    /// Change limits; those that are not named stay
    Limit(TenantLimit),
    /// Make a key for the configuration file, and print it, this once
    Key,
}

impl Tenant {
    /// The server to talk to, where one is needed.
    pub(crate) fn server(&self) -> Option<&Server> {
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
    /// Its id: 1 to 64 of A-Z, a-z, 0-9, `.`, `_` and `-`
    pub(crate) id: String,
    /// Let it see and change what concerns all tenants
    #[arg(long)]
    pub(crate) admin: bool,
    #[command(flatten)]
    pub(crate) limits: Limits,
    /// The receiver of the events of its jobs, unless a job names one [default: none]
    #[arg(long, value_name = "URL")]
    pub(crate) webhook_url: Option<String>,
    /// Let its key expire after so long, e.g. 90d [default: never]
    #[arg(long, value_name = "SPAN", value_parser = span::parse)]
    pub(crate) expires: Option<Duration>,
    #[command(flatten)]
    pub(crate) server: Server,
}

#[derive(Debug, Args)]
pub(crate) struct TenantList {
    /// Print JSON instead of a table
    #[arg(long)]
    pub(crate) json: bool,
    #[command(flatten)]
    pub(crate) server: Server,
}

#[derive(Debug, Args)]
pub(crate) struct TenantRotate {
    /// Its id
    pub(crate) id: String,
    /// Keep the old keys valid for so long, e.g. 1h [default: they end at once]
    #[arg(long, value_name = "SPAN", value_parser = span::parse)]
    pub(crate) keep_old: Option<Duration>,
    /// Let the new key expire after so long, e.g. 90d [default: never]
    #[arg(long, value_name = "SPAN", value_parser = span::parse)]
    pub(crate) expires: Option<Duration>,
    #[command(flatten)]
    pub(crate) server: Server,
}

#[derive(Debug, Args)]
pub(crate) struct TenantRevoke {
    /// Its id
    pub(crate) id: String,
    /// Only this key, by the name that `tenant list` shows
    #[arg(long, value_name = "NAME")]
    pub(crate) key: Option<String>,
    #[command(flatten)]
    pub(crate) server: Server,
}

#[derive(Debug, Args)]
pub(crate) struct TenantLimit {
    /// Its id
    pub(crate) id: String,
    #[command(flatten)]
    pub(crate) limits: Limits,
    #[command(flatten)]
    pub(crate) server: Server,
}

/// Limits of a tenant; `none` lifts one.
#[derive(Debug, Args)]
pub(crate) struct Limits {
    /// Its share of tokens relative to others, 1 to 1000 [default: 1]
    #[arg(long, value_name = "N", value_parser = value_parser!(u32).range(1..=1000))]
    weight: Option<u32>,
    /// Most of its jobs that run at once in a lane, or none [default: none]
    #[arg(long, value_name = "N", value_parser = bound)]
    max_running: Option<Value>,
    /// Most of its jobs that wait in a lane, or none [default: none]
    #[arg(long, value_name = "N", value_parser = bound)]
    max_queued: Option<Value>,
    /// Most attempts that start per minute in a lane, or none [default: none]
    #[arg(long, value_name = "N", value_parser = bound)]
    requests_per_minute: Option<Value>,
    /// Most tokens per minute in a lane, or none [default: none]
    #[arg(long, value_name = "N", value_parser = bound)]
    tokens_per_minute: Option<Value>,
}

impl Limits {
    /// Returns the limits that were typed, as the API takes them.
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

fn bound(text: &str) -> Result<Value, String> {
    if text == "none" {
        return Ok(Value::Null);
    }
    let number = text.parse::<u64>().ok().filter(|number| *number > 0);
    number.map(|number| json!(number)).ok_or_else(|| "a whole number from 1 on, or none".to_owned())
}
