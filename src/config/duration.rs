//! Durations in their text form: `15` (seconds), `250ms`, `15s`, `2m`, `24h`, `30d`.

use std::{fmt, time::Duration};

use serde::{Deserializer, Serializer, de};

/// The text form of a duration, which every refusal explains.
pub(crate) const FORM: &str = "seconds, or a number with ms, s, m, h or d, e.g. 15, 250ms or 24h";

/// The longest accepted duration, in seconds: ten years.
const MAX_S: f64 = 10.0 * 365.0 * 86_400.0;

/// Parses a duration.
///
/// # Errors
/// If `text` does not have a form that [`FORM`] names, or exceeds ten years.
pub(crate) fn parse(text: &str) -> Result<Duration, String> {
    let text = text.trim();
    let digits = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let unit = text.strip_prefix(digits).unwrap_or_default();
    let factor = match unit {
        "ms" => 0.001,
        "" | "s" => 1.0,
        "m" => 60.0,
        "h" => 3600.0,
        "d" => 86_400.0,
        _ => return Err(format!("{text:?} is not a duration: {FORM}")),
    };
    let number: f64 =
        // A blank may precede the unit.
        digits.trim_end().parse().map_err(|_| format!("{text:?} is not a duration: {FORM}"))?;
    from_seconds(number * factor).ok_or_else(|| format!("{text:?} is not between 0 and 10 years"))
}

fn from_seconds(seconds: f64) -> Option<Duration> {
    (0.0..=MAX_S).contains(&seconds).then(|| Duration::from_secs_f64(seconds))
}

/// Formats a duration in its largest whole unit; [`parse`] reads it back.
pub(crate) fn format(span: Duration) -> String {
    let ms = span.as_millis();
    let units = [("d", 86_400_000), ("h", 3_600_000), ("m", 60_000), ("s", 1000)];
    match units.iter().find(|(_, size)| ms > 0 && ms.is_multiple_of(*size)) {
        Some((unit, size)) => format!("{}{unit}", ms / size),
        None => format!("{ms}ms"),
    }
}

pub(crate) fn serialize<S: Serializer>(span: &Duration, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(&format(*span))
}

pub(crate) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Duration, D::Error> {
    struct DurationVisitor;

    impl de::Visitor<'_> for DurationVisitor {
        type Value = Duration;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            write!(f, "a duration ({FORM})")
        }

        fn visit_str<E: de::Error>(self, text: &str) -> Result<Duration, E> {
            parse(text).map_err(E::custom)
        }

        // A number without a unit counts seconds.
        fn visit_f64<E: de::Error>(self, seconds: f64) -> Result<Duration, E> {
            let refused = || E::custom(format!("{seconds} s is not between 0 and 10 years"));
            from_seconds(seconds).ok_or_else(refused)
        }

        fn visit_u64<E: de::Error>(self, seconds: u64) -> Result<Duration, E> {
            #[expect(clippy::cast_precision_loss, reason = "durations beyond 2^53 s are refused")]
            self.visit_f64(seconds as f64)
        }

        fn visit_i64<E: de::Error>(self, seconds: i64) -> Result<Duration, E> {
            #[expect(clippy::cast_precision_loss, reason = "durations beyond 2^53 s are refused")]
            self.visit_f64(seconds as f64)
        }
    }

    from.deserialize_any(DurationVisitor)
}

/// The same functions for an optional duration.
pub(crate) mod optional {
    use std::time::Duration;

    use serde::{Deserialize, Deserializer, Serializer};

    pub(crate) fn serialize<S: Serializer>(
        span: &Option<Duration>,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        match span {
            Some(span) => serializer.serialize_some(&crate::config::duration::format(*span)),
            None => serializer.serialize_none(),
        }
    }

    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(
        from: D,
    ) -> Result<Option<Duration>, D::Error> {
        #[derive(Deserialize)]
        struct Span(#[serde(with = "super")] Duration);
        Ok(Option::<Span>::deserialize(from)?.map(|span| span.0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_formatted_duration_parses_back() {
        for (text, ms) in [
            ("15", 15_000),
            ("15s", 15_000),
            ("250ms", 250),
            ("0.5", 500),
            ("2m", 120_000),
            ("24h", 86_400_000),
            ("30d", 2_592_000_000),
            ("0", 0),
        ] {
            let span = Duration::from_millis(ms);
            assert_eq!(parse(text), Ok(span), "{text}");
            assert_eq!(parse(&format(span)), Ok(span), "{text}");
        }
    }

    #[test]
    fn an_invalid_duration_names_the_form() {
        for text in ["", "s", "-1", "5 weeks", "5w", "NaN", "inf", "1e300"] {
            assert!(parse(text).is_err(), "{text}");
        }
        assert!(parse("soon").unwrap_err().contains("250ms"));
    }
}
