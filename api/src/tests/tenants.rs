//! Tenants that are added, limited and revoked at run time.

use axum::{body::Body, http::Request};
use causeway_queue::limits::TenantLimits;
use serde_json::{Value, json};

use super::{Answer, Api, post, signed, tenant};
use crate::{Settings, Tenant, Tenants};

/// Sends a request, with a key or without.
async fn ask(api: &Api, method: &str, path: &str, body: &Value, key: Option<&str>) -> Answer {
    let request = Request::builder().method(method).uri(path);
    let request = request.header("content-type", "application/json");
    let body = if body.is_null() { Body::empty() } else { Body::from(body.to_string()) };
    let request = request.body(body).unwrap();
    api.ask(match key {
        Some(key) => signed(request, key),
        None => request,
    })
    .await
}

/// Returns a server with the administrator `boss` as its first tenant, and the key of `boss`.
async fn closed() -> (Api, String) {
    let api = Api::new();
    let boss = json!({ "id": "boss", "admin": true });
    let key = key(&api.post("/v1/tenants", &boss).await);
    (api, key)
}

#[track_caller]
fn key(answer: &Answer) -> String {
    answer.ok(201)["key"].as_str().expect("a key").to_owned()
}

async fn opens(api: &Api, key: &str) -> bool {
    ask(api, "GET", "/v1/queue", &Value::Null, Some(key)).await.status == 200
}

#[tokio::test]
async fn the_first_tenant_is_an_administrator() {
    let api = Api::new();
    for body in [json!({ "id": "ann" }), json!({ "id": "ann", "admin": true, "expires_in": 60 })] {
        let refused = api.post("/v1/tenants", &body).await;
        assert!(refused.refused(400, "first_tenant_not_admin").contains("--admin"));
        api.get("/v1/queue").await.ok(200);
    }
    let added = api.post("/v1/tenants", &json!({ "id": "boss", "admin": true })).await;
    let boss = key(&added);
    assert_eq!(added.header("cache-control"), Some("no-store"));
    api.get("/v1/queue").await.refused(401, "invalid_api_key");
    assert!(opens(&api, &boss).await);
}

#[tokio::test]
async fn a_tenant_is_added_limited_and_revoked() {
    let (api, boss) = closed().await;
    let ann = json!({ "id": "ann", "weight": 3, "max_running": 5 });
    let added = ask(&api, "POST", "/v1/tenants", &ann, Some(&boss)).await;
    let ann = key(&added);
    assert_eq!((&added.body["weight"], &added.body["max_running"]), (&json!(3), &json!(5)));
    let queue = ask(&api, "GET", "/v1/queue", &Value::Null, Some(&ann)).await;
    assert_eq!(queue.ok(200)["lanes"][0]["tenant_limits"]["max_running"], 5);
    // Other tenants must not manage tenants.
    ask(&api, "GET", "/v1/tenants", &Value::Null, Some(&ann)).await.refused(403, "not_an_admin");

    let change = json!({ "max_running": null, "tokens_per_minute": 1000 });
    let limited = ask(&api, "PATCH", "/v1/tenants/ann", &change, Some(&boss)).await;
    let limits = ["weight", "max_running", "tokens_per_minute"].map(|name| &limited.ok(200)[name]);
    assert_eq!(limits, [&json!(3), &Value::Null, &json!(1000)]);
    let queue = ask(&api, "GET", "/v1/queue", &Value::Null, Some(&ann)).await;
    assert_eq!(queue.ok(200)["lanes"][0]["tenant_limits"]["tokens_per_minute"], 1000);

    let listed = ask(&api, "GET", "/v1/tenants", &Value::Null, Some(&boss)).await;
    let ids: Vec<&Value> =
        listed.ok(200)["data"].as_array().unwrap().iter().map(|t| &t["id"]).collect();
    assert_eq!(ids, ["boss", "ann"]);
    assert!(!listed.body.to_string().contains(&ann), "only hashes are kept");

    ask(&api, "DELETE", "/v1/tenants/ann", &Value::Null, Some(&boss)).await.ok(204);
    assert!(!opens(&api, &ann).await && opens(&api, &boss).await);
}

#[tokio::test]
async fn a_rotated_key_replaces_the_old_one() {
    let (api, boss) = closed().await;
    let rotate =
        async |body: Value| ask(&api, "POST", "/v1/tenants/boss/keys", &body, Some(&boss)).await;
    let kept = key(&rotate(json!({ "keep_old": 3600 })).await);
    assert!(opens(&api, &boss).await && opens(&api, &kept).await);
    let refused = rotate(json!({ "expires_in": 60, "keep_old": 60 })).await;
    refused.refused(400, "last_admin");
    let last = key(&rotate(Value::Null).await);
    assert!(!opens(&api, &boss).await && !opens(&api, &kept).await);
    let name =
        |answer: &Answer| answer.body["data"][0]["keys"][0]["id"].as_str().unwrap().to_owned();
    let listed = ask(&api, "GET", "/v1/tenants", &Value::Null, Some(&last)).await;
    let path = format!("/v1/tenants/boss/keys/{}", name(&listed));
    ask(&api, "DELETE", &path, &Value::Null, Some(&last)).await.refused(400, "last_admin");
    let path = "/v1/tenants/boss/keys/000000000000";
    ask(&api, "DELETE", path, &Value::Null, Some(&last)).await.refused(404, "key_not_found");
}

#[tokio::test]
async fn the_last_administrator_stays() {
    let (api, boss) = closed().await;
    let refused = ask(&api, "DELETE", "/v1/tenants/boss", &Value::Null, Some(&boss)).await;
    assert!(refused.refused(400, "last_admin").contains("another administrator"));
    let next = json!({ "id": "next", "admin": true });
    let next = key(&ask(&api, "POST", "/v1/tenants", &next, Some(&boss)).await);
    ask(&api, "DELETE", "/v1/tenants/boss", &Value::Null, Some(&next)).await.ok(204);
}

#[tokio::test]
async fn wrong_tenant_fields_are_named() {
    let (api, boss) = closed().await;
    for (body, code, part) in [
        (json!({ "id": "a b" }), "invalid_value", "id"),
        (json!({ "id": "ann", "weight": 0 }), "invalid_value", "1 to 1000"),
        (json!({ "id": "ann", "max_running": "5" }), "invalid_value", "max_running"),
        (json!({ "id": "ann", "expires_in": 0 }), "invalid_value", "expires_in"),
        (
            json!({ "id": "ann", "webhook_url": "http://127.0.0.1/" }),
            "invalid_value",
            "not a public address",
        ),
        (json!({ "id": "ann", "max_runing": 5 }), "unknown_parameter", "max_runing"),
        (
            json!({ "id": "ann", "webhook_url": "https://example.com/" }),
            "no_webhook_secret",
            "secret",
        ),
        (json!({ "id": "boss" }), "tenant_exists", "boss"),
    ] {
        let answer = ask(&api, "POST", "/v1/tenants", &body, Some(&boss)).await;
        let message = answer.refused(400, code);
        assert!(message.contains(part), "{body}: {message}");
    }
    let change = json!({ "weight": 2 });
    let unknown = ask(&api, "PATCH", "/v1/tenants/nobody", &change, Some(&boss)).await;
    unknown.refused(404, "tenant_not_found");
}

#[tokio::test]
async fn configured_tenants_cannot_be_changed() {
    let boss = Tenant { admin: true, ..tenant("boss") };
    let api = Api::with(Settings::default(), Tenants::new(vec![boss]));
    let key = Some("key-of-boss");
    for (method, path, body) in [
        ("POST", "/v1/tenants", json!({ "id": "boss" })),
        ("PATCH", "/v1/tenants/boss", json!({ "weight": 2 })),
        ("POST", "/v1/tenants/boss/keys", Value::Null),
        ("DELETE", "/v1/tenants/boss", Value::Null),
    ] {
        ask(&api, method, path, &body, key).await.refused(400, "tenant_configured");
    }
    // The configuration file takes over a stored tenant with the same id.
    let ann = ask(&api, "POST", "/v1/tenants", &json!({ "id": "ann", "admin": true }), key).await;
    let ann = super::tenants::key(&ann);
    let file = vec![(tenant("ann"), TenantLimits::default())];
    api.state.registry().configure(file, Default::default()).await.unwrap();
    assert!(!opens(&api, &ann).await && opens(&api, "key-of-ann").await);
    api.state.registry().configure(Vec::new(), Default::default()).await.unwrap();
    assert!(opens(&api, &ann).await && !opens(&api, "key-of-ann").await);
}

#[tokio::test]
async fn other_processes_apply_changes() {
    let (api, boss) = closed().await;
    let other = api.beside();
    other.get("/v1/queue").await.ok(200);
    other.state.registry().refresh().await.unwrap();
    other.get("/v1/queue").await.refused(401, "invalid_api_key");
    assert!(opens(&other, &boss).await);
    // Of two concurrent changes, none is lost.
    let add = async |api: &Api, id: &str| {
        key(&ask(api, "POST", "/v1/tenants", &json!({ "id": id }), Some(&boss)).await)
    };
    let (ann, bob) = tokio::join!(add(&api, "ann"), add(&other, "bob"));
    for api in [&api, &other] {
        api.state.registry().refresh().await.unwrap();
        assert!(opens(api, &ann).await && opens(api, &bob).await);
    }
}

#[tokio::test]
async fn a_lost_store_does_not_open_the_server() {
    let (api, boss) = closed().await;
    let known = api.queue.directory().directory(0).await.unwrap().unwrap().version;
    let lost = causeway_queue::directory::Directory::default();
    assert!(api.queue.directory().set_directory(known, &lost).await.unwrap());
    api.state.registry().refresh().await.unwrap();
    api.get("/v1/queue").await.refused(401, "invalid_api_key");
    // The next change stores the tenants again.
    key(&ask(&api, "POST", "/v1/tenants", &json!({ "id": "ann" }), Some(&boss)).await);
    assert!(api.ask(signed(post("/v1/lanes/default/pause", ""), &boss)).await.status == 200);
    assert!(crate::has_tenants(&api.queue).await.unwrap());
}

#[tokio::test]
async fn a_newer_schema_is_not_overwritten() {
    let (api, boss) = closed().await;
    let known = api.queue.directory().directory(0).await.unwrap().unwrap();
    let text = known.text.replace("\"schema\":1", "\"schema\":2");
    let newer = causeway_queue::directory::Directory { version: 5, text };
    assert!(api.queue.directory().set_directory(known.version, &newer).await.unwrap());
    for _ in 0..2 {
        let ann = json!({ "id": "ann" });
        let added = ask(&api, "POST", "/v1/tenants", &ann, Some(&boss)).await;
        added.refused(500, "store_corrupt");
    }
    assert!(opens(&api, &boss).await, "the known tenants stay in force");
    assert_eq!(api.queue.directory().directory(0).await.unwrap(), Some(newer));
}
