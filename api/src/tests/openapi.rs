//! The document says what the routes do, and the page that shows it is whole.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use axum::{
    body::Body,
    http::{Method, Request},
};
use serde_json::Value;

use super::{Api, ann_and_bob, direct, post, signed, tenant};
use crate::{BridgeSettings, Settings, Tenant, Tenants, router::described};

type Routes = BTreeMap<String, BTreeSet<String>>;

/// The routes of the document. HEAD goes with GET.
fn routes() -> Routes {
    let document = serde_json::to_value(described(&Settings::default())).unwrap();
    let paths = document["paths"].as_object().unwrap();
    let methods = |item: &Value| {
        let mut names: BTreeSet<String> =
            item.as_object().unwrap().keys().map(|name| name.to_uppercase()).collect();
        if names.contains("GET") {
            names.insert("HEAD".to_owned());
        }
        names
    };
    paths.iter().map(|(path, item)| (path.clone(), methods(item))).collect()
}

#[tokio::test]
async fn each_route_serves_the_methods_that_are_described() {
    let api = Api::new();
    for (path, allowed) in routes() {
        let path = match (path.split_once('{'), path.split_once('}')) {
            (Some((before, _)), Some((_, after))) => format!("{before}x{after}"),
            _ => path,
        };
        for method in ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE"] {
            let request = Request::builder()
                .method(Method::from_bytes(method.as_bytes()).unwrap())
                .uri(&path)
                .body(Body::empty())
                .unwrap();
            let response = api.send(request).await;
            let is_served = response.status() != 405;
            assert_eq!(is_served, allowed.contains(method), "{method} {path}");
            if !is_served {
                let named = response.headers()["allow"].to_str().unwrap();
                assert!(named.split(", ").eq(&allowed), "{method} {path}: {named}");
            }
        }
    }
}

#[test]
fn refusals_before_a_handler_are_described() {
    let document = serde_json::to_value(described(&Settings::default())).unwrap();
    let items = document["paths"].as_object().unwrap();
    let operations = items.iter().flat_map(|(path, item)| {
        item.as_object().unwrap().iter().map(move |(method, operation)| (path, method, operation))
    });
    for (path, method, operation) in operations {
        let for_callers: &[&str] =
            if operation["security"].is_array() { &["401", "429", "503"] } else { &[] };
        let with_body: &[&str] =
            if operation["requestBody"].is_object() { &["400", "408", "413", "415"] } else { &[] };
        for status in for_callers.iter().chain(with_body) {
            let is_described = operation["responses"][status].is_object();
            assert!(is_described, "{method} {path} lacks {status}");
        }
    }
}

#[tokio::test]
async fn every_body_example_is_accepted() {
    let bridge = BridgeSettings { wait: Duration::ZERO, ..BridgeSettings::default() };
    let source = direct::source(|| Ok(direct::good(&[b"{}"])), &direct::Calls::default());
    let settings = Settings { bridge, direct: Some(source), ..Settings::default() };
    let document = serde_json::to_value(described(&settings)).unwrap();
    let boss = Tenant { admin: true, ..tenant("boss") };
    let api = Api::with(settings, Tenants::new(vec![boss]));
    let paths = document["paths"].as_object().unwrap();
    let json = |item: &Value| item["post"]["requestBody"]["content"]["application/json"].clone();
    let made = api.ask(signed(post("/v1/conversations", "{}"), "key-of-boss")).await.id();
    let made = format!("/v1/conversations/{made}");
    for (path, item) in paths.iter().filter(|(_, item)| json(item).is_object()) {
        let example = &json(item)["example"];
        assert!(example.is_object(), "{path} has no example");
        // A tenant of that name was added before.
        let path = path.replace("/v1/conversations/{id}", &made);
        let path = path.replace("{lane}", "default").replace("{id}", "ann");
        let mut request = signed(post(&path, &example.to_string()), "key-of-boss");
        request.headers_mut().insert("prefer", "respond-async".parse().unwrap());
        let answer = api.ask(request).await;
        assert!(answer.status.is_success(), "{path}: {answer:?}");
    }
}

#[test]
fn the_examples_of_answers_have_their_members() {
    let document = serde_json::to_value(described(&Settings::default())).unwrap();
    let schemas = document["components"]["schemas"].as_object().unwrap();
    let examples = schemas.values().filter(|schema| schema["examples"].is_array());
    let mut answers = 0;
    for schema in examples {
        let known = schema["properties"].as_object().unwrap();
        let example = schema["examples"][0].as_object().unwrap();
        assert!(example.keys().all(|member| known.contains_key(member)), "{example:?}");
        answers += 1;
    }
    assert_eq!(answers, 3);
}

/// Collects every `$ref` in `value`.
fn references(value: &Value, found: &mut BTreeSet<String>) {
    match value {
        Value::Object(members) => {
            for (name, member) in members {
                if let (true, Some(target)) = (name == "$ref", member.as_str()) {
                    found.insert(target.to_owned());
                }
                references(member, found);
            }
        }
        Value::Array(items) => items.iter().for_each(|item| references(item, found)),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}

#[tokio::test]
async fn the_document_is_complete() {
    let open = Api::new().get("/openapi.json").await.ok(200).clone();
    let closed = Api::with(Settings::default(), ann_and_bob());
    let closed = closed.get("/openapi.json").await.ok(200).clone();
    for document in [&open, &closed] {
        assert_eq!(document["openapi"], "3.1.0");
        let mut found = BTreeSet::new();
        references(document, &mut found);
        assert!(!found.is_empty());
        for target in found {
            let pointer = target.strip_prefix('#').unwrap();
            assert!(document.pointer(pointer).is_some(), "{target} is not there");
        }
    }
    let list = |document: &Value| document["paths"]["/v1/jobs"]["get"].clone();
    let refuses_pages = |document: &Value| {
        document["paths"]["/v1/messages"]["post"]["responses"]["403"].is_object()
            && document["paths"]["/bridge/chat"]["post"]["responses"]["403"].is_object()
    };
    assert!(refuses_pages(&open) && !refuses_pages(&closed));
    assert_eq!(list(&closed)["security"].as_array().map(Vec::len), Some(2));
    assert!(list(&closed)["responses"]["401"].is_object());
    assert_eq!(
        (&list(&open)["security"], &list(&open)["responses"]["401"]),
        (&Value::Null, &Value::Null)
    );
}

#[tokio::test]
async fn the_page_works_offline() {
    let api = Api::new();
    let page = api.send(Request::get("/docs").body(Body::empty()).unwrap()).await;
    let page = axum::body::to_bytes(page.into_body(), usize::MAX).await.unwrap();
    let page = String::from_utf8(page.to_vec()).unwrap();
    assert!(!page.contains("//"), "{page}");
    for (file, kind) in
        [("docs/swagger-ui.css", "text/css"), ("docs/swagger-ui-bundle.js", "text/javascript")]
    {
        assert!(page.contains(&format!("\"{file}\"")), "{file}");
        let request = Request::get(format!("/{file}")).header("accept-encoding", "gzip, br");
        let response = api.send(request.body(Body::empty()).unwrap()).await;
        assert_eq!(response.status(), 200);
        assert_eq!(response.headers()["content-encoding"], "gzip");
        let found = response.headers()["content-type"].to_str().unwrap();
        assert!(found.starts_with(kind), "{file} is {found}");
        api.get(&format!("/{file}")).await.refused(406, "not_acceptable");
    }
    api.get("/docs/swagger-ui.js").await.refused(404, "unknown_route");
}
