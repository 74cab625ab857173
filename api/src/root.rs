//! `GET /`: a description of this server and a first command, for people and programs.

use std::cmp::Reverse;

use axum::{
    Json,
    extract::State,
    http::{HeaderMap, header},
    response::{Html, IntoResponse as _, Response},
};
use serde::Serialize;
use utoipa::ToSchema;

use crate::state::AppState;

/// The description of this server.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct About {
    /// Always `causeway`.
    name: &'static str,
    version: &'static str,
    /// True if every call needs a key.
    needs_key: bool,
    /// True if a simulation answers instead of a model.
    simulated: bool,
    /// The base URL for OpenAI's SDKs, relative to this page. Those of Anthropic use `.`.
    openai_base: &'static str,
    /// A command that submits a job and waits for its answer.
    r#try: String,
    /// The reference, as a page and as OpenAPI.
    docs: [&'static str; 2],
    /// Liveness, readiness and Prometheus metrics.
    probes: [&'static str; 3],
}

/// Describes the server and a first call; as a page if HTML is accepted.
#[utoipa::path(get, path = "/", tag = "process", operation_id = "about",
    responses((status = 200, description = "The description", content((About = "application/json"), ("text/html")))))]
pub(crate) async fn page(State(state): State<AppState>, headers: HeaderMap) -> Response {
    let needs_key = !state.tenants.are_open();
    let about = About {
        name: "causeway",
        version: env!("CARGO_PKG_VERSION"),
        needs_key,
        simulated: !state.settings.simulated_lanes.is_empty(),
        openai_base: "v1",
        r#try: command(host(&headers), needs_key),
        docs: ["docs", "openapi.json"],
        probes: ["healthz", "readyz", "metrics"],
    };
    let mut response = if prefers_html(&headers) {
        Html(html(&about)).into_response()
    } else {
        Json(about).into_response()
    };
    response.headers_mut().insert(header::VARY, header::ACCEPT.into());
    response
}

/// True if the client prefers HTML to JSON: by quality, else because it names HTML, but JSON only by a wildcard.
fn prefers_html(headers: &HeaderMap) -> bool {
    let html = preference(headers, "text/html");
    html.0 > 0.0 && html > preference(headers, "application/json")
}

/// Returns the quality of the type `kind`, 0 to 1, by the most specific matching range of `Accept` (RFC 9110,
/// section 12.5.1), and the rank of that range: a lower one is more specific.
fn preference(headers: &HeaderMap, kind: &str) -> (f32, Reverse<usize>) {
    let family = kind.split('/').next().unwrap_or_default();
    let ranges = headers.get_all(header::ACCEPT).iter().filter_map(|value| value.to_str().ok());
    let found = ranges.flat_map(|ranges| ranges.split(',')).filter_map(|range| {
        let mut parts = range.split(';').map(str::trim);
        let range = parts.next()?;
        let rank = [kind, &format!("{family}/*"), "*/*"]
            .iter()
            .position(|wanted| range.eq_ignore_ascii_case(wanted))?;
        let quality = parts.find_map(|part| part.strip_prefix("q=").or(part.strip_prefix("Q=")));
        Some((rank, quality.map_or(1.0, |quality| quality.parse().unwrap_or(0.0))))
    });
    // The most specific range counts, regardless of its quality.
    let found = found.min_by_key(|(rank, _)| *rank);
    found.map_or((0.0, Reverse(usize::MAX)), |(rank, quality)| (quality, Reverse(rank)))
}

/// Returns the host of the request, if it needs no escaping in HTML and shell.
fn host(headers: &HeaderMap) -> &str {
    let host = headers.get(header::HOST).and_then(|host| host.to_str().ok());
    let is_plain =
        |host: &&str| host.bytes().all(|b| b.is_ascii_alphanumeric() || b".-:[]".contains(&b));
    // The name goes into HTML and a shell command, so no other characters are accepted.
    host.filter(is_plain).unwrap_or("localhost:4004")
}

/// Returns the command to try.
fn command(host: &str, needs_key: bool) -> String {
    let key = if needs_key { "-H \"authorization: Bearer $KEY\" " } else { "" };
    format!(
        r#"curl http://{host}/v1/jobs {key}-H 'content-type: application/json' -H 'prefer: wait=30' -d '{{"body":{{"model":"default","messages":[{{"role":"user","content":"hello"}}]}}}}'"#
    )
}

fn html(about: &About) -> String {
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
    let (version, command) = (about.version, &about.r#try);
    format!(
        r#"<!DOCTYPE html>
<html lang="en">
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>Causeway</title>
<link rel="icon" href="data:,">
<style>body {{ font: 1rem/1.5 system-ui, sans-serif; max-width: 45rem; margin: 2rem auto; padding: 0 1rem }}
pre {{ background: #8882; padding: .75rem; white-space: pre-wrap }}</style>
<h1>Causeway {version}</h1>
<p>Every LLM request is a durable job here. {keys}</p>
{simulated}
<p>Let an SDK of OpenAI call it with this server's address and <code>/v1</code> as its <code>base_url</code>; those of
Anthropic take the address alone. Or try:</p>
<pre>{command}</pre>
<ul>
<li><a href="docs">Reference of all routes</a>, <a href="openapi.json">as OpenAPI</a></li>
<li><a href="v1/queue">Waiting and running jobs</a>, <a href="v1/jobs">the jobs</a></li>
<li><a href="healthz">Liveness</a>, <a href="readyz">readiness</a>, <a href="metrics">metrics</a></li>
</ul>
</html>
"#
    )
}
