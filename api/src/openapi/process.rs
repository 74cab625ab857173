//! The process itself: probes, metrics, this document.

use utoipa::openapi::{Content, path::HttpMethod::Get};

use super::{
    operation::{json, object, of, open_operation, plain},
    paths::Entry,
};
use crate::{health::HealthReport, root::About};

const TAG: &str = "process";

pub(super) fn entries() -> Vec<Entry> {
    vec![
        (
            "/",
            Get,
            open_operation(
                TAG,
                "about",
                "What runs here and what to try; a page where HTML is accepted",
            )
            .responds(200, json("It", of::<About>()).content("text/html", Content::default())),
        ),
        (
            "/healthz",
            Get,
            open_operation(TAG, "alive", "The process is up").answers(
                200,
                "Yes",
                of::<HealthReport>(),
            ),
        ),
        (
            "/readyz",
            Get,
            open_operation(TAG, "ready", "The store answers, and the worker in here turns")
                .answers(
                    200,
                    "Yes; `warning` names lanes that no worker serves",
                    of::<HealthReport>(),
                )
                .refuses([503]),
        ),
        (
            "/metrics",
            Get,
            open_operation(TAG, "metrics", "Prometheus metrics")
                .responds(200, plain("All metrics", "text/plain")),
        ),
        (
            "/openapi.json",
            Get,
            open_operation(TAG, "openapi", "This document").answers(
                200,
                "OpenAPI 3.1",
                object().build(),
            ),
        ),
        (
            "/docs",
            Get,
            open_operation(TAG, "docs", "This document as a page")
                .responds(200, plain("The page", "text/html")),
        ),
        (
            "/docs/{file}",
            Get,
            open_operation(TAG, "docsFile", "A file of that page")
                .path("file", "Its name")
                .responds(
                    200,
                    plain("The file, packed by gzip", "text/css")
                        .content("text/javascript", Content::default()),
                )
                .refuses([404, 406]),
        ),
    ]
}
