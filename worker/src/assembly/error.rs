//! Recognition of events that report an error. `disposition` decides the consequence.

use causeway_queue::{
    RawJson,
    json::{RawObject, items},
};

use super::raw::is_empty;

/// True if an event reports an error, in any of the forms that servers use.
pub(super) fn is_error(event: &RawObject<'_>) -> bool {
    let says = |name: &str| event.get(name).is_some_and(|value| !is_empty(value));
    let is = |name: &str, word: &str| event.text(name).is_some_and(|text| text == word);
    // In an answer, `detail` is an ordinary field, such as the resolution of an image.
    let is_answer = event.get("choices").is_some() || event.get("type").is_some();
    says("error")
        || is("type", "error")
        || is("type", "response.failed")
        || is("object", "error")
        || says("error_type")
        || says("error_message")
        || (says("detail") && !is_answer)
        || event.get("choices").is_some_and(has_failed_choice)
}

/// True if a choice ended with the finish reason `error`.
fn has_failed_choice(choices: &str) -> bool {
    // A cheap check first: most chunks do not contain the word at all.
    choices.contains("\"error\"")
        && items(choices).unwrap_or_default().into_iter().any(|choice| {
            let choice = RawObject::parse(choice).unwrap_or_default();
            choice.get("finish_reason") == Some("\"error\"")
        })
}

/// Returns the data of an event with the name `error` as a JSON object.
pub(super) fn named(data: &str) -> RawJson {
    if RawObject::parse(data).is_ok() {
        return RawJson::parse(data.to_owned()).unwrap_or_default();
    }
    let error = [("error", data)];
    RawJson::of(&std::collections::BTreeMap::from(error)).unwrap_or_default()
}
