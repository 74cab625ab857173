//! Retries of SDKs, which count their attempts and send no idempotency key: each finds the job of
//! its first attempt.

use std::collections::BTreeSet;

use reqwest::Method;
use tokio::task::JoinSet;

use crate::support::{
    eventually,
    http::{Client, Reply, chat},
    process::Causeway,
    redis::RedisServer,
    system::{Store, System},
    upstream::{Call, Upstream},
};

crate::on_both_stores! {
    retried_equal_calls_keep_separate_answers;
    a_keyed_call_survives_its_connection;
}

/// The number of concurrent equal calls.
const CALLS: usize = 3;

/// The log message for each job that an API process keeps for a retry.
const KEPT: &str = "a job waits for the retry of its client";

const LOGS: (&str, &str) = ("CAUSEWAY_LOG_FILTER", "info,causeway_api=debug");

/// Makes equal calls with this retry count.
fn attempts(client: &Client, retries: u32) -> JoinSet<Reply> {
    let mut calls = JoinSet::new();
    for _ in 0..CALLS {
        let client = client.clone();
        calls.spawn(async move {
            let request =
                client.request(Method::POST, "/v1/chat/completions").json(&chat("sample"));
            client.ask(request.header("x-stainless-retry-count", retries)).await
        });
    }
    calls
}

fn job(reply: &Reply) -> String {
    reply.headers["x-causeway-job-id"].to_str().expect("a text").to_owned()
}

/// Answers each call with another text, and checks that the retries receive all of them, one job
/// each.
async fn assert_answers_differ(calls: Vec<Call>, again: JoinSet<Reply>) {
    for (number, call) in calls.into_iter().enumerate() {
        call.answer(&format!("answer {number}"));
    }
    let (mut jobs, mut texts) = (BTreeSet::new(), BTreeSet::new());
    for reply in again.join_all().await {
        jobs.insert(job(&reply));
        texts.insert(reply.with(200)["choices"][0]["message"]["content"].to_string());
    }
    assert_eq!((jobs.len(), texts.len()), (CALLS, CALLS));
}

async fn retried_equal_calls_keep_separate_answers(store: Store) {
    let mut upstream = Upstream::held().await;
    let redis = (store == Store::Redis).then(RedisServer::start);
    let mut others = Vec::new();
    let first = match &redis {
        None => Causeway::up(&upstream.url(), &[LOGS]).await,
        Some(redis) => {
            others.push(Causeway::api(&redis.url(), &[LOGS]).await);
            others.push(Causeway::worker(&redis.url(), &upstream.url(), &[]).await);
            Causeway::api(&redis.url(), &[LOGS]).await
        }
    };
    let one = first.client().await;
    let other = if let Some(api) = others.first() { api.client().await } else { one.clone() };
    let left = attempts(&one, 0);
    let calls = upstream.calls(CALLS).await;
    drop(left);
    let all_kept = async || (first.text().matches(KEPT).count() == CALLS).then_some(());
    eventually("jobs that wait for retries", all_kept).await;
    let again = attempts(&other, 1);
    assert_answers_differ(calls, again).await;
    assert!(!upstream.has_call(), "a retry was a new job");
}

async fn a_keyed_call_survives_its_connection(store: Store) {
    let mut upstream = Upstream::held().await;
    let system = System::start(store, &upstream, &[]).await;
    let call_again = |client: &Client| {
        let request = client.request(Method::POST, "/v1/chat/completions").json(&chat("hi"));
        let (client, request) = (client.clone(), request.header("idempotency-key", "k"));
        async move { client.ask(request).await }
    };
    let [one, other] = &system.clients;
    let mut first = JoinSet::new();
    first.spawn(call_again(one));
    let mut call = upstream.call().await;
    first.abort_all();
    let mut again = JoinSet::new();
    again.spawn(call_again(other));
    assert!(call.is_waiting(), "its call was closed");
    call.answer("there");
    let reply = again.join_all().await.remove(0).with(200);
    assert_eq!(reply["choices"][0]["message"]["content"], "there");
    assert_eq!(upstream.seen().len(), 1);
}

#[tokio::test]
async fn a_stopped_api_keeps_each_callers_job() {
    let mut upstream = Upstream::held().await;
    let redis = RedisServer::start();
    let _worker = Causeway::worker(&redis.url(), &upstream.url(), &[]).await;
    let mut stops = Causeway::api(&redis.url(), &[]).await;
    let goes_on = Causeway::api(&redis.url(), &[]).await;
    let first = attempts(&stops.client().await, 0);
    let calls = upstream.calls(CALLS).await;
    stops.terminate();
    for reply in first.join_all().await {
        assert_eq!(reply.headers["x-should-retry"], "true");
        reply.with(503);
    }
    assert!(stops.ended().await.success());
    let again = attempts(&goes_on.client().await, 1);
    assert_answers_differ(calls, again).await;
    assert!(!upstream.has_call(), "a retry was a new job");
}
