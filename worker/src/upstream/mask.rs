//! Masks the upstream's secrets in its messages. Some upstreams echo them, and tenants and logs see failures.

use causeway_queue::RawJson;

use super::{error_body::ErrorBody, secret::UpstreamSecret};
use crate::failure::{Failure, NoAnswer};

/// The replacement of a secret.
const MASK: &str = "***";

/// Shortest secret in bytes that is masked. A shorter one may be a part of ordinary words.
const SHORTEST: usize = 6;

/// Returns `text` with `secrets` masked.
pub(super) fn hidden(text: String, secrets: &[UpstreamSecret]) -> String {
    long(secrets).fold(text, |text, secret| text.replace(secret, MASK))
}

/// Returns the beginning of a body with `secrets` masked, including a secret that is cut at its end.
pub(super) fn hidden_in_body(text: String, secrets: &[UpstreamSecret]) -> String {
    // A body is masked before it is parsed, so secrets may be written plainly or JSON-escaped.
    let forms: Vec<String> =
        long(secrets).flat_map(|secret| [secret.to_owned(), in_json(secret)]).collect();
    let mut text = forms.iter().fold(text, |text, form| text.replace(form, MASK));
    if let Some(prefix) = forms.iter().filter_map(|form| cut_secret_len(&text, form)).max() {
        text.truncate(text.len() - prefix);
        text.push_str(MASK);
    }
    text
}

/// Returns the number of bytes of `secret` at the end of `text`, if they are too many for an ordinary word.
fn cut_secret_len(text: &str, secret: &str) -> Option<usize> {
    let is_there =
        |bytes: &usize| secret.get(..*bytes).is_some_and(|prefix| text.ends_with(prefix));
    (SHORTEST..secret.len()).rev().find(is_there)
}

/// Returns `secret` as JSON escapes it within a string.
fn in_json(secret: &str) -> String {
    let quoted = serde_json::Value::from(secret).to_string();
    quoted.get(1..quoted.len() - 1).unwrap_or(secret).to_owned()
}

fn long(secrets: &[UpstreamSecret]) -> impl Iterator<Item = &str> {
    secrets.iter().map(UpstreamSecret::expose).filter(|secret| secret.len() >= SHORTEST)
}

/// Returns `failure` with `secrets` masked.
pub(super) fn masked(mut failure: Failure, secrets: &[UpstreamSecret]) -> Failure {
    match &mut failure {
        Failure::Refused(refusal) => {
            if json(&mut refusal.body, secrets) {
                // The code is a lower-case part of the body, in which the secret would not match.
                refusal.code = ErrorBody::read(&refusal.body).code();
            }
        }
        Failure::InStream(event) => {
            json(event, secrets);
        }
        Failure::NoAnswer {
            what:
                NoAnswer::Unreadable(text)
                | NoAnswer::Stream(text)
                | NoAnswer::Coding(text)
                | NoAnswer::Redirect(Some(text))
                | NoAnswer::WebPage(Some(text)),
            ..
        }
        | Failure::Cut(text)
        | Failure::Connect(text)
        | Failure::Unsendable(text)
        | Failure::Exhausted(text) => *text = hidden(std::mem::take(text), secrets),
        Failure::NoAnswer { .. }
        | Failure::ConnectTimeout
        | Failure::FirstByteTimeout(_)
        | Failure::Stalled(_)
        | Failure::TotalTimeout(_)
        | Failure::TooLarge(_)
        | Failure::TooMany(_)
        | Failure::Deferred(_) => {}
    }
    failure
}

/// Masks `secrets` in `body`; returns true if it contained any.
fn json(body: &mut RawJson, secrets: &[UpstreamSecret]) -> bool {
    let text = long(secrets)
        .fold(body.as_str().to_owned(), |text, secret| text.replace(&in_json(secret), MASK));
    let is_changed = text != body.as_str();
    if is_changed {
        // A masked number is not valid JSON.
        *body = RawJson::parse(text.clone()).unwrap_or_else(|_| RawJson::string(&text));
    }
    is_changed
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{failure::ErrorResponse, upstream::address::Address};

    fn raw(text: &str) -> RawJson {
        RawJson::parse(text.to_owned()).unwrap()
    }

    #[test]
    fn an_echoed_key_is_masked() {
        let key = [UpstreamSecret::new("sk-12345678")];
        let failure = Failure::InStream(raw(r#"{"error":"Incorrect API key: sk-12345678."}"#));
        let wanted = Failure::InStream(raw(r#"{"error":"Incorrect API key: ***."}"#));
        assert_eq!(masked(failure, &key), wanted);
        let failure = Failure::Cut("a word".to_owned());
        assert_eq!(masked(failure.clone(), &[UpstreamSecret::new("a")]), failure);
    }

    #[test]
    fn a_cut_secret_is_masked() {
        let key = [UpstreamSecret::new("sk-1234567\"8")];
        for (body, wanted) in [
            ("no sk-1234567\"8", "no ***"),
            (r#"{"e":"no sk-1234567\"8"}"#, r#"{"e":"no ***"}"#),
            ("no sk-1234567\"", "no ***"),
            (r#"{"e":"no sk-1234567\"#, r#"{"e":"no ***"#),
            ("no sk-12", "no sk-12"),
        ] {
            assert_eq!(hidden_in_body(body.to_owned(), &key), wanted);
        }
    }

    #[test]
    fn user_info_and_query_are_masked() {
        let address = Address::parse("http://me:pa%22ss-w@h/v1?key=Query%2F1&v=12345678").unwrap();
        let text =
            r#"{"a":"pa\"ss-w pa%22ss-w","b":"Query/1 Query%2F1","c":"Basic bWU6cGEic3Mtdw=="}"#;
        let wanted = r#"{"a":"*** ***","b":"*** ***","c":"Basic ***"}"#;
        let failure = masked(Failure::InStream(raw(text)), address.secrets());
        assert_eq!(failure, Failure::InStream(raw(wanted)));
        let failure = masked(Failure::InStream(raw("[12345678]")), address.secrets());
        assert_eq!(failure, Failure::InStream(RawJson::string("[***]")));
    }

    #[test]
    fn a_code_is_masked() {
        let body = raw(r#"{"error":{"code":"no key SK-12345678"}}"#);
        let code = ErrorBody::read(&body).code();
        let refusal = ErrorResponse { status_code: 401, code, body, ..ErrorResponse::default() };
        let failure =
            masked(Failure::Refused(Box::new(refusal)), &[UpstreamSecret::new("SK-12345678")]);
        let Failure::Refused(refusal) = failure else { panic!("{failure:?}") };
        assert_eq!(refusal.code.as_deref(), Some("no key ***"));
    }
}
