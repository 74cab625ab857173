//! `GET /`: what runs here and what to try, for people and for programs.

use axum::{
    Json,
    extract::State,
    http::{HeaderMap, header},
    response::{Html, IntoResponse as _, Response},
};
use serde::Serialize;
use utoipa::ToSchema;

use crate::state::AppState;

/// What runs here.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct About {
    /// Always `causeway`.
    name: &'static str,
    version: &'static str,
    /// True if every call needs a key.
    needs_key: bool,
    /// True if answers are made up by a simulation.
    simulated: bool,
    /// The base URL of OpenAI's SDKs, relative to this page; those of Anthropic take `.`.
    openai_base: &'static str,
    /// Where the reference is, as a page and as OpenAPI.
    docs: [&'static str; 2],
    /// Whether it can serve; Prometheus metrics.
    probes: [&'static str; 3],
}

/// Answers HTML to browsers and JSON to all others.
pub(crate) async fn page(State(state): State<AppState>, headers: HeaderMap) -> Response {
    let about = About {
        name: "causeway",
        version: env!("CARGO_PKG_VERSION"),
        needs_key: !state.tenants.are_open(),
        simulated: !state.settings.simulated_lanes.is_empty(),
        openai_base: "v1",
        docs: ["docs", "openapi.json"],
        probes: ["healthz", "readyz", "metrics"],
    };
    let accepted = headers.get(header::ACCEPT).and_then(|value| value.to_str().ok());
    let mut response = if accepted.is_some_and(|accepted| accepted.contains("text/html")) {
        Html(html(&about, host(&headers))).into_response()
    } else {
        Json(about).into_response()
    };
    response.headers_mut().insert(header::VARY, header::ACCEPT.into());
    response
}

/// The name under which the page was called, if it needs no escaping.
fn host(headers: &HeaderMap) -> &str {
    let host = headers.get(header::HOST).and_then(|host| host.to_str().ok());
    let is_plain =
        |host: &&str| host.bytes().all(|b| b.is_ascii_alphanumeric() || b".-:[]".contains(&b));
    host.filter(is_plain).unwrap_or("localhost:4004")
}

fn html(about: &About, host: &str) -> String {
    let keys = if about.needs_key {
        "Every call needs a key: <code>Authorization: Bearer KEY</code>."
    } else {
        "No key is needed: every caller is the tenant <code>default</code>."
    };
    let simulated = if about.simulated {
        "<p><strong>Answers are simulated</strong>: start it with <code>--upstream URL</code> to call a real model.</p>"
    } else {
        ""
    };
    let key = if about.needs_key { "-H \"authorization: Bearer $KEY\" " } else { "" };
    let version = about.version;
    format!(
        r#"<!DOCTYPE html>
<html lang="en">
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>Causeway</title>
<link rel="icon" href="data:,">
<style>body {{ font: 1rem/1.5 system-ui, sans-serif; max-width: 45rem; margin: 2rem auto; padding: 0 1rem }}
pre {{ background: #8882; padding: .75rem; overflow-x: auto }}</style>
<h1>Causeway {version}</h1>
<p>Every LLM request is a durable job here. {keys}</p>
{simulated}
<p>Let an SDK of OpenAI call it with this server's address and <code>/v1</code> as its <code>base_url</code>; those of
Anthropic take the address alone. Or try:</p>
<pre>curl http://{host}/v1/jobs {key}-H 'content-type: application/json' \
  -H 'prefer: wait=30' -d '{{"body":{{"model":"default","messages":[{{"role":"user","content":"hello"}}]}}}}'</pre>
<ul>
<li><a href="docs">Reference of all routes</a>, <a href="openapi.json">as OpenAPI</a></li>
<li><a href="v1/queue">What waits and runs</a>, <a href="v1/jobs">the jobs</a></li>
<li><a href="healthz">Is it up</a>, <a href="readyz">is it ready</a>, <a href="metrics">metrics</a></li>
</ul>
</html>
"#
    )
}
