//! The conversations of the chat bridge: each user has one.

use serde_json::Value;

use crate::support::{
    system::{Store, System},
    upstream::Upstream,
};

crate::on_both_stores! {
    each_user_has_an_own_conversation;
    a_late_answer_can_be_polled;
}

async fn each_user_has_an_own_conversation(store: Store) {
    let upstream = Upstream::echo().await;
    let system = System::start(store, &upstream, &[]).await;
    let [one, other] = &system.clients;
    tokio::join!(async { one.chat("ann", "my cat is called Zephyr").await.ok() }, async {
        other.chat("bob", "my cat is called Bruno").await.ok()
    },);
    tokio::join!(async { other.chat("ann", "what is my cat called?").await.ok() }, async {
        one.chat("bob", "what is my cat called?").await.ok()
    },);
    let asked = |request: &&Value| request["messages"].to_string().contains("what is");
    let seen = upstream.seen();
    let contexts: Vec<String> = seen.iter().filter(asked).map(Value::to_string).collect();
    assert_eq!(contexts.len(), 2);
    for (fact, name, foreign) in
        [("Zephyr", "ann", ["Bruno", "bob"]), ("Bruno", "bob", ["Zephyr", "ann"])]
    {
        let context = contexts.iter().find(|context| context.contains(fact)).expect(fact);
        assert!(context.contains(name) && context.contains("The Tower"), "{context}");
        assert!(context.contains(&format!("You said: my cat is called {fact}")), "{context}");
        assert!(foreign.iter().all(|word| !context.contains(word)), "{context}");
    }
}

async fn a_late_answer_can_be_polled(store: Store) {
    let mut upstream = Upstream::held().await;
    let system = System::start(store, &upstream, &[("CAUSEWAY_BRIDGE_WAIT", "50ms")]).await;
    let client = system.client();
    let accepted = client.chat("ann", "hello").await.with(202);
    assert!(accepted.get("response").is_none(), "{accepted:#}");
    let id = accepted["job_id"].as_str().expect("where to poll");
    upstream.call().await.answer("at last");
    let job = client.end_of(id).await;
    assert_eq!(job["response"]["body"]["choices"][0]["message"]["content"], "at last");
}
