//! `causeway submit`: a prompt or a file of jobs.

use std::{
    io::{self, Read as _, Write as _},
    path::Path,
    process::ExitCode,
};

use anyhow::{Context as _, bail};
use serde_json::{Map, Value, json};

use crate::{
    answer,
    cli::Submit,
    client::Client,
    config::Config,
    follow::{Screen, Show, follow},
};

/// Submits; with `--wait` or `--stream` also waits and prints the answer.
///
/// # Errors
/// When the file is no JSON, or the server refuses or stays away.
pub(crate) async fn run(config: &Config, typed: Submit) -> anyhow::Result<ExitCode> {
    let request = match &typed.json {
        Some(path) => of_file(read(path)?, &typed)?,
        None => of_prompt(typed.prompt.as_deref().unwrap_or_default(), &typed),
    };
    if typed.stream && request.get("jobs").is_some() {
        bail!("--stream shows one job's tokens: submit one job, or use --wait");
    }
    let client = Client::new(config)?;
    let answer = client.submit(request.to_string(), typed.idempotency_key.as_deref()).await?;
    let jobs = match answer["data"].as_array() {
        Some(jobs) => jobs.as_slice(),
        None => std::slice::from_ref(&answer),
    };
    let ids: Vec<&str> = jobs.iter().filter_map(|job| job["id"].as_str()).collect();
    if !typed.wait && !typed.stream {
        return announce(&ids);
    }
    let mut code = ExitCode::SUCCESS;
    for id in &ids {
        let ended = show(&client, id, &typed, ids.len()).await?;
        if ended != ExitCode::SUCCESS {
            code = ended;
        }
    }
    Ok(code)
}

/// Waits for one job and prints its answer.
async fn show(client: &Client, id: &str, typed: &Submit, of: usize) -> anyhow::Result<ExitCode> {
    let kind = if typed.stream { Show::Text } else { Show::Nothing };
    let mut screen = Screen::new(io::stdout(), io::stderr(), kind);
    if of > 1 {
        writeln!(io::stderr(), "{id}")?;
    }
    let job = follow(client, id, &mut screen).await?;
    if screen.has_text() && job["status"] == "succeeded" {
        answer::warn_if_simulated(&job, io::stderr())?;
        return Ok(ExitCode::SUCCESS);
    }
    Ok(answer::print(&job, io::stdout(), io::stderr())?)
}

fn announce(ids: &[&str]) -> anyhow::Result<ExitCode> {
    for id in ids {
        writeln!(io::stdout(), "{id}")?;
    }
    if let [id] = ids {
        writeln!(io::stderr(), "accepted; `causeway watch {id}` follows it")?;
    }
    Ok(ExitCode::SUCCESS)
}

fn of_prompt(prompt: &str, typed: &Submit) -> Value {
    let body = json!({"messages": [{"role": "user", "content": prompt}]});
    let mut job = json!({"url": "/v1/chat/completions", "body": body});
    adjust(&mut job, typed);
    job
}

/// The request that a file stands for: it as it is when it has `jobs` or a `body`, else a job with
/// the file as its body.
fn of_file(file: Value, typed: &Submit) -> anyhow::Result<Value> {
    let Value::Object(object) = file else {
        bail!("the file must hold a JSON object: {{\"jobs\": […]}}, a job, or a job's body");
    };
    if object.contains_key("jobs") {
        let flags = [typed.model.is_some(), typed.class.is_some(), typed.session.is_some()];
        if flags.contains(&true) {
            bail!("--model, --class and --session are for one job; write them into the file");
        }
        return Ok(Value::Object(object));
    }
    let is_job = object.contains_key("body");
    let mut job = if is_job { Value::Object(object) } else { json!({"body": object}) };
    adjust(&mut job, typed);
    Ok(job)
}

/// Lays the flags over one job.
fn adjust(job: &mut Value, typed: &Submit) {
    if let Some(class) = typed.class {
        job["class"] = json!(class);
    }
    if let Some(session) = &typed.session {
        job["session"] = json!(session);
    }
    let Some(body) = job["body"].as_object_mut() else { return };
    let set = |body: &mut Map<String, Value>, key: &str, value: Value| {
        drop(body.insert(key.to_owned(), value));
    };
    if let Some(model) = &typed.model {
        set(body, "model", json!(model));
    } else if !body.contains_key("model") {
        set(body, "model", json!("default"));
    }
    if typed.stream {
        set(body, "stream", json!(true));
    }
}

fn read(path: &Path) -> anyhow::Result<Value> {
    let text = if path == Path::new("-") {
        let mut text = String::new();
        io::stdin().read_to_string(&mut text).context("cannot read standard input")?;
        text
    } else {
        std::fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))?
    };
    serde_json::from_str(&text).with_context(|| format!("{} is not JSON", path.display()))
}

#[cfg(test)]
mod tests {
    use clap::Parser as _;

    use super::*;
    use crate::cli::{Cli, Command};

    fn typed(line: &str) -> Submit {
        match Cli::try_parse_from(line.split(' ')).unwrap().command {
            Command::Submit(submit) => submit,
            other => panic!("not submit: {other:?}"),
        }
    }

    #[test]
    fn a_prompt_becomes_a_job() {
        let typed = typed("causeway submit hello --stream --class batch --session s --model m");
        let request = of_prompt("hello", &typed);
        let body = json!({"messages": [{"role": "user", "content": "hello"}],
            "model": "m", "stream": true});
        let url = "/v1/chat/completions";
        let expected = json!({"url": url, "body": body, "class": "batch", "session": "s"});
        assert_eq!(request, expected);
    }

    #[test]
    fn a_file_is_jobs_or_a_job_or_a_body() {
        let typed = typed("causeway submit --json x");
        let jobs = json!({"jobs": [{"body": {}}]});
        assert_eq!(of_file(jobs.clone(), &typed).unwrap(), jobs);
        let job = json!({"body": {"model": "m"}, "class": "batch"});
        assert_eq!(of_file(job.clone(), &typed).unwrap(), job);
        let body = json!({"model": "m", "input": "x"});
        assert_eq!(of_file(body.clone(), &typed).unwrap(), json!({"body": body}));
        assert!(of_file(json!([1]), &typed).is_err());
    }

    #[test]
    fn flags_for_one_job_are_refused_beside_many() {
        let typed = typed("causeway submit --json x --class batch");
        let error = of_file(json!({"jobs": []}), &typed).unwrap_err().to_string();
        assert!(error.contains("--class"), "{error}");
    }
}
