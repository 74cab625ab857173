//! Descriptions of waiting jobs, in one line.

use causeway_queue::WaitingFor;
use serde_json::Value;

use crate::table::word;

/// Describes the wait of a job as the server reports it: its reason and details, the job's position
/// and its expected wait. `None` if the job does not wait.
pub(crate) fn line(job: &Value) -> Option<String> {
    let name = job["waiting_for"].as_str()?;
    let position = job["position"].as_u64().map(|position| format!("position {position}"));
    let wait = job["estimated_wait_ms"].as_u64();
    let wait = wait.map(|ms| format!("starts in about {} s", ms.div_ceil(1000)));
    let parts = [Some(reason(name)), details(job), position, wait];
    // The server leaves out what it does not know.
    Some(parts.into_iter().flatten().collect::<Vec<_>>().join("; "))
}

/// Describes the details of a reason why a lane or a job waits.
pub(crate) fn details(waiting: &Value) -> Option<String> {
    let details = &waiting["waiting_details"];
    let text = |name: &str| details[name].is_string().then(|| word(&details[name]));
    let part = |name: &str| text(name).map(|text| format!("{name} {text}"));
    let parts: Vec<String> =
        [text("message"), part("since"), part("until")].into_iter().flatten().collect();
    (!parts.is_empty()).then(|| parts.join(", "))
}

/// Returns a reason in words; a later server may have other reasons.
fn reason(name: &str) -> String {
    let known = WaitingFor::ALL.into_iter().find(|(known, _)| *known == name);
    known.map_or_else(
        || format!("waiting: {}", word(&name.into())),
        |(name, words)| format!("waiting for {words} ({name})"),
    )
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_wait_is_one_line() {
        let job = json!({"waiting_for": "turn", "waiting_details": null, "position": 3, "estimated_wait_ms": 5300});
        let wanted = "waiting for its turn, or a worker with a free permit (turn); position 3; starts in about 6 s";
        assert_eq!(line(&job).as_deref(), Some(wanted));
    }

    #[test]
    fn an_outage_shows_its_message() {
        let details =
            json!({"since": "12:00Z", "until": "12:01Z", "message": "connection\u{1b} refused"});
        let job =
            json!({"waiting_for": "upstream_down", "waiting_details": details, "position": null});
        let wanted = "waiting for the upstream of its lane, which fails (upstream_down); \
                      connection? refused, since 12:00Z, until 12:01Z";
        assert_eq!(line(&job).as_deref(), Some(wanted));
    }

    #[test]
    fn an_unknown_reason_is_shown_unchanged() {
        assert_eq!(line(&json!({"waiting_for": "budget"})).as_deref(), Some("waiting: budget"));
    }

    #[test]
    fn a_running_job_does_not_wait() {
        assert_eq!(line(&json!({"status": "running", "waiting_for": null})), None);
    }
}
