//! Upstreams that keep a worker waiting: each kind of silence ends the attempt, and a 429 makes the
//! lane wait.

use serde_json::json;
use tokio::time::Instant;

use crate::support::{
    http::chat,
    process::Causeway,
    system::{Store, System},
    upstream::Upstream,
};

crate::on_both_stores! {
    a_429_pauses_the_lane;
}

async fn a_429_pauses_the_lane(store: Store) {
    let mut upstream = Upstream::held().await;
    let system = System::start(store, &upstream, &[]).await;
    let first = system.client().submit("first").await;
    let call = upstream.call().await;
    let refused_at = Instant::now();
    call.busy(1);
    // The whole lane waits, not only the refused job.
    let second = system.client().submit("second").await;
    let calls = upstream.calls(2).await;
    let waited = refused_at.elapsed();
    assert!(waited.as_millis() >= 1000, "called again after {waited:?}");
    for call in calls {
        call.answer("at your service");
    }
    for id in [first, second] {
        let job = system.client().end_of(&id).await;
        assert_eq!((&job["status"], &job["attempts"]), (&"succeeded".into(), &1.into()), "{job:#}");
    }
}

#[tokio::test]
async fn every_kind_of_silence_ends_the_attempt() {
    for (variable, streams, part) in [
        ("CAUSEWAY_TIMEOUTS_FIRST_BYTE", false, "began within"),
        ("CAUSEWAY_TIMEOUTS_BETWEEN_BYTES", true, "fell silent"),
        ("CAUSEWAY_TIMEOUTS_TOTAL", true, "took longer"),
    ] {
        let mut upstream = Upstream::held().await;
        let up = Causeway::up(&upstream.url(), &[(variable, "200ms")]).await;
        let client = up.client().await;
        let mut body = chat("hello");
        body["stream"] = streams.into();
        let id = client.post("/v1/jobs", &json!({ "body": body, "max_attempts": 1 })).await.id();
        let call = upstream.call().await;
        if streams {
            let answer = call.stream();
            answer.say("Once").await;
            answer.left().await;
        } else {
            call.left().await;
        }
        // A missing answer is charged to the lane: the job spends no attempt.
        if !streams {
            upstream.call().await.answer("at last");
        }
        let job = client.end_of(&id).await;
        let (status, error) = match streams {
            true => ("failed", &job["error"]),
            false => ("succeeded", &job["attempt_errors"][0]),
        };
        assert_eq!(job["status"], status, "{variable}: {job:#}");
        assert_eq!(error["code"], "upstream_timeout", "{variable}: {job:#}");
        let message = error["message"].as_str().expect("a message");
        assert!(message.contains(part) && message.contains("0.2 s"), "{variable}: {message}");
    }
}
