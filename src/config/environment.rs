//! The environment of the process, as a source of settings.

use std::{collections::BTreeMap, path::PathBuf};

/// The environment variables of the configuration.
pub(crate) type Environment = BTreeMap<String, String>;

/// Returns the path of the configuration file: that of the flag, else of `CAUSEWAY_CONFIG`.
pub(crate) fn file(flag: Option<PathBuf>, environment: &Environment) -> Option<PathBuf> {
    flag.or_else(|| environment.get("CAUSEWAY_CONFIG").map(PathBuf::from))
}
