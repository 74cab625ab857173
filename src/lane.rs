//! `causeway lane`: list, pause and resume.

use std::{
    io::{self, Write},
    process::ExitCode,
};

use anyhow::ensure;
use serde_json::{Value, json};

use crate::{
    cli::{Lane, Lanes, LanesOf},
    client::Client,
    config::Config,
    table,
};

/// What is to know if a lane is down.
const PROBES: &str = "a lane whose upstream is down is probed by one job at a time; \
                      `causeway lane resume NAME` opens it at once";

const COLUMNS: [&str; 5] = ["LANE", "QUEUED", "RUNNING", "DEAD", "STATE"];

/// Does what was asked, and shows the lanes as they are then.
///
/// # Errors
/// When there is no such lane, the caller is no administrator, or the server stays away.
pub(crate) async fn run(config: &Config, typed: &Lane) -> anyhow::Result<ExitCode> {
    let client = Client::new(config)?;
    match typed {
        Lane::List(lanes) => {
            let lanes = chosen(&client, lanes).await?;
            show(&lanes, &mut io::stdout())?;
            if lanes.iter().any(|lane| !lane["upstream_down"].is_null()) {
                writeln!(io::stderr(), "{PROBES}")?;
            }
        }
        Lane::Pause(of) => act(&client, of, "pause").await?,
        Lane::Resume(of) => act(&client, of, "resume").await?,
    }
    Ok(ExitCode::SUCCESS)
}

async fn act(client: &Client, of: &LanesOf, action: &str) -> anyhow::Result<()> {
    let body = of.tenant.as_ref().map_or(json!({}), |tenant| json!({ "tenant": tenant }));
    let mut lanes = Vec::new();
    for lane in chosen(client, &of.lanes).await? {
        let name = table::word(&lane["lane"]);
        lanes.push(client.post(&["lanes", &name, action], &body).await?);
    }
    show(&lanes, &mut io::stdout())?;
    if let Some(tenant) = &of.tenant {
        writeln!(io::stderr(), "the numbers are those of tenant {tenant}")?;
    }
    Ok(())
}

fn show(lanes: &[Value], out: &mut impl Write) -> io::Result<()> {
    let row = |lane: &Value| {
        let down = &lane["upstream_down"];
        let state = match (lane["paused"] == true, down.is_null()) {
            (true, _) => "paused".to_owned(),
            (false, true) => "open".to_owned(),
            (false, false) => {
                let [since, probe_at, words] =
                    ["since", "probe_at", "message"].map(|key| table::word(&down[key]));
                format!("upstream down since {since}, next probe {probe_at}: {words}")
            }
        };
        let number = |key: &str| lane[key].as_u64().map_or("-".to_owned(), |n| n.to_string());
        [table::word(&lane["lane"]), number("queued"), number("running"), number("dead"), state]
    };
    table::write(&COLUMNS, lanes.iter().map(row), out)
}

/// The lane that was named, or all.
async fn chosen(client: &Client, lanes: &Lanes) -> anyhow::Result<Vec<Value>> {
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
    fn a_lane_that_is_down_names_its_next_probe() {
        let down = json!({ "since": "12:00Z", "probe_at": "12:01Z", "message": "refused" });
        let lanes = [
            json!({ "lane": "gpu", "queued": 2, "upstream_down": down }),
            json!({ "lane": "cpu", "queued": 0, "upstream_down": null }),
        ];
        let mut out = Vec::new();
        show(&lanes, &mut out).unwrap();
        let table = String::from_utf8(out).unwrap();
        assert!(
            table.contains("upstream down since 12:00Z, next probe 12:01Z: refused\n"),
            "{table}"
        );
        assert!(table.ends_with("open\n"), "{table}");
    }
}
