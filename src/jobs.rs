//! `causeway jobs`: list, show, cancel, retry.

use std::{
    io::{self, Write},
    process::ExitCode,
};

use serde_json::Value;

use crate::{
    cli::{Jobs, JobsList},
    client::Client,
    config::Config,
};

/// Does what was asked.
///
/// # Errors
/// When there is no such job, or the server refuses or stays away.
pub(crate) async fn run(config: &Config, typed: Jobs) -> anyhow::Result<ExitCode> {
    let client = Client::new(config)?;
    let mut out = io::stdout();
    match typed {
        Jobs::List(list) => {
            let answer = client.list(&query(&list)).await?;
            if list.json { writeln!(out, "{answer:#}")? } else { table(&answer, &mut out)? }
        }
        Jobs::Show(show) => writeln!(out, "{:#}", client.job(&show.job).await?)?,
        Jobs::Cancel(cancel) => act(&client, &cancel.job, "cancel", &mut out).await?,
        Jobs::Retry(retry) => act(&client, &retry.job, "retry", &mut out).await?,
    }
    Ok(ExitCode::SUCCESS)
}

async fn act(client: &Client, id: &str, action: &str, out: &mut impl Write) -> anyhow::Result<()> {
    let job = client.act(id, action).await?;
    writeln!(out, "{id} is {}", word(&job["status"]))?;
    Ok(())
}

fn query(list: &JobsList) -> Vec<(&'static str, String)> {
    let mut query = vec![("limit", list.limit.to_string())];
    let class = list.class.and_then(|class| serde_json::to_value(class).ok());
    let class = class.and_then(|class| class.as_str().map(str::to_owned));
    let rest = [
        ("status", list.status.clone()),
        ("class", class),
        ("session", list.session.clone()),
        ("after", list.after.clone()),
    ];
    query.extend(rest.into_iter().filter_map(|(name, value)| Some((name, value?))));
    query
}

const COLUMNS: [&str; 7] = ["JOB", "STATUS", "CLASS", "MODEL", "SESSION", "ATTEMPTS", "CREATED"];

fn table(answer: &Value, out: &mut impl Write) -> io::Result<()> {
    let jobs = answer["data"].as_array().map(Vec::as_slice).unwrap_or_default();
    let mut rows = vec![COLUMNS.map(str::to_owned)];
    rows.extend(jobs.iter().map(row));
    let widths: Vec<usize> = (0..COLUMNS.len())
        .map(|column| rows.iter().map(|row| row[column].chars().count()).max().unwrap_or(0))
        .collect();
    for row in &rows {
        let cells = row.iter().zip(&widths).map(|(cell, width)| format!("{cell:width$}"));
        writeln!(out, "{}", cells.collect::<Vec<_>>().join("  ").trim_end())?;
    }
    if answer["has_more"] == true
        && let Some(last) = jobs.last()
    {
        writeln!(out, "there are more: --after {}", word(&last["id"]))?;
    }
    Ok(())
}

fn row(job: &Value) -> [String; 7] {
    let attempts = format!("{}/{}", job["attempts"], job["max_attempts"]);
    [
        word(&job["id"]),
        word(&job["status"]),
        word(&job["class"]),
        word(&job["model"]),
        word(&job["session"]),
        attempts,
        word(&job["created_at"]),
    ]
}

/// A cell: control characters that a client put into a name must not reach the terminal.
fn word(value: &Value) -> String {
    let text = value.as_str().unwrap_or("-");
    text.chars().map(|c| if c.is_control() { '?' } else { c }).collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn jobs_are_listed_in_columns() {
        let job = |id: &str, status: &str| {
            json!({"id": id, "status": status, "class": "standard", "model": "m", "session": null,
                "attempts": 1, "max_attempts": 5, "created_at": "2026-01-02T03:04:05.000Z"})
        };
        let jobs = [job("job_default_0_a", "queued"), job("job_b\u{1b}[2J", "succeeded")];
        let mut out = Vec::new();
        table(&json!({"data": jobs, "has_more": true}), &mut out).unwrap();
        let text = String::from_utf8(out).unwrap();
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(lines.len(), 4);
        assert_eq!(lines[0].find("STATUS"), lines[1].find("queued"));
        assert!(lines[1].ends_with("standard  m      -        1/5       2026-01-02T03:04:05.000Z"));
        assert!(lines[2].contains("job_b?[2J"));
        assert_eq!(lines[3], "there are more: --after job_b?[2J");
    }
}
