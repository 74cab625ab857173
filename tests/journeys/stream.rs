//! A broken event stream resumes after its last event.

use crate::support::{
    sse::Event,
    system::{Store, System},
    upstream::Upstream,
};

crate::on_both_stores! {
    a_broken_stream_resumes_at_any_process;
    a_late_reader_gets_everything;
}

fn text(events: &[Event]) -> String {
    let deltas = events.iter().filter(|event| event.kind == "output.delta");
    deltas.map(|event| event.data["text"].as_str().expect("a text")).collect()
}

fn kinds(events: &[Event]) -> Vec<&str> {
    let mut kinds: Vec<&str> = events.iter().map(|event| event.kind.as_str()).collect();
    kinds.dedup();
    kinds
}

async fn a_broken_stream_resumes_at_any_process(store: Store) {
    let mut upstream = Upstream::held().await;
    let system = System::start(store, &upstream, &[]).await;
    let [one, other] = &system.clients;
    let id = one.submit_stream("a story").await;
    let mut broken = one.events(&id, None).await;
    let answer = upstream.call().await.stream();
    answer.say("Once ").await;
    let last = broken.next_of("output.delta").await;
    assert_eq!(last.data["text"], "Once ");
    drop(broken);
    answer.say("upon ").await;
    let mut resumed = other.events(&id, last.id.as_deref()).await;
    let mut events = vec![resumed.next().await.expect("an event")];
    answer.say("a time").await;
    answer.finish().await;
    events.extend(resumed.rest().await);
    assert_eq!(text(&events), "upon a time");
    assert_eq!(kinds(&events), ["output.delta", "job.succeeded"]);
}

async fn a_late_reader_gets_everything(store: Store) {
    let mut upstream = Upstream::held().await;
    let system = System::start(store, &upstream, &[]).await;
    let [one, other] = &system.clients;
    let id = one.submit_stream("a story").await;
    let answer = upstream.call().await.stream();
    answer.say("The end").await;
    answer.finish().await;
    let job = one.end_of(&id).await;
    assert_eq!(job["response"]["body"]["choices"][0]["message"]["content"], "The end");
    let events = other.events(&id, None).await.rest().await;
    assert_eq!(text(&events), "The end");
    assert_eq!(kinds(&events), ["job.queued", "job.started", "output.delta", "job.succeeded"]);
}
