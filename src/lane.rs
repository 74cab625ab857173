//! `causeway lane`: list, pause and resume.

use std::{
    io::{self, Write as _},
    process::ExitCode,
};

use anyhow::ensure;
use serde_json::{Value, json};

use crate::{
    cli::{Lane, LaneOf},
    client::Client,
    config::Config,
    table,
};

const COLUMNS: [&str; 5] = ["LANE", "QUEUED", "RUNNING", "DEAD", "STATE"];

/// Does what was asked, and shows the lanes as they are then.
///
/// # Errors
/// When there is no such lane, the caller is no administrator, or the server stays away.
pub(crate) async fn run(config: &Config, typed: &Lane) -> anyhow::Result<ExitCode> {
    let client = Client::new(config)?;
    let (of, action) = match typed {
        Lane::List(of) => (of, None),
        Lane::Pause(of) => (of, Some("pause")),
        Lane::Resume(of) => (of, Some("resume")),
    };
    let lanes = match action {
        None => {
            ensure!(of.tenant.is_none(), "`lane list` shows all tenants together");
            chosen(&client, of).await?
        }
        Some(action) => {
            let mut lanes = Vec::new();
            for lane in chosen(&client, of).await? {
                let name = table::word(&lane["lane"]);
                let body =
                    of.tenant.as_ref().map_or(json!({}), |tenant| json!({ "tenant": tenant }));
                lanes.push(client.post(&["lanes", &name, action], &body).await?);
            }
            lanes
        }
    };
    let row = |lane: &Value| {
        let state = if lane["paused"] == true { "paused" } else { "open" };
        let number = |key: &str| lane[key].as_u64().map_or("-".to_owned(), |n| n.to_string());
        [
            table::word(&lane["lane"]),
            number("queued"),
            number("running"),
            number("dead"),
            state.to_owned(),
        ]
    };
    table::write(&COLUMNS, lanes.iter().map(row), &mut io::stdout())?;
    if let Some(tenant) = &of.tenant {
        writeln!(io::stderr(), "the numbers are those of tenant {tenant}")?;
    }
    Ok(ExitCode::SUCCESS)
}

/// The lane that was named, or all.
async fn chosen(client: &Client, of: &LaneOf) -> anyhow::Result<Vec<Value>> {
    let mut lanes = client.get(&["lanes"]).await?;
    let lanes: Vec<Value> = lanes["data"].as_array_mut().map(std::mem::take).unwrap_or_default();
    let Some(name) = &of.lane else { return Ok(lanes) };
    let known: Vec<String> = lanes.iter().map(|lane| table::word(&lane["lane"])).collect();
    let found: Vec<Value> = lanes.into_iter().filter(|lane| lane["lane"] == **name).collect();
    ensure!(!found.is_empty(), "there is no lane {name:?}; there is {}", known.join(", "));
    Ok(found)
}
