//! Retries of SDKs, which count their attempts and send no idempotency key.

use std::{collections::BTreeSet, pin::Pin, time::Duration};

use axum::response::Response;
use serde_json::json;
use tokio::time::{sleep, timeout};

use super::{Api, post, settle};

const CHAT: &str = "/v1/chat/completions";
const SECOND: Duration = Duration::from_secs(1);

type Call<'a> = Pin<Box<dyn Future<Output = Response> + 'a>>;

/// Sends an attempt of the call; `retries` is the number of earlier ones.
fn attempt(api: &Api, retries: u32) -> Call<'_> {
    attempt_of(api, retries, &json!({ "model": "m", "messages": [] }))
}

/// Sends an attempt with further headers.
fn attempt_with<'a>(api: &'a Api, retries: u32, headers: &[(&'static str, &str)]) -> Call<'a> {
    let mut request = post(CHAT, &json!({ "model": "m", "messages": [] }).to_string());
    request.headers_mut().insert("x-stainless-retry-count", retries.into());
    for (name, value) in headers {
        request.headers_mut().insert(*name, value.parse().unwrap());
    }
    Box::pin(api.send(request))
}

fn attempt_of<'a>(api: &'a Api, retries: u32, body: &serde_json::Value) -> Call<'a> {
    let mut request = post(CHAT, &body.to_string());
    request.headers_mut().insert("x-stainless-retry-count", retries.into());
    Box::pin(api.send(request))
}

/// Sends a call with an idempotency key.
fn keyed(api: &Api) -> Call<'_> {
    let mut request = post(CHAT, &json!({ "model": "m", "messages": [] }).to_string());
    request.headers_mut().insert("idempotency-key", "k".parse().unwrap());
    Box::pin(api.send(request))
}

/// Polls a call until its job waits, as one of `jobs`.
async fn start<'a>(api: &'a Api, mut call: Call<'a>, jobs: u64) -> Call<'a> {
    while api.unfinished().await < jobs {
        assert!(futures_util::poll!(&mut call).is_pending());
    }
    assert!(futures_util::poll!(&mut call).is_pending());
    call
}

fn job_of(answer: &Response) -> String {
    answer.headers()["x-causeway-job-id"].to_str().unwrap().to_owned()
}

#[tokio::test]
async fn equal_retried_calls_share_no_job() {
    let api = Api::new();
    let first: Vec<Call<'_>> = vec![
        start(&api, attempt(&api, 0), 1).await,
        start(&api, attempt(&api, 0), 2).await,
        start(&api, attempt(&api, 0), 3).await,
    ];
    drop(first);
    settle().await;
    let mut again = Vec::new();
    for _ in 0..3 {
        again.push(start(&api, attempt(&api, 1), 3).await);
        settle().await;
    }
    assert_eq!(api.unfinished().await, 3, "no retry submits a job");
    for _ in 0..3 {
        let lease = api.claim().await;
        api.answer(lease, "hi").await;
    }
    let mut jobs = BTreeSet::new();
    for call in again {
        jobs.insert(job_of(&call.await));
    }
    assert_eq!(jobs.len(), 3);
}

#[tokio::test]
async fn a_retry_without_orphan_is_new() {
    let api = Api::new();
    let first = start(&api, attempt(&api, 0), 1).await;
    let second = start(&api, attempt(&api, 1), 2).await;
    drop(first);
    settle().await;
    let other = json!({ "model": "m", "messages": [1] });
    let third = start(&api, attempt_of(&api, 1, &other), 3).await;
    assert_eq!(api.unfinished().await, 3);
    drop((second, third));
}

#[tokio::test(start_paused = true)]
async fn an_abandoned_job_is_cancelled_in_time() {
    for (retries, left) in [(true, 1), (false, 0)] {
        let api = Api::new();
        assert!(timeout(SECOND, attempt(&api, 0)).await.is_err());
        sleep(SECOND).await;
        assert_eq!(api.unfinished().await, 1, "the orphan waits for a retry");
        let again = attempt(&api, 1);
        if retries {
            let _waits = timeout(5 * SECOND, again).await.is_err();
            assert_eq!(api.unfinished().await, 1, "one job");
        } else {
            sleep(5 * SECOND).await;
        }
        assert_eq!(api.unfinished().await, left, "retries: {retries}");
    }
}

#[tokio::test(start_paused = true)]
async fn an_abandoned_retry_leaves_an_orphan() {
    let api = Api::new();
    for retries in 0..2 {
        assert!(timeout(SECOND, attempt(&api, retries)).await.is_err());
        settle().await;
        assert_eq!(api.unfinished().await, 1, "after attempt {retries}");
    }
    sleep(10 * SECOND).await;
    assert_eq!(api.unfinished().await, 0);
}

#[tokio::test(start_paused = true)]
async fn a_retry_never_attaches_to_cancelled_jobs() {
    let api = Api::new();
    assert!(timeout(SECOND, attempt(&api, 0)).await.is_err());
    settle().await;
    let lease = api.claim().await;
    let id = lease.key.job.clone();
    api.queue.cancel(&lease.key.tenant, &id).await.unwrap();
    let mut again = attempt(&api, 1);
    while api.unfinished().await < 2 {
        assert!(futures_util::poll!(&mut again).is_pending());
    }
}

#[tokio::test]
async fn a_keyed_call_outlives_its_client() {
    let api = Api::new();
    drop(start(&api, keyed(&api), 1).await);
    settle().await;
    let lease = api.claim().await;
    let id = lease.key.job.to_string();
    let again = start(&api, keyed(&api), 1).await;
    api.answer(lease, "hi").await;
    let answer = again.await;
    assert_eq!((answer.status().as_u16(), job_of(&answer)), (200, id));
}

#[tokio::test(start_paused = true)]
async fn an_orphan_of_a_stored_call_expires() {
    let api = Api::new();
    let body = json!({ "model": "m", "messages": [], "store": true });
    drop(start(&api, attempt_of(&api, 0, &body), 1).await);
    sleep(10 * SECOND).await;
    assert_eq!(api.unfinished().await, 1, "it continues");
    let _refused_before = start(&api, attempt_of(&api, 1, &body), 2).await;
}

#[tokio::test(start_paused = true)]
async fn uncounted_attempts_cancel_at_once() {
    let api = Api::new();
    let request = post(CHAT, &json!({ "model": "m", "messages": [] }).to_string());
    drop(start(&api, Box::pin(api.send(request)), 1).await);
    settle().await;
    assert_eq!(api.unfinished().await, 0);
}

#[tokio::test(start_paused = true)]
async fn leaving_before_the_time_out_cancels() {
    for (headers, left) in [
        (&[("x-stainless-read-timeout", "600")][..], 0),
        (&[("x-stainless-timeout", "60")], 0),
        (&[("x-stainless-read-timeout", "2.0")], 1),
        (&[("x-stainless-timeout", "60"), ("x-forwarded-for", "10.0.0.1")], 1),
    ] {
        let api = Api::new();
        assert!(timeout(2 * SECOND, attempt_with(&api, 0, headers)).await.is_err());
        settle().await;
        assert_eq!(api.unfinished().await, left, "{headers:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn clients_without_retries_cancel_at_once() {
    const MOST: &str = "x-causeway-max-retries";
    for (retries, headers, left) in
        [(2, &[][..], 0), (0, &[(MOST, "0")], 0), (2, &[(MOST, "5")], 1), (5, &[(MOST, "5")], 0)]
    {
        let api = Api::new();
        assert!(timeout(SECOND, attempt_with(&api, retries, headers)).await.is_err());
        settle().await;
        assert_eq!(api.unfinished().await, left, "{retries} {headers:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn the_last_retry_takes_an_orphan_too() {
    let api = Api::new();
    assert!(timeout(SECOND, attempt(&api, 1)).await.is_err());
    settle().await;
    let last = start(&api, attempt(&api, 2), 1).await;
    assert_eq!(api.unfinished().await, 1, "one job");
    drop(last);
    settle().await;
    assert_eq!(api.unfinished().await, 0);
}

#[tokio::test]
async fn a_refused_call_leaves_an_orphan() {
    let api = Api::new();
    let mut first = start(&api, attempt(&api, 0), 1).await;
    api.state.stopping().cancel();
    let answer = (&mut first).await;
    assert_eq!(
        (answer.status().as_u16(), &answer.headers()["x-should-retry"]),
        (503, &"true".parse().unwrap())
    );
    let other = api.beside();
    let again = start(&other, attempt(&other, 1), 1).await;
    settle().await;
    let lease = other.claim().await;
    let id = lease.key.job.to_string();
    other.answer(lease, "hi").await;
    assert_eq!(job_of(&again.await), id);
}
