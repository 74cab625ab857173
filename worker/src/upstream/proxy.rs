//! Proxies between the worker and an upstream, from a setting or from the environment.

use std::fmt;

use hyper_util::client::proxy::matcher::Matcher;
use reqwest::Url;

use super::{
    address::{self, Address},
    secret::UpstreamSecret,
};

/// The proxy schemes that the HTTP client supports.
const SCHEMES: [&str; 6] = ["http", "https", "socks4", "socks4a", "socks5", "socks5h"];

/// A proxy. Its `Display` and `Debug` omit the credentials.
#[derive(Clone, PartialEq, Eq)]
pub struct Proxy {
    url: UpstreamSecret,
    /// Parts of its credentials that a proxy may echo.
    secrets: Vec<UpstreamSecret>,
    shown: String,
}

/// The reason why a text is not a proxy address. Its message contains no secret.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("is not a proxy ({0}); write http://host:port, https://host:port or socks5h://host:port")]
pub struct InvalidProxy(String);

impl Proxy {
    /// Parses the URL of a proxy. The default scheme is `http`, as in curl.
    ///
    /// # Errors
    /// If `text` is not such a URL.
    pub fn parse(text: &str) -> Result<Self, InvalidProxy> {
        let text = text.trim();
        let whole = if text.contains("://") { text.to_owned() } else { format!("http://{text}") };
        let mut url = Url::parse(&whole).map_err(|error| InvalidProxy(error.to_string()))?;
        if !SCHEMES.contains(&url.scheme()) {
            return Err(InvalidProxy(format!("its scheme is {}", url.scheme())));
        }
        if !url.has_host() {
            return Err(InvalidProxy("it has no host".to_owned()));
        }
        let secret = UpstreamSecret::new(url.as_str());
        let secrets = address::secrets(&url, address::basic_authorization(&url).as_ref());
        // Neither call fails: the URL has a host.
        url.set_username("").ok();
        url.set_password(None).ok();
        let shown = url.as_str().trim_end_matches('/').to_owned();
        Ok(Self { url: secret, secrets, shown })
    }

    /// Returns its password and its user info: encoded, decoded, and as they are sent.
    pub(super) fn secrets(&self) -> &[UpstreamSecret] {
        &self.secrets
    }

    /// Returns the URL with its credentials.
    pub(super) fn expose(&self) -> &str {
        self.url.expose()
    }
}

impl fmt::Display for Proxy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.shown)
    }
}

impl fmt::Debug for Proxy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Proxy({self})")
    }
}

/// The proxies in the environment, by the rules of curl and the SDKs.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ProxyVariables {
    http: Option<(&'static str, Proxy)>,
    https: Option<(&'static str, Proxy)>,
    no_proxy: String,
}

/// An environment variable for a proxy with an invalid value.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the variable {0} {1}")]
pub struct InvalidVariable(&'static str, InvalidProxy);

impl ProxyVariables {
    /// Reads `http_proxy`, `https_proxy`, `all_proxy` and `no_proxy`; lower case takes precedence over upper case.
    ///
    /// `HTTP_PROXY` is ignored if `REQUEST_METHOD` is set: in a CGI process a client sets it with the header
    /// `Proxy` (CVE-2016-5385, "httpoxy").
    ///
    /// # Errors
    /// If the value of a variable is not a proxy URL.
    pub fn read<'a>(get: impl Fn(&str) -> Option<&'a str>) -> Result<Self, InvalidVariable> {
        let is_cgi = get("REQUEST_METHOD").is_some();
        let first = |names: [&'static str; 2]| {
            let mut set = names.into_iter().filter(|name| !(is_cgi && *name == "HTTP_PROXY"));
            set.find_map(|name| {
                Some((name, get(name)?.trim())).filter(|(_, text)| !text.is_empty())
            })
        };
        let proxy = |names| {
            let read = |(name, text)| match Proxy::parse(text) {
                Ok(proxy) => Ok((name, proxy)),
                Err(error) => Err(InvalidVariable(name, error)),
            };
            first(names).map(read).transpose()
        };
        // `all_proxy` is the fallback of both schemes.
        let all = proxy(["all_proxy", "ALL_PROXY"])?;
        Ok(Self {
            http: proxy(["http_proxy", "HTTP_PROXY"])?.or_else(|| all.clone()),
            https: proxy(["https_proxy", "HTTPS_PROXY"])?.or(all),
            no_proxy: first(["no_proxy", "NO_PROXY"]).map_or("", |(_, text)| text).to_owned(),
        })
    }

    /// Returns the proxy for `address`, and the variable that names it.
    ///
    /// Loopback addresses are not excluded: like curl and the SDKs, Causeway sends them to the proxy unless
    /// `no_proxy` names them, so all programs of a machine follow one rule.
    #[must_use]
    pub fn of(&self, address: &Address) -> Option<(&'static str, &Proxy)> {
        let url = address.url();
        let named = if url.scheme() == "https" { &self.https } else { &self.http };
        let (name, proxy) = named.as_ref()?;
        let uri = url.as_str().parse().ok()?;
        // The proxy is a placeholder: the matcher is only used to apply `no_proxy`.
        let matcher = Matcher::builder().all("http://proxy").no(exceptions(&self.no_proxy, url));
        matcher.build().intercept(&uri).map(|_| (*name, proxy))
    }
}

/// Returns the entries of `no_proxy` that apply to the port of `url`, in the matcher's form: `*.host` becomes
/// `.host`, and `host:port` applies to that port only.
fn exceptions(list: &str, url: &Url) -> String {
    let port = url.port_or_known_default();
    let entry = |entry: &str| {
        let entry = entry.trim();
        let entry = entry.strip_prefix('*').filter(|rest| !rest.is_empty()).unwrap_or(entry);
        match entry.rsplit_once(':') {
            // The colons of an IPv6 address without brackets do not separate a port.
            Some((host, _)) if host.contains(':') && !host.ends_with(']') => Some(entry.to_owned()),
            Some((host, text)) => {
                let bare = host.trim_matches(['[', ']']).to_owned();
                text.parse().ok().filter(|number| port == Some(*number)).map(|_: u16| bare)
            }
            None => Some(entry.to_owned()),
        }
    };
    let entries: Vec<String> = list.split(',').filter_map(entry).collect();
    entries.join(",")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn chosen(variables: &[(&str, &str)], address: &str) -> Option<String> {
        let get = |name: &str| variables.iter().find(|(key, _)| *key == name).map(|(_, v)| *v);
        let variables = ProxyVariables::read(get).unwrap();
        let (name, proxy) = variables.of(&Address::parse(address).unwrap())?;
        Some(format!("{name} {proxy}"))
    }

    #[test]
    fn the_scheme_chooses_the_variable() {
        let both = [("HTTP_PROXY", "a:1"), ("HTTPS_PROXY", "http://b:2")];
        assert_eq!(chosen(&both, "http://h/v1").as_deref(), Some("HTTP_PROXY http://a:1"));
        assert_eq!(chosen(&both, "https://h/v1").as_deref(), Some("HTTPS_PROXY http://b:2"));
        let all = [("ALL_PROXY", "socks5h://c:3"), ("https_proxy", "")];
        assert_eq!(chosen(&all, "https://h/v1").as_deref(), Some("ALL_PROXY socks5h://c:3"));
        assert_eq!(chosen(&[], "http://h/v1"), None);
    }

    #[test]
    fn lower_case_comes_first() {
        let both = [("HTTP_PROXY", "a:1"), ("http_proxy", "b:2")];
        assert_eq!(chosen(&both, "http://h/v1").as_deref(), Some("http_proxy http://b:2"));
    }

    #[test]
    fn a_cgi_request_sets_no_proxy() {
        let cgi = [("HTTP_PROXY", "a:1"), ("REQUEST_METHOD", "GET")];
        assert_eq!(chosen(&cgi, "http://h/v1"), None);
    }

    #[test]
    fn no_proxy_names_exceptions() {
        for (list, address, is_proxied) in [
            ("h.example", "http://h.example/v1", false),
            ("h.example", "http://a.h.example/v1", false),
            (".h.example", "http://a.h.example/v1", false),
            ("*.h.example", "http://a.h.example/v1", false),
            ("h.example", "http://oh.example/v1", true),
            ("a, b ,h.example", "http://h.example/v1", false),
            ("*", "http://h.example/v1", false),
            ("127.0.0.1", "http://127.0.0.1:9/v1", false),
            ("10.0.0.0/8", "http://10.1.2.3/v1", false),
            ("10.0.0.0/8", "http://11.1.2.3/v1", true),
            ("::1", "http://[::1]:9/v1", false),
            ("[::1]:9", "http://[::1]:9/v1", false),
            ("h.example:8000", "http://h.example:8000/v1", false),
            ("h.example:8000", "http://h.example/v1", true),
            ("", "http://127.0.0.1/v1", true),
            ("", "http://localhost/v1", true),
        ] {
            let variables = [("http_proxy", "http://p:1"), ("no_proxy", list)];
            assert_eq!(chosen(&variables, address).is_some(), is_proxied, "{list:?} {address}");
        }
    }

    #[test]
    fn a_proxy_shows_no_credentials() {
        let proxy = Proxy::parse("http://user:secret@p:3128").unwrap();
        assert_eq!(proxy.to_string(), "http://p:3128");
        assert!(!format!("{proxy:?}").contains("secret"));
        assert!(proxy.expose().contains("user:secret@"));
    }

    #[test]
    fn other_texts_are_no_proxies() {
        for text in ["ftp://p:1", "http://", "a b"] {
            assert!(Proxy::parse(text).is_err(), "{text}");
        }
        let get = |name: &str| (name == "https_proxy").then_some("ftp://user:secret@p:1");
        let message = ProxyVariables::read(get).unwrap_err().to_string();
        assert!(message.contains("https_proxy") && !message.contains("secret"), "{message}");
    }
}
