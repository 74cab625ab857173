//! OpenAI's responses and conversations.

use utoipa::openapi::path::HttpMethod::{Delete, Get, Post};

use super::{
    doors::{TAG, answered, openai},
    operation::{Operation, all_of, json, object, of, operation},
    paths::Entry,
    schema,
};
use crate::{
    gateway::{
        RequestOptions, ResponseOptions,
        responses::{
            DeletedResponse, PAGE,
            conversation::{
                ConversationRequest, ConversationUpdate, ConversationView, DeletedConversation,
            },
        },
    },
    submit::Peek,
};

fn response(id: &str, summary: &str) -> Operation {
    let response = operation(TAG, id, summary).path("id", "The response's id").refuses([404, 410]);
    response.asks_the_store()
}

fn conversation(id: &str, summary: &str) -> Operation {
    let about = "The id of the conversation";
    operation(TAG, id, summary).path("id", about).refuses([404]).asks_the_store()
}

/// A list of items, in pages.
fn paged(list: Operation) -> Operation {
    list.query("limit", "How many at most", schema::number(1, PAGE.1))
        .query("after", "The id of the last item known", schema::any_text())
        .query("order", "`asc`, or `desc`: the newest first", schema::order())
        .responds(200, json("The items", object().build()))
        .refuses([400])
}

pub(super) fn entries() -> Vec<Entry> {
    vec![
        (
            "/v1/responses",
            Post,
            openai("createResponse", "A response, OpenAI's way")
                .takes(all_of([of::<Peek>(), of::<RequestOptions>(), of::<ResponseOptions>()]))
                .refuses([404]),
        ),
        (
            "/v1/responses/{id}",
            Get,
            response("getResponse", "The response as it is now, or its events")
                .query("stream", "Whether to answer with its events", schema::flag())
                .query("starting_after", "The number of the last event known", schema::seq())
                .responds(200, answered())
                .refuses([400]),
        ),
        (
            "/v1/responses/{id}",
            Delete,
            response("deleteResponse", "Delete a response; one that runs is cancelled")
                .answers(200, "It is deleted", of::<DeletedResponse>())
                .refuses([400]),
        ),
        (
            "/v1/responses/{id}/input_items",
            Get,
            paged(response("listInputItems", "All items of a response's input")),
        ),
        (
            "/v1/responses/{id}/cancel",
            Post,
            response("cancelResponse", "Cancel a response").responds(200, answered()),
        ),
    ]
}

pub(super) fn conversations() -> Vec<Entry> {
    vec![
        (
            "/v1/conversations",
            Post,
            operation(
                TAG,
                "createConversation",
                "A conversation, whose responses continue each other",
            )
            .may_take(of::<ConversationRequest>())
            .answers(200, "The conversation", of::<ConversationView>())
            .refuses([429])
            .asks_the_store(),
        ),
        (
            "/v1/conversations/{id}",
            Get,
            conversation("getConversation", "A conversation").answers(
                200,
                "The conversation",
                of::<ConversationView>(),
            ),
        ),
        (
            "/v1/conversations/{id}",
            Post,
            conversation("updateConversation", "Replace the labels of a conversation")
                .takes(of::<ConversationUpdate>())
                .answers(200, "The conversation", of::<ConversationView>()),
        ),
        (
            "/v1/conversations/{id}",
            Delete,
            conversation("deleteConversation", "Forget a conversation; its responses stay")
                .answers(200, "It is forgotten", of::<DeletedConversation>()),
        ),
        (
            "/v1/conversations/{id}/items",
            Get,
            paged(conversation("listItems", "All items of a conversation")),
        ),
    ]
}
