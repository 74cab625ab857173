//! `/docs`: the HTTP reference, which Swagger UI renders from `/openapi.json`.
//!
//! All files of the page are in the binary, so it works offline.

use std::sync::Arc;

use axum::{
    http::{HeaderMap, StatusCode, header},
    response::{Html, IntoResponse, Response},
};
use utoipa_swagger_ui::{Config, serve};

use crate::{error::ApiError, extract::Segment};

/// The page. Its links are relative, so it also works behind a path prefix.
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

/// The page's own script. It is a file, since the content security policy forbids inline scripts.
const START: (&str, &str) = (
    "start.js",
    r##"SwaggerUIBundle({ url: "openapi.json", dom_id: "#reference", deepLinking: true })"##,
);

/// The files of Swagger UI that the page loads. Its other files are not served.
const FILES: [&str; 2] = ["swagger-ui.css", "swagger-ui-bundle.js"];

/// Shows this document as a page.
#[utoipa::path(get, path = "/docs", tag = "process", operation_id = "docs",
    responses((status = 200, description = "The page", content_type = "text/html")))]
pub(crate) async fn page() -> Html<&'static str> {
    Html(PAGE)
}

/// Returns a file of that page.
#[utoipa::path(get, path = "/docs/{file}", tag = "process", operation_id = "docsFile",
    params(("file" = String, Path, description = "Its name")),
    responses((status = 200, description = "The file, packed by gzip", content(("text/css"), ("text/javascript"))),
        (status = 406)))]
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
    // The binary holds the files in gzip only, which all browsers accept.
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
