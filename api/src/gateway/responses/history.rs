//! The items of earlier responses that a request continues or references.
//!
//! An upstream with `/v1/responses` stores its responses itself and receives its own id of the continued one. For
//! all other upstreams the request is completed here: the items of the earlier response, input and output, are put
//! before its own. Each response therefore stores its complete input.

use std::collections::HashMap;

use bytes::Bytes;
use causeway_queue::{
    Job, JobId, RawJson, Status, TenantId,
    job::State as JobState,
    json::{RawObject, items},
};

use super::{
    find::find,
    object::{ResponseObject as Members, json_object, raw},
};
use crate::{error::ApiError, state::AppState};

/// Most responses that the items of one request may reference. Each costs one read of the store.
const MAX_REFERRED: usize = 100;

/// The members that identify an item within its response; they are removed when the item enters another one.
const OWN: [&str; 2] = ["id", "status"];

/// Completes the input of a request; returns all of its items as a JSON list.
pub(super) async fn complete(
    state: &AppState,
    tenant: &TenantId,
    request: &mut Members,
    earlier: Option<PriorContext>,
) -> Result<Bytes, ApiError> {
    let own = items_of_input(request.get("input"));
    let (own, has_references) = resolve_references(state, tenant, own).await?;
    let (mut all, is_continuation) = match earlier {
        Some(PriorContext::Items(items)) => (items, true),
        Some(PriorContext::Upstreams(_)) | None => (Vec::new(), false),
    };
    all.extend(own);
    let all = RawJson::of(&all).unwrap_or_default();
    // Otherwise the input stays as the client wrote it, for instance as a plain text.
    let bytes = Bytes::copy_from_slice(all.as_str().as_bytes());
    if is_continuation || has_references {
        request.insert("input".to_owned(), all);
    }
    Ok(bytes)
}

/// The context that precedes a request.
#[derive(Debug)]
pub(super) enum PriorContext {
    /// The continued response by its upstream's id.
    Upstreams(String),
    /// The items of the continued response, input and output.
    Items(Vec<RawJson>),
}

/// Returns the context of a request that continues the response `id`.
pub(super) async fn earlier(
    state: &AppState,
    tenant: &TenantId,
    id: &str,
) -> Result<PriorContext, ApiError> {
    let refused = |why: &str| {
        let message = format!("response {id} {why}");
        ApiError::invalid_param("previous_response_id", message)
    };
    let job = find(state, tenant, id).await?;
    match job.status() {
        Status::Succeeded => {}
        Status::Queued | Status::Scheduled | Status::Running => {
            return Err(refused("has not ended; wait for it"));
        }
        Status::Failed | Status::Cancelled | Status::Expired => {
            return Err(refused("has no answer; continue the one before it"));
        }
    }
    if let Some(name) = upstreams_name(&job) {
        return Ok(PriorContext::Upstreams(name));
    }
    let mut all = input(state, &job.id).await?.ok_or_else(|| {
        refused("was created with `\"store\": false`; send the whole conversation as `input`")
    })?;
    all.extend(output(&job));
    Ok(PriorContext::Items(all))
}

/// Returns the id that an upstream with `/v1/responses` gave the response; `None` if the response was translated
/// from a chat.
fn upstreams_name(job: &Job) -> Option<String> {
    let name = RawObject::parse(answer(job)?).ok()?.text("id")?;
    // Only an upstream with responses gives ids of this form.
    Some(name).filter(|name| name.starts_with("resp"))
}

/// Returns the items that are attached to a response.
pub(super) async fn input(state: &AppState, id: &JobId) -> Result<Option<Vec<RawJson>>, ApiError> {
    let attached = state.queue.views().attached(id).await?;
    Ok(attached.map(|list| serde_json::from_slice(&list).unwrap_or_default()))
}

/// Returns the items of a response's output, as items of an input.
pub(super) fn output(job: &Job) -> Vec<RawJson> {
    let output = answer(job).and_then(|answer| RawObject::parse(answer).ok()?.get("output"));
    let output = output.and_then(items).unwrap_or_default();
    output.into_iter().map(without_name).collect()
}

fn answer(job: &Job) -> Option<&str> {
    let JobState::Ended { output, .. } = &job.state else { return None };
    output.as_ref()?.response.as_ref().map(|response| response.body.as_str())
}

/// Returns the items of an input. A text is one message.
fn items_of_input(input: Option<&RawJson>) -> Vec<RawJson> {
    let Some(input) = input else { return Vec::new() };
    // OpenAI's API treats a plain text as one message of the user.
    if input.as_str().starts_with('"') {
        let content = format!(r#"[{{"type":"input_text","text":{}}}]"#, input.as_str());
        return vec![raw(format!(r#"{{"type":"message","role":"user","content":{content}}}"#))];
    }
    input.read().unwrap_or_default()
}

/// Replaces references to items of translated responses by these items; returns true if there were any. Other
/// references remain for the upstream.
pub(super) async fn resolve_references(
    state: &AppState,
    tenant: &TenantId,
    mut items: Vec<RawJson>,
) -> Result<(Vec<RawJson>, bool), ApiError> {
    // Items of one response often come together, so each response is read once.
    let mut known: HashMap<JobId, Vec<RawJson>> = HashMap::new();
    let mut has_references = false;
    for item in &mut items {
        let Some((id, job, place)) = reference(item.as_str()) else { continue };
        has_references = true;
        if !known.contains_key(&job) {
            if known.len() == MAX_REFERRED {
                let message =
                    format!("input refers to items of more than {MAX_REFERRED} responses");
                return Err(ApiError::invalid_param("input", message));
            }
            let found = state.queue.job(tenant, &job).await?;
            known.insert(job.clone(), found.as_ref().map(output).unwrap_or_default());
        }
        let found = known.get(&job).zip(place).and_then(|(output, place)| output.get(place));
        *item = found.cloned().ok_or_else(|| {
            let message = format!(
                "Item with id '{id}' not found among the outputs of your responses; send the item itself instead \
                 of its id"
            );
            ApiError::invalid_param("input", message)
        })?;
    }
    Ok((items, has_references))
}

/// Returns the id that an item references, and its job and position in the output. The format is described in
/// `worker::upstream::responses`. Ids of input items contain no such position: see [`listing`](super::listing).
fn reference(item: &str) -> Option<(String, JobId, Option<usize>)> {
    let item = RawObject::parse(item).ok()?;
    let id = item.text("id").filter(|_| item.get("type") == Some("\"item_reference\""))?;
    // The form is `<kind>_<name of the job>_<position>`.
    let (_, rest) = id.split_once('_')?;
    let (name, place) = rest.rsplit_once('_')?;
    let job = format!("job_{name}").parse().ok()?;
    let place = place.parse().ok();
    Some((id, job, place))
}

/// Returns an item without the members [`OWN`].
fn without_name(item: &str) -> RawJson {
    let item = RawObject::parse(item).unwrap_or_default();
    json_object(item.iter().filter(|(name, _)| !OWN.contains(name)))
}
