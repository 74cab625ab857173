//! `causeway webhook secret`: makes a secret for signing webhook events.

use std::{
    io::{self, Write as _},
    process::ExitCode,
};

use causeway_worker::WebhookSecret;
use rand::{TryRngCore as _, rngs::OsRng};

/// Prints a new secret once, and the configuration that uses it.
///
/// # Errors
/// If the system has no randomness, or standard output is closed.
pub(crate) fn secret() -> anyhow::Result<ExitCode> {
    let mut bytes = [0; 32];
    OsRng.try_fill_bytes(&mut bytes)?;
    writeln!(io::stdout(), "{}", WebhookSecret::write(bytes))?;
    writeln!(
        io::stderr(),
        "The secret above is for the receiver of events, and is shown only once. Put it into an\n\
         environment variable; the configuration names the variable:\n\n\
         [webhooks]\nsecret_env = [\"WEBHOOK_SECRET\"]"
    )?;
    Ok(ExitCode::SUCCESS)
}
