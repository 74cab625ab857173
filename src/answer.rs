//! Prints the answer of an ended job.

use std::{
    io::{self, Write},
    process::ExitCode,
};

use serde_json::Value;

/// The warning that precedes an answer that no model gave.
const SIMULATED: &str = "SIMULATED: this answer is made up; no model was called";

/// Prints the answer of an ended job, or the reason why it has none. The exit code is a
/// failure without an answer.
pub(crate) fn print(job: &Value, mut out: impl Write, mut err: impl Write) -> io::Result<ExitCode> {
    if job["status"] != "succeeded" {
        writeln!(err, "{}", reason(job))?;
        return Ok(ExitCode::FAILURE);
    }
    warn_if_simulated(job, &mut err)?;
    let body = &job["response"]["body"];
    match text(body) {
        Some(text) => writeln!(out, "{text}")?,
        None => writeln!(out, "{body:#}")?,
    }
    Ok(ExitCode::SUCCESS)
}

/// Warns if no model gave the answer.
pub(crate) fn warn_if_simulated(job: &Value, mut err: impl Write) -> io::Result<()> {
    if job["simulated"] == true { writeln!(err, "{SIMULATED}") } else { Ok(()) }
}

/// Describes why an ended job has no answer.
fn reason(job: &Value) -> String {
    let id = job["id"].as_str().unwrap_or("the job");
    let status = job["status"].as_str().unwrap_or("unfinished");
    match job["error"]["message"].as_str() {
        Some(message) => format!("{id} {status}: {message}"),
        None => format!("{id} {status}"),
    }
}

/// Returns the text of an upstream's answer in any of the supported formats; `None` if it has no
/// text.
fn text(body: &Value) -> Option<String> {
    // Chat completions, then legacy completions.
    let pointers = ["/choices/0/message/content", "/choices/0/text"];
    if let Some(text) = pointers.iter().find_map(|pointer| body.pointer(pointer)?.as_str()) {
        return Some(text.to_owned());
    }
    let parts = |list: &Value| -> Option<String> {
        let texts: Vec<&str> =
            list.as_array()?.iter().filter_map(|part| part["text"].as_str()).collect();
        (!texts.is_empty()).then(|| texts.concat())
    };
    // Anthropic messages, then the responses API.
    parts(&body["content"])
        .or_else(|| body["output"].as_array()?.iter().find_map(|item| parts(&item["content"])))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn every_answer_format_yields_its_text() {
        for body in [
            json!({"choices": [{"message": {"role": "assistant", "content": "hi"}}]}),
            json!({"choices": [{"text": "hi"}]}),
            json!({"content": [{"type": "text", "text": "h"}, {"type": "text", "text": "i"}]}),
            json!({"output": [{"type": "reasoning"}, {"content": [{"text": "hi"}]}]}),
        ] {
            assert_eq!(text(&body).as_deref(), Some("hi"), "{body}");
        }
        assert_eq!(text(&json!({"data": [{"embedding": [1]}]})), None);
    }

    #[test]
    fn a_simulated_answer_is_announced() {
        for (simulated, said) in [(true, format!("{SIMULATED}\n")), (false, String::new())] {
            let body = json!({"choices": [{"text": "hi"}]});
            let response = json!({"body": body});
            let job = json!({"status": "succeeded", "simulated": simulated, "response": response});
            let (mut out, mut err) = (Vec::new(), Vec::new());
            print(&job, &mut out, &mut err).unwrap();
            assert_eq!((out, err), (b"hi\n".to_vec(), said.into_bytes()));
        }
    }

    #[test]
    fn a_failed_job_prints_why() {
        let job = json!({"id": "job_1", "status": "failed", "error": {"message": "no route"}});
        let (mut out, mut err) = (Vec::new(), Vec::new());
        let code = print(&job, &mut out, &mut err).unwrap();
        assert_eq!((code, out.len()), (ExitCode::FAILURE, 0));
        assert_eq!(String::from_utf8(err).unwrap(), "job_1 failed: no route\n");
    }
}
