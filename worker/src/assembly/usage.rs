//! The few fields of a whole answer that Causeway reads itself, without parsing the rest.

use causeway_queue::{
    job::Usage,
    json::{self, RawObject, items},
};

/// Returns the token counts of a whole answer; `None` if it does not count the prompt. Groq's streams put them into
/// `x_groq.usage`.
pub(crate) fn usage(body: &str) -> Option<Usage> {
    let body = RawObject::parse(body).ok()?;
    let usage = body.object("usage").or_else(|| body.object("x_groq")?.object("usage"))?;
    let count = |names: [&str; 2]| names.iter().find_map(|name| number(usage.get(name)?));
    Some(Usage {
        prompt_tokens: count(["prompt_tokens", "input_tokens"])?,
        completion_tokens: count(["completion_tokens", "output_tokens"]).unwrap_or(0),
    })
}

/// Parses a count; some servers write it with a fraction.
fn number(json: &str) -> Option<u64> {
    json.parse().ok().or_else(|| json.strip_suffix(".0")?.parse().ok())
}

/// Returns the text of a whole chat completion.
pub(crate) fn text(body: &str) -> Option<String> {
    let content = json::at(body, &["choices", "0", "message", "content"])?;
    if let Some(parts) = items(content) {
        let texts = parts.into_iter().filter_map(|part| RawObject::parse(part).ok()?.text("text"));
        return Some(texts.collect());
    }
    json::text(content)
}
