//! The endpoints that go past the queue.

use utoipa::openapi::{
    ContentBuilder, ResponseBuilder,
    path::HttpMethod::Post,
    schema::{Object, ObjectBuilder},
};

use super::{
    doors::{IN_ANTHROPIC_SHAPE, TAG},
    operation::{Operation, of, operation},
    paths::Entry,
    schema,
};
use crate::submit::Peek;

const ABOUT: &str = "The body goes to the upstream of the model's lane as it is, past the queue, and the \
                     answer is passed on as it comes: nothing is stored or retried, and no limit of the \
                     lane counts. One API process makes at most 32 such calls at once, 16 of one tenant. \
                     Where the upstream lacks the endpoint the answer is 404.";

/// The upstream's answer, of whatever kind.
fn passed() -> ResponseBuilder {
    let any = ContentBuilder::new().build();
    ResponseBuilder::new().description("The upstream's answer").content("*/*", any)
}

fn direct(id: &str, summary: &str) -> Operation {
    operation(TAG, id, summary).about(ABOUT).responds(200, passed()).passes_on()
}

fn refusing(operation: Operation) -> Operation {
    operation.refuses([404, 429, 502, 504]).asks_the_store()
}

fn of_json(id: &str, summary: &str) -> Operation {
    refusing(direct(id, summary).takes(of::<Peek>()))
}

/// The members of a form that are read; all others pass through.
fn form() -> Object {
    ObjectBuilder::new().property("model", schema::any_text()).build()
}

fn of_form(id: &str, summary: &str) -> Operation {
    refusing(direct(id, summary).takes_form(form()))
}

pub(super) fn entries() -> Vec<Entry> {
    vec![
        (
            "/v1/messages/count_tokens",
            Post,
            direct("countTokens", "The tokens of a message, Anthropic's way")
                .takes(of::<Peek>())
                .refuses_in_anthropic_shape(IN_ANTHROPIC_SHAPE),
        ),
        ("/v1/moderations", Post, of_json("createModeration", "Whether texts are harmful")),
        ("/v1/audio/speech", Post, of_json("createSpeech", "A text, spoken")),
        ("/v1/audio/transcriptions", Post, of_form("createTranscription", "A recording as text")),
        ("/v1/audio/translations", Post, of_form("createTranslation", "A recording in English")),
        ("/v1/images/generations", Post, of_json("createImage", "An image of a prompt")),
        ("/v1/images/edits", Post, of_form("editImage", "A changed image")),
        ("/v1/images/variations", Post, of_form("varyImage", "A variation of an image")),
    ]
}
