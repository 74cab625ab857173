//! The completion of every operation with its common parts: a handler describes only its own parts.

use std::{mem, time::Duration};

use utoipa::openapi::{
    Components, PathItem, Paths, Ref, RefOr, Required, Response, Schema,
    path::{Operation, Parameter, ParameterIn},
    request_body::RequestBody,
    security::SecurityRequirement,
};

use super::{
    answers::{header, json},
    schema::{self, of},
};
use crate::{
    error::{AnthropicEnvelope, Envelope, is_anthropic},
    job_view::JobView,
};

/// The ways to send a key, by their names in the document.
pub(super) const KEYS: [&str; 2] = ["bearer", "x-api-key"];

/// The errors of any operation for callers: no valid key; too many connections of the tenant, or too many bytes on
/// their way; something unreadable in the store; no store, or no memory for the answer.
const OF_CALLERS: [u16; 4] = [401, 429, 500, 503];

/// The errors of any operation with a body, besides what its own checks refuse.
const OF_BODY: [u16; 4] = [400, 408, 413, 415];

/// The errors of any operation that passes the upstream's answer on: none came, or none in time.
const OF_UPSTREAM: [u16; 2] = [502, 504];

/// Prefixes of the names of errors, in the shape that most SDKs parse and in Anthropic's.
const SHAPES: [&str; 2] = ["Error", "AnthropicError"];

/// Each status of an error, with its meaning.
const ERRORS: [(u16, &str); 16] = [
    (400, "The request is wrong; the error says how, and what would be right"),
    (401, "There is no key, or it is unknown"),
    (403, "This caller may not do that"),
    (404, "There is nothing of that name, or it belongs to another tenant"),
    (406, "It is not to be had in a form that the client accepts"),
    (408, "The body came too slowly; the error says how fast it has to come"),
    (410, "It was there and is no more, or it has no result"),
    (413, "The body is too large; the error says how large it may be"),
    (415, "The content type is not application/json, or the body is compressed"),
    (422, "The idempotency key was used for another request"),
    (426, "The route opens a WebSocket"),
    (429, "Too much at once; `Retry-After` says when to come again"),
    (500, "The store holds something that this version cannot read"),
    (502, "The upstream gave no answer; trying again would only enqueue it again"),
    (
        503,
        "The store does not answer, the process stops, or its memory is taken; `Retry-After` says when to come again",
    ),
    (504, "There was no answer in time; trying again would only enqueue it again"),
];

/// Completes the operations of `paths`. They need a key if they are `for_callers`.
pub(super) fn complete(paths: &mut Paths, for_callers: bool, max_wait: Duration) {
    // In OpenAPI a parameter is one segment of a path: it has no word for those that have several.
    let items = mem::take(&mut paths.paths).into_iter();
    paths.paths = items.map(|(path, item)| (path.replace("{*", "{"), item)).collect();
    for (path, item) in &mut paths.paths {
        for operation in operations(item) {
            if for_callers {
                let keys = KEYS.map(|name| SecurityRequirement::new(name, [""; 0]));
                operation.security = Some(keys.into());
            }
            add_errors(path, operation, for_callers);
            complete_texts(operation, max_wait);
            mark_jobs(operation);
            if let Some(RefOr::T(body)) = &mut operation.request_body {
                allow_absence(body);
            }
        }
    }
}

/// Returns the operations of a path.
pub(super) fn operations(item: &mut PathItem) -> impl Iterator<Item = &mut Operation> {
    [&mut item.get, &mut item.post, &mut item.patch, &mut item.delete].into_iter().flatten()
}

/// Adds the errors that follow from the form of the operation, and describes all.
fn add_errors(path: &str, operation: &mut Operation, for_callers: bool) {
    let has_query = parameters(operation).any(|one| one.parameter_in == ParameterIn::Query);
    let responses = &mut operation.responses.responses;
    let own = responses.keys().filter_map(|status| status.parse().ok());
    let mut statuses: Vec<u16> = own.filter(|status| *status >= 400).collect();
    statuses.extend(OF_CALLERS.into_iter().filter(|_| for_callers));
    statuses.extend(OF_BODY.into_iter().filter(|_| operation.request_body.is_some()));
    statuses.extend(OF_UPSTREAM.into_iter().filter(|_| responses.contains_key("default")));
    statuses.extend(has_query.then_some(400));
    statuses.extend(path.contains('{').then_some(404));
    for status in statuses {
        responses.insert(status.to_string(), shared(path, status));
    }
}

/// Refers to the response of `status`, in the shape that the SDKs of `path` parse.
pub(super) fn shared(path: &str, status: u16) -> RefOr<Response> {
    let shape = SHAPES[usize::from(is_anthropic(path))];
    Ref::from_response_name(format!("{shape}{status}")).into()
}

fn parameters(operation: &mut Operation) -> impl Iterator<Item = &mut Parameter> {
    operation.parameters.iter_mut().flatten().filter_map(|parameter| match parameter {
        RefOr::T(parameter) => Some(parameter),
        RefOr::Ref(_) => None,
    })
}

/// Makes headings of doc comments. A header is optional, and a wait has the configured bound.
fn complete_texts(operation: &mut Operation, max_wait: Duration) {
    trim(&mut operation.summary);
    for parameter in parameters(operation) {
        trim(&mut parameter.description);
        if parameter.parameter_in == ParameterIn::Header {
            parameter.required = Required::False;
        }
        if parameter.name == "wait" {
            parameter.schema = Some(schema::seconds(max_wait).into());
        }
    }
}

fn trim(text: &mut Option<String>) {
    if let Some(text) = text {
        text.truncate(text.trim_end_matches('.').len());
    }
}

/// Adds the headers of an answer about one job.
fn mark_jobs(operation: &mut Operation) {
    let marks = [
        ("x-causeway-job-id", "The job, in errors too"),
        ("x-causeway-simulated", "`true` where a simulation answered, and no model"),
    ];
    for response in operation.responses.responses.values_mut() {
        let RefOr::T(response) = response else { continue };
        let Some(RefOr::T(content)) = response.content.get("application/json") else { continue };
        if content.schema.as_ref().is_some_and(is_of_job) {
            let marks = marks.map(|(name, about)| (name.to_owned(), header(about).into()));
            response.headers.extend(marks);
        }
    }
}

fn is_of_job(schema: &RefOr<Schema>) -> bool {
    match schema {
        RefOr::Ref(name) => *name == of::<JobView<'_>>(),
        RefOr::T(Schema::AllOf(all)) => all.items.iter().any(is_of_job),
        RefOr::T(_) => false,
    }
}

/// An `Option` as a body means that there may be none; utoipa means that it may be null.
fn allow_absence(body: &mut RequestBody) {
    if body.required.is_some() {
        return;
    }
    body.required = Some(Required::False);
    for content in body.content.values_mut() {
        if let RefOr::T(content) = content
            && let Some(RefOr::T(Schema::OneOf(either))) = &content.schema
        {
            content.schema = either.items.first().cloned();
        }
    }
}

/// Adds the responses that operations share.
pub(super) fn add_responses(components: &mut Components) {
    let envelopes = [of::<Envelope<'_>>(), of::<AnthropicEnvelope<'_>>()];
    for (shape, envelope) in SHAPES.into_iter().zip(envelopes) {
        components.responses.extend(ERRORS.map(|(status, about)| {
            (format!("{shape}{status}"), error(status, about, envelope.clone()).into())
        }));
    }
}

fn error(status: u16, about: &str, envelope: Ref) -> Response {
    let response = json(about, envelope);
    let response = match status {
        401 => response.header("www-authenticate", header("How to send a key")),
        429 | 503 => response.header("retry-after", header("In how many seconds to come again")),
        _ => response,
    };
    response.build()
}
