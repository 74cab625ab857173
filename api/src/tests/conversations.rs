//! `/v1/conversations` and their turns.

use std::time::Duration;

use axum::{body::Body, http::Request};
use causeway_queue::{
    JobId, Outcome, RawJson, SessionKey, Shard, TenantId, session::ProfileChange,
};
use serde_json::{Value, json};

use super::{
    Answer, Api, ann_and_bob, post,
    responses::{translate, translated_response},
    settle, signed,
};

const URL: &str = "/v1/responses";
const CONVERSATIONS: &str = "/v1/conversations";

async fn created(api: &Api, request: &Value) -> String {
    let answer = api.post(CONVERSATIONS, request).await;
    assert_eq!(answer.ok(200)["object"], "conversation");
    answer.id()
}

fn turn(input: &str, conversation: &str) -> Value {
    json!({ "input": input, "conversation": conversation })
}

/// Starts a turn in the background.
async fn start_turn(api: &Api, input: &str, conversation: &str) -> Answer {
    let mut request = turn(input, conversation);
    request["background"] = json!(true);
    api.post(URL, &request).await
}

/// Returns the texts of messages, each with one part or as plain text.
fn texts(items: &Value) -> Vec<String> {
    let text = |item: &Value| {
        let content = &item["content"];
        content.as_str().or(content[0]["text"].as_str()).unwrap().to_owned()
    };
    items.as_array().unwrap().iter().map(text).collect()
}

async fn items(api: &Api, conversation: &str) -> Vec<String> {
    let list = api.get(&format!("{CONVERSATIONS}/{conversation}/items?order=asc")).await;
    texts(&list.ok(200)["data"])
}

async fn delete(api: &Api, path: &str) -> Answer {
    api.ask(Request::delete(path).body(Body::empty()).unwrap()).await
}

#[tokio::test]
async fn responses_of_a_conversation_continue_each_other() {
    let api = Api::new();
    let conversation = created(&api, &json!({})).await;
    translated_response(&api, &turn("one", &conversation), "1").await;
    let path = format!("{CONVERSATIONS}/{conversation}/items?order=asc");
    let before = api.get(&path).await.ok(200)["data"].clone();
    let named = json!({ "input": "two", "conversation": { "id": conversation }, "store": false });
    let (second, sent) = translated_response(&api, &named, "2").await;
    assert_eq!(texts(&sent), ["one", "1", "two"]);
    let response = api.get(&format!("{URL}/{second}")).await;
    assert_eq!(response.ok(200)["conversation"]["id"], conversation);
    assert_eq!(items(&api, &conversation).await, ["one", "1", "two", "2"]);
    let after = api.get(&path).await.ok(200)["data"].clone();
    for place in 0..2 {
        assert_eq!(before[place]["id"], after[place]["id"], "an item keeps its id");
    }
    assert_eq!(*api.get("/bridge/sessions").await.ok(200), json!({ "sessions": [] }));
}

#[tokio::test]
async fn a_new_conversation_can_be_read() {
    let api = Api::new();
    let conversation = created(&api, &json!({ "metadata": { "a": "b" } })).await;
    let path = format!("{CONVERSATIONS}/{conversation}");
    assert_eq!(api.get(&path).await.ok(200)["metadata"], json!({ "a": "b" }));
    assert_eq!(items(&api, &conversation).await, Vec::<String>::new());
    let renamed = api.post(&path, &json!({ "metadata": { "c": "d" } })).await.ok(200).clone();
    assert_eq!(renamed["metadata"], json!({ "c": "d" }));
    assert_eq!(*api.get(&path).await.ok(200), renamed);
    api.post(&path, &json!({ "metadata": { "e": "x".repeat(513) } }))
        .await
        .refused(400, "invalid_value");
    let deleted = json!({ "deleted": true, "id": conversation, "object": "conversation.deleted" });
    assert_eq!(*delete(&api, &path).await.ok(200), deleted);
}

#[tokio::test]
async fn an_unknown_conversation_is_not_found() {
    let api = Api::new();
    let deleted = created(&api, &json!({})).await;
    translated_response(&api, &turn("one", &deleted), "1").await;
    delete(&api, &format!("{CONVERSATIONS}/{deleted}")).await.ok(200);
    let expired = created(&api, &json!({})).await;
    api.clock.advance(Duration::from_secs(24 * 3600));
    let long = format!("conv_causeway_{}", "x".repeat(500));
    for id in [deleted.as_str(), expired.as_str(), "conv_causeway_1", "conv_1", long.as_str()] {
        let shown: String = id.chars().take(100).collect();
        let wanted = format!("Conversation with id '{shown}' not found.");
        let path = format!("{CONVERSATIONS}/{id}");
        for answer in [
            api.get(&path).await,
            api.get(&format!("{path}/items")).await,
            api.post(&path, &json!({ "metadata": {} })).await,
            delete(&api, &path).await,
        ] {
            assert!(answer.refused(404, "conversation_not_found").starts_with(&wanted));
        }
        if id != "conv_1" {
            start_turn(&api, "hi", id).await.refused(404, "conversation_not_found");
        }
    }
}

#[tokio::test]
async fn a_conversation_belongs_to_its_tenant() {
    let api = Api::with(crate::Settings::default(), ann_and_bob());
    let id = api.ask(signed(post(CONVERSATIONS, "{}"), "key-of-ann")).await.id();
    let request = post(URL, &turn("hi", &id).to_string());
    api.ask(signed(request, "key-of-bob")).await.refused(404, "conversation_not_found");
}

#[tokio::test]
async fn a_conversation_can_start_with_items() {
    let api = Api::new();
    let (first, _) = translated_response(&api, &json!({ "input": "x" }), "earlier").await;
    let name = first.replacen("resp_", "msg_", 1);
    let item = format!("{name}_0");
    let first = json!([{ "role": "user", "content": "I am Ann" },
        { "type": "item_reference", "id": item }]);
    let conversation = created(&api, &json!({ "items": first })).await;
    assert_eq!(items(&api, &conversation).await, ["I am Ann", "earlier"]);
    for (input, answer) in [("one", "1"), ("two", "2")] {
        translated_response(&api, &turn(input, &conversation), answer).await;
    }
    let wanted = ["I am Ann", "earlier", "one", "1", "two", "2"];
    assert_eq!(items(&api, &conversation).await, wanted);
    let message = json!({ "role": "user", "content": "x" });
    let large = json!({ "role": "user", "content": "x".repeat(64 << 10) });
    let lost = json!({ "type": "item_reference", "id": format!("{name}_i0") });
    for items in [json!(vec![message; 21]), json!([large]), json!(["x"]), json!([lost])] {
        api.post(CONVERSATIONS, &json!({ "items": items })).await.refused(400, "invalid_value");
    }
}

#[tokio::test]
async fn a_conversation_has_one_turn_at_a_time() {
    let api = Api::new();
    let conversation = created(&api, &json!({})).await;
    start_turn(&api, "one", &conversation).await.ok(200);
    let locked = start_turn(&api, "two", &conversation).await;
    locked.refused(400, "conversation_locked");
    assert_eq!(locked.headers["x-should-retry"], "true");
    assert_eq!(locked.headers["retry-after"], "1");
    assert_eq!(items(&api, &conversation).await, Vec::<String>::new());
    let lease = api.claim().await;
    translate(&api, lease, json!([])).await;
    start_turn(&api, "two", &conversation).await.ok(200);
}

#[tokio::test]
async fn a_turn_without_an_answer_leaves_no_items() {
    let api = Api::new();
    let conversation = created(&api, &json!({})).await;
    translated_response(&api, &turn("one", &conversation), "1").await;
    for end in [Outcome::Expired, Outcome::Cancelled] {
        start_turn(&api, "lost", &conversation).await.ok(200);
        let lease = api.claim().await;
        api.settle(lease, end).await;
        assert_eq!(items(&api, &conversation).await, ["one", "1"]);
    }
    let (_, sent) = translated_response(&api, &turn("two", &conversation), "2").await;
    assert_eq!(texts(&sent), ["one", "1", "two"]);
}

#[tokio::test]
async fn a_deleted_response_leaves_its_conversation() {
    let api = Api::new();
    let conversation = created(&api, &json!({})).await;
    translated_response(&api, &turn("one", &conversation), "1").await;
    let (second, _) = translated_response(&api, &turn("two", &conversation), "2").await;
    delete(&api, &format!("{URL}/{second}")).await.ok(200);
    assert_eq!(items(&api, &conversation).await, ["one", "1"]);
    let (_, sent) = translated_response(&api, &turn("three", &conversation), "3").await;
    assert_eq!(texts(&sent), ["one", "1", "three"]);
}

/// Makes a conversation name a response as its latest one that is not in the store.
async fn name_lost_turn(api: &Api, conversation: &str, lost: &JobId) {
    let (tenant, session) = (TenantId::default_tenant(), SessionKey::new(conversation).unwrap());
    let known = api.queue.profile(&tenant, &session).await.unwrap().unwrap();
    let mut record: Value = known.read().unwrap();
    record["turn"] = json!(lost);
    let ttl = Duration::from_secs(60);
    let change = ProfileChange { known: Some(known), profile: RawJson::of(&record).unwrap(), ttl };
    assert!(api.queue.change_profile(&tenant, &session, &change).await.unwrap());
}

#[tokio::test]
async fn a_lost_turn_locks_for_a_while() {
    let api = Api::new();
    let conversation = created(&api, &json!({})).await;
    let shard: Shard = api.queue.shards().remove(0);
    name_lost_turn(&api, &conversation, &JobId::new(shard.clone())).await;
    start_turn(&api, "one", &conversation).await.refused(400, "conversation_locked");
    let long_ago = JobId::in_shard(shard, &"0".repeat(26)).unwrap();
    name_lost_turn(&api, &conversation, &long_ago).await;
    translated_response(&api, &turn("one", &conversation), "1").await;
    assert_eq!(items(&api, &conversation).await, ["one", "1"]);
}

#[tokio::test]
async fn a_turn_with_equal_key_attaches() {
    let api = Api::new();
    let conversation = created(&api, &json!({})).await;
    let mut request = turn("one", &conversation);
    request["background"] = json!(true);
    let keyed = || {
        let mut request = post(URL, &request.to_string());
        request.headers_mut().insert("idempotency-key", "k".parse().unwrap());
        request
    };
    let id = api.ask(keyed()).await.id();
    assert_eq!(api.ask(keyed()).await.id(), id, "while it is running");
    let lease = api.claim().await;
    translate(&api, lease, json!([])).await;
    assert_eq!(api.ask(keyed()).await.id(), id, "after its end");
    start_turn(&api, "two", &conversation).await.ok(200);
}

#[tokio::test]
async fn a_retried_turn_attaches_to_its_response() {
    let api = Api::new();
    let conversation = created(&api, &json!({})).await;
    let attempt = |retries: u32| {
        let mut request = post(URL, &turn("one", &conversation).to_string());
        request.headers_mut().insert("x-stainless-retry-count", retries.into());
        Box::pin(api.ask(request))
    };
    let mut first = attempt(0);
    while api.unfinished().await == 0 {
        assert!(futures_util::poll!(&mut first).is_pending());
    }
    drop(first);
    settle().await;
    let mut second = attempt(1);
    assert!(futures_util::poll!(&mut second).is_pending());
    let lease = api.claim().await;
    translate(&api, lease, json!([])).await;
    second.await.ok(200);
    assert_eq!(items(&api, &conversation).await, ["one"]);
}

#[tokio::test]
async fn a_request_continues_only_one_thing() {
    let api = Api::new();
    for conversation in ["conv_1", "conv_causeway_1"] {
        let request = json!({ "input": "hi", "conversation": conversation, "previous_response_id": "resp_1" });
        let answer = api.post(URL, &request).await;
        assert!(answer.refused(400, "invalid_value").contains("either"));
    }
    let request = json!({ "input": "hi", "conversation": 5 });
    let answer = api.post(URL, &request).await;
    let message = answer.refused(400, "invalid_value");
    assert!(message.contains("the id of a conversation"), "{message}");
}
