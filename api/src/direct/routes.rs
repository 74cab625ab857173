//! The endpoints that are served past the queue. One handler serves all of them; each has a function of its own
//! for its part of the OpenAPI document.

use axum::{
    extract::{Request, State},
    response::Response,
};

use super::call::call;
use crate::{
    openapi::{
        answers::{DirectResponses, SDKS},
        schema::ModelForm,
    },
    state::AppState,
    submit::Peek,
};

/// The description of each of these operations in the OpenAPI document.
const ABOUT: &str = "The body goes to the upstream of the model's lane as it is, past the queue, and the \
                     answer is passed on as it comes: nothing is stored or retried, and no limit of the \
                     lane counts. One API process makes at most 32 such calls at once, 16 of one tenant. \
                     Where the upstream lacks the endpoint the answer is 404.";

/// Counts the tokens of a message in Anthropic's format.
#[utoipa::path(post, path = "/v1/messages/count_tokens", tag = SDKS, operation_id = "countTokens", description = ABOUT,
    request_body(content = Peek, example = json!({"model": "default",
        "messages": [{"role": "user", "content": "Name three rivers"}]})),
    responses(DirectResponses, (status = 403), (status = 410), (status = 422)))]
pub(crate) async fn count_tokens(state: State<AppState>, request: Request) -> Response {
    call(state, request).await
}

/// Classifies texts as harmful or harmless.
#[utoipa::path(post, path = "/v1/moderations", tag = SDKS, operation_id = "createModeration", description = ABOUT,
    request_body(content = Peek, example = json!({"model": "default", "input": "hello"})),
    responses(DirectResponses))]
pub(crate) async fn moderations(state: State<AppState>, request: Request) -> Response {
    call(state, request).await
}

/// Speaks a text.
#[utoipa::path(post, path = "/v1/audio/speech", tag = SDKS, operation_id = "createSpeech", description = ABOUT,
    request_body(content = Peek, example = json!({"model": "default", "input": "hello", "voice": "alloy"})),
    responses(DirectResponses))]
pub(crate) async fn speech(state: State<AppState>, request: Request) -> Response {
    call(state, request).await
}

/// Transcribes a recording.
#[utoipa::path(post, path = "/v1/audio/transcriptions", tag = SDKS, operation_id = "createTranscription", description = ABOUT,
    request_body(content = inline(ModelForm), content_type = "multipart/form-data"), responses(DirectResponses))]
pub(crate) async fn transcriptions(state: State<AppState>, request: Request) -> Response {
    call(state, request).await
}

/// Translates a recording into English.
#[utoipa::path(post, path = "/v1/audio/translations", tag = SDKS, operation_id = "createTranslation", description = ABOUT,
    request_body(content = inline(ModelForm), content_type = "multipart/form-data"), responses(DirectResponses))]
pub(crate) async fn translations(state: State<AppState>, request: Request) -> Response {
    call(state, request).await
}

/// Makes an image of a prompt.
#[utoipa::path(post, path = "/v1/images/generations", tag = SDKS, operation_id = "createImage", description = ABOUT,
    request_body(content = Peek, example = json!({"model": "default", "prompt": "a river"})),
    responses(DirectResponses))]
pub(crate) async fn image_generations(state: State<AppState>, request: Request) -> Response {
    call(state, request).await
}

/// Changes an image.
#[utoipa::path(post, path = "/v1/images/edits", tag = SDKS, operation_id = "editImage", description = ABOUT,
    request_body(content = inline(ModelForm), content_type = "multipart/form-data"), responses(DirectResponses))]
pub(crate) async fn image_edits(state: State<AppState>, request: Request) -> Response {
    call(state, request).await
}

/// Makes a variation of an image.
#[utoipa::path(post, path = "/v1/images/variations", tag = SDKS, operation_id = "varyImage", description = ABOUT,
    request_body(content = inline(ModelForm), content_type = "multipart/form-data"), responses(DirectResponses))]
pub(crate) async fn image_variations(state: State<AppState>, request: Request) -> Response {
    call(state, request).await
}
