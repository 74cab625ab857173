//! Timestamps and ages in their text forms.

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use serde_json::Value;

use crate::config::duration;

/// Parses a timestamp: its age, or its RFC 3339 form.
///
/// # Errors
/// If `text` is neither.
pub(crate) fn parse(text: &str) -> Result<Timestamp, String> {
    if let Ok(ago) = duration::parse(text) {
        let ago = SignedDuration::try_from(ago).map_err(|error| error.to_string())?;
        return Timestamp::now().checked_sub(ago).map_err(|error| error.to_string());
    }
    text.parse().map_err(|_| {
        format!(
            "it must be how long ago ({}), or a timestamp such as 2026-01-31T12:00:00Z",
            duration::FORM
        )
    })
}

/// Returns the timestamp in a member of a job; `None` if it has none.
pub(crate) fn of(value: &Value) -> Option<Timestamp> {
    value.as_str()?.parse().ok()
}

/// Formats the time between two timestamps in a few characters; `-` if one of them is missing.
pub(crate) fn between(from: Option<Timestamp>, to: Option<Timestamp>) -> String {
    let Some((from, to)) = from.zip(to) else { return "-".to_owned() };
    // The clocks of two machines differ, so the difference may be negative.
    short(Duration::try_from(to.duration_since(from)).unwrap_or_default())
}

/// Formats a duration in its two largest units.
fn short(span: Duration) -> String {
    let s = span.as_secs();
    match s {
        0..10 => format!("{:.1}s", span.as_secs_f64()),
        10..60 => format!("{s}s"),
        60..3600 => format!("{}m{:02}s", s / 60, s % 60),
        3600..86_400 => format!("{}h{:02}m", s / 3600, s / 60 % 60),
        _ => format!("{}d{:02}h", s / 86_400, s / 3600 % 24),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_timestamp_may_be_an_age() {
        assert_eq!(parse("2026-01-31T12:00:00Z").unwrap().as_second(), 1_769_860_800);
        let ago = Timestamp::now().duration_since(parse("2h").unwrap());
        assert!((7199..7260).contains(&ago.as_secs()), "{ago}");
        let refused = parse("yesterday").unwrap_err();
        assert!(refused.contains("24h") && refused.contains("2026-"), "{refused}");
    }

    #[test]
    fn durations_have_two_units() {
        let spans = [(340, "0.3s"), (9000, "9.0s"), (61_000, "1m01s"), (90_000_000, "1d01h")];
        for (ms, text) in spans {
            assert_eq!(short(Duration::from_millis(ms)), text, "{ms}");
        }
        let (early, late) = (Timestamp::UNIX_EPOCH, Timestamp::from_second(9).unwrap());
        assert_eq!(between(Some(late), Some(early)), "0.0s");
        assert_eq!(between(None, Some(early)), "-");
    }
}
