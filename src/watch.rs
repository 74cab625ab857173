//! `causeway watch JOB`: prints the events of a job until it ends.

use std::process::ExitCode;

use crate::{
    answer,
    client::Client,
    config::Config,
    follow::{Screen, Show, follow},
    terminal,
};

/// Prints the state changes of a job, its text as it arrives, and its answer.
///
/// # Errors
/// If there is no such job, or the server does not answer.
pub(crate) async fn run(config: &Config, id: &str) -> anyhow::Result<ExitCode> {
    let client = Client::new(config)?;
    let mut screen = Screen::new(terminal::stdout(), terminal::stderr(), Show::Everything);
    let job = follow(&client, id, &mut screen).await?;
    if screen.has_text() && job["status"] == "succeeded" {
        answer::warn_if_simulated(&job, terminal::stderr())?;
        return Ok(ExitCode::SUCCESS);
    }
    Ok(answer::print(&job, terminal::stdout(), terminal::stderr())?)
}
