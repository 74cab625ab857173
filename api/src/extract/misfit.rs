//! Messages for JSON and queries of the wrong form.
//!
//! serde and axum name Rust types and positions in the text, which may be generated. Clients need the field and its
//! expected value.

use axum::extract::rejection::QueryRejection;
use causeway_queue::json::without_position;

use super::shown;
use crate::error::ApiError;

/// Builds the error of JSON of the wrong form. `said` is serde's message about the value at `path`, which is `.`
/// for the whole text.
pub(super) fn misfit(said: &str, path: String) -> ApiError {
    let said = without_position(said);
    let missing = quoted(said).filter(|_| said.starts_with("missing field"));
    let (field, code) = match missing {
        Some(name) if path == "." => (name.to_owned(), "missing_field"),
        Some(name) => (format!("{path}.{name}"), "missing_field"),
        None if said.starts_with("unknown field") => (path, "unknown_parameter"),
        None => (path, "invalid_value"),
    };
    if code == "missing_field" {
        return ApiError::invalid_param(&field, format!("{field} is missing")).with_code(code);
    }
    let said = in_plain_words(said);
    if field == "." {
        return ApiError::invalid(code, format!("the JSON does not fit: {said}"));
    }
    let message = format!("the JSON does not fit at {field}: {said}");
    ApiError::invalid_param(&field, message).with_code(code)
}

/// Builds the error of a query of the wrong form. `rejection` is axum's report of it.
pub(crate) fn misfit_of_query(rejection: &QueryRejection) -> ApiError {
    let text = rejection.body_text();
    let said = text.split_once("query string: ").map_or(text.as_str(), |(_, said)| said);
    // axum prefixes serde's message with the name of the parameter.
    let said = said.find("unknown field").and_then(|start| said.get(start..)).unwrap_or(said);
    let message = format!("the query does not fit: {}", in_plain_words(said));
    ApiError::invalid("invalid_query", message)
}

/// Translates serde's message, which names Rust types and repeats a wrong value in full.
fn in_plain_words(said: &str) -> String {
    if let Some(rest) = said.strip_prefix("unknown field ") {
        let (name, known) = rest.split_once(", expected ").unwrap_or((rest, "none"));
        let known = known.trim_start_matches("one of ");
        return format!("there is no {}; known: {known}", shown(name));
    }
    if let Some(rest) = said.strip_prefix("unknown variant ") {
        let (found, known) = rest.split_once(", expected ").unwrap_or((rest, "another"));
        return format!("expected {known}; it is {}", shown(found));
    }
    let found = ["invalid type: ", "invalid value: ", "invalid length "]
        .iter()
        .find_map(|start| said.strip_prefix(start)?.rsplit_once(", expected "));
    match found {
        Some((found, expected)) => {
            format!("expected {}; it is {}", kind(expected), shown(&value(found)))
        }
        None => said
            .replace(OF_TEXTS, "expected a string or an array of strings")
            .replace("invalid digit found in string", "it is no whole number")
            .replace("provided string was not `true` or `false`", "it is neither true nor false"),
    }
}

/// serde's message about a header value that is neither a string nor an array of strings.
const OF_TEXTS: &str = "data did not match any variant of untagged enum Written";

/// Translates serde's name of an expected type into a JSON term.
fn kind(expected: &str) -> &str {
    match expected {
        "u64" | "u32" | "u16" | "usize" => "a whole number, 0 or more",
        "f64" => "a number",
        "a sequence" => "an array",
        "a map" => "an object",
        expected if expected.starts_with("struct ") => "an object",
        expected => expected,
    }
}

/// Translates serde's form of a wrong value into JSON.
fn value(found: &str) -> String {
    let quoted = ["integer `", "floating point `", "boolean `"];
    if let Some(value) = quoted.iter().find_map(|start| found.strip_prefix(start)) {
        return value.trim_end_matches('`').to_owned();
    }
    match found {
        "sequence" => "an array".to_owned(),
        "map" => "an object".to_owned(),
        found => found.replacen("string ", "", 1),
    }
}

/// Returns the name between the first backquotes of a message.
fn quoted(message: &str) -> Option<&str> {
    message.split('`').nth(1)
}
