//! Pages in browsers.

use axum::{
    body::Body,
    http::{Method, Request},
};

use super::{Answer, Api, ann_and_bob, post, signed};
use crate::{Settings, Tenants};

const CHAT: &str = "/v1/chat/completions";
const PAGE: &str = "https://app.example.org";
const ALLOWED: &str = "access-control-allow-origin";

fn api(tenants: Tenants, origins: &[&str]) -> Api {
    let cors_origins = origins.iter().map(|&origin| origin.to_owned()).collect();
    Api::with(Settings { cors_origins, ..Settings::default() }, tenants)
}

/// Sends the preflight of a POST with a key. The preflight itself carries none.
async fn preflight(api: &Api) -> Answer {
    let request = Request::builder()
        .method(Method::OPTIONS)
        .uri(CHAT)
        .header("origin", PAGE)
        .header("access-control-request-method", "POST")
        .header("access-control-request-headers", "authorization,content-type");
    api.ask(request.body(Body::empty()).unwrap()).await
}

fn from_page(mut request: Request<Body>) -> Request<Body> {
    request.headers_mut().insert("origin", PAGE.parse().unwrap());
    request.headers_mut().insert("host", "127.0.0.1:4004".parse().unwrap());
    request
}

#[tokio::test]
async fn a_preflight_needs_no_key() {
    let answer = preflight(&api(ann_and_bob(), &[])).await;
    assert!(answer.status.is_success());
    assert_eq!(answer.header(ALLOWED), Some(PAGE));
    assert_eq!(answer.header("access-control-allow-headers"), Some("authorization,content-type"));
    assert_eq!(answer.header("access-control-allow-credentials"), None);
}

#[tokio::test]
async fn a_page_can_read_errors() {
    let api = api(ann_and_bob(), &[]);
    let answer = api.ask(from_page(post(CHAT, "{}"))).await;
    answer.refused(401, "invalid_api_key");
    assert_eq!(answer.header(ALLOWED), Some(PAGE));
    let answer = api.ask(signed(from_page(post(CHAT, "[]")), "key-of-ann")).await;
    answer.refused(400, "invalid_value");
    assert_eq!(answer.header(ALLOWED), Some(PAGE));
}

#[tokio::test]
async fn an_open_server_allows_no_page() {
    let api = api(Tenants::open(), &[]);
    assert_eq!(preflight(&api).await.header(ALLOWED), None);
    assert_eq!(api.ask(from_page(post(CHAT, "[]"))).await.header(ALLOWED), None);
}

#[tokio::test]
async fn the_setting_selects_allowed_origins() {
    for tenants in [Tenants::open, ann_and_bob] {
        assert_eq!(preflight(&api(tenants(), &[PAGE])).await.header(ALLOWED), Some(PAGE));
        assert_eq!(preflight(&api(tenants(), &["*"])).await.header(ALLOWED), Some(PAGE));
        let other = api(tenants(), &["https://other.example"]);
        assert_eq!(preflight(&other).await.header(ALLOWED), None);
    }
}

#[tokio::test]
async fn foreign_pages_change_nothing_without_tenants() {
    const PAUSE: &str = "/v1/lanes/default/pause";
    let bare = || Request::post(PAUSE).body(Body::empty()).unwrap();
    let closed = api(ann_and_bob(), &[]);
    closed.ask(signed(from_page(bare()), "key-of-ann")).await.refused(403, "not_an_admin");

    let open = api(Tenants::open(), &[]);
    open.ask(from_page(bare())).await.refused(403, "foreign_origin");
    let mut unnamed = bare();
    unnamed.headers_mut().insert("sec-fetch-site", "cross-site".parse().unwrap());
    open.ask(unnamed).await.refused(403, "foreign_origin");
    let mut own = from_page(bare());
    own.headers_mut().insert("origin", "http://127.0.0.1:4004".parse().unwrap());
    assert_eq!(open.ask(own).await.ok(200)["paused"], true);
    assert_eq!(open.ask(bare()).await.ok(200)["paused"], true);

    let named = api(Tenants::open(), &[PAGE]);
    assert_eq!(named.ask(from_page(bare())).await.ok(200)["paused"], true);
}

#[tokio::test]
async fn answers_are_neither_cached_nor_framed() {
    let api = api(Tenants::open(), &[]);
    for path in ["/v1/queue", "/docs", "/", "/v1/nonsense"] {
        let answer = api.get(path).await;
        assert_eq!(answer.header("x-content-type-options"), Some("nosniff"), "{path}");
        assert_eq!(answer.header("cache-control"), Some("no-store"), "{path}");
        let policy = answer.header("content-security-policy").unwrap();
        assert!(policy.contains("frame-ancestors 'none'"), "{path}: {policy}");
    }
    assert!(api.text("/docs/start.js").await.contains("openapi.json"));
}

#[tokio::test]
async fn the_root_describes_the_server() {
    let api = api(ann_and_bob(), &[]);
    let about = api.get("/").await;
    assert_eq!(
        (&about.ok(200)["name"], &about.body["needs_key"]),
        (&"causeway".into(), &true.into())
    );
    let try_it = about.body["try"].as_str().unwrap();
    assert!(try_it.contains("/v1/jobs") && try_it.contains("Bearer $KEY"), "{try_it}");
    let mut request = Request::get("/").body(Body::empty()).unwrap();
    request.headers_mut().insert("accept", "text/html,*/*".parse().unwrap());
    request.headers_mut().insert("host", "<script>".parse().unwrap());
    let page = api.send(request).await;
    assert!(page.headers()["content-type"].to_str().unwrap().starts_with("text/html"));
    let page = axum::body::to_bytes(page.into_body(), usize::MAX).await.unwrap();
    let page = std::str::from_utf8(&page).unwrap();
    assert!(page.contains("Bearer $KEY") && !page.contains("<script>"), "{page}");
}

#[tokio::test]
async fn browsers_get_the_root_as_html() {
    let api = api(Tenants::open(), &[]);
    let browser = "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8";
    for (accept, kind) in [
        (browser, "text/html"),
        ("text/*", "text/html"),
        ("application/json;q=0.5, TEXT/HTML ; Q=0.9", "text/html"),
        ("*/*", "application/json"),
        ("text/html;q=0", "application/json"),
        ("application/json, text/html;q=0.1", "application/json"),
        ("text/html-fragment", "application/json"),
    ] {
        let request = Request::get("/").header("accept", accept).body(Body::empty()).unwrap();
        let answer = api.send(request).await;
        let found = answer.headers()["content-type"].to_str().unwrap();
        assert!(found.starts_with(kind), "{accept}: {found}");
    }
}

#[tokio::test]
async fn a_refused_page_learns_the_setting() {
    let open = api(Tenants::open(), &["https://other.example"]);
    let answer = open.ask(from_page(post(CHAT, "{}"))).await;
    assert!(answer.refused(403, "foreign_origin").contains("api.cors_origins"));
}
