//! The shape that an answer of each endpoint has at least: what the SDKs of that endpoint read without asking.
//!
//! The check borrows from the body and builds no tree. It also finds errors that came under a status of success.

use serde::{Deserialize, de::IgnoredAny};
use serde_json::value::RawValue;

/// The endpoints whose answers have a known shape.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Endpoint {
    Chat,
    Completions,
    Embeddings,
    Responses,
    Messages,
    /// Another one, whose answers are JSON of any shape.
    Other,
}

impl Endpoint {
    /// The endpoint that a call to `url` reaches.
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

/// What a body is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Shape {
    /// An answer of the endpoint.
    Answer,
    /// An error.
    Error,
    /// JSON that ends too early.
    Half(String),
    /// Neither; with the reason.
    Other(String),
}

/// The shape of `body`, the answer of `endpoint`.
pub(crate) fn shape(endpoint: Endpoint, body: &str) -> Shape {
    let body = body.trim_start_matches('\u{feff}').trim_start();
    let read = match body.as_bytes().first() {
        Some(b'{') => serde_json::from_str(body).map(|facts: Facts<'_>| facts.shape(endpoint)),
        // Google wraps its errors in a list.
        Some(b'[') => {
            serde_json::from_str(body).map(|list: Vec<&RawValue>| of_list(&list, endpoint))
        }
        Some(_) | None => serde_json::from_str(body).map(|_: IgnoredAny| of_another(endpoint)),
    };
    read.unwrap_or_else(|error| {
        if error.is_eof() {
            Shape::Half(format!("its JSON ends early: {error}"))
        } else {
            Shape::Other(format!("a body that is not JSON: {error}"))
        }
    })
}

fn of_list(list: &[&RawValue], endpoint: Endpoint) -> Shape {
    let first = list.first().filter(|first| first.get().starts_with('{'));
    let first = first.and_then(|first| serde_json::from_str::<Item<'_>>(first.get()).ok());
    match first {
        Some(item) if is_something(item.error) => Shape::Error,
        Some(_) | None => of_another(endpoint),
    }
}

/// The shape of JSON that is no object.
fn of_another(endpoint: Endpoint) -> Shape {
    match endpoint {
        Endpoint::Other => Shape::Answer,
        Endpoint::Chat
        | Endpoint::Completions
        | Endpoint::Embeddings
        | Endpoint::Responses
        | Endpoint::Messages => Shape::Other("JSON that is no object".to_owned()),
    }
}

type Raw<'a> = Option<&'a RawValue>;

/// The fields by which an answer or an error is known.
#[derive(Deserialize)]
struct Facts<'a> {
    #[serde(borrow)]
    error: Raw<'a>,
    object: Raw<'a>,
    r#type: Raw<'a>,
    status: Raw<'a>,
    error_type: Raw<'a>,
    error_message: Raw<'a>,
    // These speak of an error only where there is no answer.
    message: Raw<'a>,
    detail: Raw<'a>,
    errors: Raw<'a>,
    msg: Raw<'a>,
    code: Raw<'a>,
    choices: Raw<'a>,
    data: Raw<'a>,
    output: Raw<'a>,
    content: Raw<'a>,
}

/// The fields of one item of `choices` or `data`.
#[derive(Deserialize)]
struct Item<'a> {
    #[serde(borrow)]
    error: Raw<'a>,
    message: Raw<'a>,
    text: Raw<'a>,
    embedding: Raw<'a>,
}

impl<'a> Facts<'a> {
    fn shape(&self, endpoint: Endpoint) -> Shape {
        let choices = items(self.choices);
        let has_error = |items: &[Item<'_>]| items.iter().any(|item| is_something(item.error));
        if self.is_error() || choices.as_deref().is_some_and(has_error) {
            return Shape::Error;
        }
        let all = |items: Option<Vec<Item<'a>>>, fits: fn(&Item<'_>) -> bool| {
            items.is_some_and(|items| !items.is_empty() && items.iter().all(fits))
        };
        let (fits, what) = match endpoint {
            Endpoint::Chat => {
                (all(choices, |item| starts(item.message, "{")), "`choices` with messages")
            }
            Endpoint::Completions => {
                (all(choices, |item| starts(item.text, "\"")), "`choices` with texts")
            }
            Endpoint::Embeddings => {
                let is_vector =
                    |item: &Item<'_>| starts(item.embedding, "[") || starts(item.embedding, "\"");
                (all(items(self.data), is_vector), "`data` with embeddings")
            }
            Endpoint::Responses => (starts(self.output, "["), "list `output`"),
            Endpoint::Messages => {
                let is_message = is(self.r#type, "\"message\"") && starts(self.content, "[");
                (is_message, "`type` and `content` of a message")
            }
            Endpoint::Other => (true, ""),
        };
        match fits {
            true => Shape::Answer,
            false if self.has_words() => Shape::Error,
            false => Shape::Other(format!("JSON without the {what} of this endpoint")),
        }
    }

    /// True for what says that it is an error.
    fn is_error(&self) -> bool {
        [self.error, self.error_type, self.error_message].into_iter().any(is_something)
            || [self.object, self.r#type].into_iter().any(|field| is(field, "\"error\""))
            || is(self.object, "\"response\"") && is(self.status, "\"failed\"")
    }

    fn has_words(&self) -> bool {
        let fields = [self.message, self.detail, self.errors, self.msg, self.code];
        fields.into_iter().any(is_something)
    }
}

/// The items of a list, unless it is none, or one is no object.
fn items<'a>(list: Raw<'a>) -> Option<Vec<Item<'a>>> {
    let list = list.filter(|list| list.get().starts_with('['))?;
    let items: Vec<&'a RawValue> = serde_json::from_str(list.get()).ok()?;
    let objects = items.iter().all(|item| item.get().starts_with('{'));
    objects.then(|| items.iter().filter_map(|item| serde_json::from_str(item.get()).ok()).collect())
}

fn is(field: Raw<'_>, json: &str) -> bool {
    field.is_some_and(|field| field.get() == json)
}

fn starts(field: Raw<'_>, json: &str) -> bool {
    field.is_some_and(|field| field.get().starts_with(json))
}

/// True for a value that says something: some servers send an empty `error` with each answer.
fn is_something(field: Raw<'_>) -> bool {
    let nothing = ["null", "false", "0", "\"\"", "[]", "{}"];
    field.is_some_and(|field| !nothing.contains(&field.get()))
}

#[cfg(test)]
mod tests {
    use super::*;

    const CHAT: &str = "/v1/chat/completions";

    fn of(url: &str, body: &str) -> Shape {
        match shape(Endpoint::of(url), body) {
            Shape::Half(_) => Shape::Half(String::new()),
            Shape::Other(_) => Shape::Other(String::new()),
            shape @ (Shape::Answer | Shape::Error) => shape,
        }
    }

    #[test]
    fn an_answer_has_the_shape_of_its_endpoint() {
        let rows = [
            (CHAT, r#"{"choices":[{"message":{"content":"a"}}]}"#),
            (CHAT, "\u{feff} \n{\"error\":null,\"choices\":[{\"message\":{}}]}"),
            (
                CHAT,
                r#"{"error":{},"code":"","message":"","choices":[{"message":{},"error":null}]}"#,
            ),
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
            assert_eq!(of(url, body), Shape::Answer, "{url} {body}");
        }
    }

    #[test]
    fn an_error_is_no_answer() {
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
            assert_eq!(of(url, body), Shape::Error, "{url} {body}");
        }
    }

    #[test]
    fn anything_else_is_no_answer_either() {
        let other = Shape::Other(String::new());
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
    fn half_an_answer_is_known_as_such() {
        let half = Shape::Half(String::new());
        for body in [r#"{"choices":[{"message":{"conte"#, r#"{"choices":[{"message":{}}]"#, ""] {
            assert_eq!(of(CHAT, body), half, "{body}");
        }
    }
}
