//! The chat bridge.

use utoipa::openapi::path::HttpMethod::{Delete, Get, Post};

use super::{
    operation::{Operation, json, of, open_operation, operation, told},
    paths::Entry,
};
use crate::{
    bridge::{BridgeAnswer, BridgeMessage, Forgotten, Pending, RoomList, SessionList, WithHistory},
    gateway::generate::{GenerateRequest, Generated},
    health::HealthReport,
};

const TAG: &str = "bridge";

/// Headers of every answer to a message.
const TOLD: [(&str, &str); 4] = [
    ("x-causeway-job-id", "The message's job, in errors too"),
    ("x-ratelimit-limit", "How many messages the user may send in the window"),
    ("x-ratelimit-remaining", "How many of them are left"),
    ("x-ratelimit-reset", "In how many seconds all of them are"),
];

fn chat() -> Operation {
    let answered = json("The answer", of::<BridgeAnswer<'_>>());
    let answered =
        TOLD.into_iter().fold(answered, |answer, (name, about)| answer.header(name, told(about)));
    operation(TAG, "chat", "Say something; what was said before is remembered")
        .takes(of::<BridgeMessage>())
        .responds(200, answered)
        .answers(202, "The answer is not there yet", of::<Pending>())
        .refuses([410, 429, 502, 504])
        .asks_the_store()
}

fn user(id: &str, summary: &str) -> Operation {
    operation(TAG, id, summary).path("user_id", "The user").refuses([404]).asks_the_store()
}

pub(super) fn entries() -> Vec<Entry> {
    vec![
        ("/bridge/chat", Post, chat()),
        (
            "/api/v1/generate",
            Post,
            operation(TAG, "generate", "A text, in the shape of text-generation servers")
                .about(
                    "The prompt becomes a chat of one message. `temperature`, `top_p`, `seed`, `stop` and \
                     the penalties are passed on, other members are not.",
                )
                .takes(of::<GenerateRequest>())
                .answers(200, "The text", of::<Generated>())
                .passes_on()
                .refuses([410, 422, 429, 502, 504])
                .asks_the_store(),
        ),
        (
            "/bridge/sessions",
            Get,
            operation(TAG, "listSessions", "The conversations that are remembered")
                .answers(200, "The conversations", of::<SessionList>())
                .asks_the_store(),
        ),
        (
            "/bridge/sessions/{user_id}",
            Get,
            user("showSession", "A conversation, with what was said").answers(
                200,
                "The conversation",
                of::<WithHistory<'_>>(),
            ),
        ),
        (
            "/bridge/sessions/{user_id}",
            Delete,
            user("forgetSession", "Forget a conversation").answers(
                200,
                "It is forgotten",
                of::<Forgotten>(),
            ),
        ),
        (
            "/bridge/rooms",
            Get,
            operation(TAG, "listRooms", "Who is in which room")
                .answers(200, "The rooms", of::<RoomList>())
                .asks_the_store(),
        ),
        (
            "/bridge/health",
            Get,
            open_operation(TAG, "bridgeHealth", "Whether the bridge can answer")
                .answers(200, "It can", of::<HealthReport>())
                .refuses([503]),
        ),
    ]
}
