//! The start-up lines: the role of the process, its address, its store, its upstreams, and a
//! command to try.

use std::{fmt, net::SocketAddr};

use crate::config::{Config, ConfiguredLane, ConfiguredUpstream, duration};

/// The role of a process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Role {
    /// API, worker and queue in one process.
    Up,
    /// Serves clients only.
    Api,
    /// Calls upstreams only.
    Worker,
}

/// The start-up lines; `Display` writes them.
#[derive(Debug)]
pub(crate) struct Banner<'a> {
    pub(crate) role: Role,
    pub(crate) config: &'a Config,
    /// The address on which the API listens, with the real number in place of port 0.
    pub(crate) api: Option<SocketAddr>,
    /// The number of tenants, from the configuration and from the store.
    pub(crate) tenants: usize,
    /// The address on which the worker's probe listens.
    pub(crate) probe: Option<SocketAddr>,
}

impl fmt::Display for Banner<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let what = match self.role {
            Role::Up => "API, worker and queue in one process",
            Role::Api => "an API process",
            Role::Worker => "a worker process",
        };
        writeln!(f, "causeway {}: {what}", env!("CARGO_PKG_VERSION"))?;
        if let Some(address) = self.api {
            writeln!(f, "  serving   http://{address}")?;
            match self.tenants {
                // Only this machine reaches the port.
                0 if address.ip().is_loopback() => {}
                0 => writeln!(f, "  open      NO KEYS: every client of this address is served")?,
                count => writeln!(f, "  tenants   {count}, each with its keys")?,
            }
        }
        match &self.config.redis {
            Some(url) => writeln!(f, "  store     Redis at {}", url.without_password())?,
            None => writeln!(
                f,
                "  store     embedded, in memory: jobs are lost when this process ends"
            )?,
        }
        match self.role {
            Role::Up | Role::Worker => {
                self.upstreams(
                    f,
                    "SIMULATED: answers are made up; --upstream URL calls a real model",
                )?;
                let drain = duration::format(self.config.drain);
                let concurrency = self.config.concurrency;
                writeln!(
                    f,
                    "  worker    {concurrency} calls at once, {drain} to finish them when stopped"
                )?;
            }
            Role::Api => {
                self.upstreams(f, "none here: workers have theirs; --upstream URL is for models, audio and images")?;
                writeln!(f, "  worker    none here: `causeway worker` runs the jobs")?;
            }
        }
        if let Some(address) = self.probe {
            writeln!(f, "  probe     http://{address}/healthz")?;
        }
        if let Some(address) = self.api {
            // The user's shell expands `$KEY`: the key itself is never printed.
            let key = if self.tenants == 0 { "" } else { "-H \"authorization: Bearer $KEY\" " };
            writeln!(
                f,
                "  try       curl http://{address}/bridge/chat {key}-H 'content-type: application/json' \
                 -d '{{\"user_id\":\"u1\",\"username\":\"Ann\",\"message\":\"hello\",\"room\":\
                 \"The Tower\"}}'"
            )?;
        }
        Ok(())
    }
}

impl Banner<'_> {
    /// Writes a line for each upstream; `without` is the text for lanes that have none.
    fn upstreams(&self, f: &mut fmt::Formatter<'_>, without: &str) -> fmt::Result {
        let call = |f: &mut fmt::Formatter<'_>, configured: &ConfiguredUpstream, lane: &str| {
            let ConfiguredUpstream { settings, key_env, proxy_from } = configured;
            let key =
                key_env.as_ref().map_or(String::new(), |name| format!(", with the key in {name}"));
            let proxy = settings.proxy.as_ref().zip(*proxy_from);
            let proxy = proxy.map_or(String::new(), |(proxy, from)| {
                format!(", through the proxy {proxy} ({from})")
            });
            writeln!(f, "  upstream  {}{key}{proxy}{lane}", settings.address)
        };
        let lanes = &self.config.lanes;
        let is_own = |lane: &&ConfiguredLane| lane.upstream.is_some() || lane.proxy.is_some();
        for lane in lanes.iter().filter(is_own) {
            if let Some(configured) = self.config.upstream_of(Some(lane)) {
                call(f, &configured, &format!(" (lane {})", lane.name))?;
            }
        }
        let others = lanes.iter().any(|lane| is_own(&lane));
        let rest = if others { " (the other lanes)" } else { "" };
        match self.config.upstream_of(None) {
            // No lane uses the upstream of the top level.
            _ if others && lanes.iter().all(|lane| is_own(&lane)) => Ok(()),
            Some(configured) => call(f, &configured, rest),
            None => writeln!(f, "  upstream  {without}{rest}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::HiddenText;

    fn lines(role: Role, config: &Config, api: Option<&str>) -> String {
        let api = api.map(|address| address.parse().unwrap());
        Banner { role, config, api, tenants: 0, probe: None }.to_string()
    }

    #[test]
    fn simulated_answers_are_announced() {
        let text = lines(Role::Up, &Config::default(), Some("127.0.0.1:4711"));
        for part in ["jobs are lost", "SIMULATED", "http://127.0.0.1:4711\n", "curl http://127"] {
            assert!(text.contains(part), "{text}");
        }
        assert!(!text.contains("NO KEYS"));
    }

    #[test]
    fn the_banner_hides_passwords() {
        let config = Config {
            redis: Some(HiddenText::new("redis://u:secret@db:6379")),
            upstream: Some(HiddenText::new("https://u:secret@api.example/v1?key=secret")),
            proxy: Some(HiddenText::new("http://u:secret@proxy:3128")),
            api_key_env: Some("MY_KEY".to_owned()),
            api_key: Some(HiddenText::new("sk-secret")),
            ..Config::default()
        };
        let text = lines(Role::Worker, &config, None);
        for part in [
            "Redis at redis://db:6379",
            "https://api.example/v1, with the key in MY_KEY, through the proxy http://proxy:3128 (proxy)",
        ] {
            assert!(text.contains(part), "{text}");
        }
        assert!(!text.contains("secret") && !text.contains("curl"), "{text}");
    }

    #[test]
    fn an_open_address_is_announced() {
        let text = lines(Role::Api, &Config::default(), Some("0.0.0.0:4004"));
        assert!(text.contains("NO KEYS") && text.contains("causeway worker"), "{text}");
    }

    #[test]
    fn an_api_process_names_its_upstream() {
        let text = lines(Role::Api, &Config::default(), Some("127.0.0.1:4711"));
        assert!(text.contains("upstream  none here: workers have theirs"), "{text}");
        let upstream = Some(HiddenText::new("http://127.0.0.1:9101/v1"));
        let config = Config { upstream, ..Config::default() };
        let text = lines(Role::Api, &config, Some("127.0.0.1:4711"));
        assert!(text.contains("upstream  http://127.0.0.1:9101/v1\n"), "{text}");
    }
}
