//! Warnings of secrets that other users of this machine can read: in the list of processes, or in
//! the configuration file.

use std::{fs, os::unix::fs::PermissionsExt as _};

use crate::config::{Config, ConfigSource};

/// The permission bits of group and others.
const OTHERS: u32 = 0o077;

/// Returns the warnings for the log at the start.
pub(crate) fn warnings(source: &ConfigSource, config: &Config) -> Vec<String> {
    let mut warnings = Vec::new();
    for name in ["redis", "upstream"] {
        if source.flags.get(name).and_then(serde_json::Value::as_str).is_some_and(holds_secret) {
            warnings.push(format!(
                "the password in --{name} can be read by every user of this machine, in the list of processes: \
                 set the variable CAUSEWAY_{} instead",
                name.to_uppercase()
            ));
        }
    }
    let mut secrets = [&config.redis, &config.upstream].into_iter().flatten();
    let path = source.path().filter(|_| secrets.any(|secret| holds_secret(secret.expose())));
    let mode = path
        .as_ref()
        .and_then(|path| fs::metadata(path).ok())
        .map(|about| about.permissions().mode());
    if let Some((path, mode)) = path.zip(mode).filter(|(_, mode)| mode & OTHERS != 0) {
        let text = fs::read_to_string(&path).unwrap_or_default();
        // The secret may come from elsewhere than the file; user info in it has an `@`.
        if text.contains('@') {
            warnings.push(format!(
                "{} holds a password, and its mode {:o} lets others read it: chmod 600",
                path.display(),
                mode & 0o777
            ));
        }
    }
    warnings
}

/// Returns true if an address has user info.
fn holds_secret(address: &str) -> bool {
    let authority = address.split_once("://").map_or("", |(_, rest)| rest).split(['/', '?']).next();
    authority.is_some_and(|authority| authority.contains('@'))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_password_in_a_flag_is_reported() {
        let warned = |redis: &str| {
            let flags = json!({ "redis": redis });
            let source = ConfigSource { flags, file: None, environment: Default::default() };
            warnings(&source, &Config::default())
        };
        assert!(warned("redis://:secret@db:6379")[0].contains("CAUSEWAY_REDIS"));
        assert!(warned("redis://db:6379/0").is_empty());
    }
}
