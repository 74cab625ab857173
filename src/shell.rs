//! Shell completions and manual pages.

use std::{io::Write as _, path::Path, process::ExitCode};

use clap::CommandFactory as _;
use clap_complete::Shell;

use crate::{cli::Cli, terminal};

/// Prints the completions for a shell.
///
/// # Errors
/// If standard output is closed.
pub(crate) fn completions(shell: Shell) -> anyhow::Result<ExitCode> {
    // The generator panics if it cannot write, so it writes into memory first.
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut Cli::command(), "causeway", &mut script);
    terminal::stdout().write_all(&script)?;
    Ok(ExitCode::SUCCESS)
}

/// Prints the manual page, or writes the pages of all commands into a directory.
///
/// # Errors
/// If the directory is not writable, or standard output is closed.
pub(crate) fn manual(directory: Option<&Path>) -> anyhow::Result<ExitCode> {
    if let Some(directory) = directory {
        std::fs::create_dir_all(directory)?;
        clap_mangen::generate_to(Cli::command(), directory)?;
    } else {
        let mut page = Vec::new();
        clap_mangen::Man::new(Cli::command()).render(&mut page)?;
        terminal::stdout().write_all(&page)?;
    }
    Ok(ExitCode::SUCCESS)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_command_has_a_manual_page() {
        let directory = tempfile::tempdir().unwrap();
        manual(Some(directory.path())).unwrap();
        for page in ["causeway.1", "causeway-submit.1", "causeway-jobs-list.1"] {
            let text = std::fs::read_to_string(directory.path().join(page)).unwrap();
            assert!(text.contains(".SH"), "{page}");
        }
    }
}
