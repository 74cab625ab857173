//! Times as the API writes them.

use causeway_queue::clock::Millis;
use jiff::Timestamp;

/// Formats a time as RFC 3339 in UTC, with milliseconds.
pub(crate) fn moment(at: Millis) -> String {
    let at = i64::try_from(at.0).ok().and_then(|ms| Timestamp::from_millisecond(ms).ok());
    format!("{:.3}", at.unwrap_or_default())
}
