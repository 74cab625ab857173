//! `POST /api/v1/generate`: the API of text-generation servers, which games and their bots call.
//!
//! The prompt becomes a chat of one message, since every upstream supports chats. Clients of this API read
//! `results[0].text` and nothing else, so an answer without text never gets 200.

use std::num::NonZeroU32;

use axum::{
    Json,
    body::to_bytes,
    extract::State,
    http::{HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
};
use bytes::Bytes;
use causeway_queue::json;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use utoipa::ToSchema;

use super::{answer, dialect::Dialect, incoming::Incoming};
use crate::{
    error::ApiError, extract::parse, openapi::answers::Passed, settings::BridgeSettings,
    state::AppState,
};

/// The endpoint of the upstream.
const CHAT: &str = "/v1/chat/completions";

/// Members of the request with the same name and meaning in a chat.
const SAME: [&str; 6] =
    ["frequency_penalty", "presence_penalty", "seed", "stop", "temperature", "top_p"];

/// A prompt to continue. Members that are not described here are not forwarded.
#[derive(Debug, Deserialize, ToSchema)]
pub(crate) struct GenerateRequest {
    /// The text to answer. It must not be blank.
    #[schema(min_length = 1, pattern = r"\S")]
    prompt: String,
    /// The model; by default `bridge.model`.
    #[serde(default)]
    model: Option<String>,
    /// Most tokens of the answer, also as `max_length` or `max_tokens`; by default `bridge.max_tokens`.
    #[serde(default)]
    #[schema(value_type = Option<u64>, minimum = 1, maximum = 4_294_967_295_u64)]
    max_new_tokens: Option<NonZeroU32>,
    /// Texts at which the answer ends, also as `stop_sequence`.
    #[serde(default)]
    stopping_strings: Option<Vec<String>>,
    #[serde(flatten)]
    #[schema(ignore)]
    others: Map<String, Value>,
}

/// The answer.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Generated {
    /// Always one text.
    results: Vec<GeneratedText>,
}

/// The text of an answer.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct GeneratedText {
    text: String,
}

impl GenerateRequest {
    /// Returns the chat of the same meaning.
    fn chat(self, settings: &BridgeSettings) -> Value {
        let other = |names: &[&str]| names.iter().find_map(|name| self.others.get(*name)).cloned();
        // Precedence: the described member, the alternative names of other servers, the configuration.
        let most = self.max_new_tokens.map(|most| most.get().into());
        let most = most.or_else(|| other(&["max_length", "max_tokens"]));
        let most = most.or(settings.max_tokens.map(Value::from));
        let stop = self.stopping_strings.map(Value::from).or_else(|| other(&["stop_sequence"]));
        let mut chat: Map<String, Value> =
            self.others.into_iter().filter(|(name, _)| SAME.contains(&name.as_str())).collect();
        let message = serde_json::json!({ "role": "user", "content": self.prompt });
        chat.insert("messages".to_owned(), Value::Array(vec![message]));
        let model = self.model.unwrap_or_else(|| settings.model.clone());
        chat.insert("model".to_owned(), model.into());
        chat.extend(most.map(|most| ("max_tokens".to_owned(), most)));
        // OpenAI's servers refuse an empty list.
        let stop = stop.filter(|stop| stop.as_array().is_none_or(|stop| !stop.is_empty()));
        chat.extend(stop.map(|stop| ("stop".to_owned(), stop)));
        Value::Object(chat)
    }
}

/// Continues a prompt, in the shape of text-generation servers.
///
/// The prompt becomes a chat of one message. `temperature`, `top_p`, `seed`, `stop` and the penalties are passed on,
/// other members are not.
#[utoipa::path(post, path = "/api/v1/generate", tag = "bridge", operation_id = "generate",
    request_body(content = GenerateRequest,
        example = json!({"prompt": "You are a villager. Ann: hello", "max_new_tokens": 60})),
    responses(Passed, (status = 200, description = "The text", body = Generated),
        (status = 410), (status = 422)))]
pub(crate) async fn generate(
    State(state): State<AppState>,
    incoming: Incoming,
) -> Result<Response, ApiError> {
    let request: GenerateRequest = parse(&incoming.body)?;
    if request.prompt.trim().is_empty() {
        return Err(ApiError::invalid_param("prompt", "prompt is empty; send the text to answer"));
    }
    let chat = request.chat(&state.settings.bridge);
    let mut headers = incoming.headers;
    // A player waits for the answer, so the default class is interactive.
    let interactive = HeaderValue::from_static("interactive");
    headers.entry("x-causeway-class").or_insert(interactive);
    let body = Bytes::from(chat.to_string());
    let incoming = Incoming { path: CHAT.to_owned(), headers, body, ..incoming };
    let response = answer(&state, incoming, Dialect::OpenAi).await?;
    if response.status() != StatusCode::OK {
        return Ok(response);
    }
    text_of(response).await
}

/// Converts the answer of a chat.
async fn text_of(chat: Response) -> Result<Response, ApiError> {
    let (mut parts, body) = chat.into_parts();
    // The body was built in memory, so no limit is needed here.
    let body = to_bytes(body, usize::MAX).await.unwrap_or_default();
    let body = String::from_utf8_lossy(&body);
    let text = json::at(&body, &["choices", "0", "message", "content"]).and_then(json::text);
    let text = text.filter(|text| !text.trim().is_empty()).ok_or_else(|| {
        ApiError::upstream(false, "the model's answer has no text; allow it more tokens")
    })?;
    let mut response = Json(Generated { results: vec![GeneratedText { text }] }).into_response();
    // They describe the body of the chat. All other headers (job id, rate limits) still apply.
    parts.headers.remove(header::CONTENT_LENGTH);
    parts.headers.remove(header::CONTENT_TYPE);
    response.headers_mut().extend(parts.headers);
    Ok(response)
}
