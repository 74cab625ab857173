//! The Responses API for upstreams that implement chat completions only.
//!
//! A call to `/v1/responses` is forwarded unchanged. If the upstream lacks the route, the request is translated to a
//! chat, and the chat's answer to a response: texts, images, files, reasoning, instructions, function tools. A
//! request that a chat cannot express is refused. The missing route is remembered after the first chat that
//! succeeds, which shows that the upstream serves the model.

mod answer;
mod input;
mod request;
mod stream;

use std::{
    ops::ControlFlow,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use async_trait::async_trait;
use bytes::Bytes;

use self::stream::EventTranslator;
use super::{
    call::{Answer, Call, Sink, StreamEvent, Upstream},
    error_body::ErrorBody,
    target::CallTarget,
};
use crate::{
    assembly::{self, Assembly, Read},
    attempt::cause::names_own_object,
    failure::{ErrorResponse, Failure},
};

/// The endpoints for responses and for chats.
const RESPONSES: &str = "/v1/responses";
const CHAT: &str = "/v1/chat/completions";

/// An upstream that may lack the Responses API.
#[derive(Debug)]
pub struct WithResponses {
    inner: Arc<dyn Upstream>,
    lacks_responses: AtomicBool,
}

impl WithResponses {
    /// Wraps `inner`, which may or may not implement the Responses API.
    #[must_use]
    pub fn new(inner: Arc<dyn Upstream>) -> Self {
        Self { inner, lacks_responses: AtomicBool::new(false) }
    }

    /// Translates `call` to a chat, and the answer of the chat to a response.
    async fn as_chat(&self, call: Call, sink: &mut dyn Sink) -> Result<Answer, Failure> {
        if let Some(id) = request::conversation(&call.body) {
            return Err(unknown_conversation(&id));
        }
        let chat = request::chat(&call.body);
        let chat = chat.map_err(|why| refused((400, "unsupported_by_upstream"), None, &why))?;
        let body = Bytes::from(chat);
        let name = response_name(&call.id).to_owned();
        // The chat is another request than the response, so it has another idempotency key.
        let id = format!("{}-chat", call.id);
        let chat = Call { id, url: CHAT.to_owned(), body, ..call };
        if !chat.stream {
            // Needed if the upstream sends a stream although the request was for a whole answer.
            let mut collecting =
                CollectingSink { assembly: Assembly::new(CHAT, chat.max_bytes), sink };
            let answer = self.inner.call(chat, &mut collecting).await?;
            let response = match answer.body.is_empty() {
                true => answer::response(collecting.assembly.finish()?.as_str().as_bytes(), &name)?,
                false => answer::response(&answer.body, &name)?,
            };
            return Ok(Answer { body: Bytes::from(response), ..answer });
        }
        let mut translating =
            TranslatingSink { translator: EventTranslator::new(&name), is_done: false, sink };
        let answer = self.inner.call(chat, &mut translating).await?;
        for event in translating.translator.end(translating.is_done)? {
            let _last: ControlFlow<()> = translating.sink.event(StreamEvent::unnamed(&event))?;
        }
        Ok(answer)
    }
}

#[async_trait]
impl Upstream for WithResponses {
    async fn call(&self, call: Call, sink: &mut dyn Sink) -> Result<Answer, Failure> {
        if call.url != RESPONSES {
            return self.inner.call(call, sink).await;
        }
        if self.lacks_responses.load(Ordering::Relaxed) {
            return self.as_chat(call, sink).await;
        }
        match self.inner.call(call.clone(), sink).await {
            // A refusal comes before the first event, so the sink is still unused.
            Err(Failure::Refused(refusal))
                if is_no_route(&refusal) && !continues_response(&call.body) =>
            {
                let answered = self.as_chat(call, sink).await;
                // Only a success shows that the route is missing: a 404 may also mean a missing model.
                if answered.is_ok() {
                    self.lacks_responses.store(true, Ordering::Relaxed);
                }
                answered
            }
            answered => answered,
        }
    }

    fn target(&self, url: &str) -> Option<CallTarget> {
        let lacks_route = url == RESPONSES && self.lacks_responses.load(Ordering::Relaxed);
        self.inner.target(if lacks_route { CHAT } else { url })
    }
}

/// Returns the base name of the response to a call, for the ids of its items: `default_0_01m8…` for the call
/// `job_default_0_01m8…-2`. All attempts share it.
fn response_name(call_id: &str) -> &str {
    let job = call_id.rsplit_once('-').map_or(call_id, |(job, _)| job);
    job.strip_prefix("job_").unwrap_or(job)
}

/// True if a refusal may mean a missing route rather than a missing model, conversation or item.
fn is_no_route(refusal: &ErrorResponse) -> bool {
    matches!(refusal.status_code, 404 | 405 | 501)
        && refusal.code.as_deref() != Some("model_not_found")
        && !names_own_object(&ErrorBody::read(&refusal.body))
}

/// True if a request continues a response that the upstream has stored: then the upstream has the route, and its
/// 404 is about that response.
fn continues_response(body: &[u8]) -> bool {
    #[derive(serde::Deserialize)]
    struct Continuation {
        previous_response_id: Option<String>,
    }
    serde_json::from_slice::<Continuation>(body)
        .is_ok_and(|request| request.previous_response_id.is_some())
}

/// Refuses a request that names a conversation. The API has already replaced Causeway's own ones by their items.
fn unknown_conversation(id: &str) -> Failure {
    let message = format!(
        "Conversation with id '{id}' not found. This upstream has no /v1/responses, so it has no conversations; \
         create one of Causeway with POST /v1/conversations"
    );
    refused((404, "conversation_not_found"), Some("conversation"), &message)
}

/// Refuses a request that cannot be translated.
fn refused((status_code, code): (u16, &str), param: Option<&str>, message: &str) -> Failure {
    let error = serde_json::json!({ "error": {
        "message": message, "type": "invalid_request_error", "param": param, "code": code,
    } });
    Failure::Refused(Box::new(ErrorResponse {
        status_code,
        code: Some(code.to_owned()),
        body: causeway_queue::RawJson::of(&error).unwrap_or_default(),
        ..ErrorResponse::default()
    }))
}

/// The sink that assembles a chat. `sink` only receives the mark of a simulated answer.
struct CollectingSink<'a> {
    assembly: Assembly,
    sink: &'a mut dyn Sink,
}

impl Sink for CollectingSink<'_> {
    fn simulated(&mut self) {
        self.sink.simulated();
    }

    fn event(&mut self, event: StreamEvent<'_>) -> Result<ControlFlow<()>, Failure> {
        self.assembly.event(event)
    }

    fn is_complete(&self) -> bool {
        self.assembly.is_complete()
    }

    fn held(&self) -> usize {
        self.assembly.held()
    }
}

/// The sink that translates the chunks of a chat to the events of a response.
struct TranslatingSink<'a> {
    translator: EventTranslator,
    is_done: bool,
    sink: &'a mut dyn Sink,
}

impl Sink for TranslatingSink<'_> {
    fn simulated(&mut self) {
        self.sink.simulated();
    }

    fn event(&mut self, event: StreamEvent<'_>) -> Result<ControlFlow<()>, Failure> {
        let chunk = match assembly::read(event)? {
            Read::Nothing => return Ok(ControlFlow::Continue(())),
            Read::Done => {
                self.is_done = true;
                return Ok(ControlFlow::Break(()));
            }
            Read::Object(chunk) => chunk,
        };
        for event in self.translator.translate(&chunk)? {
            let _flow: ControlFlow<()> = self.sink.event(StreamEvent::unnamed(&event))?;
        }
        Ok(ControlFlow::Continue(()))
    }

    fn is_complete(&self) -> bool {
        self.translator.is_complete()
    }

    fn held(&self) -> usize {
        self.sink.held()
    }
}

#[cfg(test)]
mod tests;
