//! The address of a call in messages for people.

use reqwest::Url;

/// The address of an upstream's endpoint, without user info, query and fragment: those may hold secrets.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CallTarget {
    /// The whole URL, e.g. `http://127.0.0.1:9101/v1/chat/completions`.
    pub url: String,
    /// Its scheme, host and port, e.g. `http://127.0.0.1:9101`.
    pub origin: String,
}

impl CallTarget {
    /// Returns the target that `url` names; `None` if it is not a URL with a host.
    #[must_use]
    pub fn of(url: &str) -> Option<Self> {
        Url::parse(url).ok().filter(Url::has_host).map(|url| Self::from(&url))
    }
}

impl From<&Url> for CallTarget {
    fn from(url: &Url) -> Self {
        let host = url.host_str().unwrap_or_default();
        let port = url.port().map(|port| format!(":{port}")).unwrap_or_default();
        let origin = format!("{}://{host}{port}", url.scheme());
        Self { url: format!("{origin}{}", url.path()), origin }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_target_hides_user_info_and_query() {
        let target = CallTarget::of("https://me:secret@[::1]:8443/v1/chat?key=secret#x").unwrap();
        assert_eq!(target.url, "https://[::1]:8443/v1/chat");
        assert_eq!(target.origin, "https://[::1]:8443");
        assert_eq!(CallTarget::of("/v1"), None);
    }
}
