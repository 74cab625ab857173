//! Messages on standard error, as text or as JSON.

use std::{io::IsTerminal as _, str::FromStr as _};

use anyhow::{Context as _, anyhow};
use tracing_subscriber::{
    Layer as _, filter::Targets, fmt, layer::SubscriberExt as _, registry,
    util::SubscriberInitExt as _,
};

use crate::config::{Environment, LogFormat, LogSection};

/// The default filter of the Redis client, which a configured filter can override. The client warns
/// at every reconnection attempt; Causeway itself reports that a server is down.
const REDIS_FILTER: &str = "redis=error";

/// Starts logging; once per process. A non-empty variable `NO_COLOR` disables colours
/// (no-color.org).
///
/// # Errors
/// If the filter is invalid.
pub(crate) fn start(log: &LogSection, environment: &Environment) -> anyhow::Result<()> {
    let no_color = environment.get("NO_COLOR").is_some_and(|value| !value.is_empty());
    let messages = fmt::layer()
        .with_writer(std::io::stderr)
        .with_ansi(std::io::stderr().is_terminal() && !no_color);
    let messages = match log.format {
        LogFormat::Text => messages.with_target(false).boxed(),
        LogFormat::Json => messages.json().flatten_event(true).with_span_list(false).boxed(),
    };
    let started = registry().with(messages.with_filter(filter(&log.filter)?)).try_init();
    started.map_err(|error| anyhow!("cannot start logging: {error}"))
}

fn filter(configured: &str) -> anyhow::Result<Targets> {
    // The configured text is parsed alone first, so that an error quotes only that. In the
    // combination the later directive wins.
    Targets::from_str(configured)
        .and_then(|_| Targets::from_str(&format!("{REDIS_FILTER},{configured}")))
        .with_context(|| format!("`log.filter` {configured:?} is not a filter, e.g. info"))
}

#[cfg(test)]
mod tests {
    use tracing::{Level, enabled, subscriber::with_default};

    use super::*;

    /// Returns whether warnings of the Redis client, and messages of Causeway, pass the filter.
    fn passes(configured: &str) -> (bool, bool) {
        let filter = filter(configured).expect("a filter");
        with_default(registry().with(filter), || {
            let warnings = enabled!(target: "redis::cluster_async", Level::WARN);
            (warnings, enabled!(target: "causeway_worker", Level::INFO))
        })
    }

    #[test]
    fn redis_warnings_need_a_filter() {
        assert_eq!(passes("info"), (false, true));
        assert_eq!(passes("debug"), (false, true));
        assert_eq!(passes("info,redis=warn"), (true, true));
    }

    #[test]
    fn an_invalid_filter_is_refused() {
        for wrong in ["causeway=loud", "a=b=c"] {
            assert!(filter(wrong).is_err(), "{wrong}");
        }
    }
}
