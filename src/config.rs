//! The configuration, in four layers: defaults, a TOML file, `CAUSEWAY_…` variables, and flags. A
//! later layer wins.
//!
//! The whole configuration is read and checked before any port is bound. An unknown key is refused
//! with its place; secrets never appear in `Debug` or in an error. No other module reads the
//! environment.

mod check;
mod comma_list;
mod connection;
pub(crate) mod duration;
mod environment;
mod error;
mod file_text;
mod keys;
mod lane;
mod layers;
#[cfg(test)]
mod page;
mod range;
mod secret;
mod sections;
mod settings;
mod tenant;
mod top_level;
mod type_errors;
mod webhooks;

use std::path::PathBuf;

pub(crate) use self::{
    connection::ConfiguredUpstream,
    environment::Environment,
    error::ConfigError,
    lane::ConfiguredLane,
    layers::load,
    secret::HiddenText,
    sections::{LogFormat, LogSection, SimulatedSection},
    tenant::Digest,
    top_level::Config,
};

/// The sources of a process's configuration, kept for reading it again.
#[derive(Debug)]
pub(crate) struct ConfigSource {
    /// The flags of the command line.
    pub(crate) flags: serde_json::Value,
    /// The configuration file that a flag names.
    pub(crate) file: Option<PathBuf>,
    /// The environment at the start.
    pub(crate) environment: Environment,
}

impl ConfigSource {
    /// Reads the configuration.
    ///
    /// # Errors
    /// As [`load`].
    pub(crate) fn load(&self) -> Result<Config, ConfigError> {
        load(&self.flags, self.file.clone(), &self.environment)
    }

    /// Returns the path of the configuration file, if there is one.
    pub(crate) fn path(&self) -> Option<PathBuf> {
        environment::file(self.file.clone(), &self.environment)
    }
}
