//! What to say of a value that is not of the kind of its key.
//!
//! Where a key's hash or the name of a variable belongs, the key itself may stand by mistake: what
//! stands there is not shown.

use figment::error::{Actual, Kind};

use super::{Refused, range::Range};

/// What was wrong, where, and what would be right.
pub(super) fn told(error: &figment::Error) -> Refused {
    let place = error.metadata.as_ref().map_or("", |metadata| &metadata.name);
    Refused(format!("{place}: `{}`{}", error.path.join("."), why(error)))
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

/// `found`, unless it may be a secret.
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

/// Whether what stands at this place may be a secret, though none belongs there: whatever a tenant
/// has, the names of variables, addresses with their passwords.
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

/// What Rust calls `wanted`, at the place that `path` leads to.
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
