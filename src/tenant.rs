//! `causeway tenant key`: makes a key.

use std::{
    io::{self, Write as _},
    process::ExitCode,
};

use rand::{TryRngCore as _, rngs::OsRng};
use sha2::{Digest as _, Sha256};

use crate::config::Digest;

/// What every key begins with, so that scanners for leaked secrets can know it.
const PREFIX: &str = "cw_";

/// Bytes of randomness in a key.
const BYTES: usize = 32;

/// Prints a new key, this once, and what the configuration has to know of it.
///
/// # Errors
/// When the system has no randomness, or standard output is closed.
pub(crate) fn key() -> anyhow::Result<ExitCode> {
    let mut bytes = [0; BYTES];
    OsRng.try_fill_bytes(&mut bytes)?;
    let key = format!("{PREFIX}{}", Digest(bytes));
    let digest = Digest(Sha256::digest(key.as_bytes()).into());
    let mut out = io::stdout();
    writeln!(out, "{key}")?;
    writeln!(
        io::stderr(),
        "The key above is for the tenant, and is shown this once. The configuration knows its hash:\n\n\
         [[tenant]]\nid = \"NAME\"\nkey_sha256 = [\"{digest}\"]"
    )?;
    Ok(ExitCode::SUCCESS)
}
