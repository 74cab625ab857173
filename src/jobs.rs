//! `causeway jobs`: list, show, cancel, retry.

use std::{
    io::{self, Write},
    process::ExitCode,
};

use anyhow::Context as _;
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

/// Puts back all that fit, from the oldest: those of a session stand in line as they did before. All
/// are listed first, because pages are newest first, and what is put back may end again meanwhile.
async fn retry_many(client: &Client, many: &JobsRetry, out: &mut impl Write) -> anyhow::Result<()> {
    let ids = fitting(client, many).await?;
    let mut count = 0;
    for id in ids.iter().rev() {
        let put_back = client.put_back(id).await;
        let told = || format!("{count} of {} jobs were put back, and the next was not", ids.len());
        count += usize::from(put_back.with_context(told)?);
    }
    writeln!(out, "{count} jobs were put back")?;
    Ok(())
}

/// The ids of all that fit, newest first.
async fn fitting(client: &Client, many: &JobsRetry) -> anyhow::Result<Vec<String>> {
    let mut ids: Vec<String> = Vec::new();
    loop {
        let mut query = vec![("limit", "1000".to_owned())];
        let rest = [
            ("status", many.status.clone()),
            ("class", class_name(many.class)),
            ("session", many.session.clone()),
            ("after", ids.last().cloned()),
        ];
        query.extend(rest.into_iter().filter_map(|(name, value)| Some((name, value?))));
        let answer = client.list(&query).await?;
        let jobs = answer["data"].as_array().map(Vec::as_slice).unwrap_or_default();
        ids.extend(jobs.iter().map(|job| word(&job["id"])));
        if jobs.is_empty() || answer["has_more"] != true {
            return Ok(ids);
        }
    }
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

const COLUMNS: [&str; 8] =
    ["JOB", "STATUS", "CLASS", "MODEL", "SESSION", "ATTEMPTS", "CREATED", "ERROR"];

/// Most characters of an error in the list; `jobs show` has all of it.
const SHOWN: usize = 100;

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

/// The error of an ended job, or of the last failed attempt of another.
fn error(job: &Value) -> String {
    let last = || job["attempt_errors"].as_array()?.last()?["message"].as_str();
    let message = match job["status"].as_str() {
        Some("succeeded") => None,
        Some(_) | None => job["error"]["message"].as_str().or_else(last),
    };
    word(
        &message
            .map_or(Value::Null, |message| message.chars().take(SHOWN).collect::<String>().into()),
    )
}

fn row(job: &Value) -> [String; 8] {
    let attempts = format!("{}/{}", job["attempts"], job["max_attempts"]);
    [
        word(&job["id"]),
        word(&job["status"]),
        word(&job["class"]),
        word(&job["model"]),
        word(&job["session"]),
        attempts,
        word(&job["created_at"]),
        error(job),
    ]
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use axum::{
        Json, Router,
        extract::{Path, RawQuery},
        http::StatusCode,
        response::IntoResponse as _,
        routing::{get, post},
    };
    use clap::Parser as _;
    use serde_json::json;
    use tokio::{net::TcpListener, task::JoinSet};

    use super::*;
    use crate::cli::{Cli, Command};

    #[tokio::test]
    async fn jobs_of_all_pages_are_put_back_from_the_oldest() {
        drop(rustls::crypto::ring::default_provider().install_default());
        let list = async |RawQuery(query): RawQuery| {
            let query = query.unwrap_or_default();
            assert!(query.contains("status=failed&session=s"), "{query}");
            let rest = query.split_once("after=").map(|(_, after)| after);
            let (ids, has_more) = match rest {
                None => (["5", "4"], true),
                Some("4") => (["3", "2"], true),
                Some(_) => (["1", "0"], false),
            };
            Json(json!({"data": ids.map(|id| json!({"id": id})), "has_more": has_more}))
        };
        let back = Arc::new(Mutex::new(Vec::new()));
        let seen = Arc::clone(&back);
        let retry = async move |Path(id): Path<String>| {
            seen.lock().unwrap().push(id.clone());
            if id == "3" {
                let error = json!({"error": {"message": "it runs", "code": "job_not_retryable"}});
                return (StatusCode::BAD_REQUEST, Json(error)).into_response();
            }
            (StatusCode::ACCEPTED, Json(json!({"id": id}))).into_response()
        };
        let routes =
            Router::new().route("/v1/jobs", get(list)).route("/v1/jobs/{id}/retry", post(retry));
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let mut config = Config::default();
        config.client.url = format!("http://{}", listener.local_addr().unwrap());
        let mut server = JoinSet::new();
        server.spawn(async { axum::serve(listener, routes).await.unwrap() });

        let line = "causeway jobs retry --status failed --session s";
        let Command::Jobs(Jobs::Retry(many)) = Cli::parse_from(line.split(' ')).command else {
            panic!("{line}");
        };
        let mut out = Vec::new();
        retry_many(&Client::new(&config).unwrap(), &many, &mut out).await.unwrap();
        assert_eq!(*back.lock().unwrap(), ["0", "1", "2", "3", "4", "5"]);
        assert_eq!(String::from_utf8(out).unwrap(), "5 jobs were put back\n");
    }

    #[test]
    fn jobs_are_listed_in_columns() {
        let job = |id: &str, status: &str| {
            json!({"id": id, "status": status, "class": "standard", "model": "m", "session": null,
                "attempts": 1, "max_attempts": 5, "created_at": "2026-01-02T03:04:05.000Z",
                "attempt_errors": [{"message": "401 from http://host"}]})
        };
        let jobs = [job("job_default_0_a", "queued"), job("job_b\u{1b}[2J", "succeeded")];
        let mut out = Vec::new();
        show_list(&json!({"data": jobs, "has_more": true}), &mut out).unwrap();
        let text = String::from_utf8(out).unwrap();
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(lines.len(), 4);
        assert_eq!(lines[0].find("STATUS"), lines[1].find("queued"));
        let middle = "standard  m      -        1/5       2026-01-02T03:04:05.000Z";
        assert!(lines[1].ends_with(&format!("{middle}  401 from http://host")), "{}", lines[1]);
        assert!(lines[2].ends_with(&format!("{middle}  -")), "{}", lines[2]);
        assert!(lines[2].contains("job_b?[2J"));
        assert_eq!(lines[3], "there are more: --after job_b?[2J");
    }
}
