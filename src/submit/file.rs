//! The jobs of a file: one JSON value, or one value per line.

use std::{
    io::{self, Read as _},
    path::Path,
};

use anyhow::{Context as _, anyhow, bail, ensure};
use causeway_queue::json::syntax_error;
use serde_json::{Map, Value, json};

/// The byte order mark, which may precede the text of a file.
const BYTE_ORDER_MARK: char = '\u{feff}';

/// The members by which an object is recognized as the body of a job.
const BODY_MEMBERS: [&str; 3] = ["messages", "input", "prompt"];

/// A job of a file.
#[derive(Debug, PartialEq)]
pub(super) struct FileJob {
    /// The job as it is submitted.
    pub(super) job: Value,
    /// The place of the job: "line 3 of jobs.jsonl".
    pub(super) location: String,
}

/// Reads the jobs of a file, or of standard input for `-`; at least one.
///
/// # Errors
/// If the file cannot be read, or has no jobs.
pub(super) fn read(path: &Path) -> anyhow::Result<Vec<FileJob>> {
    let is_input = path == Path::new("-");
    let name = if is_input { "standard input".to_owned() } else { path.display().to_string() };
    let mut bytes = Vec::new();
    let read = if is_input {
        io::stdin().read_to_end(&mut bytes)
    } else {
        std::fs::File::open(path).and_then(|mut file| file.read_to_end(&mut bytes))
    };
    read.with_context(|| format!("cannot read {name}"))?;
    let text = String::from_utf8(bytes).map_err(|error| {
        let byte = error.utf8_error().valid_up_to() + 1;
        anyhow!("{name} is not UTF-8 from byte {byte} on: save it as UTF-8")
    })?;
    entries(&text, &name)
}

/// Parses the jobs in the text of the file `name`.
fn entries(text: &str, name: &str) -> anyhow::Result<Vec<FileJob>> {
    let text = text.strip_prefix(BYTE_ORDER_MARK).unwrap_or(text);
    ensure!(!text.trim().is_empty(), "{name} is empty: write one job, or a line of JSON for each");
    let whole = match serde_json::from_str(text) {
        Ok(value) => return of_value(value, name),
        Err(error) => error,
    };
    let lines = text.lines().enumerate().filter(|(_, line)| !line.trim().is_empty());
    let lines: Vec<(usize, &str)> = lines.collect();
    // A text of one line, or with a first line that is no JSON, is a broken single value.
    if lines.len() < 2 || serde_json::from_str::<Value>(lines[0].1).is_err() {
        bail!("{name} is not JSON: {}", syntax_error(&whole));
    }
    let mut entries = Vec::with_capacity(lines.len());
    for (index, line) in lines {
        let location = format!("line {} of {name}", index + 1);
        let value = serde_json::from_str(line).map_err(|error| {
            let (said, column) = (syntax_error(&error), error.column());
            let said = said.split(", at line ").next().unwrap_or_default();
            anyhow!("{location} is not JSON: {said}, at column {column}")
        })?;
        entries.extend(of_value(value, &location)?);
    }
    Ok(entries)
}

/// Returns the jobs in a value: those in `jobs`; the value itself if it has a `body`; else a job
/// with the value as its body.
fn of_value(value: Value, location: &str) -> anyhow::Result<Vec<FileJob>> {
    let Value::Object(mut object) = value else {
        bail!("{location} must be a JSON object: {{\"jobs\": […]}}, a job, or a job's body");
    };
    if let Some(jobs) = object.remove("jobs") {
        return of_jobs(jobs, &object, location);
    }
    let job = if object.contains_key("body") {
        Value::Object(object)
    } else if BODY_MEMBERS.iter().any(|name| object.contains_key(*name)) {
        json!({ "body": object })
    } else {
        let names = BODY_MEMBERS.join("`, `");
        bail!(
            "{location} is neither a job (it has no `body`) nor a body (it has none of `{names}`)"
        );
    };
    Ok(vec![FileJob { job, location: location.to_owned() }])
}

fn of_jobs(
    jobs: Value,
    others: &Map<String, Value>,
    location: &str,
) -> anyhow::Result<Vec<FileJob>> {
    let Value::Array(jobs) = jobs else { bail!("{location}: `jobs` must be an array of jobs") };
    ensure!(!jobs.is_empty(), "{location} has no jobs: `jobs` is empty");
    if let Some(name) = others.keys().next() {
        bail!("{location}: `{name}` cannot stand beside `jobs`; set it in each job, or by a flag");
    }
    let entry = |(index, job)| FileJob { job, location: format!("jobs[{index}] of {location}") };
    Ok(jobs.into_iter().enumerate().map(entry).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn jobs(text: &str) -> Vec<Value> {
        entries(text, "x").unwrap().into_iter().map(|entry| entry.job).collect()
    }

    #[test]
    fn a_file_holds_jobs_or_bodies() {
        let job = json!({"body": {"model": "m"}, "class": "batch"});
        let body = json!({"model": "m", "input": "x"});
        let wrapped = json!({ "body": body });
        assert_eq!(jobs(&json!({"jobs": [job, job]}).to_string()), [job.clone(), job.clone()]);
        assert_eq!(jobs(&format!("{job:#}")), std::slice::from_ref(&job));
        assert_eq!(jobs(&format!("\u{feff}{body}")), std::slice::from_ref(&wrapped));
        assert_eq!(jobs(&format!("\u{feff}{job}\r\n\r\n{body}\r\n")), [job.clone(), wrapped]);
        let locations = entries(&format!("{job}\n\n{{\"jobs\":[{job}]}}"), "x").unwrap();
        let locations: Vec<String> = locations.into_iter().map(|entry| entry.location).collect();
        assert_eq!(locations, ["line 1 of x", "jobs[0] of line 3 of x"]);
    }

    #[test]
    fn a_file_without_jobs_names_the_place() {
        let job = r#"{"body":{}}"#;
        for (text, part) in [
            ("", "x is empty"),
            ("\u{feff}\n", "x is empty"),
            ("[1]", "x must be a JSON object"),
            ("{\"model\":\"m\"}", "x is neither a job"),
            ("{\"jobs\":[]}", "x has no jobs"),
            ("{\"jobs\":[],", "x is not JSON: it ends too early, at line 1, column 11"),
            ("{\"jobs\":[{}],\"class\":\"batch\"}", "`class` cannot stand beside `jobs`"),
            (&format!("{job}\n{{"), "line 2 of x is not JSON: it ends too early, at column 1"),
            (&format!("{job}\n\n7"), "line 3 of x must be a JSON object"),
        ] {
            let error = entries(text, "x").unwrap_err().to_string();
            assert!(error.contains(part), "{text}: {error}");
        }
    }
}
