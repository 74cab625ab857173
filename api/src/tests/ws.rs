//! WebSocket connections with many jobs, without a socket.

mod client;

use axum::{body::Body, extract::ws::Message, http::Request};
use causeway_queue::{EventKind, RawJson, backend::Emission};
use serde_json::{Value, json};
use tokio::time::Instant;

use self::client::Client;
use super::{Api, ann_and_bob, signed, tenant};
use crate::{
    Settings, Tenant, Webhooks,
    ws::{MAX_FOLLOWED, PING, SEND_TIMEOUT},
};

fn seq_and_type(frame: &Value) -> (u64, &str) {
    (frame["seq"].as_u64().unwrap_or_else(|| panic!("{frame}")), frame["type"].as_str().unwrap())
}

async fn say(api: &Api, lease: &causeway_queue::Lease, text: &str) {
    let data = RawJson::of(&json!([{ "choices": [{ "delta": { "content": text } }] }])).unwrap();
    let one = Emission {
        lease: lease.key.clone(),
        number: 1,
        repeated: false,
        kind: EventKind::Delta,
        data,
    };
    let shard = api.queue.shards().remove(0);
    assert!(api.queue.transitions().emit(&shard, vec![one]).await.unwrap().is_empty());
}

#[tokio::test]
async fn a_connection_submits_and_follows() {
    let api = Api::new();
    let mut client = Client::connect(&api, "default", 100);
    let job = json!({ "body": { "stream": true } });
    let submit = json!({ "op": "submit", "ref": "a", "job": job, "follow": true });
    let frame = client.ask(&submit).await;
    assert_eq!((&frame["ref"], &frame["job"]["status"]), (&json!("a"), &json!("queued")));
    let id = frame["job"]["id"].clone();
    let queued = client.receive().await;
    assert_eq!((seq_and_type(&queued), &queued["job"]), ((0, "job.queued"), &id));
    assert_eq!(queued["data"]["id"], id);

    let lease = api.claim().await;
    assert_eq!(seq_and_type(&client.receive().await), (1, "job.started"));
    say(&api, &lease, "hi").await;
    let delta = client.receive().await;
    assert_eq!((seq_and_type(&delta), &delta["data"]["text"]), ((2, "output.delta"), &json!("hi")));
    api.answer(lease, "hi").await;
    let end = client.receive().await;
    assert_eq!(seq_and_type(&end), (3, "job.succeeded"));
    assert_eq!(end["data"]["response"]["status_code"], 200);

    let again = client.ask(&json!({ "op": "follow", "job": id, "after": 2, "ref": "b" })).await;
    assert_eq!(again, json!({ "ref": "b", "job": id, "type": "following" }));
    assert_eq!(seq_and_type(&client.receive().await), (3, "job.succeeded"));
    assert_eq!(client.ask(&json!({ "op": "ping" })).await, json!({ "type": "pong" }));
}

#[tokio::test]
async fn many_jobs_are_followed_concurrently() {
    let api = Api::new();
    let mut client = Client::connect(&api, "default", 100);
    let mut ids = Vec::new();
    for _ in 0..3 {
        ids.push(client.submit().await);
        assert_eq!(seq_and_type(&client.receive().await), (0, "job.queued"));
    }
    let frame = client.ask(&json!({ "op": "unfollow", "job": ids[1] })).await;
    assert_eq!(frame, json!({ "job": ids[1], "type": "unfollowed" }));
    for _ in &ids {
        let lease = api.claim().await;
        api.answer(lease, "done").await;
    }
    let mut received = Vec::new();
    for _ in 0..4 {
        let frame = client.receive().await;
        received.push((frame["job"].as_str().unwrap().to_owned(), frame["seq"].as_u64().unwrap()));
    }
    received.sort();
    let mut expected: Vec<_> =
        [&ids[0], &ids[2]].iter().flat_map(|id| [1, 2].map(|seq| ((*id).clone(), seq))).collect();
    expected.sort();
    assert_eq!(received, expected);
    client.ask(&json!({ "op": "unfollow", "job": ids[0] })).await["error"]["code"]
        .as_str()
        .map(|code| assert_eq!(code, "not_followed"))
        .unwrap();
}

#[tokio::test]
async fn cancel_and_replay_work_like_http() {
    let api = Api::new();
    let mut client = Client::connect(&api, "default", 100);
    let submit = json!({ "op": "submit", "job": { "body": {} }, "idempotency_key": "k" });
    let first = client.ask(&submit).await;
    let second = client.ask(&submit).await;
    assert_eq!(first["job"]["id"], second["job"]["id"]);
    assert_eq!((&first["replayed"], &second["replayed"]), (&json!(false), &json!(true)));
    let other = json!({ "op": "submit", "job": { "body": { "n": 1 } }, "idempotency_key": "k" });
    assert_eq!(client.ask(&other).await["error"]["code"], "idempotency_key_reused");
    let frame = client.ask(&json!({ "op": "cancel", "job": first["job"]["id"] })).await;
    assert_eq!(
        (&frame["type"], &frame["job"]["status"]),
        (&json!("cancelling"), &json!("cancelled"))
    );
    assert_eq!(api.unfinished().await, 0);
}

#[tokio::test]
async fn a_refused_frame_keeps_the_connection() {
    let api = Api::with(Settings::default(), ann_and_bob());
    let foreign =
        api.ask(signed(super::post("/v1/jobs", r#"{"body":{}}"#), "key-of-ann")).await.id();
    let mut bob = Client::connect(&api, "bob", 100);
    for (frame, name, code, part) in [
        ("{".to_owned(), None, "invalid_json", "ends too early"),
        ("[]".to_owned(), None, "invalid_value", "object"),
        (r#"{"op":"dance","ref":"d"}"#.to_owned(), Some("d"), "invalid_value", "submit"),
        (r#"{"op":"ping","hop":1}"#.to_owned(), None, "unknown_parameter", "hop"),
        (r#"{"op":"submit","ref":"s"}"#.to_owned(), Some("s"), "missing_field", "job"),
        (r#"{"op":"submit","job":{"body":[]}}"#.to_owned(), None, "invalid_value", "JSON object"),
        (r#"{"op":"follow","job":7}"#.to_owned(), None, "invalid_value", "string"),
        (r#"{"op":"follow","job":"job_1"}"#.to_owned(), None, "job_not_found", "job_1"),
        (format!(r#"{{"op":"follow","job":"{foreign}"}}"#), None, "job_not_found", "no job"),
        (format!(r#"{{"op":"cancel","job":"{foreign}"}}"#), None, "job_not_found", "no job"),
    ] {
        bob.send(Message::Text(frame.clone().into())).await;
        let frame = bob.receive().await;
        assert_eq!(
            (&frame["type"], &frame["error"]["code"]),
            (&json!("error"), &json!(code)),
            "{frame}"
        );
        assert_eq!(frame["ref"].as_str(), name, "{frame}");
        assert!(frame["error"]["message"].as_str().unwrap().contains(part), "{frame}: {frame}");
    }
    bob.send(Message::Binary(vec![1].into())).await;
    assert!(bob.receive().await["error"]["message"].as_str().unwrap().contains("text"));
    assert_eq!(bob.ask(&json!({ "op": "ping" })).await["type"], "pong");
    assert_eq!(api.unfinished().await, 1);
}

#[tokio::test]
async fn the_limit_of_followed_jobs_holds() {
    let api = Api::new();
    let mut client = Client::connect(&api, "default", 100);
    let submit = json!({ "op": "submit", "job": { "body": {} }, "follow": true });
    let mut accepted = 0;
    while accepted < MAX_FOLLOWED {
        match client.ask(&submit).await["type"].as_str().unwrap() {
            "accepted" => accepted += 1,
            other => assert_eq!(other, "job.queued"),
        }
        while let Ok(frame) = client.receive.try_recv() {
            let Message::Text(text) = frame else { panic!("{frame:?}") };
            accepted += usize::from(text.contains(r#""type":"accepted""#));
        }
    }
    client.send_frame(&submit).await;
    let refused = loop {
        let frame = client.receive().await;
        if frame["type"] != "job.queued" {
            break frame;
        }
    };
    assert_eq!(refused["error"]["code"], "too_many_followed");
    assert_eq!(api.unfinished().await, MAX_FOLLOWED as u64);
}

#[tokio::test]
async fn a_connection_that_closes_cancels_nothing() {
    let api = Api::new();
    let mut client = Client::connect(&api, "default", 100);
    let id = client.submit().await;
    client.send(Message::Close(None)).await;
    while client.receive.recv().await.is_some() {}
    client.server.join_next().await.unwrap().unwrap();
    assert_eq!(api.get(&format!("/v1/jobs/{id}")).await.ok(200)["status"], "queued");
    assert!(api.queue.news().is_empty(), "the connection is open");
}

#[tokio::test]
async fn a_revoked_key_closes_its_connection() {
    let [ann, bob] = [tenant("ann"), tenant("bob")];
    let moved = Tenant { key_sha256: [ann.key_sha256.clone(), bob.key_sha256].concat(), ..bob };
    let revoked = Tenant { key_sha256: vec![[7; 32]], ..ann.clone() };
    for tenants in [vec![revoked], vec![tenant("bob")], vec![moved]] {
        let api = Api::with(Settings::default(), ann_and_bob());
        let mut client = Client::connect(&api, "ann", 100);
        let submit = json!({ "op": "submit", "job": { "body": {} } });
        assert_eq!(client.ask(&submit).await["type"], "accepted");
        api.state.tenants.replace(vec![ann.clone(), tenant("bob")]);
        assert_eq!(client.ask(&submit).await["type"], "accepted");
        api.state.tenants.replace(tenants);
        let frame = client.closed().await.unwrap();
        assert_eq!(frame.code, 1008);
        assert!(frame.reason.contains("no longer valid"), "{}", frame.reason);
        assert_eq!(api.unfinished().await, 2);
    }
}

#[tokio::test]
async fn changed_rights_reach_open_connections() {
    let api = Api::with(Settings::default(), ann_and_bob());
    let mut client = Client::connect(&api, "ann", 100);
    let webhook = json!({ "url": "https://example.com/" });
    let submit = json!({ "op": "submit", "job": { "body": {}, "webhook": webhook } });
    assert_eq!(client.ask(&submit).await["error"]["code"], "no_webhook_secret");
    let webhooks = Webhooks { signs: true, ..Webhooks::default() };
    api.state.tenants.replace(vec![Tenant { webhooks, ..tenant("ann") }]);
    assert_eq!(client.ask(&submit).await["type"], "accepted");
}

#[tokio::test(start_paused = true)]
async fn a_silent_client_is_disconnected() {
    let api = Api::new();
    let mut client = Client::connect(&api, "default", 100);
    let began = Instant::now();
    for round in 1..=3 {
        assert!(matches!(client.receive.recv().await, Some(Message::Ping(_))));
        assert_eq!(began.elapsed(), round * PING);
        client.send(Message::Pong(Vec::new().into())).await;
    }
    for _ in 0..2 {
        assert!(matches!(client.receive.recv().await, Some(Message::Ping(_))));
    }
    assert_eq!(client.closed().await, None);
    assert_eq!(began.elapsed(), 6 * PING);
}

#[tokio::test(start_paused = true)]
async fn a_client_that_stops_reading_is_disconnected() {
    let api = Api::new();
    let mut client = Client::connect(&api, "default", 1);
    let id = client.submit().await;
    let lease = api.claim().await;
    for _ in 0..50 {
        say(&api, &lease, "word ").await;
    }
    let began = Instant::now();
    client.server.join_next().await.unwrap().unwrap();
    assert_eq!(began.elapsed(), SEND_TIMEOUT);

    let mut next = Client::connect(&api, "default", 1);
    next.send_frame(&json!({ "op": "follow", "job": id, "after": 1 })).await;
    next.receive().await;
    for seq in 2..52 {
        assert_eq!(seq_and_type(&next.receive().await), (seq, "output.delta"));
    }
}

#[tokio::test(start_paused = true)]
async fn a_stopping_process_closes_with_a_reason() {
    let api = Api::new();
    let mut client = Client::connect(&api, "default", 100);
    client.submit().await;
    client.receive().await;
    let lease = api.claim().await;
    client.receive().await;
    api.state.draining.cancel();
    let submit = json!({ "op": "submit", "job": { "body": {} } });
    assert_eq!(client.ask(&submit).await["error"]["code"], "draining");
    api.answer(lease, "just in time").await;
    api.state.stopping().cancel();
    assert_eq!(seq_and_type(&client.receive().await), (2, "job.succeeded"));
    let frame = client.closed().await.unwrap();
    assert_eq!(frame.code, 1012);
    assert!(frame.reason.contains("after"), "{}", frame.reason);
    assert_eq!(api.unfinished().await, 0);

    let mut idle = Client::connect(&api, "default", 100);
    assert_eq!(idle.closed().await.unwrap().code, 1012);
}

#[tokio::test]
async fn plain_calls_and_foreign_pages_are_refused() {
    let api = Api::new();
    let request = |origin: Option<&str>| {
        let mut request = Request::get("/v1/ws").header("host", "127.0.0.1:4004");
        if let Some(origin) = origin {
            request = request.header("origin", origin);
        }
        request.body(Body::empty()).unwrap()
    };
    for origin in [None, Some("http://127.0.0.1:4004")] {
        let answer = api.ask(request(origin)).await;
        assert!(answer.refused(426, "upgrade_required").contains("WebSocket"));
        assert_eq!(answer.header("upgrade"), Some("websocket"));
    }
    for origin in ["http://elsewhere.example", "null"] {
        api.ask(request(Some(origin))).await.refused(403, "foreign_origin");
    }
    let api = Api::with(Settings::default(), ann_and_bob());
    api.ask(request(None)).await.refused(401, "invalid_api_key");
    let with_key = signed(request(Some("http://elsewhere.example")), "key-of-ann");
    api.ask(with_key).await.refused(426, "upgrade_required");
}
