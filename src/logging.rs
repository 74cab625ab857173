//! Messages on standard error: text for people, JSON for machines.

use std::io::IsTerminal as _;

use anyhow::{Context as _, anyhow};
use tracing_subscriber::EnvFilter;

use crate::config::{Environment, Log, LogFormat};

/// What holds unless the configured filter names the same target. The Redis client warns of every try
/// while a server is away; that it is away is told by whoever needs it.
const QUIETER: &str = "redis=error";

/// Starts logging; once per process. A variable `NO_COLOR` that is not empty takes the colours away
/// (no-color.org).
///
/// # Errors
/// When the filter cannot be read.
pub(crate) fn start(log: &Log, environment: &Environment) -> anyhow::Result<()> {
    let no_color = environment.get("NO_COLOR").is_some_and(|value| !value.is_empty());
    let messages = tracing_subscriber::fmt()
        .with_env_filter(filter(&log.filter)?)
        .with_writer(std::io::stderr)
        .with_ansi(std::io::stderr().is_terminal() && !no_color);
    let started = match log.format {
        LogFormat::Text => messages.with_target(false).try_init(),
        LogFormat::Json => messages.json().flatten_event(true).with_span_list(false).try_init(),
    };
    started.map_err(|error| anyhow!("cannot start logging: {error}"))
}

fn filter(configured: &str) -> anyhow::Result<EnvFilter> {
    EnvFilter::try_new(configured)
        .and_then(|_| EnvFilter::try_new(format!("{QUIETER},{configured}")))
        .with_context(|| format!("`log.filter` {configured:?} is not a filter, e.g. info"))
}

#[cfg(test)]
mod tests {
    use tracing::{Level, enabled, subscriber::with_default};
    use tracing_subscriber::{layer::SubscriberExt as _, registry};

    use super::*;

    /// Whether warnings of the Redis client and messages of our own are told.
    fn tells(configured: &str) -> (bool, bool) {
        let filter = filter(configured).expect("a filter");
        with_default(registry().with(filter), || {
            let warnings = enabled!(target: "redis::cluster_async", Level::WARN);
            (warnings, enabled!(target: "causeway_worker", Level::INFO))
        })
    }

    #[test]
    fn the_redis_client_warns_where_it_is_asked_to() {
        assert_eq!(tells("info"), (false, true));
        assert_eq!(tells("debug"), (false, true));
        assert_eq!(tells("info,redis=warn"), (true, true));
    }

    #[test]
    fn what_is_no_filter_is_refused() {
        for wrong in ["causeway=loud", "a=b=c"] {
            assert!(filter(wrong).is_err(), "{wrong}");
        }
    }
}
