use futures_util::FutureExt as _;
use tokio::time::advance;

use super::*;

const URL: &str = "https://example.com/ended";
const OTHER: &str = "https://example.com/other";

async fn admit(receivers: &Receivers, url: &str) -> Result<Pass, Duration> {
    receivers.admit(&TenantId::default_tenant(), &url.parse().unwrap()).await
}

/// Admits or defers a delivery without waiting.
fn now(receivers: &Receivers, url: &str) -> Result<Pass, Duration> {
    admit(receivers, url).now_or_never().expect("no wait")
}

/// Fills the first window of a receiver without an answer for `time`.
async fn silent(receivers: &Receivers, time: Duration) -> Vec<Pass> {
    let mut passes = Vec::new();
    for _ in 0..WINDOW.0 {
        passes.push(admit(receivers, URL).await.unwrap());
    }
    advance(time).await;
    passes
}

#[tokio::test(start_paused = true)]
async fn a_new_receiver_gets_few_deliveries() {
    let receivers = Receivers::default();
    let _passes = silent(&receivers, Duration::ZERO).await;
    let start = Instant::now();
    let delay = admit(&receivers, URL).await.unwrap_err();
    assert_eq!((start.elapsed(), delay), (MAX_WAIT, DELAY.0));
    assert!(now(&receivers, "https://example.org").is_ok(), "other receivers are separate");
}

#[tokio::test(start_paused = true)]
async fn answers_widen_the_window() {
    let receivers = Receivers::default();
    for pass in silent(&receivers, Duration::ZERO).await {
        pass.record(Reaction::Answer);
    }
    let mut passes = Vec::new();
    for _ in 0..2 * WINDOW.0 {
        passes.push(admit(&receivers, URL).await.unwrap());
    }
    assert!(admit(&receivers, URL).await.is_err());
}

#[tokio::test(start_paused = true)]
async fn an_ended_delivery_admits_the_next() {
    let receivers = Receivers::default();
    let mut passes = silent(&receivers, Duration::ZERO).await;
    let mut next = std::pin::pin!(admit(&receivers, URL));
    assert!(next.as_mut().now_or_never().is_none());
    passes.pop();
    assert!(next.await.is_ok());
}

#[tokio::test(start_paused = true)]
async fn a_silent_receiver_defers_deliveries_at_once() {
    let receivers = Receivers::default();
    let _passes = silent(&receivers, SLOW).await;
    for n in 0..100 {
        let delay = now(&receivers, URL).unwrap_err();
        assert_eq!(delay, DELAY.0 + SPACING * n);
    }
}

#[tokio::test(start_paused = true)]
async fn one_delivery_probes_a_silent_receiver() {
    let receivers = Receivers::default();
    let fail =
        async |passes: Vec<Pass>| passes.iter().for_each(|pass| pass.record(Reaction::Silence));
    fail(silent(&receivers, SLOW).await).await;
    for cool_down in [1, 2, 4, 8, 16, 32, 60, 60].map(Duration::from_secs) {
        advance(cool_down - Duration::from_millis(1)).await;
        assert!(now(&receivers, URL).is_err());
        advance(Duration::from_millis(1)).await;
        let probe = now(&receivers, URL).unwrap();
        assert!(now(&receivers, URL).is_err());
        advance(SLOW).await;
        fail(vec![probe]).await;
    }
    advance(COOL_DOWN.1).await;
    admit(&receivers, URL).await.unwrap().record(Reaction::Answer);
    assert_eq!(silent(&receivers, Duration::ZERO).await.len(), WINDOW.0);
}

#[tokio::test(start_paused = true)]
async fn a_quick_failure_closes_nothing() {
    let receivers = Receivers::default();
    admit(&receivers, URL).await.unwrap().record(Reaction::Silence);
    assert!(admit(&receivers, URL).await.is_ok());
}

#[tokio::test(start_paused = true)]
async fn a_dead_path_blocks_no_live_path() {
    let receivers = Receivers::default();
    admit(&receivers, OTHER).await.unwrap().record(Reaction::Answer);
    let passes = silent(&receivers, SLOW).await;
    assert!(now(&receivers, &format!("{URL}?another=query")).is_err());
    assert!(now(&receivers, OTHER).is_ok());
    passes.iter().for_each(|pass| pass.record(Reaction::Silence));
    assert!(now(&receivers, OTHER).is_ok());
}

#[tokio::test(start_paused = true)]
async fn a_dead_path_yields_the_next_probe() {
    let receivers = Receivers::default();
    let passes = silent(&receivers, SLOW).await;
    passes.iter().for_each(|pass| pass.record(Reaction::Silence));
    drop(passes);
    advance(COOL_DOWN.0).await;
    let probe = now(&receivers, URL).unwrap();
    assert!(now(&receivers, OTHER).is_err());
    advance(SLOW).await;
    probe.record(Reaction::Silence);
    drop(probe);
    advance(COOL_DOWN.0).await;
    assert!(now(&receivers, URL).is_err());
    assert!(now(&receivers, OTHER).is_ok());
}

#[tokio::test(start_paused = true)]
async fn a_dead_host_occupies_few_permits() {
    let receivers = Receivers::default();
    let url = |n| format!("https://example.com/{n}");
    let mut passes = Vec::new();
    for n in 0..WINDOW.0 {
        passes.push(now(&receivers, &url(n)).unwrap());
    }
    advance(SLOW).await;
    for n in 4..100 {
        assert!(now(&receivers, &url(n)).is_err());
    }
}

#[tokio::test(start_paused = true)]
async fn the_number_of_receivers_is_bounded() {
    let receivers = Receivers::default();
    let kept = admit(&receivers, URL).await.unwrap();
    for n in 0..2 * MAX_KNOWN {
        drop(admit(&receivers, &format!("https://{n}.example.com")).await.unwrap());
    }
    assert!(lock(&receivers.known).len() <= MAX_KNOWN);
    drop(kept);
}
