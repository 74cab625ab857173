//! Messages for JSON and queries of the wrong form.
//!
//! serde and axum name Rust types and positions in the text, which may be generated. Clients need the field and its
//! expected value.

use axum::extract::rejection::QueryRejection;
use causeway_queue::json::without_position;

use crate::error::ApiError;

/// Builds the error of JSON of the wrong form. `report` is serde's message about the value at `path`, which is `.`
/// for the whole text.
pub(super) fn mismatch(report: &str, path: String) -> ApiError {
    let report = without_position(report);
    let missing = quoted(report).filter(|_| report.starts_with("missing field"));
    let (field, code) = match missing {
        // serde reports a missing field at the path of its object, an unknown one at its own path.
        Some(name) if path == "." => (name.to_owned(), "missing_field"),
        Some(name) => (format!("{path}.{name}"), "missing_field"),
        None if report.starts_with("unknown field") => (path, "unknown_parameter"),
        None => (path, "invalid_value"),
    };
    if code == "missing_field" {
        return ApiError::invalid_param(&field, format!("{field} is missing")).with_code(code);
    }
    let report = translated(report);
    if field == "." {
        return ApiError::invalid(code, format!("the JSON does not fit: {report}"));
    }
    let message = format!("the JSON does not fit at {field}: {report}");
    ApiError::invalid_param(&field, message).with_code(code)
}

/// Builds the error of a query of the wrong form. `rejection` is axum's report of it.
pub(crate) fn query_mismatch(rejection: &QueryRejection) -> ApiError {
    let text = rejection.body_text();
    let report = text.split_once("query string: ").map_or(text.as_str(), |(_, report)| report);
    // axum prefixes serde's message with the name of the parameter.
    let report =
        report.find("unknown field").and_then(|start| report.get(start..)).unwrap_or(report);
    let message = format!("the query does not fit: {}", translated(report));
    ApiError::invalid("invalid_query", message)
}

/// Translates serde's message, which names Rust types and repeats a wrong value in full.
fn translated(report: &str) -> String {
    if let Some(rest) = report.strip_prefix("unknown field ") {
        let (name, known) = rest.split_once(", expected ").unwrap_or((rest, "none"));
        let known = known.trim_start_matches("one of ");
        return format!("there is no {}; known: {known}", shown(name));
    }
    if let Some(rest) = report.strip_prefix("unknown variant ") {
        let (found, known) = rest.split_once(", expected ").unwrap_or((rest, "another"));
        return format!("expected {known}; it is {}", shown(found));
    }
    let found = ["invalid type: ", "invalid value: ", "invalid length "]
        .iter()
        // Searched from the end: the wrong value may itself contain the separator.
        .find_map(|start| report.strip_prefix(start)?.rsplit_once(", expected "));
    match found {
        Some((found, expected)) => {
            format!("expected {}; it is {}", kind(expected), shown(&value(found)))
        }
        None => report
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
        // serde writes a string as `string "…"`, whose quotes are already those of JSON.
        found => found.replacen("string ", "", 1),
    }
}

/// Returns the name between the first backquotes of a message.
fn quoted(message: &str) -> Option<&str> {
    message.split('`').nth(1)
}

/// Longest part of a wrong value that an error shows, in characters.
const MAX_SHOWN: usize = 100;

/// Returns the beginning of a value or a name.
pub(super) fn shown(text: &str) -> String {
    let mut shown: String = text.chars().take(MAX_SHOWN).collect();
    if shown.len() < text.len() {
        shown.push('…');
    }
    shown
}
