//! Cancelling a running call closes its connection to the upstream.

use std::time::Duration;

use reqwest::{Method, RequestBuilder};
use serde_json::{Value, json};
use tokio::{task::JoinSet, time::Instant};

use crate::support::{
    http::chat,
    system::{Store, System},
    upstream::Upstream,
};

/// The number of cancelled calls; the median of their times counts.
const RUNS: usize = 15;
/// The limit of the time until the connection is closed.
const LIMIT: Duration = Duration::from_millis(100);

crate::on_both_stores! {
    any_process_cancels_a_running_call;
    a_leaving_caller_cancels_its_call;
    a_cancelled_stream_ends_in_mid_answer;
}

async fn any_process_cancels_a_running_call(store: Store) {
    let mut upstream = Upstream::held().await;
    let system = System::start(store, &upstream, &[]).await;
    let [one, other] = &system.clients;
    let mut times = Vec::with_capacity(RUNS);
    for _ in 0..RUNS {
        let id = one.submit("a long story").await;
        let call = upstream.call().await;
        let asked = Instant::now();
        other.post(&format!("/v1/jobs/{id}/cancel"), &json!({})).await.ok();
        times.push(call.left().await.duration_since(asked));
        let job = one.end_of(&id).await;
        assert_eq!(job["status"], "cancelled");
        assert_eq!(job["response"], Value::Null);
    }
    assert_soon(store, times);
    assert_eq!(upstream.seen().len(), RUNS);
}

/// Checks the median of the times until a connection was closed.
#[track_caller]
fn assert_soon(store: Store, mut times: Vec<Duration>) {
    times.sort_unstable();
    let median = times[RUNS / 2];
    println!("until the closed connection on {store:?}: {median:?}, all: {times:?}");
    assert!(median < LIMIT, "{median:?} is the median of {times:?}");
}

async fn a_leaving_caller_cancels_its_call(store: Store) {
    let mut upstream = Upstream::held().await;
    let system = System::start(store, &upstream, &[]).await;
    // Not an SDK; an SDK before its time-out; an SDK without further retries.
    let kinds: [&[(&str, &str)]; 3] = [
        &[],
        &[("x-stainless-retry-count", "0"), ("x-stainless-read-timeout", "600")],
        &[("x-stainless-retry-count", "2")],
    ];
    for headers in kinds {
        let mut times = Vec::with_capacity(RUNS);
        for _ in 0..RUNS {
            let mut calling = JoinSet::new();
            let client = system.client().clone();
            let request = client.request(Method::POST, "/v1/chat/completions").json(&chat("hi"));
            let add = |request: RequestBuilder, (name, value): &(&str, &str)| {
                request.header(*name, *value)
            };
            let request = headers.iter().fold(request, add);
            calling.spawn(async move { client.ask(request).await });
            let call = upstream.call().await;
            let left = Instant::now();
            calling.abort_all();
            times.push(call.left().await.duration_since(left));
        }
        assert_soon(store, times);
    }
}

async fn a_cancelled_stream_ends_in_mid_answer(store: Store) {
    let mut upstream = Upstream::held().await;
    let system = System::start(store, &upstream, &[]).await;
    let [one, other] = &system.clients;
    let id = one.submit_stream("a long story").await;
    let mut events = one.events(&id, None).await;
    let answer = upstream.call().await.stream();
    answer.say("Once upon a time").await;
    assert_eq!(events.next_of("output.delta").await.data["text"], "Once upon a time");
    other.post(&format!("/v1/jobs/{id}/cancel"), &json!({})).await.ok();
    answer.left().await;
    let rest = events.rest().await;
    assert_eq!(rest.last().map(|event| event.kind.as_str()), Some("job.cancelled"));
}
