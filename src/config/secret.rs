//! A text that is never shown: an API key, or a store's address with its password.

use std::fmt;

use serde::{Deserialize, Serialize};

/// A secret, which neither `Debug` nor an error message shows.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub(crate) struct HiddenText(String);

impl HiddenText {
    pub(crate) fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }

    /// Returns the secret itself, for sending it.
    pub(crate) fn expose(&self) -> &str {
        &self.0
    }

    /// Returns the address without user info and query.
    pub(crate) fn without_password(&self) -> String {
        without_password(&self.0)
    }
}

/// Returns the address `text` without user info and query, either of which may hold a secret.
pub(crate) fn without_password(text: &str) -> String {
    let text = text.split(['?', '#']).next().unwrap_or_default();
    let (scheme, rest) = text.split_once("://").unwrap_or(("", text));
    // A password may contain an `@`.
    let host = rest.rsplit_once('@').map_or(rest, |(_, host)| host);
    if scheme.is_empty() { host.to_owned() } else { format!("{scheme}://{host}") }
}

impl fmt::Debug for HiddenText {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("(hidden)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_is_hidden() {
        let url = HiddenText::new("redis://user:p@ss@db.example:6379/1");
        assert_eq!(format!("{url:?}"), "(hidden)");
        assert_eq!(url.without_password(), "redis://db.example:6379/1");
        assert_eq!(HiddenText::new("redis://db:6379").without_password(), "redis://db:6379");
    }
}
