//! Messages for values of the wrong type.
//!
//! A user may have written the key itself in place of its hash or of its variable's name, so the
//! value is not shown there.

use figment::error::{Actual, Kind};

use super::{
    error::ConfigError,
    keys::{Keys, closest},
    range::Range,
};

/// Describes what is wrong, where, and what would be right. `location_of` locates a key of a layer.
pub(super) fn refused(
    error: &figment::Error,
    keys: &Keys,
    location_of: impl Fn(&str, &str) -> String,
) -> ConfigError {
    let layer = error.metadata.as_ref().map_or("", |metadata| &metadata.name);
    let key = error.path.join(".");
    let list = error.path.first().map_or("", String::as_str);
    match &error.kind {
        Kind::UnknownField(name, known) => {
            let location = location_of(&key, layer);
            let hint = hint(name, known, keys);
            ConfigError(format!("{location}: there is no setting `{name}` in `[[{list}]]`; {hint}"))
        }
        Kind::MissingField(name) if error.path.len() > 1 => {
            ConfigError(format!("{}: each `[[{list}]]` needs `{name}`", location_of(&key, layer)))
        }
        _ => ConfigError(format!("{}: `{key}`{}", location_of(&key, layer), why(error))),
    }
}

/// Suggests a correction for `name`, which is not among the `known` keys of its table.
fn hint(name: &str, known: &[&str], keys: &Keys) -> String {
    if let Some(near) = closest(name, known.iter().copied()) {
        return format!("did you mean `{near}`?");
    }
    if keys.contains(name) {
        return format!("did you mean `{name}` of the top level? It belongs above the first table");
    }
    format!("known in it: {}", known.join(", "))
}

fn why(error: &figment::Error) -> String {
    match &error.kind {
        Kind::InvalidType(found, wanted) | Kind::InvalidValue(found, wanted) => {
            let (found, wanted) =
                (shown(found, wanted, &error.path), in_plain_words(wanted, &error.path));
            format!(" is {found}, it must be {wanted}")
        }
        Kind::Message(text) => match text.as_str() {
            "invalid socket address syntax" => format!(" must be {SOCKET_ADDRESS}"),
            "invalid IP address syntax" => format!(" must be {IP_ADDRESS}"),
            text => format!(": {text}"),
        },
        other => format!(": {other}"),
    }
}

const SOCKET_ADDRESS: &str = "an address with a port, such as 127.0.0.1:4004 or [::1]:4004";
const IP_ADDRESS: &str = "an IP address, such as 127.0.0.1 or ::1";

/// Returns `found` as text, unless it may be a secret.
fn shown(found: &Actual, wanted: &str, path: &[String]) -> String {
    let is_hidden = is_private(path) && !is_number(wanted);
    match found {
        Actual::Str(_) if is_private(path) => "a text".to_owned(),
        Actual::Signed(_) | Actual::Unsigned(_) | Actual::Float(_) if is_hidden => {
            "a number".to_owned()
        }
        Actual::Signed(number) => number.to_string(),
        Actual::Unsigned(number) => number.to_string(),
        Actual::Float(number) => number.to_string(),
        Actual::Bool(switch) => switch.to_string(),
        Actual::Str(text) => format!("{text:?}"),
        other => format!("a {other}"),
    }
}

/// Returns true if the value at this path may be a secret by mistake: any setting of a tenant, the
/// names of variables, and addresses with their passwords.
fn is_private(path: &[String]) -> bool {
    let names_variables = path.iter().any(|name| name.ends_with("_env"));
    let is_address = path.last().is_some_and(|last| last == "upstream" || last == "proxy");
    names_variables
        || is_address
        || path.first().is_some_and(|first| first == "tenant" || first == "redis")
}

fn is_number(wanted: &str) -> bool {
    matches!(wanted, "u16" | "u32" | "u64" | "usize" | "f64")
}

/// Translates Rust's description `wanted` of the value at `path` into plain words.
fn in_plain_words(wanted: &str, path: &[String]) -> String {
    match wanted {
        "u16" | "u32" | "u64" | "usize" => {
            let names = path.iter().filter(|name| name.parse::<usize>().is_err());
            let key = names.map(String::as_str).collect::<Vec<_>>().join(".");
            format!("a whole number, {}", Range::of(&key))
        }
        "f64" => "a number".to_owned(),
        "a boolean" => "true or false".to_owned(),
        "a string" => "a text".to_owned(),
        "a sequence" => "a list".to_owned(),
        "socket address" => SOCKET_ADDRESS.to_owned(),
        "IP address" => IP_ADDRESS.to_owned(),
        other => other.to_owned(),
    }
}
