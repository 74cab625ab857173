//! The arguments that name the Causeway to call.

use std::path::PathBuf;

use clap::Args;

/// The source of the configuration.
#[derive(Debug, Default, Args)]
pub(crate) struct ConfigFile {
    /// A TOML file with settings [default: none]
    #[arg(long, value_name = "FILE")]
    pub(crate) config: Option<PathBuf>,
}

/// The Causeway to call.
#[derive(Debug, Args)]
pub(crate) struct ServerArgs {
    /// The address of Causeway [default: `http://127.0.0.1:4004`]
    #[arg(long, value_name = "URL")]
    pub(crate) url: Option<String>,
    /// The environment variable that holds the key to send [default: no key]
    #[arg(long, value_name = "NAME")]
    pub(crate) key_env: Option<String>,
    #[command(flatten)]
    pub(crate) file: ConfigFile,
}
