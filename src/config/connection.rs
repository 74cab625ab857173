//! The connection settings of upstreams: address, key, proxy, trusted roots and client certificate.

use std::path::{Path, PathBuf};

use super::{lane::ConfiguredLane, secret::HiddenText, top_level::Config};
use causeway_worker::{Address, Proxy, TlsFiles, UpstreamSecret as Key, UpstreamSettings};

/// The connection settings that the top level and each lane have.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct ConnectionSettings<'a> {
    proxy: Option<&'a HiddenText>,
    ca_file: Option<&'a Path>,
    client_cert_file: Option<&'a Path>,
    client_key_file: Option<&'a Path>,
}

impl ConnectionSettings<'_> {
    /// Returns the first unusable setting and its rule; `None` if all are usable.
    pub(super) fn fault(&self) -> Option<(&'static str, String)> {
        if let Some(proxy) = self.proxy
            && let ProxySetting::Invalid(why) = ProxySetting::of(proxy)
        {
            return Some(("proxy", format!("{why}, or none, or environment")));
        }
        let is_without_certificate =
            self.client_key_file.is_some() && self.client_cert_file.is_none();
        is_without_certificate.then(|| {
            ("client_key_file", "needs client_cert_file, the certificate of the key".to_owned())
        })
    }

    fn client_certificate(&self) -> Option<(PathBuf, PathBuf)> {
        let certificate = self.client_cert_file?;
        let key = self.client_key_file.unwrap_or(certificate);
        Some((certificate.to_owned(), key.to_owned()))
    }
}

/// The meaning of the setting `proxy`.
enum ProxySetting {
    None,
    Environment,
    Named(Proxy),
    Invalid(String),
}

impl ProxySetting {
    fn of(text: &HiddenText) -> Self {
        match text.expose().trim() {
            "none" => Self::None,
            "environment" => Self::Environment,
            url => {
                Proxy::parse(url).map_or_else(|error| Self::Invalid(error.to_string()), Self::Named)
            }
        }
    }
}

/// A configured upstream.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ConfiguredUpstream {
    pub(crate) settings: UpstreamSettings,
    /// The variable that holds the API key.
    pub(crate) key_env: Option<String>,
    /// The source of the proxy: the setting `proxy`, or the name of a variable.
    pub(crate) proxy_from: Option<&'static str>,
}

impl ConfiguredLane {
    pub(super) fn connection(&self) -> ConnectionSettings<'_> {
        ConnectionSettings {
            proxy: self.proxy.as_ref(),
            ca_file: self.ca_file.as_deref(),
            client_cert_file: self.client_cert_file.as_deref(),
            client_key_file: self.client_key_file.as_deref(),
        }
    }
}

impl Config {
    pub(super) fn connection(&self) -> ConnectionSettings<'_> {
        ConnectionSettings {
            proxy: self.proxy.as_ref(),
            ca_file: self.ca_file.as_deref(),
            client_cert_file: self.client_cert_file.as_deref(),
            client_key_file: self.client_key_file.as_deref(),
        }
    }

    /// Returns the upstream of `lane`, or of the top level; `None` if answers are simulated.
    pub(crate) fn upstream_of(&self, lane: Option<&ConfiguredLane>) -> Option<ConfiguredUpstream> {
        let own = lane.and_then(|lane| Some((lane.upstream.as_ref()?, lane)));
        let (url, key, key_env) = match own {
            Some((url, lane)) => (url, &lane.api_key, &lane.api_key_env),
            None => (self.upstream.as_ref()?, &self.api_key, &self.api_key_env),
        };
        // The check at the start has already refused an invalid address.
        let address = Address::parse(url.expose()).ok()?;
        let (own, general) =
            (lane.map(ConfiguredLane::connection).unwrap_or_default(), self.connection());
        let (proxy, proxy_from) = self.proxy_of(own.proxy.or(general.proxy), &address).unzip();
        // Certificate and key are inherited together: a lane's certificate must not meet another
        // key.
        let client = own.client_certificate().or_else(|| general.client_certificate());
        let settings = UpstreamSettings {
            address,
            api_key: key.as_ref().map(|key| Key::new(key.expose())),
            proxy,
            tls: TlsFiles { ca: own.ca_file.or(general.ca_file).map(Path::to_owned), client },
        };
        Some(ConfiguredUpstream { settings, key_env: key_env.clone(), proxy_from })
    }

    /// Returns the proxy for `address` and its source. A configured proxy takes every call; only a
    /// proxy of the environment has exceptions (`NO_PROXY`).
    fn proxy_of(
        &self,
        set: Option<&HiddenText>,
        address: &Address,
    ) -> Option<(Proxy, &'static str)> {
        match set.map_or(ProxySetting::Environment, ProxySetting::of) {
            ProxySetting::None | ProxySetting::Invalid(_) => None,
            ProxySetting::Named(proxy) => Some((proxy, "proxy")),
            ProxySetting::Environment => {
                let (name, proxy) = self.proxy_variables.of(address)?;
                Some((proxy.clone(), name))
            }
        }
    }

    /// Returns each upstream once, with the lanes that call it.
    pub(crate) fn upstreams(&self) -> Vec<(ConfiguredUpstream, Vec<&ConfiguredLane>)> {
        let mut found: Vec<(ConfiguredUpstream, Vec<&ConfiguredLane>)> = Vec::new();
        for lane in &self.lanes {
            let Some(configured) = self.upstream_of(Some(lane)) else { continue };
            match found.iter_mut().find(|(known, _)| *known == configured) {
                Some((_, lanes)) => lanes.push(lane),
                None => found.push((configured, vec![lane])),
            }
        }
        if self.lanes.is_empty() {
            found.extend(self.upstream_of(None).map(|configured| (configured, Vec::new())));
        }
        found
    }
}

#[cfg(test)]
mod tests {
    use causeway_worker::ProxyVariables;

    use super::*;

    fn environment() -> ProxyVariables {
        let get = |name: &str| (name == "http_proxy").then_some("http://env:1");
        ProxyVariables::read(get).unwrap()
    }

    fn lane(name: &str, upstream: Option<&str>) -> ConfiguredLane {
        ConfiguredLane {
            upstream: upstream.map(HiddenText::new),
            ..ConfiguredLane::named(name.parse().unwrap())
        }
    }

    /// Returns the proxy of a lane and its source, given the settings of the top level and of the
    /// lane.
    #[track_caller]
    fn chosen(top: Option<&str>, own: Option<&str>) -> Option<(String, &'static str)> {
        let lane =
            ConfiguredLane { proxy: own.map(HiddenText::new), ..lane("a", Some("http://h/v1")) };
        let (proxy, proxy_variables) = (top.map(HiddenText::new), environment());
        let config = Config { proxy, proxy_variables, ..Config::default() };
        let configured = config.upstream_of(Some(&lane)).unwrap();
        Some((configured.settings.proxy?.to_string(), configured.proxy_from?))
    }

    #[test]
    fn a_lanes_own_proxy_wins() {
        let is = |text: &str, from| Some((text.to_owned(), from));
        let (top, own) = (Some("http://top:1"), Some("http://own:1"));
        assert_eq!(chosen(None, None), is("http://env:1", "http_proxy"));
        assert_eq!(chosen(top, None), is("http://top:1", "proxy"));
        assert_eq!(chosen(top, own), is("http://own:1", "proxy"));
        assert_eq!(chosen(top, Some("none")), None);
        assert_eq!(chosen(Some("none"), None), None);
        assert_eq!(chosen(Some("none"), Some("environment")), is("http://env:1", "http_proxy"));
    }

    #[test]
    fn lanes_share_one_upstream_entry() {
        let upstream = Some(HiddenText::new("http://top/v1"));
        let lanes = vec![lane("a", None), lane("b", Some("http://own/v1")), lane("c", None)];
        let config = Config { upstream, lanes, ..Config::default() };
        let names: Vec<(String, usize)> = config
            .upstreams()
            .iter()
            .map(|(configured, lanes)| (configured.settings.address.to_string(), lanes.len()))
            .collect();
        assert_eq!(names, [("http://top/v1".to_owned(), 2), ("http://own/v1".to_owned(), 1)]);
    }

    #[test]
    fn a_certificate_file_may_hold_its_key() {
        let mut config = Config { client_cert_file: Some("c.pem".into()), ..Config::default() };
        assert_eq!(
            config.connection().client_certificate(),
            Some(("c.pem".into(), "c.pem".into()))
        );
        config.client_key_file = Some("k.pem".into());
        assert_eq!(
            config.connection().client_certificate(),
            Some(("c.pem".into(), "k.pem".into()))
        );
        config.client_cert_file = None;
        assert_eq!(config.connection().fault().unwrap().0, "client_key_file");
    }
}
