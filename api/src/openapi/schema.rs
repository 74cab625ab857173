//! Schemas of what is not a plain Rust type on the wire, made from the values that the code accepts.

use std::time::Duration;

use causeway_queue::{
    Class, Status, WaitingFor, id::MAX_KEY_BYTES, id::MAX_TENANT_BYTES, workers::WorkerStatus,
};
use serde_json::Value;
use utoipa::openapi::{
    RefOr,
    schema::{
        ArrayBuilder, KnownFormat, Object, ObjectBuilder, OneOfBuilder, Schema, SchemaFormat,
        SchemaType, Type,
    },
};

use crate::{
    events::MAX_SEQ,
    forward::MAX_LINES,
    submit::{MAX_METADATA, URLS},
};

/// A text or null.
fn optional_text() -> ObjectBuilder {
    ObjectBuilder::new().schema_type(SchemaType::from_iter([Type::String, Type::Null]))
}

fn text() -> ObjectBuilder {
    ObjectBuilder::new().schema_type(Type::String)
}

/// The bound is in bytes, of which a character outside ASCII has several.
fn as_key(text: ObjectBuilder) -> ObjectBuilder {
    let text = text.min_length(Some(1)).max_length(Some(MAX_KEY_BYTES));
    text.pattern(Some(r"^[^\x00-\x1f\x7f-\x9f]+$"))
}

fn names<T: ToString>(all: &[T]) -> Vec<Value> {
    all.iter().map(|one| Value::from(one.to_string())).collect()
}

fn or_null(mut names: Vec<Value>) -> Vec<Value> {
    names.push(Value::Null);
    names
}

/// Any JSON value.
pub(crate) fn anything() -> Schema {
    utoipa::openapi::schema::empty()
}

/// The state of a job.
pub(crate) fn status() -> Object {
    text().enum_values(Some(names(&Status::ALL))).build()
}

/// The states from which a job can be put back.
pub(crate) fn retryable_status() -> Object {
    let all: Vec<Status> = Status::ALL.into_iter().filter(|one| one.is_retryable()).collect();
    text().enum_values(Some(names(&all))).build()
}

/// What goes first within a tenant.
pub(crate) fn class() -> Object {
    text().enum_values(Some(names(&Class::ALL))).build()
}

/// A class; `standard` where it is null.
pub(crate) fn optional_class() -> Object {
    optional_text().enum_values(Some(or_null(names(&Class::ALL)))).build()
}

/// What a job waits for.
pub(crate) fn waiting_for() -> Object {
    let reasons = WaitingFor::ALL.map(|(name, words)| format!("`{name}`: {words}"));
    let about =
        format!("What the job waits for; the first of these that holds. {}.", reasons.join(". "));
    let names = names(&WaitingFor::ALL.map(|(name, _)| name));
    optional_text().enum_values(Some(or_null(names))).description(Some(about)).build()
}

/// Whether a worker works.
pub(crate) fn worker_status() -> Object {
    text().enum_values(Some(names(&WorkerStatus::NAMES))).build()
}

/// The owner of a failed attempt.
pub(crate) fn charged_to() -> Object {
    text().enum_values(Some(["job", "lane", "worker"])).build()
}

/// What can be shown of a job besides.
pub(crate) fn included() -> Object {
    text().enum_values(Some(["request"])).build()
}

/// A moment as in RFC 3339.
pub(crate) fn moment() -> Object {
    text().format(Some(SchemaFormat::KnownFormat(KnownFormat::DateTime))).build()
}

/// The id of a tenant.
pub(crate) fn tenant() -> Object {
    let text = text().min_length(Some(1)).max_length(Some(MAX_TENANT_BYTES));
    text.pattern(Some(r"^[A-Za-z0-9._-]+$")).build()
}

/// The endpoints that a job may be for.
pub(crate) fn url() -> Object {
    optional_text().enum_values(Some(or_null(names(&URLS)))).build()
}

/// A session key, an idempotency key or a user's id.
pub(crate) fn key() -> Object {
    as_key(text()).build()
}

/// A session key, or null.
pub(crate) fn session() -> Object {
    as_key(optional_text()).build()
}

/// A tenant, or null.
pub(crate) fn optional_tenant() -> Object {
    let text = optional_text().min_length(Some(1)).max_length(Some(MAX_TENANT_BYTES));
    text.pattern(Some(r"^[A-Za-z0-9._-]+$")).build()
}

/// A number of seconds up to `most`.
pub(crate) fn seconds(most: Duration) -> Object {
    let number = ObjectBuilder::new().schema_type(Type::Number).minimum(Some(0));
    number.maximum(Some(most.as_secs_f64())).build()
}

/// The number of an event.
pub(crate) fn seq() -> Object {
    let number = ObjectBuilder::new().schema_type(Type::Integer);
    number.minimum(Some(0)).maximum(Some(MAX_SEQ)).build()
}

/// A whole number from `least` to `most`.
pub(crate) fn number(least: usize, most: usize) -> Object {
    let number = ObjectBuilder::new().schema_type(Type::Integer);
    number.minimum(Some(least)).maximum(Some(most)).build()
}

/// The order of a list.
pub(crate) fn order() -> Object {
    text().enum_values(Some(["asc", "desc"])).build()
}

/// Yes or no.
pub(crate) fn flag() -> Object {
    ObjectBuilder::new().schema_type(Type::Boolean).build()
}

/// Any text.
pub(crate) fn any_text() -> Object {
    text().build()
}

/// The labels of a job.
pub(crate) fn metadata() -> Object {
    let (most, longest_name, longest_value) = MAX_METADATA;
    let value = text().max_length(Some(longest_value)).build();
    ObjectBuilder::new()
        .schema_type(SchemaType::from_iter([Type::Object, Type::Null]))
        .max_properties(Some(most))
        .property_names(Some(text().max_length(Some(longest_name)).build()))
        .additional_properties(Some(RefOr::T(Schema::from(value))))
        .build()
}

/// Headers for the upstream: by name, each a text or a list of texts.
pub(crate) fn headers() -> Object {
    let lines = ArrayBuilder::new().items(text()).max_items(Some(MAX_LINES)).build();
    let values = OneOfBuilder::new().item(text()).item(lines).build();
    ObjectBuilder::new()
        .schema_type(SchemaType::from_iter([Type::Object, Type::Null]))
        .max_properties(Some(MAX_LINES))
        .additional_properties(Some(RefOr::T(Schema::from(values))))
        .build()
}

/// The bounds of a lane; null is no bound.
pub(crate) fn lane_limits() -> Object {
    bounds().build()
}

/// The bounds of a tenant; null is no bound.
pub(crate) fn tenant_limits() -> Object {
    bounds()
        .property("weight", number(1, 1000))
        .required("weight")
        .schema_type(SchemaType::from_iter([Type::Object, Type::Null]))
        .build()
}

fn bounds() -> ObjectBuilder {
    let count = || {
        let number = SchemaType::from_iter([Type::Integer, Type::Null]);
        ObjectBuilder::new().schema_type(number).minimum(Some(0)).build()
    };
    let names = ["max_running", "max_queued", "requests_per_minute", "tokens_per_minute"];
    names
        .into_iter()
        .fold(ObjectBuilder::new(), |object, name| object.property(name, count()).required(name))
}
