//! The base URL of an upstream, with its query and user info.

use std::{borrow::Cow, fmt};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use percent_encoding::percent_decode_str;
use reqwest::Url;

use super::secret::UpstreamSecret;

/// The base URL of an upstream. Its `Display` and `Debug` omit user info and query, which may hold secrets.
#[derive(Clone, PartialEq, Eq)]
pub struct Address {
    /// The URL without user info; its path has no trailing slash.
    url: Url,
    basic: Option<UpstreamSecret>,
    /// Parts of user info and query that an upstream may echo.
    secrets: Vec<UpstreamSecret>,
}

/// The reason why a text is not an upstream address. Its message contains no secret.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InvalidAddress {
    /// The text is not a URL.
    #[error("is not a URL ({0}); write http://host:port/v1 or https://host/v1")]
    Url(String),
    /// The scheme is neither `http` nor `https`.
    #[error("begins with {0}:, not with http:// or https://; write http://host:port/v1")]
    Scheme(String),
    /// The URL has a fragment, which is never sent to a server.
    #[error("has a #fragment, which no server would receive; write a # in a path or query as %23")]
    Fragment,
}

impl Address {
    /// Parses an `http` or `https` URL.
    ///
    /// # Errors
    /// If `text` is not such a URL, or has a fragment.
    pub fn parse(text: &str) -> Result<Self, InvalidAddress> {
        let text = text.trim();
        let mut url = Url::parse(text).map_err(|error| InvalidAddress::Url(error.to_string()))?;
        if !matches!(url.scheme(), "http" | "https") {
            return Err(InvalidAddress::Scheme(url.scheme().to_owned()));
        }
        if url.fragment().is_some() {
            return Err(InvalidAddress::Fragment);
        }
        let basic = basic_authorization(&url);
        let secrets = secrets(&url, basic.as_ref());
        // Neither call fails: the URL has a host.
        url.set_username("").ok();
        url.set_password(None).ok();
        let path = url.path().trim_end_matches('/').to_owned();
        url.set_path(&path);
        Ok(Self { url, basic, secrets })
    }

    /// Returns the URL of an endpoint such as `/v1/chat/completions`. The base stands for `/v1`; the path goes
    /// before the base's query, and the endpoint's own query after it.
    #[must_use]
    pub fn join(&self, endpoint: &str) -> Url {
        let (path, query) = match endpoint.split_once('?') {
            Some((path, query)) => (path, Some(query)),
            None => (endpoint, None),
        };
        let mut url = self.url.clone();
        let base = url.path().trim_end_matches('/');
        let joined = format!("{base}{}", path.strip_prefix("/v1").unwrap_or(path));
        url.set_path(&joined);
        if let Some(more) = query {
            let both = url.query().map(|query| format!("{query}&{more}"));
            url.set_query(Some(both.as_deref().unwrap_or(more)));
        }
        url
    }

    /// Returns the same server with the path prefix `prefix`.
    pub(super) fn with_prefix(&self, prefix: &str) -> Self {
        let mut url = self.url.clone();
        url.set_path(prefix);
        Self { url, ..self.clone() }
    }

    /// Returns the path prefix, without a trailing slash.
    pub(super) fn prefix(&self) -> &str {
        self.url.path().trim_end_matches('/')
    }

    /// Returns the `Authorization` header for the user info (RFC 7617).
    pub(super) fn authorization(&self) -> Option<&UpstreamSecret> {
        self.basic.as_ref()
    }

    /// Returns the password and the values of the query, encoded and decoded, and the user info as it is sent.
    pub(super) fn secrets(&self) -> &[UpstreamSecret] {
        &self.secrets
    }

    /// Returns the whole URL, without user info.
    pub(super) fn url(&self) -> &Url {
        &self.url
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(without_query(self.url.clone()).trim_end_matches('/'))
    }
}

impl fmt::Debug for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Address({self})")
    }
}

fn without_query(mut url: Url) -> String {
    url.set_query(None);
    url.into()
}

/// Returns the `Authorization` header for the user info of `url`.
pub(super) fn basic_authorization(url: &Url) -> Option<UpstreamSecret> {
    if url.username().is_empty() && url.password().is_none() {
        return None;
    }
    let mut pair: Vec<u8> = percent_decode_str(url.username()).collect();
    pair.push(b':');
    pair.extend(percent_decode_str(url.password().unwrap_or_default()));
    Some(UpstreamSecret::new(format!("Basic {}", STANDARD.encode(pair))))
}

/// Returns the secrets in `url`: see [`Address::secrets`].
pub(super) fn secrets(url: &Url, basic: Option<&UpstreamSecret>) -> Vec<UpstreamSecret> {
    let query = url.query().into_iter().flat_map(|query| query.split('&'));
    let values = query.filter_map(|pair| Some(pair.split_once('=')?.1));
    // User info without a password may be a token.
    let written = values.chain([url.password().unwrap_or(url.username())]);
    let decode = |text| percent_decode_str(text).decode_utf8_lossy();
    let both = written.flat_map(|text| [Cow::Borrowed(text), decode(text)]);
    let sent = basic.and_then(|basic| basic.expose().strip_prefix("Basic ")).map(Cow::Borrowed);
    both.chain(sent).map(UpstreamSecret::new).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const CHAT: &str = "/v1/chat/completions";

    #[track_caller]
    fn joined(base: &str, endpoint: &str) -> String {
        Address::parse(base).unwrap().join(endpoint).into()
    }

    #[test]
    fn an_endpoint_is_joined_to_its_base() {
        for (base, url) in [
            ("http://h/v1", "http://h/v1/chat/completions"),
            ("http://h", "http://h/chat/completions"),
            ("http://h/a/v1///", "http://h/a/v1/chat/completions"),
            ("HTTP://LocalHost:80/V1", "http://localhost/V1/chat/completions"),
            ("http://[::1]:8000/v1", "http://[::1]:8000/v1/chat/completions"),
            ("http://h/a%20b/v1", "http://h/a%20b/v1/chat/completions"),
            ("http://h/a@b/v1", "http://h/a@b/v1/chat/completions"),
            ("http://h/d?api-version=1", "http://h/d/chat/completions?api-version=1"),
            ("http://h/d/?a=1&b=%2F", "http://h/d/chat/completions?a=1&b=%2F"),
        ] {
            assert_eq!(joined(base, CHAT), url, "{base}");
        }
        assert_eq!(joined("http://h/v1?a=1", "/v1/x?b=2"), "http://h/v1/x?a=1&b=2");
        assert_eq!(joined("http://h/v1", "/v1/x?b=2"), "http://h/v1/x?b=2");
    }

    #[test]
    fn user_info_becomes_basic_authorization() {
        let address = Address::parse("http://user:pa%24s@h/v1").unwrap();
        // user:pa$s
        assert_eq!(address.authorization().unwrap().expose(), "Basic dXNlcjpwYSRz");
        assert_eq!(address.join(CHAT).as_str(), "http://h/v1/chat/completions");
        assert!(Address::parse("http://h/v1").unwrap().authorization().is_none());
    }

    #[test]
    fn an_address_shows_no_secrets() {
        let address = Address::parse("https://user:secret@h/v1?key=secret").unwrap();
        assert_eq!(address.to_string(), "https://h/v1");
        assert!(!format!("{address:?}").contains("secret"));
        assert_eq!(Address::parse("http://h").unwrap().to_string(), "http://h");
    }

    #[test]
    fn other_texts_are_refused() {
        for (text, part) in [
            ("", "not a URL"),
            ("/v1", "not a URL"),
            ("http://", "not a URL"),
            ("http://h:99999/v1", "port"),
            ("localhost:9101", "localhost:"),
            ("ftp://user:secret@h/v1", "ftp:"),
            ("http://user:secret@h/v1#x", "%23"),
        ] {
            let message = Address::parse(text).unwrap_err().to_string();
            assert!(message.contains(part) && !message.contains("secret"), "{text}: {message}");
        }
    }
}
