//! `causeway submit`: submits a prompt or a file of jobs.

mod file;

use std::{io::Write as _, process::ExitCode};

use anyhow::{Context as _, bail};
use indicatif::ProgressBar;
use serde_json::{Map, Value, json};

use crate::{
    answer,
    cli::{JobFlags, SubmitArgs},
    client::{Client, ServerRefusal},
    config::Config,
    follow::{Screen, Show, follow},
    submit::file::FileJob,
    terminal,
};

/// The number of jobs of a file in one call: fewer than a server accepts, so that its answer comes
/// soon.
const PER_CALL: usize = 1000;

/// Submits jobs; with `--wait` or `--stream` also waits for them and prints their answers.
///
/// # Errors
/// If the file has no jobs, or the server refuses or does not answer.
pub(crate) async fn run(config: &Config, typed: SubmitArgs) -> anyhow::Result<ExitCode> {
    if let (Some(delay), Some(deadline)) = (typed.job.delay, typed.job.deadline)
        && deadline <= delay
    {
        bail!("--deadline must be more than --delay, as both count from now");
    }
    let mut jobs = match &typed.file {
        Some(path) => file::read(path)?,
        None => vec![of_prompt(typed.prompt.as_deref().unwrap_or_default())],
    };
    for entry in &mut jobs {
        adjust(&mut entry.job, &typed.job, typed.stream);
    }
    if typed.stream && jobs.len() > 1 {
        bail!("--stream shows one job's tokens: submit one job, or use --wait");
    }
    let client = Client::new(config)?;
    let accepted = submit(&client, &jobs, typed.idempotency_key.as_deref()).await?;
    let ids: Vec<&str> = accepted.iter().filter_map(|job| job["id"].as_str()).collect();
    if !typed.wait && !typed.stream {
        return announce(&accepted, &ids, typed.json);
    }
    for id in &ids {
        writeln!(terminal::stderr(), "{id}")?;
    }
    wait(&client, &ids, &typed).await
}

/// Submits all jobs, many of them in several calls; returns the accepted jobs.
async fn submit(
    client: &Client,
    jobs: &[FileJob],
    key: Option<&str>,
) -> anyhow::Result<Vec<Value>> {
    // A single job is submitted as itself: its answer and errors are those of one job.
    if let [entry] = jobs {
        return Ok(vec![client.submit(entry.job.to_string(), key).await?]);
    }
    let mut accepted = Vec::new();
    for (n, part) in jobs.chunks(PER_CALL).enumerate() {
        // Each call needs a key of its own; a repeated command gives each call the same one.
        let key = key.map(|key| if n == 0 { key.to_owned() } else { format!("{key}/{n}") });
        let values: Vec<&Value> = part.iter().map(|entry| &entry.job).collect();
        let answer = client.submit(json!({ "jobs": values }).to_string(), key.as_deref()).await;
        let so_far = || format!("{} of {} jobs were accepted", accepted.len(), jobs.len());
        let mut answer = answer.map_err(|error| in_file(error, part)).with_context(so_far)?;
        accepted.extend(answer["data"].as_array_mut().map(std::mem::take).unwrap_or_default());
    }
    Ok(accepted)
}

/// Replaces the server's position of a refused job, `jobs[3]: …`, by its place in the file.
fn in_file(error: anyhow::Error, part: &[FileJob]) -> anyhow::Error {
    let mut refusal = match error.downcast::<ServerRefusal>() {
        Ok(refusal) => refusal,
        Err(other) => return other,
    };
    let named = refusal.message.strip_prefix("jobs[").and_then(|rest| rest.split_once(']'));
    if let Some((index, rest)) = named
        && let Some(entry) = index.parse::<usize>().ok().and_then(|index| part.get(index))
    {
        refusal.message = format!("{}{rest}", entry.location);
    }
    refusal.into()
}

/// Waits for all jobs in turn and prints their answers. For several jobs, a bar on a terminal
/// counts the ended ones.
async fn wait(client: &Client, ids: &[&str], typed: &SubmitArgs) -> anyhow::Result<ExitCode> {
    let bar =
        if ids.len() > 1 { ProgressBar::new(ids.len() as u64) } else { ProgressBar::hidden() };
    let mut code = ExitCode::SUCCESS;
    for id in ids {
        // Without `--stream` the answer is printed as a whole, when the job has ended.
        let kind = if typed.stream { Show::Text } else { Show::Nothing };
        let mut screen = Screen::new(terminal::stdout(), terminal::stderr(), kind);
        let job = follow(client, id, &mut screen).await?;
        let ended =
            bar.suspend(|| show(&job, id, screen.has_text(), (ids.len() > 1, typed.json)))?;
        if ended != ExitCode::SUCCESS {
            code = ended;
        }
        bar.inc(1);
    }
    bar.finish_and_clear();
    Ok(code)
}

/// Prints the result of a job.
fn show(
    job: &Value,
    id: &str,
    is_shown: bool,
    (is_one_of_many, as_json): (bool, bool),
) -> anyhow::Result<ExitCode> {
    let (out, mut err) = (terminal::stdout(), terminal::stderr());
    if as_json {
        let mut out = out;
        writeln!(out, "{job}")?;
        let has_succeeded = job["status"] == "succeeded";
        return Ok(if has_succeeded { ExitCode::SUCCESS } else { ExitCode::FAILURE });
    }
    // The text was printed while it arrived.
    if is_shown && job["status"] == "succeeded" {
        answer::warn_if_simulated(job, err)?;
        return Ok(ExitCode::SUCCESS);
    }
    if is_one_of_many {
        writeln!(err, "{id}:")?;
    }
    Ok(answer::print(job, out, err)?)
}

fn announce(jobs: &[Value], ids: &[&str], as_json: bool) -> anyhow::Result<ExitCode> {
    let mut out = terminal::stdout();
    for (job, id) in jobs.iter().zip(ids) {
        if as_json { writeln!(out, "{job}")? } else { writeln!(out, "{id}")? }
    }
    if let [id] = ids {
        writeln!(terminal::stderr(), "accepted; `causeway watch {id}` follows it")?;
    }
    Ok(ExitCode::SUCCESS)
}

fn of_prompt(prompt: &str) -> FileJob {
    let body = json!({"messages": [{"role": "user", "content": prompt}]});
    let job = json!({"url": "/v1/chat/completions", "body": body});
    FileJob { job, location: "the prompt".to_owned() }
}

/// Applies the flags to a job.
fn adjust(job: &mut Value, flags: &JobFlags, stream: bool) {
    let Some(members) = job.as_object_mut() else { return };
    let ms = |span: std::time::Duration| u64::try_from(span.as_millis()).unwrap_or(u64::MAX);
    let given = [
        ("class", flags.class.map(|class| json!(class))),
        ("session", flags.session.as_ref().map(|session| json!(session))),
        ("delay_ms", flags.delay.map(|delay| json!(ms(delay)))),
        ("deadline_ms", flags.deadline.map(|deadline| json!(ms(deadline)))),
        ("webhook", flags.webhook.as_ref().map(|url| json!({ "url": url }))),
    ];
    let given = given.into_iter().filter_map(|(name, value)| Some((name.to_owned(), value?)));
    members.extend(given);
    for (name, value) in &flags.metadata {
        let labels = members.entry("metadata").or_insert_with(|| json!({}));
        if let Some(labels) = labels.as_object_mut() {
            set(labels, name, json!(value));
        }
    }
    let Some(body) = members.get_mut("body").and_then(Value::as_object_mut) else { return };
    if let Some(model) = &flags.model {
        set(body, "model", json!(model));
    } else if !body.contains_key("model") {
        set(body, "model", json!("default"));
    }
    if stream {
        set(body, "stream", json!(true));
    }
}

fn set(object: &mut Map<String, Value>, key: &str, value: Value) {
    // A flag replaces the member of the file.
    drop(object.insert(key.to_owned(), value));
}

#[cfg(test)]
mod tests {
    use clap::Parser as _;

    use super::*;
    use crate::cli::{Cli, Command};

    fn typed(line: &str) -> SubmitArgs {
        match Cli::try_parse_from(line.split(' ')).unwrap().command {
            Command::Submit(submit) => *submit,
            other => panic!("not submit: {other:?}"),
        }
    }

    #[test]
    fn a_prompt_becomes_a_job() {
        let typed = typed(
            "causeway submit hello --stream --class batch --session s --model m --delay 2s \
             --deadline 1h --metadata a=b=c --metadata d= --webhook http://h/",
        );
        let mut job = of_prompt("hello").job;
        adjust(&mut job, &typed.job, typed.stream);
        let body = json!({"messages": [{"role": "user", "content": "hello"}],
            "model": "m", "stream": true});
        let expected = json!({"url": "/v1/chat/completions", "body": body, "class": "batch",
            "session": "s", "delay_ms": 2000, "deadline_ms": 3_600_000,
            "metadata": {"a": "b=c", "d": ""}, "webhook": {"url": "http://h/"}});
        assert_eq!(job, expected);
    }

    #[test]
    fn flags_apply_to_each_job() {
        let typed = typed("causeway submit --file x --class batch --metadata a=b");
        let mut job =
            json!({"body": {"model": "m"}, "class": "interactive", "metadata": {"c": "d"}});
        adjust(&mut job, &typed.job, false);
        let metadata = json!({"a": "b", "c": "d"});
        assert_eq!(job, json!({"body": {"model": "m"}, "class": "batch", "metadata": metadata}));
    }
}
