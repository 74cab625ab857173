//! A text that is never shown: an API key, a store's address with its password.

use std::fmt;

use serde::{Deserialize, Serialize};

/// A secret. Neither `Debug` nor an error message shows it.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub(crate) struct Secret(String);

impl Secret {
    pub(crate) fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }

    /// The secret itself, for whoever needs to present it.
    pub(crate) fn expose(&self) -> &str {
        &self.0
    }

    /// An address without user info and query.
    pub(crate) fn without_password(&self) -> String {
        without_password(&self.0)
    }
}

/// The address `text` without user info and query, either of which may hold a secret.
pub(crate) fn without_password(text: &str) -> String {
    let text = text.split(['?', '#']).next().unwrap_or_default();
    let (scheme, rest) = text.split_once("://").unwrap_or(("", text));
    let host = rest.rsplit_once('@').map_or(rest, |(_, host)| host);
    if scheme.is_empty() { host.to_owned() } else { format!("{scheme}://{host}") }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("(hidden)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_does_not_show() {
        let url = Secret::new("redis://user:p@ss@db.example:6379/1");
        assert_eq!(format!("{url:?}"), "(hidden)");
        assert_eq!(url.without_password(), "redis://db.example:6379/1");
        assert_eq!(Secret::new("redis://db:6379").without_password(), "redis://db:6379");
    }
}
