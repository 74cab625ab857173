//! Names the commit of the build: the one that is checked out, else the one in the environment variable
//! `BUILD_COMMIT`, else none.
//!
//! The names do not begin with `CAUSEWAY_`: `cargo run` passes them on to the program, which refuses unknown settings.

use std::{path::Path, process::Command};

/// The directory of this package.
const HERE: &str = env!("CARGO_MANIFEST_DIR");

fn main() {
    let named = option_env!("BUILD_COMMIT").unwrap_or_default().to_owned();
    let commit = if is_checkout() { git("rev-parse --short=12 HEAD") } else { None };
    let commit = commit.unwrap_or(named);
    let version = env!("CARGO_PKG_VERSION");
    let version =
        if commit.is_empty() { version.to_owned() } else { format!("{version} ({commit})") };
    instruct(&format!("rustc-env=BUILD_COMMIT={commit}"));
    instruct(&format!("rustc-env=BUILD_VERSION={version}"));
    instruct("rerun-if-changed=build.rs");
    instruct("rerun-if-env-changed=BUILD_COMMIT");
    if let Some(log) = git("rev-parse --git-path logs/HEAD").filter(|_| is_checkout()) {
        instruct(&format!("rerun-if-changed={log}"));
    }
}

/// True if this is a checkout of its own. A source tree may lie in a checkout of something else.
fn is_checkout() -> bool {
    let top = git("rev-parse --show-toplevel");
    let same = |top: String| {
        Some(Path::new(&top).canonicalize().ok()? == Path::new(HERE).canonicalize().ok()?)
    };
    top.and_then(same).unwrap_or(false)
}

fn git(arguments: &str) -> Option<String> {
    let output = Command::new("git").args(arguments.split(' ')).current_dir(HERE).output().ok()?;
    let text = String::from_utf8(output.stdout).ok().filter(|_| output.status.success())?;
    Some(text.trim().to_owned()).filter(|text| !text.is_empty())
}

/// Passes an instruction to Cargo.
fn instruct(instruction: &str) {
    println!("cargo:{instruction}");
}
