//! Takes the upstream's key out of what an upstream says: some echo it, and a failure reaches tenants and logs.

use causeway_queue::RawJson;

use super::{Failure, NoAnswer, Secret};

/// What stands in the place of a key.
const MASK: &str = "***";

/// Shorter keys are no secrets, and parts of ordinary words.
const SHORTEST: usize = 6;

/// `text` without `key`.
pub(super) fn hidden(text: String, key: Option<&Secret>) -> String {
    let key = key.map(Secret::expose).filter(|key| key.len() >= SHORTEST);
    match key {
        Some(key) => text.replace(key, MASK),
        None => text,
    }
}

/// `failure` without `key`.
pub(super) fn masked(mut failure: Failure, key: Option<&Secret>) -> Failure {
    let Some(key) = key.map(Secret::expose).filter(|key| key.len() >= SHORTEST) else {
        return failure;
    };
    match &mut failure {
        Failure::Refused(refusal) => json(&mut refusal.body, key),
        Failure::InStream(event) => json(event, key),
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
        | Failure::Exhausted(text) => *text = text.replace(key, MASK),
        Failure::NoAnswer { .. }
        | Failure::ConnectTimeout
        | Failure::FirstByteTimeout(_)
        | Failure::Stalled(_)
        | Failure::TotalTimeout(_)
        | Failure::TooLarge(_)
        | Failure::TooMany(_) => {}
    }
    failure
}

fn json(body: &mut RawJson, key: &str) {
    if body.as_str().contains(key) {
        // A key is sent in a header, so that JSON writes it as it is; replacing it leaves JSON.
        *body = RawJson::parse(body.as_str().replace(key, MASK)).unwrap_or_default();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_echoed_key_is_masked() {
        let key = Secret::new("sk-12345678");
        let said = |text: &str| RawJson::parse(text.to_owned()).unwrap();
        let failure = Failure::InStream(said(r#"{"error":"Incorrect API key: sk-12345678."}"#));
        let wanted = Failure::InStream(said(r#"{"error":"Incorrect API key: ***."}"#));
        assert_eq!(masked(failure, Some(&key)), wanted);
        let failure = Failure::Cut("a word".to_owned());
        assert_eq!(masked(failure.clone(), Some(&Secret::new("a"))), failure);
    }
}
