//! Observation after the fact: the log, the metrics, the command line.

use serde_json::{Value, json};

use crate::support::{
    http::chat,
    process::Causeway,
    system::{Store, System},
    upstream::Upstream,
};

crate::on_both_stores! {
    queue_depth_is_a_metric;
}

#[tokio::test]
async fn a_request_is_logged_with_its_names() {
    let upstream = Upstream::held().await;
    let settings = [("CAUSEWAY_LOG_FORMAT", "json")];
    let up = Causeway::up(&upstream.url(), &settings).await;
    let client = up.client().await;
    let request = client.request(reqwest::Method::POST, "/v1/jobs?ignored=1");
    let request = request.header("x-request-id", "mine").json(&json!({ "body": chat("whisper") }));
    let id = client.ask(request).await.id();
    let text = up.says("\"request_id\":\"mine\"").await;
    assert_eq!(text.matches("\"job.id\"").count(), 1, "{text}");
    let line: Value = serde_json::from_str(&text).expect("JSON");
    let logged = ["method", "path", "status"].map(|name| line[name].clone());
    assert_eq!(logged, [json!("POST"), json!("/v1/jobs"), json!(202)], "{line:#}");
    assert!(line["ms"].is_u64(), "{line:#}");
    let names = ["tenant.id", "job.id"].map(|name| line["span"][name].clone());
    assert_eq!(names, [json!("default"), json!(id)], "{line:#}");
    client.get("/healthz").await.ok();
    client.get("/v1/queue").await.ok();
    up.says("/v1/queue").await;
    assert!(!up.text().contains("/healthz"));
}

async fn queue_depth_is_a_metric(store: Store) {
    let mut upstream = Upstream::held().await;
    let system = System::start(store, &upstream, &[]).await;
    let client = system.client();
    let job = |class: &str, delay_ms: u64| json!({ "body": chat("hello"), "class": class, "delay_ms": delay_ms, "session": "s" });
    client.post("/v1/jobs", &job("interactive", 0)).await.id();
    let call = upstream.call().await;
    client.post("/v1/jobs", &job("batch", 0)).await.id();
    let text = client.get("/metrics").await.ok();
    let text = text.as_str().expect("text");
    for line in [
        r#"causeway_jobs{lane="default",state="ready",class="batch"} 0"#,
        r#"causeway_jobs{lane="default",state="held"} 1"#,
        r#"causeway_jobs{lane="default",state="running"} 1"#,
        "# HELP causeway_jobs ",
        "causeway_build_info{",
        r#"causeway_oldest_wait_seconds{lane="default"} "#,
    ] {
        assert!(text.contains(line), "{line} is missing in\n{text}");
    }
    call.answer("hi");
}

#[tokio::test]
async fn every_metric_has_help_and_bounded_labels() {
    let mut upstream = Upstream::held().await;
    let up = Causeway::up(&upstream.url(), &[]).await;
    let client = up.client().await;
    let id = client.submit("hello").await;
    upstream.call().await.answer("hi");
    client.end_of(&id).await;
    let text = client.get("/metrics").await.ok();
    let text = text.as_str().expect("text");
    let kinds = text.lines().filter_map(|line| line.strip_prefix("# TYPE "));
    let names: Vec<&str> = kinds.filter_map(|kind| kind.split(' ').next()).collect();
    assert!(names.len() > 10, "{text}");
    for name in names {
        assert!(text.contains(&format!("# HELP {name} ")), "{name} has no HELP");
    }
    for line in [
        r#"causeway_upstream_answers_total{lane="default",status="200"} 1"#,
        r#"causeway_wait_seconds_bucket{lane="default",class="standard",le="#,
        r#"causeway_job_seconds_count{lane="default",class="standard"} 1"#,
        r#"causeway_tokens_total{lane="default",kind="prompt"}"#,
    ] {
        assert!(text.contains(line), "{line} is missing in\n{text}");
    }
}

#[tokio::test]
async fn jobs_are_submitted_and_printed_as_lines() {
    let mut upstream = Upstream::held().await;
    let up = Causeway::up(&upstream.url(), &[]).await;
    let url = up.url().await;
    let file = tempfile::NamedTempFile::new().expect("a file");
    let lines = ["one", "two"].map(|prompt| json!({ "body": chat(prompt) }).to_string());
    std::fs::write(&file, lines.join("\n")).expect("the file can be written");
    let path = file.path().to_str().expect("a path");
    let arguments =
        ["submit", "--file", path, "--wait", "--json", "--metadata", "batch=7", "--url", &url];
    let command = Causeway::command(&arguments, &[]);
    let answers = async {
        for _ in 0..2 {
            upstream.call().await.answer("hi");
        }
    };
    let (text, ()) = tokio::join!(command, answers);
    let jobs: Vec<Value> =
        text.lines().filter_map(|line| serde_json::from_str(line).ok()).collect();
    assert_eq!(jobs.len(), 2, "{text}");
    for job in &jobs {
        assert_eq!((&job["status"], &job["metadata"]["batch"]), (&json!("succeeded"), &json!("7")));
        let id = job["id"].as_str().expect("an id");
        assert_eq!(text.lines().filter(|line| *line == id).count(), 1, "{text}");
    }
    let arguments = ["jobs", "list", "--json", "--limit", "1", "--url", &url];
    let listed = Causeway::command(&arguments, &[]).await;
    let job: Value =
        serde_json::from_str(listed.lines().find(|l| l.starts_with('{')).expect("a job"))
            .expect("JSON");
    assert_eq!(job["status"], "succeeded");
    assert!(listed.contains("there are more: --after "), "{listed}");
}

#[tokio::test]
async fn a_refused_line_is_named() {
    let upstream = Upstream::echo().await;
    let up = Causeway::up(&upstream.url(), &[]).await;
    let url = up.url().await;
    let file = tempfile::NamedTempFile::new().expect("a file");
    let path = file.path().to_str().expect("a path");
    let lines = ["\u{feff}", r#"{"body":{}}"#, "", r#"{"body":{},"class":"urgent"}"#];
    for (text, flags, said) in [
        (lines[..].join("\n"), &[][..], format!("line 4 of {path}: class must be one of")),
        (String::new(), &[], format!("{path} is empty")),
        (lines[1].to_owned(), &["--delay", "2s", "--deadline", "2s"], "than --delay".to_owned()),
    ] {
        std::fs::write(&file, text).expect("the file can be written");
        let arguments = [&["submit", "--file", path, "--url", &url], flags].concat();
        let mut refused = Causeway::launch(&arguments, &[]);
        assert!(!refused.ended().await.success());
        assert!(refused.text().contains(&said), "{}", refused.text());
    }
}

#[tokio::test]
async fn the_version_names_the_commit() {
    let text = Causeway::command(&["--version"], &[]).await;
    let words: Vec<&str> = text.split_whitespace().collect();
    assert_eq!(words[..2], ["causeway", env!("CARGO_PKG_VERSION")], "{text}");
    // A source tree may not be a Git checkout.
    if let Some(commit) = words.get(2) {
        assert_eq!(commit.len(), "(0123456789ab)".len(), "{text}");
    }
}
