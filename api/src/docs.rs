//! `/docs`: the reference of the HTTP surface, as Swagger UI shows `/openapi.json`.
//!
//! All that the page needs is in the binary, so that it works where no other host is reached.

use std::sync::Arc;

use axum::{
    http::{HeaderMap, StatusCode, header},
    response::{Html, IntoResponse, Response},
};
use utoipa_swagger_ui::{Config, serve};

use crate::{error::ApiError, extract::Segment};

/// The page. Its links are relative, so that it also works behind a prefix.
const PAGE: &str = r##"<!DOCTYPE html>
<html lang="en">
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>Causeway: HTTP reference</title>
<link rel="icon" href="data:,">
<link rel="stylesheet" href="docs/swagger-ui.css">
<div id="reference"></div>
<script src="docs/swagger-ui-bundle.js"></script>
<script src="docs/start.js"></script>
</html>
"##;

/// The page's own script. It is a file, as the page's policy permits no script within it.
const START: (&str, &str) = (
    "start.js",
    r##"SwaggerUIBundle({ url: "openapi.json", dom_id: "#reference", deepLinking: true })"##,
);

/// What the page loads; the rest of what Swagger UI brings is not served.
const FILES: [&str; 2] = ["swagger-ui.css", "swagger-ui-bundle.js"];

/// `GET /docs`.
pub(crate) async fn page() -> Html<&'static str> {
    Html(PAGE)
}

/// `GET /docs/{file}`: one of the files of the page, packed as every browser reads it.
pub(crate) async fn file(Segment(name): Segment, headers: HeaderMap) -> Result<Response, ApiError> {
    if name == START.0 {
        return Ok(([(header::CONTENT_TYPE, "text/javascript")], START.1).into_response());
    }
    let known = FILES.contains(&name.as_str());
    let found = known.then(|| serve(&name, Arc::new(Config::default())).ok().flatten()).flatten();
    let file = found.ok_or_else(|| {
        let message = format!("there is no such file; there is {}", FILES.join(" and "));
        ApiError::not_found("unknown_route", message)
    })?;
    let accepted = headers.get(header::ACCEPT_ENCODING).and_then(|value| value.to_str().ok());
    if !accepted.is_some_and(|accepted| accepted.contains("gzip")) {
        let message = "this file is served with `content-encoding: gzip` only";
        return Err(
            ApiError::invalid("not_acceptable", message).with_status(StatusCode::NOT_ACCEPTABLE)
        );
    }
    let headers = [
        (header::CONTENT_TYPE, file.content_type),
        (header::CONTENT_ENCODING, "gzip".to_owned()),
        (header::CACHE_CONTROL, "public, max-age=3600".to_owned()),
    ];
    Ok((headers, file.bytes.into_owned()).into_response())
}
