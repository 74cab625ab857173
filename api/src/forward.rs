//! Headers for the upstream: those of a call that a setting selects, and those that a job names.

use axum::http::{HeaderMap, HeaderName, HeaderValue};
use causeway_queue::headers::{HeaderValues, Headers};

use crate::error::ApiError;

/// The headers of calls that are forwarded by default. A `*` at the end matches any rest.
pub const FORWARDED: [&str; 6] = [
    "openai-organization",
    "openai-project",
    "openai-beta",
    "anthropic-*",
    "traceparent",
    "tracestate",
];

/// Most header lines of a job.
pub(crate) const MAX_LINES: usize = 32;

/// Most bytes of a job's headers, names and values together.
pub(crate) const MAX_BYTES: usize = 8 << 10;

/// Headers that are never forwarded. Causeway sets them itself (credentials, content, coding), or they concern a
/// single connection (RFC 9110, section 7.6.1; RFC 7540, section 3.2.1) or its peers (RFC 7239). Ranges and
/// conditions (RFC 9110, sections 13 and 14) could lead to a partial answer or none. A `*` at the end matches any
/// rest.
const RESERVED: [&str; 26] = [
    "accept",
    "accept-encoding",
    "api-key",
    "authorization",
    "connection",
    "content-*",
    "cookie",
    "expect",
    "forwarded",
    "host",
    "http2-settings",
    "idempotency-key",
    "if-*",
    "keep-alive",
    "proxy-*",
    "range",
    "set-cookie",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
    "x-api-key",
    "x-causeway-*",
    "x-forwarded-*",
    "x-goog-api-key",
    "x-should-retry",
];

/// A header that Anthropic's API requires, with the version of its first stable API as the default.
const ANTHROPIC_VERSION: (&str, &str) = ("anthropic-version", "2023-06-01");

/// The endpoint that requires [`ANTHROPIC_VERSION`].
const MESSAGES: &str = "/v1/messages";

/// The reason why a pattern cannot select headers.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InvalidPattern {
    /// The pattern is not a header name.
    #[error("{0:?} is not a header name; write one such as \"traceparent\", or \"anthropic-*\"")]
    Name(String),
    /// The header is never forwarded.
    #[error(
        "{0:?} is never forwarded: Causeway sets it, it concerns one connection, or it would bring a partial answer"
    )]
    Reserved(String),
}

/// Checks a pattern of the setting.
///
/// # Errors
/// If it is not a header name, or names a header that is never forwarded.
pub fn check_forwarded(pattern: &str) -> Result<(), InvalidPattern> {
    let name = pattern.strip_suffix('*').unwrap_or(pattern);
    let is_name = HeaderName::from_bytes(name.as_bytes()).is_ok();
    if !is_name || name.bytes().any(|byte| byte == b'*') {
        return Err(InvalidPattern::Name(pattern.to_owned()));
    }
    if is_reserved(&name.to_ascii_lowercase()) {
        return Err(InvalidPattern::Reserved(pattern.to_owned()));
    }
    Ok(())
}

fn is_reserved(name: &str) -> bool {
    RESERVED.iter().any(|pattern| matches(pattern, name))
}

/// True if `pattern` selects the header `name`, which is in lower case.
fn matches(pattern: &str, name: &str) -> bool {
    match pattern.strip_suffix('*') {
        Some(start) => {
            name.get(..start.len()).is_some_and(|found| found.eq_ignore_ascii_case(start))
        }
        None => name.eq_ignore_ascii_case(pattern),
    }
}

/// Selects the headers of a call to `url` that the upstream receives.
///
/// # Errors
/// If there are too many, or they are too long.
pub(crate) fn of_call(
    patterns: &[String],
    url: &str,
    headers: &HeaderMap,
) -> Result<Headers, ApiError> {
    let mut selected = Headers::new();
    for name in headers.keys() {
        let is_selected = patterns.iter().any(|pattern| matches(pattern, name.as_str()));
        if !is_selected || is_reserved(name.as_str()) {
            continue;
        }
        // Lines beyond visible ASCII are skipped: most servers refuse them.
        let lines = headers.get_all(name).iter().filter_map(|value| value.to_str().ok());
        selected.insert(name.as_str().to_owned(), lines.map(str::to_owned).collect());
    }
    check_size(&selected, "the headers to forward")?;
    add_version(url, &mut selected);
    Ok(selected)
}

/// Checks the headers that a job for `url` names, and converts their names to lower case.
///
/// # Errors
/// If a header is reserved or invalid, or there are too many, or they are too long.
pub(crate) fn of_job(url: &str, named: Headers) -> Result<Headers, ApiError> {
    let mut checked = Headers::new();
    for (name, values) in named {
        let param = format!("headers.{name}");
        let wrong = |why: &str| Err(ApiError::invalid_param(&param, format!("{param}: {why}")));
        // `HeaderName` also converts the name to lower case.
        let Ok(header) = HeaderName::from_bytes(name.as_bytes()) else {
            return wrong("no header can have this name; use letters, digits and '-'");
        };
        if is_reserved(header.as_str()) {
            return wrong(
                "a job cannot set this header; leave it out. Causeway sets the credentials and the headers of the \
                 content itself, headers of one connection are not forwarded, and a range or a condition would \
                 bring a partial answer",
            );
        }
        if !values.iter().all(is_sendable) {
            return wrong("a value may have visible ASCII characters, blanks and tabs only");
        }
        // Two names may differ by case only. Their lines are merged, as HTTP would.
        let known = checked.remove(header.as_str()).unwrap_or_default();
        let lines = known.iter().chain(values.iter()).map(str::to_owned);
        let lines: HeaderValues = lines.collect();
        checked.insert(header.as_str().to_owned(), lines);
    }
    // An empty array names a header without any line.
    checked.retain(|_, values| values.first().is_some());
    check_size(&checked, "headers")?;
    add_version(url, &mut checked);
    Ok(checked)
}

fn is_sendable(value: &str) -> bool {
    HeaderValue::from_str(value).is_ok_and(|value| value.to_str().is_ok())
}

fn check_size(headers: &Headers, what: &str) -> Result<(), ApiError> {
    let lines: usize = headers.values().map(|values| values.iter().count()).sum();
    let bytes: usize = headers
        .iter()
        .flat_map(|(name, values)| values.iter().map(|value| name.len() + value.len()))
        .sum();
    if lines <= MAX_LINES && bytes <= MAX_BYTES {
        return Ok(());
    }
    let message = if lines > MAX_LINES {
        format!("{what} may have {MAX_LINES} lines; they have {lines}")
    } else {
        format!("{what} may have {MAX_BYTES} bytes, names and values together; they have {bytes}")
    };
    Err(ApiError::invalid_param("headers", message))
}

fn add_version(url: &str, headers: &mut Headers) {
    let (name, version) = ANTHROPIC_VERSION;
    if url == MESSAGES && !headers.contains_key(name) {
        headers.insert(name.to_owned(), version.to_owned().into());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reserved_names_are_invalid_patterns() {
        for pattern in ["authorization", "Content-Type", "content-*", "X-Api-Key", "proxy-x"] {
            let refused = InvalidPattern::Reserved(pattern.to_owned());
            assert_eq!(check_forwarded(pattern), Err(refused), "{pattern}");
        }
        for pattern in ["", "*", "a b", "a*b", "a**"] {
            let refused = InvalidPattern::Name(pattern.to_owned());
            assert_eq!(check_forwarded(pattern), Err(refused), "{pattern}");
        }
        for pattern in FORWARDED.iter().chain(&["x-*", "User-Agent"]) {
            assert_eq!(check_forwarded(pattern), Ok(()), "{pattern}");
        }
    }

    #[test]
    fn a_wide_pattern_forwards_no_credentials() {
        let mut sent = HeaderMap::new();
        for name in ["x-api-key", "x-trace", "cookie", "x-causeway-class", "traceparent"] {
            sent.insert(HeaderName::from_static(name), HeaderValue::from_static("v"));
        }
        sent.append("x-trace", HeaderValue::from_static("w"));
        let headers = of_call(&["X-*".to_owned()], "/v1/embeddings", &sent).unwrap();
        let names: Vec<&String> = headers.keys().collect();
        assert_eq!(names, ["x-trace"]);
        assert_eq!(headers["x-trace"].iter().collect::<Vec<_>>(), ["v", "w"]);
    }
}
