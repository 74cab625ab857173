//! Response headers about the next attempt: whether it makes sense, and the delay before it.

use std::time::Duration;

use jiff::Timestamp;
use reqwest::header::HeaderMap;

/// Longest delay that is accepted from an upstream.
const MAX_RETRY_AFTER: Duration = Duration::from_secs(3600);

/// Larger numbers are points in time, as no delay is that long: above the first in seconds since 1970, above the
/// second in milliseconds.
const EPOCH_S: f64 = 1e9;
const EPOCH_MS: f64 = 1e12;

/// Kinds of rate-limit headers: `PREFIX-remaining-KIND` and `PREFIX-reset-KIND` (OpenAI and most others), or
/// `PREFIX-KIND-remaining` (Anthropic).
const KINDS: [&str; 4] = ["requests", "tokens", "input-tokens", "output-tokens"];

/// Returns the delay that the headers name: `retry-after-ms`, `x-ms-retry-after-ms` (Azure) or `Retry-After` (RFC 9110,
/// section 10.2.3: seconds or one of three date forms; fractions are accepted, as in the SDKs). The first valid
/// header counts, as in the SDKs of OpenAI and Anthropic. At most one hour; zero means at once.
pub(crate) fn retry_after(headers: &HeaderMap) -> Option<Duration> {
    let ms = ["retry-after-ms", "x-ms-retry-after-ms"];
    let of_ms = ms.iter().find_map(|name| bounded(number(headers, name)? / 1000.0));
    let of_seconds = || bounded(number(headers, "retry-after")?);
    of_ms.or_else(of_seconds).or_else(|| Some(until(date(text(headers, "retry-after")?)?)))
}

/// Returns the time until an exhausted rate limit is reset. These headers come with every answer, so they mean a
/// delay only if the remaining count is 0.
pub(crate) fn rate_reset(headers: &HeaderMap) -> Option<Duration> {
    let family = |remaining: &str, reset: &str| {
        (number(headers, remaining)? <= 0.0).then(|| moment(text(headers, reset)?)).flatten()
    };
    let of_kind = |kind: &&str| {
        let openai =
            family(&format!("x-ratelimit-remaining-{kind}"), &format!("x-ratelimit-reset-{kind}"));
        let anthropic = family(
            &format!("anthropic-ratelimit-{kind}-remaining"),
            &format!("anthropic-ratelimit-{kind}-reset"),
        );
        openai.max(anthropic)
    };
    let plain = family("x-ratelimit-remaining", "x-ratelimit-reset");
    KINDS.iter().filter_map(of_kind).chain(plain).max()
}

/// Returns the value of `x-should-retry`, which the SDKs of OpenAI and Anthropic obey.
pub(crate) fn should_retry(headers: &HeaderMap) -> Option<bool> {
    text(headers, "x-should-retry")?.parse().ok()
}

/// Returns `seconds` as a delay of at most [`MAX_RETRY_AFTER`]; `None` if it is negative or not finite.
pub(crate) fn bounded(seconds: f64) -> Option<Duration> {
    (seconds.is_finite() && seconds >= 0.0)
        .then(|| Duration::from_secs_f64(seconds.min(MAX_RETRY_AFTER.as_secs_f64())))
}

fn text<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    headers.get(name)?.to_str().ok().map(str::trim)
}

fn number(headers: &HeaderMap, name: &str) -> Option<f64> {
    text(headers, name)?.parse().ok()
}

/// Parses a date in one of the forms of RFC 9110, section 5.6.7, or of RFC 5322.
fn date(text: &str) -> Option<Timestamp> {
    let http = httpdate::parse_http_date(text).ok();
    let http = http.and_then(|at| Timestamp::try_from(at).ok());
    http.or_else(|| Some(jiff::fmt::rfc2822::parse(text).ok()?.timestamp()))
}

/// Returns the time until `at`; zero if it has passed.
fn until(at: Timestamp) -> Duration {
    let seconds = at.duration_since(Timestamp::now()).as_secs_f64().max(0.0);
    bounded(seconds).unwrap_or_default()
}

/// Parses a delay of a rate-limit header: `1m2.5s`, `20ms`, seconds, seconds or milliseconds since 1970, RFC 3339.
fn moment(text: &str) -> Option<Duration> {
    if let Ok(number) = text.parse::<f64>() {
        let of_epoch = |ms: f64| bounded(((ms - now_ms()) / 1000.0).max(0.0));
        return match number {
            ms if ms > EPOCH_MS => of_epoch(ms),
            seconds if seconds > EPOCH_S => of_epoch(seconds * 1000.0),
            seconds => bounded(seconds),
        };
    }
    text.parse::<Timestamp>().ok().map(until).or_else(|| spans(text))
}

fn now_ms() -> f64 {
    Timestamp::now().as_duration().as_secs_f64() * 1000.0
}

/// Parses numbers with units, such as `1h2m3.5s`.
fn spans(mut text: &str) -> Option<Duration> {
    let mut seconds = 0.0;
    while !text.is_empty() {
        let (count, rest) = text.split_at(text.find(|c: char| c.is_ascii_alphabetic())?);
        let end = rest.find(|c: char| !c.is_ascii_alphabetic()).unwrap_or(rest.len());
        let (unit, rest) = rest.split_at(end);
        let unit = match unit {
            "ms" => 0.001,
            "s" => 1.0,
            "m" => 60.0,
            "h" => 3600.0,
            "d" => 86_400.0,
            _ => return None,
        };
        seconds += count.parse::<f64>().ok()? * unit;
        text = rest;
    }
    bounded(seconds)
}

#[cfg(test)]
mod tests {
    use reqwest::header::HeaderName;

    use super::*;

    /// Headers, and the delay that they name.
    type Row = (&'static [(&'static str, &'static str)], Option<Duration>);

    fn headers(pairs: &[(&str, &str)]) -> HeaderMap {
        let pair = |(name, value): &(&str, &str)| {
            (name.parse::<HeaderName>().unwrap(), value.parse().unwrap())
        };
        pairs.iter().map(pair).collect()
    }

    #[test]
    fn all_forms_of_retry_after_are_parsed() {
        let ms = Duration::from_millis;
        let rows: [Row; 16] = [
            (&[("retry-after", "7")], Some(ms(7000))),
            (&[("retry-after", " 0.25 ")], Some(ms(250))),
            (&[("retry-after-ms", "1500")], Some(ms(1500))),
            (&[("x-ms-retry-after-ms", "1500")], Some(ms(1500))),
            (&[("retry-after-ms", "2500"), ("retry-after", "30")], Some(ms(2500))),
            (&[("retry-after-ms", "NaN"), ("retry-after", "3")], Some(ms(3000))),
            (&[("retry-after-ms", "-1"), ("retry-after", "3")], Some(ms(3000))),
            (&[("retry-after-ms", "x"), ("x-ms-retry-after-ms", "9")], Some(ms(9))),
            (&[("retry-after", "Wed, 21 Oct 2015 07:28:00 GMT")], Some(ms(0))),
            (&[("retry-after", "999999")], Some(MAX_RETRY_AFTER)),
            (&[("retry-after", "1e300")], Some(MAX_RETRY_AFTER)),
            (&[("retry-after", "0")], Some(ms(0))),
            (&[("retry-after", "-3")], None),
            (&[("retry-after", "soon")], None),
            (&[("retry-after", "NaN")], None),
            (&[("retry-after", "inf")], None),
        ];
        for (pairs, wanted) in rows {
            assert_eq!(retry_after(&headers(pairs)), wanted, "{pairs:?}");
        }
    }

    #[test]
    fn all_date_forms_are_parsed() {
        let at = Timestamp::now() + jiff::SignedDuration::from_secs(100);
        for form in
            ["%a, %d %b %Y %H:%M:%S GMT", "%A, %d-%b-%y %H:%M:%S GMT", "%a %b %e %H:%M:%S %Y"]
        {
            let text = at.strftime(form).to_string();
            let wait = retry_after(&headers(&[("retry-after", &text)])).unwrap().as_secs_f64();
            assert!((98.0..=100.0).contains(&wait), "{text}: {wait}");
        }
    }

    #[test]
    fn only_an_exhausted_rate_names_a_delay() {
        let ms = Duration::from_millis;
        let rows: [Row; 7] = [
            (
                &[
                    ("x-ratelimit-remaining-requests", "0"),
                    ("x-ratelimit-reset-requests", "1m2.5s"),
                ],
                Some(ms(62_500)),
            ),
            (
                &[("x-ratelimit-remaining-tokens", "0"), ("x-ratelimit-reset-tokens", "20ms")],
                Some(ms(20)),
            ),
            (&[("x-ratelimit-remaining-tokens", "5"), ("x-ratelimit-reset-tokens", "6s")], None),
            (&[("x-ratelimit-reset-tokens", "6s")], None),
            (&[("x-ratelimit-remaining", "0"), ("x-ratelimit-reset", "12")], Some(ms(12_000))),
            (
                &[("x-ratelimit-remaining", "0"), ("x-ratelimit-reset", "1700000000000")],
                Some(ms(0)),
            ),
            (
                &[
                    ("anthropic-ratelimit-requests-remaining", "0"),
                    ("anthropic-ratelimit-requests-reset", "2020-01-01T00:00:00Z"),
                ],
                Some(ms(0)),
            ),
        ];
        for (pairs, wanted) in rows {
            assert_eq!(rate_reset(&headers(pairs)), wanted, "{pairs:?}");
        }
    }

    #[test]
    fn should_retry_is_true_false_or_missing() {
        for (value, wanted) in [("true", Some(true)), ("false", Some(false)), ("perhaps", None)] {
            assert_eq!(should_retry(&headers(&[("x-should-retry", value)])), wanted);
        }
    }
}
