//! `causeway jobs`: list, show, cancel, retry.

use std::{
    io::{self, Write},
    process::ExitCode,
};

use serde_json::Value;

use crate::{
    cli::{JobClass, Jobs, JobsList, JobsRetry},
    client::Client,
    config::Config,
    table::{self, word},
};

/// Does what was asked.
///
/// # Errors
/// When there is no such job, or the server refuses or stays away.
pub(crate) async fn run(config: &Config, typed: &Jobs) -> anyhow::Result<ExitCode> {
    let client = Client::new(config)?;
    let mut out = io::stdout();
    match typed {
        Jobs::List(list) => {
            let answer = client.list(&query(list)).await?;
            if list.json { writeln!(out, "{answer:#}")? } else { show_list(&answer, &mut out)? }
        }
        Jobs::Show(show) => writeln!(out, "{:#}", client.job(&show.job).await?)?,
        Jobs::Cancel(cancel) => act(&client, &cancel.job, "cancel", &mut out).await?,
        Jobs::Retry(JobsRetry { job: Some(job), .. }) => {
            act(&client, job, "retry", &mut out).await?;
        }
        Jobs::Retry(many) => retry_many(&client, many, &mut out).await?,
    }
    Ok(ExitCode::SUCCESS)
}

async fn act(client: &Client, id: &str, action: &str, out: &mut impl Write) -> anyhow::Result<()> {
    let job = client.act(id, action).await?;
    writeln!(out, "{id} is {}", word(&job["status"]))?;
    Ok(())
}

/// Puts back all that fit, a page at a time.
async fn retry_many(client: &Client, many: &JobsRetry, out: &mut impl Write) -> anyhow::Result<()> {
    let (mut count, mut after) = (0, None);
    loop {
        let mut query = vec![("limit", "1000".to_owned())];
        let rest = [
            ("status", many.status.clone()),
            ("class", class_name(many.class)),
            ("session", many.session.clone()),
            ("after", after.take()),
        ];
        query.extend(rest.into_iter().filter_map(|(name, value)| Some((name, value?))));
        let answer = client.retry_many(&query).await?;
        let jobs = answer["data"].as_array().map(Vec::as_slice).unwrap_or_default();
        count += jobs.len();
        match jobs.last().filter(|_| answer["has_more"] == true) {
            Some(last) => after = Some(word(&last["id"])),
            None => break,
        }
    }
    writeln!(out, "{count} jobs were put back")?;
    Ok(())
}

fn class_name(class: Option<JobClass>) -> Option<String> {
    serde_json::to_value(class?).ok()?.as_str().map(str::to_owned)
}

fn query(list: &JobsList) -> Vec<(&'static str, String)> {
    let mut query = vec![("limit", list.limit.to_string())];
    let rest = [
        ("status", list.status.clone()),
        ("class", class_name(list.class)),
        ("session", list.session.clone()),
        ("after", list.after.clone()),
    ];
    query.extend(rest.into_iter().filter_map(|(name, value)| Some((name, value?))));
    query
}

const COLUMNS: [&str; 7] = ["JOB", "STATUS", "CLASS", "MODEL", "SESSION", "ATTEMPTS", "CREATED"];

fn show_list(answer: &Value, out: &mut impl Write) -> io::Result<()> {
    let jobs = answer["data"].as_array().map(Vec::as_slice).unwrap_or_default();
    table::write(&COLUMNS, jobs.iter().map(row), out)?;
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
        show_list(&json!({"data": jobs, "has_more": true}), &mut out).unwrap();
        let text = String::from_utf8(out).unwrap();
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(lines.len(), 4);
        assert_eq!(lines[0].find("STATUS"), lines[1].find("queued"));
        assert!(lines[1].ends_with("standard  m      -        1/5       2026-01-02T03:04:05.000Z"));
        assert!(lines[2].contains("job_b?[2J"));
        assert_eq!(lines[3], "there are more: --after job_b?[2J");
    }
}
