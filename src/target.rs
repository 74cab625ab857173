//! The target of a load generator: a plain HTTP server, resolved once.

use std::net::SocketAddr;

use anyhow::{Context as _, anyhow, bail};
use reqwest::Url;

/// A server and a path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Target {
    /// The resolved address.
    pub(crate) address: SocketAddr,
    /// The value of the `Host` header.
    pub(crate) host: String,
    /// The path of requests.
    pub(crate) path: String,
}

impl Target {
    /// Resolves `path` on the server that `flag` names.
    ///
    /// # Errors
    /// If `url` is no plain HTTP URL, or its host is not found.
    pub(crate) async fn find(flag: &str, url: &str, path: &str) -> anyhow::Result<Self> {
        let url = parse(flag, url)?;
        let path = format!("{}{path}", url.path().trim_end_matches('/'));
        Ok(Self { address: resolve(&url).await?, host: url.authority().to_owned(), path })
    }
}

fn parse(flag: &str, url: &str) -> anyhow::Result<Url> {
    let parsed = Url::parse(url).ok().filter(|url| url.has_host() && url.scheme() == "http");
    parsed.ok_or_else(|| {
        anyhow!("{flag} {url:?} must look like http://host:port (plain HTTP, without TLS)")
    })
}

async fn resolve(url: &Url) -> anyhow::Result<SocketAddr> {
    // The URL keeps the brackets of an IPv6 address.
    let host = url.host_str().unwrap_or_default().trim_matches(['[', ']']);
    let port = url.port_or_known_default().unwrap_or(80);
    let mut found = tokio::net::lookup_host((host, port))
        .await
        .with_context(|| format!("cannot find the host {host}"))?;
    match found.next() {
        Some(address) => Ok(address),
        None => bail!("the host {host} has no address"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_target_is_an_http_address() {
        for url in ["localhost:4004", "https://example.test", "nonsense", "http://"] {
            let error = Target::find("--target", url, "/x").await.unwrap_err().to_string();
            assert!(error.contains("http://host:port"), "{error}");
        }
        let target = Target::find("--target", "http://127.0.0.1:4004/v1/", "/x").await.unwrap();
        assert_eq!((target.address.port(), target.path.as_str()), (4004, "/v1/x"));
        assert_eq!(target.host, "127.0.0.1:4004");
    }
}
