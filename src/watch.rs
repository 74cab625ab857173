//! `causeway watch JOB`: what happens to a job, until it ends.

use std::process::ExitCode;

use crate::{
    answer,
    client::Client,
    config::Config,
    follow::{Screen, Show, follow},
    terminal,
};

/// Shows the job's news, its text as it comes, and its answer.
///
/// # Errors
/// When there is no such job, or the server stays away.
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
