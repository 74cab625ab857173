//! The doors of existing clients, and the WebSocket.

use utoipa::openapi::{
    ContentBuilder, ResponseBuilder,
    path::HttpMethod::{Get, Post},
};

use super::{
    operation::{Operation, all_of, json, object, of, operation, told},
    paths::Entry,
    schema,
};
use crate::{
    gateway::RequestOptions,
    job_view::JobView,
    models::{ModelList, ModelView},
    submit::Peek,
};

pub(super) const TAG: &str = "OpenAI and Anthropic";

/// What is told in the shape of Anthropic's errors, behind its door.
pub(super) const IN_ANTHROPIC_SHAPE: [u16; 14] =
    [400, 401, 403, 404, 408, 410, 413, 415, 422, 429, 500, 502, 503, 504];

const ABOUT: &str = "The body goes to the upstream as it is, and its answer comes back as it is: \
                     only what is described here is read. A caller that goes away cancels the job, \
                     unless it has an idempotency key; an SDK that has timed out has time to retry.";

/// Headers of an answer that are told of every call that is held.
const TOLD: [(&str, &str); 3] = [
    ("x-causeway-job-id", "The call's job"),
    ("x-causeway-simulated", "`true` where a simulation answered, and no model"),
    ("x-ratelimit-remaining-requests", "What the tenant has left, where it has a rate"),
];

fn answer(about: &str) -> ResponseBuilder {
    let response = json(about, object().build());
    TOLD.into_iter().fold(response, |response, (name, about)| response.header(name, told(about)))
}

/// An answer, or the events of one.
pub(super) fn answered() -> ResponseBuilder {
    let streamed = ContentBuilder::new().build();
    answer("The answer; a stream where `stream` is true").content("text/event-stream", streamed)
}

fn door(id: &str, summary: &str) -> Operation {
    operation(TAG, id, summary)
        .about(ABOUT)
        .header("x-causeway-class", "The job's class", schema::class())
        .header(
            "x-causeway-max-retries",
            "How often the client retries, where an SDK is not left at its default of 2",
            schema::number(0, u32::MAX as usize),
        )
        .header("Prefer", "`respond-async` answers at once where the job is", schema::any_text())
        .header(
            "Idempotency-Key",
            "The same key is the same job, for 24 h or as long as the job is kept, within the lane of the model",
            schema::key(),
        )
        .takes(all_of([of::<Peek>(), of::<RequestOptions>()]))
        .responds(200, answered())
        .answers(202, "Where the job is, for `Prefer: respond-async`", of::<JobView<'_>>())
        .passes_on()
}

pub(super) fn openai(id: &str, summary: &str) -> Operation {
    door(id, summary).refuses([410, 422, 429, 502, 504]).asks_the_store()
}

pub(super) fn entries() -> Vec<Entry> {
    vec![
        ("/v1/chat/completions", Post, openai("createChatCompletion", "A chat, OpenAI's way")),
        ("/v1/completions", Post, openai("createCompletion", "A completion, OpenAI's way")),
        ("/v1/embeddings", Post, openai("createEmbedding", "Embeddings, OpenAI's way")),
        (
            "/v1/messages",
            Post,
            door("createMessage", "A message, Anthropic's way")
                .refuses_in_anthropic_shape(IN_ANTHROPIC_SHAPE),
        ),
        (
            "/v1/models",
            Get,
            operation(TAG, "listModels", "The models that are served").answers(
                200,
                "The models",
                of::<ModelList>(),
            ),
        ),
        (
            "/v1/models/{id}",
            Get,
            operation(TAG, "getModel", "One model; its name may have slashes")
                .about(
                    "An API process that knows no upstream and no configured models answers with \
                     any name: a call for that model is accepted as well.",
                )
                .path("id", "The model's name")
                .answers(200, "The model", of::<ModelView>())
                .refuses([404]),
        ),
        (
            "/v1/ws",
            Get,
            operation("jobs", "connect", "Submit, cancel and follow many jobs over one WebSocket")
                .about(
                    "Frames are JSON texts. The client sends `{\"op\": \"submit\", \"job\": …, \
                     \"follow\": true}`, `{\"op\": \"follow\", \"job\": \"job_…\", \"after\": N}`, \
                     `unfollow`, `cancel` and `ping`, each with a `ref` if it likes; the server \
                     answers with the same `ref` and a `type`, and sends the events of followed \
                     jobs as `{\"job\", \"seq\", \"type\", \"data\"}`. Offer the protocols \
                     `causeway.v1` and `causeway.key.<key>` where headers cannot be set. A frame \
                     after the key was revoked closes the connection with 1008.",
                )
                .header("Sec-WebSocket-Protocol", "`causeway.v1`", schema::any_text())
                .responds(101, ResponseBuilder::new().description("The WebSocket is open"))
                .refuses([403, 426]),
        ),
    ]
}
