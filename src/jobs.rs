//! `causeway jobs`: list, show, cancel, retry.

use std::{
    io::{self, Write},
    process::ExitCode,
};

use anyhow::{Context as _, bail};
use jiff::Timestamp;
use serde_json::Value;

use crate::{
    cli::{JobClass, JobFilter, JobsCommand, JobsList, JobsRetry},
    client::Client,
    config::Config,
    show,
    table::{self, word},
    terminal, timestamps,
};

/// The most jobs of a page, as the server permits.
const PAGE: usize = 1000;

/// The states of jobs that can be retried.
const RETRYABLE: [&str; 3] = ["failed", "cancelled", "expired"];

/// Runs the command.
///
/// # Errors
/// If there is no such job, or the server refuses or does not answer.
pub(crate) async fn run(config: &Config, typed: &JobsCommand) -> anyhow::Result<ExitCode> {
    let client = Client::new(config)?;
    let mut out = terminal::stdout();
    match typed {
        JobsCommand::List(list) => show_list(&client, list, &mut out).await?,
        JobsCommand::Show(typed) => {
            let job = client.job_with_request(&typed.job).await?;
            if typed.json {
                writeln!(out, "{job:#}")?;
            } else {
                show::write(&job, Timestamp::now(), &mut out)?;
            }
        }
        JobsCommand::Cancel(cancel) => act(&client, &cancel.job, "cancel", &mut out).await?,
        JobsCommand::Retry(retry) => match &retry.job {
            Some(job) => act(&client, job, "retry", &mut out).await?,
            None => retry_many(&client, retry, &mut out).await?,
        },
    }
    Ok(ExitCode::SUCCESS)
}

async fn act(client: &Client, id: &str, action: &str, out: &mut impl Write) -> anyhow::Result<()> {
    let job = client.act(id, action).await?;
    let status = word(&job["status"]);
    if action == "cancel" && matches!(status.as_str(), "succeeded" | "failed" | "expired") {
        writeln!(out, "{id} was not cancelled: it has ended as {status}")?;
    } else {
        writeln!(out, "{id} is {status}")?;
    }
    Ok(())
}

/// Retries all selected jobs, the oldest first, so that those of a session keep their order. All
/// are listed before the first retry, because pages start with the newest job, and a retried job
/// may end again meanwhile.
async fn retry_many(client: &Client, many: &JobsRetry, out: &mut impl Write) -> anyhow::Result<()> {
    let status = many.filter.status.as_deref().unwrap_or_default();
    if !RETRYABLE.contains(&status) {
        bail!("only failed, cancelled and expired jobs can be retried; --status is {status:?}");
    }
    let found = find(client, &query(&many.filter), None, usize::MAX).await?;
    let ids: Vec<String> = found.jobs.iter().map(|job| word(&job["id"])).collect();
    let mut count = 0;
    for id in ids.iter().rev() {
        let retried = client.retry(id).await;
        let progress = || format!("retried {count} of {} jobs, cannot retry the next", ids.len());
        count += usize::from(retried.with_context(progress)?);
    }
    writeln!(out, "{count} jobs are retried")?;
    Ok(())
}

/// A list of jobs, newest first, and the id after which it continues.
struct JobPage {
    jobs: Vec<Value>,
    next: Option<String>,
}

/// The parameters of a list of jobs.
type Query = Vec<(&'static str, String)>;

/// Finds the newest selected jobs, at most `limit`. The server examines a limited number of jobs
/// for a page: a page with few jobs, or none, need not be the last.
async fn find(
    client: &Client,
    filter: &Query,
    after: Option<&str>,
    limit: usize,
) -> anyhow::Result<JobPage> {
    let mut found = JobPage { jobs: Vec::new(), next: after.map(str::to_owned) };
    loop {
        let wanted = (limit - found.jobs.len()).min(PAGE);
        let mut query = filter.clone();
        query.push(("limit", wanted.to_string()));
        query.extend(found.next.take().map(|after| ("after", after)));
        let mut answer = client.list(&query).await?;
        found.jobs.extend(answer["data"].as_array_mut().map(std::mem::take).unwrap_or_default());
        if answer["has_more"] == true {
            found.next = answer["last_id"].as_str().map(str::to_owned);
        }
        if found.next.is_none() || found.jobs.len() >= limit {
            return Ok(found);
        }
    }
}

fn class_name(class: Option<JobClass>) -> Option<String> {
    serde_json::to_value(class?).ok()?.as_str().map(str::to_owned)
}

/// Finds the newest jobs of all tenants, at most `limit`, by merging the newest of each.
async fn find_for_all(client: &Client, filter: &Query, limit: usize) -> anyhow::Result<JobPage> {
    let tenants = client.get(&["tenants"]).await?;
    let tenants = tenants["data"].as_array().map(Vec::as_slice).unwrap_or_default();
    let names: Vec<String> = tenants.iter().map(|tenant| word(&tenant["id"])).collect();
    // Without tenants, all jobs belong to the implicit one.
    if names.is_empty() {
        return find(client, filter, None, limit).await;
    }
    let mut all = JobPage { jobs: Vec::new(), next: None };
    for name in names {
        let mut filter = filter.clone();
        filter.push(("tenant", name));
        let found = find(client, &filter, None, limit).await?;
        all.jobs.extend(found.jobs);
        all.next = all.next.or(found.next);
    }
    // Timestamps in RFC 3339 and UTC sort as text.
    all.jobs.sort_by(|one, other| other["created_at"].as_str().cmp(&one["created_at"].as_str()));
    if all.jobs.len() > limit {
        all.next = all.jobs.get(limit).map(|job| word(&job["id"]));
        all.jobs.truncate(limit);
    }
    Ok(all)
}

fn query(filter: &JobFilter) -> Query {
    let given = [
        ("status", filter.status.clone()),
        ("class", class_name(filter.class)),
        ("session", filter.session.clone()),
        ("since", filter.since.map(|since| since.to_string())),
        ("model", filter.model.clone()),
        ("error_code", filter.error_code.clone()),
        ("tenant", filter.tenant.clone()),
    ];
    given.into_iter().filter_map(|(name, value)| Some((name, value?))).collect()
}

async fn show_list(client: &Client, list: &JobsList, out: &mut impl Write) -> anyhow::Result<()> {
    let (filter, limit) = (query(&list.filter), list.limit.into());
    let found = if list.all_tenants {
        find_for_all(client, &filter, limit).await?
    } else {
        find(client, &filter, list.after.as_deref(), limit).await?
    };
    if list.json {
        for job in &found.jobs {
            writeln!(out, "{job}")?;
        }
    } else {
        write_table(&found.jobs, list.all_tenants, Timestamp::now(), out)?;
    }
    match found.next {
        None => {}
        // A position in a merged list is no position in the list of one tenant.
        Some(_) if list.all_tenants => {
            writeln!(
                terminal::stderr(),
                "there are more: raise --limit, or use --since or --tenant"
            )?;
        }
        Some(last) => writeln!(terminal::stderr(), "there are more: --after {last}")?,
    }
    Ok(())
}

const COLUMNS: [&str; 9] =
    ["JOB", "STATUS", "CLASS", "MODEL", "SESSION", "ATTEMPTS", "AGE", "WAIT", "REASON"];

/// The most characters of a reason in the list; `jobs show` prints all of it.
const MAX_REASON: usize = 100;

fn write_table(
    jobs: &[Value],
    with_tenants: bool,
    now: Timestamp,
    out: &mut impl Write,
) -> io::Result<()> {
    if !with_tenants {
        return table::write(&COLUMNS, jobs.iter().map(|job| row(job, now)), out);
    }
    let rows = jobs.iter().map(|job| prepend(word(&job["tenant"]), row(job, now)));
    table::write(&prepend("TENANT", COLUMNS), rows, out)
}

/// Prepends a column.
fn prepend<T>(first: T, columns: [T; 9]) -> [T; 10] {
    let [a, b, c, d, e, f, g, h, i] = columns;
    [first, a, b, c, d, e, f, g, h, i]
}

/// Describes why a job waits or has no answer: its reason to wait, and the error of an ended job or
/// of the last failed attempt.
fn reason(job: &Value) -> String {
    let waits = match &job["waiting_for"] {
        Value::Null => None,
        Value::String(name) => Some(name.clone()),
        other => Some(other.to_string()),
    };
    let last = || job["attempt_errors"].as_array()?.last()?["message"].as_str();
    let error = match job["status"].as_str() {
        Some("succeeded") => None,
        Some(_) | None => job["error"]["message"].as_str().or_else(last).map(str::to_owned),
    };
    let parts: Vec<String> = waits.into_iter().chain(error).collect();
    if parts.is_empty() {
        return "-".to_owned();
    }
    word(&parts.join(": ").chars().take(MAX_REASON).collect::<String>().into())
}

fn row(job: &Value, now: Timestamp) -> [String; 9] {
    let attempts = format!("{}/{}", job["attempts"], job["max_attempts"]);
    [
        word(&job["id"]),
        word(&job["status"]),
        word(&job["class"]),
        word(&job["model"]),
        word(&job["session"]),
        attempts,
        timestamps::between(timestamps::of(&job["created_at"]), Some(now)),
        show::wait(job, now),
        reason(job),
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
    async fn jobs_are_retried_from_the_oldest() {
        drop(rustls::crypto::ring::default_provider().install_default());
        let list = async |RawQuery(query): RawQuery| {
            let query = query.unwrap_or_default();
            assert!(query.contains("status=failed&session=s"), "{query}");
            let rest = query.split_once("after=").map(|(_, after)| after);
            // The second page examined jobs of which none match.
            let (ids, last, has_more): (&[&str], _, _) = match rest {
                None => (&["5", "4"], "4", true),
                Some("4") => (&[], "x", true),
                Some("x") => (&["3", "2"], "2", true),
                Some(_) => (&["1", "0"], "0", false),
            };
            let data: Vec<_> = ids.iter().map(|id| json!({"id": id})).collect();
            Json(json!({"data": data, "last_id": last, "has_more": has_more}))
        };
        let retried = Arc::new(Mutex::new(Vec::new()));
        let seen = Arc::clone(&retried);
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
        let Command::Jobs(JobsCommand::Retry(many)) = Cli::parse_from(line.split(' ')).command
        else {
            panic!("{line}");
        };
        let mut out = Vec::new();
        retry_many(&Client::new(&config).unwrap(), &many, &mut out).await.unwrap();
        assert_eq!(*retried.lock().unwrap(), ["0", "1", "2", "3", "4", "5"]);
        assert_eq!(String::from_utf8(out).unwrap(), "5 jobs are retried\n");
    }

    #[test]
    fn jobs_are_listed_with_their_reasons() {
        let now: Timestamp = "2026-01-02T03:05:05Z".parse().unwrap();
        let job = |id: &str, status: &str, waiting_for: &Value| {
            json!({"id": id, "status": status, "class": "standard", "model": "m", "session": null,
                "attempts": 1, "max_attempts": 5, "created_at": "2026-01-02T03:04:05.000Z",
                "started_at": if status == "queued" { None } else { Some("2026-01-02T03:04:06Z") },
                "waiting_for": waiting_for, "attempt_errors": [{"message": "401 from http://host"}]})
        };
        let jobs = [
            job("job_default_0_a", "queued", &json!("upstream_down")),
            job("job_b\u{1b}[2J", "succeeded", &Value::Null),
            job("job_c", "running", &Value::Null),
        ];
        let mut out = Vec::new();
        write_table(&jobs, false, now, &mut out).unwrap();
        let text = String::from_utf8(out).unwrap();
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(lines[0].find("STATUS"), lines[1].find("queued"));
        let middle = "standard  m      -        1/5       1m00s";
        let ends = [
            "1m00s  upstream_down: 401 from http://host",
            "1.0s   -",
            "1.0s   401 from http://host",
        ];
        for (line, end) in lines[1..].iter().zip(ends) {
            assert!(line.ends_with(&format!("{middle}  {end}")), "{line}");
        }
        assert!(lines[2].contains("job_b?[2J"));
    }
}
