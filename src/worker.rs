//! `causeway worker list`: the registered worker processes.

use std::{
    io::{self, Write},
    process::ExitCode,
};

use serde_json::Value;

use crate::{cli::WorkerListArgs, client::Client, config::Config, table};

const COLUMNS: [&str; 6] = ["WORKER", "STATUS", "LAST SEEN", "RUNNING", "VERSION", "LANES"];

/// Prints the workers.
///
/// # Errors
/// If the caller is no administrator, or the server does not answer.
pub(crate) async fn list(config: &Config, typed: &WorkerListArgs) -> anyhow::Result<ExitCode> {
    let answer = Client::new(config)?.get(&["workers"]).await?;
    let mut out = io::stdout();
    if typed.json {
        writeln!(out, "{answer:#}")?;
        return Ok(ExitCode::SUCCESS);
    }
    let workers = answer["data"].as_array().map(Vec::as_slice).unwrap_or_default();
    table::write(&COLUMNS, workers.iter().map(row), &mut out)?;
    if !workers.iter().any(|worker| worker["status"] == "live") {
        writeln!(
            io::stderr(),
            "no worker is live: jobs wait until one is; `causeway worker` starts one"
        )?;
    }
    Ok(ExitCode::SUCCESS)
}

fn row(worker: &Value) -> [String; 6] {
    let seconds = worker["silent_for_ms"].as_u64().unwrap_or(0) / 1000;
    let lanes = worker["lanes"].as_array().map(Vec::as_slice).unwrap_or_default();
    let lanes: Vec<String> = lanes.iter().map(table::word).collect();
    [
        table::word(&worker["name"]),
        table::word(&worker["status"]),
        format!("{seconds} s ago"),
        format!("{}/{}", worker["running"], worker["concurrency"]),
        table::word(&worker["version"]),
        lanes.join(","),
    ]
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_worker_is_one_row() {
        let worker = json!({
            "id": "worker_1", "name": "gpu-1:4711", "status": "live", "version": "0.1.0", "running": 3,
            "concurrency": 256, "silent_for_ms": 1900, "lanes": ["default", "gpu"],
        });
        let wanted = ["gpu-1:4711", "live", "1 s ago", "3/256", "0.1.0", "default,gpu"];
        assert_eq!(row(&worker), wanted);
    }
}
