//! The input of a response as a list of items.

use axum::{
    Json,
    extract::{Query, State, rejection::QueryRejection},
    response::{IntoResponse as _, Response},
};
use causeway_queue::{
    JobId, RawJson,
    json::{RawObject, text},
};
use serde::{Deserialize, Serialize};
use utoipa::IntoParams;

use super::{find::find, history, object::json_object};
use crate::{
    caller::Caller,
    error::ApiError,
    extract::{Segment, query_mismatch},
    openapi::{answers::SDKS, schema},
    state::AppState,
};

/// The numbers of items on a page: by default, and at most.
const PAGE: (usize, usize) = (20, 100);

schema::types! {
    /// The size of a page of items.
    ItemPageSize: schema::number(1, PAGE.1);
}

/// The page that a client asks for.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub(crate) struct ItemsQuery {
    /// The largest number of items; 20 by default.
    #[serde(default)]
    #[param(value_type = Option<ItemPageSize>, inline)]
    limit: Option<usize>,
    /// The id of the last item known.
    #[serde(default)]
    after: Option<String>,
    /// `asc`, or `desc`: the newest first.
    #[serde(default)]
    #[param(value_type = Option<schema::OrderName>, inline)]
    order: Order,
}

/// The order of the items; by default the newest first.
#[derive(Debug, Default, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "lowercase")]
enum Order {
    Asc,
    #[default]
    Desc,
}

/// Lists all items of a response's input.
#[utoipa::path(get, path = "/v1/responses/{id}/input_items", tag = SDKS, operation_id = "listInputItems",
    params(("id" = String, Path, description = "The response's id"), ItemsQuery),
    responses((status = 200, description = "The items", body = Object), (status = 410)))]
pub(crate) async fn input_items(
    State(state): State<AppState>,
    caller: Caller,
    Segment(id): Segment,
    page: Result<Query<ItemsQuery>, QueryRejection>,
) -> Result<Response, ApiError> {
    let page = self::page(page)?;
    let job = find(&state, &caller.tenant, &id).await?;
    let input = history::input(&state, &job.id).await?.unwrap_or_default();
    list(&input, &name(&job.id), &page)
}

/// Checks the query.
pub(super) fn page(
    page: Result<Query<ItemsQuery>, QueryRejection>,
) -> Result<ItemsQuery, ApiError> {
    page.map(|Query(page)| page).map_err(|rejection| {
        query_mismatch(&rejection)
            .with_hint("limit is a number, after the id of an item, order asc or desc")
    })
}

/// Returns the name of the response `id` that is part of the ids of its items.
pub(super) fn name(id: &JobId) -> String {
    id.to_string().replacen("job_", "", 1)
}

/// One page of a list of items.
#[derive(Debug, Serialize)]
struct ItemPage<'a> {
    object: &'static str,
    data: Vec<&'a RawJson>,
    first_id: Option<&'a str>,
    last_id: Option<&'a str>,
    has_more: bool,
}

/// Answers with one page of a list. Items without an id get one that contains `name`.
pub(super) fn list(items: &[RawJson], name: &str, page: &ItemsQuery) -> Result<Response, ApiError> {
    let named =
        |(place, item): (usize, &RawJson)| named(item.as_str(), &format!("{name}_i{place}"));
    let mut items: Vec<(String, RawJson)> = items.iter().enumerate().map(named).collect();
    if page.order == Order::Desc {
        // Reversed after naming: ids must not depend on the order.
        items.reverse();
    }
    let (default, most) = PAGE;
    let limit = page.limit.unwrap_or(default);
    if !(1..=most).contains(&limit) {
        let message = format!("limit must be a whole number from 1 to {most}; it is {limit}");
        return Err(ApiError::invalid_param("limit", message));
    }
    let start = match &page.after {
        None => 0,
        Some(after) => {
            let place = items.iter().position(|(id, _)| id == after);
            let unknown = || {
                let after: String = after.chars().take(100).collect();
                ApiError::invalid_param("after", format!("there is no item {after:?} in this list"))
            };
            place.ok_or_else(unknown)? + 1
        }
    };
    let rest = items.get(start..).unwrap_or_default();
    let shown = rest.get(..limit.min(rest.len())).unwrap_or_default();
    let page = ItemPage {
        object: "list",
        data: shown.iter().map(|(_, item)| item).collect(),
        first_id: shown.first().map(|(id, _)| id.as_str()),
        last_id: shown.last().map(|(id, _)| id.as_str()),
        has_more: rest.len() > shown.len(),
    };
    Ok(Json(page).into_response())
}

/// Returns an item and its id, which is generated from `name` if there is none. The item has the form that SDKs
/// parse: with its type, and with the content of a message as parts.
fn named(item: &str, name: &str) -> (String, RawJson) {
    let item = RawObject::parse(item).unwrap_or_default();
    let kind = item.text("type").unwrap_or_else(|| "message".to_owned());
    let prefix = match kind.as_str() {
        "message" => "msg",
        "reasoning" => "rs",
        "function_call" => "fc",
        _ => "item",
    };
    let id = item.text("id").unwrap_or_else(|| format!("{prefix}_{name}"));
    let text = item.get("content").filter(|content| content.starts_with('"'));
    let parts = text.map(|text| part(&item, text));
    let own = item.iter().filter(|(name, _)| !matches!(*name, "id" | "type"));
    let own = own.map(|(name, value)| match (name, &parts) {
        ("content", Some(parts)) => (name, parts.as_str()),
        _ => (name, value),
    });
    // SDKs require a status, which items of an input lack.
    let status = item.get("status").is_none().then_some(("status", "\"completed\""));
    let (id_json, kind) = (RawJson::string(&id), RawJson::string(&kind));
    let first = [("id", id_json.as_str()), ("type", kind.as_str())];
    let named = json_object(first.into_iter().chain(own).chain(status));
    (id, named)
}

/// Returns the text of a message as a list of one part.
fn part(message: &RawObject<'_>, text_json: &str) -> String {
    let role = message.get("role").and_then(text);
    match role.as_deref() {
        Some("assistant") => {
            format!(r#"[{{"type":"output_text","text":{text_json},"annotations":[]}}]"#)
        }
        Some(_) | None => format!(r#"[{{"type":"input_text","text":{text_json}}}]"#),
    }
}
