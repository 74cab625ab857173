//! One WebSocket for many jobs: it resumes at another process, authenticates by key, and is closed
//! when the process stops.

use serde_json::{Value, json};

use super::tenants::{new_key, tenants};
use crate::support::{
    process::Causeway,
    system::{Store, System},
    upstream::Upstream,
    ws::Socket,
};
use tokio_tungstenite::tungstenite::Error;

crate::on_both_stores! {
    a_broken_connection_resumes_at_any_process;
}

/// A header without a meaning for the server.
const NOTHING: (&str, &str) = ("user-agent", "test");

async fn a_broken_connection_resumes_at_any_process(store: Store) {
    let mut upstream = Upstream::held().await;
    let system = System::start(store, &upstream, &[]).await;
    let [one, other] = &system.clients;
    let mut broken = Socket::connect(one, NOTHING.0, NOTHING.1).await;
    let mut answers = Vec::new();
    for prompt in ["a story", "a song"] {
        let id = broken.submit_stream(prompt).await;
        let answer = upstream.call().await.stream();
        answer.say("Once ").await;
        let frame = broken.next_of(&id, "output.delta").await;
        assert_eq!(frame["data"]["text"], "Once ");
        answers.push((id, frame["seq"].clone(), answer));
    }
    drop(broken);
    let mut resumed = Socket::connect(other, NOTHING.0, NOTHING.1).await;
    for (id, after, answer) in answers {
        answer.say("upon a time").await;
        answer.finish().await;
        resumed.say(&json!({ "op": "follow", "job": id, "after": after })).await;
        resumed.next_of(&id, "following").await;
        let mut text = String::new();
        let end = loop {
            let frame: Value = resumed.next_frame().await;
            assert_eq!(frame["job"], id, "{frame:#}");
            match frame["type"].as_str() {
                Some("output.delta") => text += frame["data"]["text"].as_str().expect("a text"),
                _ => break frame,
            }
        };
        assert_eq!((text.as_str(), &end["type"]), ("upon a time", &json!("job.succeeded")));
        assert_eq!(end["data"]["status"], "succeeded");
    }
}

#[tokio::test]
async fn a_socket_authenticates_and_drains() {
    let mut upstream = Upstream::held().await;
    let directory = tempfile::tempdir().expect("a directory");
    let file = directory.path().join("causeway.toml");
    let (key, line) = new_key().await;
    tenants(&file, &[("ann", &line)]);
    let path = file.to_str().expect("a path");
    let arguments =
        ["up", "--bind", "127.0.0.1:0", "--upstream", &upstream.url(), "--config", path];
    let mut up = Causeway::start(&arguments, &[]).await;
    let client = up.client().await;

    let protocol = "sec-websocket-protocol";
    for (name, value) in
        [(NOTHING.0, NOTHING.1.to_owned()), ("authorization", format!("Bearer {key}x"))]
    {
        match Socket::try_connect(&client, name, &value).await {
            Err(Error::Http(answer)) => assert_eq!(answer.status().as_u16(), 401),
            Err(other) => panic!("no answer: {other}"),
            Ok(_) => panic!("{name}: {value} was accepted"),
        }
    }
    let mut header = Socket::connect(&client, "authorization", &format!("Bearer {key}")).await;
    let offered = format!("causeway.v1, causeway.key.{key}");
    let mut socket = Socket::connect(&client, protocol, &offered).await;
    assert_eq!(socket.answer.headers()[protocol], "causeway.v1");

    let id = socket.submit_stream("a story").await;
    let answer = upstream.call().await.stream();
    answer.say("The end").await;
    socket.next_of(&id, "output.delta").await;
    up.terminate();
    assert_eq!(u16::from(header.closed().await.expect("a reason").code), 1012);
    socket.say(&json!({ "op": "submit", "job": { "body": {} } })).await;
    assert_eq!(socket.next_frame().await["error"]["code"], "draining");
    answer.finish().await;
    socket.next_of(&id, "job.succeeded").await;
    let frame = socket.closed().await.expect("a reason");
    assert_eq!(u16::from(frame.code), 1012);
    assert!(frame.reason.contains("connect again"), "{}", frame.reason);
    assert!(up.ended().await.success());
    assert!(!up.text().contains(&key), "a key was logged");
}
