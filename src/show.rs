//! `causeway jobs show`: the state and history of a job, for people.

use std::io::{self, Write};

use jiff::Timestamp;
use serde_json::Value;

use crate::{
    table::{self, word},
    timestamps, wait_reason,
};

const COLUMNS: [&str; 6] = ["ATTEMPT", "FAILED", "STATUS", "CHARGED TO", "CODE", "MESSAGE"];

/// Writes a job with its failed attempts, its request and its answer; `now` is the reference for
/// its age.
///
/// # Errors
/// If `out` is closed.
pub(crate) fn write(job: &Value, now: Timestamp, out: &mut impl Write) -> io::Result<()> {
    writeln!(out, "{}", word(&job["id"]))?;
    for (name, text) in facts(job, now) {
        writeln!(out, "  {name:<12}{text}")?;
    }
    let attempts = job["attempt_errors"].as_array().map(Vec::as_slice).unwrap_or_default();
    if !attempts.is_empty() {
        writeln!(out, "\nfailed attempts (only those charged to the job count):")?;
        table::write(&COLUMNS, attempts.iter().map(attempt), out)?;
    }
    write_request(&job["request"], out)?;
    if !job["response"].is_null() {
        let response = &job["response"];
        writeln!(out, "\nresponse: {}\n{:#}", response["status_code"], response["body"])?;
    }
    Ok(())
}

/// Returns the known facts of a job, one a line.
fn facts(job: &Value, now: Timestamp) -> Vec<(&'static str, String)> {
    let at = |name: &str| timestamps::of(&job[name]);
    let given = |name: &str| (!job[name].is_null()).then(|| word(&job[name]));
    let run = || {
        let until = if job["status"] == "running" { now } else { at("finished_at")? };
        Some(timestamps::between(Some(at("started_at")?), Some(until)))
    };
    let created = || {
        let age = timestamps::between(Some(at("created_at")?), Some(now));
        Some(format!("{} ({age} ago)", word(&job["created_at"])))
    };
    let labels = job["metadata"].as_object().filter(|labels| !labels.is_empty());
    let label = |(name, value): (&String, &Value)| format!("{name}={}", word(value));
    let facts = [
        ("status", Some(status(job))),
        ("reason", reason(job)),
        ("tenant", given("tenant")),
        ("lane", given("lane")),
        ("class", given("class")),
        ("model", given("model")),
        ("session", given("session")),
        ("created", created()),
        ("waited", Some(wait(job, now))),
        ("ran", run()),
        ("scheduled", given("scheduled_for")),
        ("deadline", given("expires_at")),
        ("attempts", Some(format!("{} of {}", job["attempts"], job["max_attempts"]))),
        ("tokens", tokens(&job["usage"])),
        ("labels", labels.map(|all| all.iter().map(label).collect::<Vec<_>>().join(" "))),
    ];
    facts.into_iter().filter_map(|(name, text)| Some((name, text?))).collect()
}

fn status(job: &Value) -> String {
    let more =
        [("cancelling", " (a cancel is requested)"), ("simulated", " (no model was called)")];
    let more = more.iter().filter(|(name, _)| job[name] == true).map(|(_, words)| *words);
    word(&job["status"]) + &more.collect::<String>()
}

/// Describes why a job waits, or why it has no answer.
fn reason(job: &Value) -> Option<String> {
    let error = &job["error"];
    if !error.is_null() {
        return Some(format!("{}: {}", word(&error["code"]), word(&error["message"])));
    }
    wait_reason::line(job)
}

fn tokens(usage: &Value) -> Option<String> {
    let (prompt, completion) =
        (usage["prompt_tokens"].as_u64()?, usage["completion_tokens"].as_u64()?);
    Some(format!("{prompt} prompt, {completion} completion"))
}

fn attempt(failed: &Value) -> [String; 6] {
    let number = |name: &str| failed[name].as_u64().map_or("-".to_owned(), |n| n.to_string());
    [
        number("attempt"),
        word(&failed["failed_at"]),
        number("status_code"),
        word(&failed["charged_to"]),
        word(&failed["code"]),
        word(&failed["message"]),
    ]
}

fn write_request(request: &Value, out: &mut impl Write) -> io::Result<()> {
    if request.is_null() {
        return Ok(());
    }
    writeln!(out, "\nrequest: {}", word(&request["url"]))?;
    for (name, value) in request["headers"].as_object().into_iter().flatten() {
        writeln!(out, "{name}: {value}")?;
    }
    match &request["body"] {
        Value::Null => writeln!(out, "(its body is kept until the job has succeeded)"),
        body => writeln!(out, "{body:#}"),
    }
}

/// Returns the time that a job waited for its latest attempt, or has waited so far.
pub(crate) fn wait(job: &Value, now: Timestamp) -> String {
    let began = timestamps::of(&job["started_at"]).or_else(|| timestamps::of(&job["finished_at"]));
    // A job whose lane failed has started before, and waits again.
    let began = began.filter(|_| job["waiting_for"].is_null());
    timestamps::between(timestamps::of(&job["created_at"]), Some(began.unwrap_or(now)))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_job_shows_attempts_and_request() {
        let failed = json!({"attempt": 1, "failed_at": "2026-01-02T03:04:07.000Z", "code": "upstream_refused",
            "charged_to": "lane", "message": "401 from http://h: no \u{1b}key", "status_code": 401});
        let job = json!({"id": "job_1", "status": "failed", "tenant": "ann", "attempts": 1, "max_attempts": 5,
            "created_at": "2026-01-02T03:04:05.000Z", "started_at": "2026-01-02T03:04:08.000Z",
            "finished_at": "2026-01-02T03:04:10.000Z", "metadata": {"team": "a"},
            "error": {"code": "upstream_cut", "message": "it broke off"}, "attempt_errors": [failed],
            "request": {"url": "/v1/messages", "headers": {"x": "y"}, "body": {"model": "m"}}});
        let mut out = Vec::new();
        write(&job, "2026-01-02T03:05:05Z".parse().unwrap(), &mut out).unwrap();
        let text = String::from_utf8(out).unwrap();
        for part in [
            "  reason      upstream_cut: it broke off\n",
            "  created     2026-01-02T03:04:05.000Z (1m00s ago)\n",
            "  waited      3.0s\n  ran         2.0s\n  attempts    1 of 5\n  labels      team=a\n",
            "2026-01-02T03:04:07.000Z  401     lane        upstream_refused  401 from http://h: no ?key\n",
            "request: /v1/messages\nx: \"y\"\n{\n  \"model\": \"m\"\n}\n",
        ] {
            assert!(text.contains(part), "{part}{text}");
        }
        let done = json!({"request": {"url": "/v1/messages", "headers": {}, "body": null}});
        let mut out = Vec::new();
        write(&done, Timestamp::now(), &mut out).unwrap();
        assert!(String::from_utf8(out).unwrap().contains("kept until the job has succeeded"));
    }
}
