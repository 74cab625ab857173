//! The minimal shape of the answers of each endpoint: the fields that SDKs read without a check.
//!
//! The check borrows from the body and builds no tree. It also finds errors under a success status.

use causeway_queue::json::{RawObject, items};
use serde::de::IgnoredAny;
use serde_json::value::RawValue;

use crate::assembly::raw::is_empty;

/// The endpoints that have answers of a known shape.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Endpoint {
    Chat,
    Completions,
    Embeddings,
    Responses,
    Messages,
    /// Any other endpoint; its answers are JSON of any shape.
    Other,
}

impl Endpoint {
    /// Returns the endpoint of a call to `url`.
    pub(crate) fn of(url: &str) -> Self {
        let path = url.split(['?', '#']).next().unwrap_or_default().trim_end_matches('/');
        let ends = |end: &str| path.ends_with(end);
        if ends("/chat/completions") {
            Self::Chat
        } else if ends("/completions") {
            Self::Completions
        } else if ends("/embeddings") {
            Self::Embeddings
        } else if ends("/responses") {
            Self::Responses
        } else if ends("/messages") {
            Self::Messages
        } else {
            Self::Other
        }
    }
}

/// The classification of a body.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum BodyShape {
    /// An answer of the endpoint.
    Answer,
    /// An error.
    Error,
    /// JSON that ends too early; with the reason.
    Half(String),
    /// Neither; with the reason.
    Other(String),
}

/// Classifies `body`, the answer of `endpoint`.
pub(crate) fn shape(endpoint: Endpoint, body: &str) -> BodyShape {
    let body = body.trim_start();
    let read = match body.as_bytes().first() {
        Some(b'{') => RawObject::parse(body).map(|object| of_object(&object, endpoint)),
        // Google wraps its errors in a list.
        Some(b'[') => {
            serde_json::from_str(body).map(|list: Vec<&RawValue>| of_list(&list, endpoint))
        }
        Some(_) | None => serde_json::from_str(body).map(|_: IgnoredAny| of_another(endpoint)),
    };
    read.unwrap_or_else(|error| {
        if error.is_eof() {
            BodyShape::Half(format!("its JSON ends early: {error}"))
        } else {
            BodyShape::Other(format!("a body that is not JSON: {error}"))
        }
    })
}

fn of_list(list: &[&RawValue], endpoint: Endpoint) -> BodyShape {
    let first = list.first().and_then(|first| RawObject::parse(first.get()).ok());
    match first {
        Some(item) if says(&item, "error") => BodyShape::Error,
        Some(_) | None => of_another(endpoint),
    }
}

/// Classifies JSON that is not an object.
fn of_another(endpoint: Endpoint) -> BodyShape {
    match endpoint {
        Endpoint::Other => BodyShape::Answer,
        Endpoint::Chat
        | Endpoint::Completions
        | Endpoint::Embeddings
        | Endpoint::Responses
        | Endpoint::Messages => BodyShape::Other("JSON that is not an object".to_owned()),
    }
}

/// Classifies `object`. Of fields with the same name the last one counts, as in the parsers of the SDKs.
fn of_object(object: &RawObject<'_>, endpoint: Endpoint) -> BodyShape {
    let choices = objects(object, "choices");
    if is_error(object) || choices.iter().any(|choice| says(choice, "error")) {
        return BodyShape::Error;
    }
    let (fits, what) = match endpoint {
        Endpoint::Chat => (all_start(&choices, "message", &['{']), "`choices` with messages"),
        Endpoint::Completions => (all_start(&choices, "text", &['"']), "`choices` with texts"),
        Endpoint::Embeddings => {
            let data = objects(object, "data");
            (all_start(&data, "embedding", &['[', '"']), "`data` with embeddings")
        }
        Endpoint::Responses => (starts(object, "output", &['[']), "list `output`"),
        Endpoint::Messages => {
            let is_message = object.get("type") == Some("\"message\"");
            (is_message && starts(object, "content", &['[']), "`type` and `content` of a message")
        }
        Endpoint::Other => (true, ""),
    };
    // These fields mean an error only if the object is not an answer.
    let fields = ["message", "detail", "errors", "msg", "code"];
    match fits {
        true => BodyShape::Answer,
        false if fields.into_iter().any(|name| says(object, name)) => BodyShape::Error,
        false => BodyShape::Other(format!("JSON without the {what} of this endpoint")),
    }
}

/// True if the object identifies itself as an error.
fn is_error(object: &RawObject<'_>) -> bool {
    let is = |name: &str, json: &str| object.get(name) == Some(json);
    ["error", "error_type", "error_message"].into_iter().any(|name| says(object, name))
        || ["object", "type"].into_iter().any(|name| is(name, "\"error\""))
        || is("object", "\"response\"") && is("status", "\"failed\"")
}

/// Returns the items of the list `name`; none if it is not a list, or an item is not an object.
fn objects<'a>(object: &RawObject<'a>, name: &str) -> Vec<RawObject<'a>> {
    let items = object.get(name).and_then(items).unwrap_or_default();
    let objects: Result<_, _> = items.into_iter().map(RawObject::parse).collect();
    objects.unwrap_or_default()
}

fn all_start(items: &[RawObject<'_>], name: &str, opening: &[char]) -> bool {
    !items.is_empty() && items.iter().all(|item| starts(item, name, opening))
}

fn starts(object: &RawObject<'_>, name: &str, opening: &[char]) -> bool {
    object.get(name).is_some_and(|json| json.starts_with(opening))
}

/// True if the field `name` is neither null nor empty: some servers send an empty `error` with each answer.
fn says(object: &RawObject<'_>, name: &str) -> bool {
    object.get(name).is_some_and(|json| !is_empty(json))
}

#[cfg(test)]
mod tests {
    use super::*;

    const CHAT: &str = "/v1/chat/completions";

    fn of(url: &str, body: &str) -> BodyShape {
        match shape(Endpoint::of(url), body) {
            BodyShape::Half(_) => BodyShape::Half(String::new()),
            BodyShape::Other(_) => BodyShape::Other(String::new()),
            shape @ (BodyShape::Answer | BodyShape::Error) => shape,
        }
    }

    #[test]
    fn valid_answers_match_their_endpoint() {
        let rows = [
            (CHAT, r#"{"choices":[{"message":{"content":"a"}}]}"#),
            (CHAT, " \n{\"error\":null,\"choices\":[{\"message\":{}}]}"),
            (
                CHAT,
                r#"{"error":{},"code":"","message":"","choices":[{"message":{},"error":null}]}"#,
            ),
            (CHAT, r#"{"error":{ },"errors":[ ],"choices":[{"message":{}}]}"#),
            (CHAT, r#"{"error":"m","error":null,"choices":[],"choices":[{"message":{}}]}"#),
            (CHAT, r#"{"choices":[{"message":"m","message":{}}]}"#),
            (
                "/openai/deployments/x/chat/completions?api-version=1",
                r#"{"choices":[{"message":{}}]}"#,
            ),
            ("/v1/completions", r#"{"choices":[{"text":"a"},{"text":""}]}"#),
            (
                "/v1/embeddings",
                r#"{"object":"list","data":[{"embedding":[0.5]},{"embedding":"AAA="}]}"#,
            ),
            (
                "/v1/responses",
                r#"{"object":"response","status":"completed","error":null,"output":[]}"#,
            ),
            ("/v1/messages", r#"{"type":"message","content":[]}"#),
            ("/tokenize", r#"{"tokens":[1],"message":"m"}"#),
            ("/tokenize", "[1,2]"),
            ("/tokenize", "7"),
        ];
        for (url, body) in rows {
            assert_eq!(of(url, body), BodyShape::Answer, "{url} {body}");
        }
    }

    #[test]
    fn errors_are_recognized() {
        let rows = [
            (CHAT, r#"{"error":{"message":"m","code":502},"user_id":"u"}"#),
            (CHAT, r#"{"error":"m","choices":[{"message":{}}]}"#),
            (CHAT, r#"{"choices":[{"error":{"code":502},"message":{"content":""}}]}"#),
            (CHAT, r#"{"object":"error","message":"m","choices":[{"message":{}}]}"#),
            (CHAT, r#"{"choices":null,"error_type":"BadRequestError","error_message":"m"}"#),
            (CHAT, r#"{"detail":"Not Found"}"#),
            (CHAT, r#"{"code":40303,"message":"m"}"#),
            (CHAT, r#"[{"error":{"code":429}}]"#),
            (
                "/v1/responses",
                r#"{"object":"response","status":"failed","error":null,"output":[]}"#,
            ),
            ("/v1/messages", r#"{"type":"error","error":null}"#),
            ("/tokenize", r#"{"error":"m"}"#),
        ];
        for (url, body) in rows {
            assert_eq!(of(url, body), BodyShape::Error, "{url} {body}");
        }
    }

    #[test]
    fn other_json_is_rejected() {
        let other = BodyShape::Other(String::new());
        let rows = [
            (CHAT, "{}"),
            (CHAT, r#"{"choices":[]}"#),
            (CHAT, r#"{"choices":{}}"#),
            (CHAT, r#"{"choices":[1]}"#),
            (CHAT, r#"{"choices":[{"message":{}},{"text":""}]}"#),
            (CHAT, r#"{"choices":[{"message":null}]}"#),
            (CHAT, r#"{"choices":[{"message":{}}]} x"#),
            (CHAT, "[]"),
            (CHAT, "\"fine\""),
            (CHAT, "fine"),
            ("/v1/completions", r#"{"choices":[{"message":{}}]}"#),
            ("/v1/embeddings", r#"{"data":[]}"#),
            ("/v1/embeddings", r#"{"data":[{"embedding":null}]}"#),
            ("/v1/responses", r#"{"object":"response"}"#),
            ("/v1/messages", r#"{"type":"completion","content":[]}"#),
            ("/tokenize", "<html>"),
        ];
        for (url, body) in rows {
            assert_eq!(of(url, body), other, "{url} {body}");
        }
    }

    #[test]
    fn cut_json_is_recognized() {
        let half = BodyShape::Half(String::new());
        for body in [r#"{"choices":[{"message":{"conte"#, r#"{"choices":[{"message":{}}]"#, ""] {
            assert_eq!(of(CHAT, body), half, "{body}");
        }
    }
}
