//! `causeway lane`: list, pause and resume.

use std::{
    io::{self, Write},
    process::ExitCode,
};

use anyhow::ensure;
use serde_json::{Value, json};

use crate::{
    cli::{LaneArgs, LaneCommand, LaneSwitchArgs},
    client::Client,
    config::Config,
    table, terminal, wait_reason,
};

/// The hint below a list in which an upstream is down.
const PROBES: &str = "a lane whose upstream is down is probed by one job at a time; \
                      `causeway lane resume NAME` opens it at once";

const COLUMNS: [&str; 6] = ["LANE", "QUEUED", "RUNNING", "DEAD", "WORKERS", "STATE"];

/// Runs the command, and prints the lanes in their new state.
///
/// # Errors
/// If there is no such lane, the caller is no administrator, or the server does not answer.
pub(crate) async fn run(config: &Config, typed: &LaneCommand) -> anyhow::Result<ExitCode> {
    let client = Client::new(config)?;
    match typed {
        LaneCommand::List(lanes) => {
            let lanes = select(&client, lanes).await?;
            show(&lanes, &mut terminal::stdout())?;
            if lanes.iter().any(|lane| !lane["upstream_down"].is_null()) {
                writeln!(terminal::stderr(), "{PROBES}")?;
            }
        }
        LaneCommand::Pause(of) => act(&client, of, "pause").await?,
        LaneCommand::Resume(of) => act(&client, of, "resume").await?,
    }
    Ok(ExitCode::SUCCESS)
}

async fn act(client: &Client, of: &LaneSwitchArgs, action: &str) -> anyhow::Result<()> {
    let body = of.tenant.as_ref().map_or(json!({}), |tenant| json!({ "tenant": tenant }));
    let mut lanes = Vec::new();
    for lane in select(client, &of.lanes).await? {
        let name = table::word(&lane["lane"]);
        lanes.push(client.post(&["lanes", &name, action], &body).await?);
    }
    show(&lanes, &mut terminal::stdout())?;
    if let Some(tenant) = &of.tenant {
        writeln!(terminal::stderr(), "the numbers are those of tenant {tenant}")?;
    }
    Ok(())
}

fn show(lanes: &[Value], out: &mut impl Write) -> io::Result<()> {
    let row = |lane: &Value| {
        let number = |key: &str| lane[key].as_u64().map_or("-".to_owned(), |n| n.to_string());
        let [queued, running, dead, workers] = ["queued", "running", "dead", "workers"].map(number);
        [table::word(&lane["lane"]), queued, running, dead, workers, state(lane)]
    };
    table::write(&COLUMNS, lanes.iter().map(row), out)
}

/// Describes why the lane starts no jobs; `open` if nothing prevents it.
fn state(lane: &Value) -> String {
    let name = match lane["waiting_for"].as_str() {
        None | Some("turn") => return "open".to_owned(),
        Some("upstream_down") => return outage(&lane["upstream_down"]),
        Some(name) => name.replace('_', " "),
    };
    let details =
        wait_reason::details(lane).map_or(String::new(), |details| format!(": {details}"));
    format!("{name}{details}")
}

fn outage(down: &Value) -> String {
    let [since, probe_at, words] =
        ["since", "probe_at", "message"].map(|key| table::word(&down[key]));
    format!("upstream down since {since}, next probe {probe_at}: {words}")
}

/// Returns the named lane, or all lanes.
async fn select(client: &Client, lanes: &LaneArgs) -> anyhow::Result<Vec<Value>> {
    let mut all = client.get(&["lanes"]).await?;
    let all: Vec<Value> = all["data"].as_array_mut().map(std::mem::take).unwrap_or_default();
    let Some(name) = &lanes.lane else { return Ok(all) };
    let known: Vec<String> = all.iter().map(|lane| table::word(&lane["lane"])).collect();
    let found: Vec<Value> = all.into_iter().filter(|lane| lane["lane"] == **name).collect();
    ensure!(!found.is_empty(), "there is no lane {name:?}; there is {}", known.join(", "));
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lane_shows_why_it_waits() {
        let down = json!({ "since": "12:00Z", "probe_at": "12:01Z", "message": "refused" });
        let lanes = [
            json!({ "lane": "gpu", "queued": 2, "waiting_for": "upstream_down", "upstream_down": down }),
            json!({ "lane": "tpu", "waiting_for": "no_worker", "workers": 0 }),
            json!({ "lane": "npu", "waiting_for": "upstream_rate", "waiting_details": {"until": "13:00Z"} }),
            json!({ "lane": "cpu", "queued": 0, "waiting_for": null, "upstream_down": null }),
        ];
        let mut out = Vec::new();
        show(&lanes, &mut out).unwrap();
        let table = String::from_utf8(out).unwrap();
        assert!(
            table.contains("upstream down since 12:00Z, next probe 12:01Z: refused\n"),
            "{table}"
        );
        assert!(table.contains("0        no worker\n"), "{table}");
        assert!(table.contains("upstream rate: until 13:00Z\n"), "{table}");
        assert!(table.ends_with("open\n"), "{table}");
    }
}
