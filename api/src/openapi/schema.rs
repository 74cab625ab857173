//! Schemas of what is not a plain Rust type on the wire, made from the values that the code accepts.
//!
//! A function is a schema for `schema_with`. A type of [`types`] is one for `#[utoipa::path]`, which takes no
//! functions: `inline(ClassName)`.

use std::time::Duration;

use causeway_queue::{
    Class, Status, WaitingFor,
    backend::MAX_PAGE,
    id::{MAX_KEY_BYTES, MAX_TENANT_BYTES},
    workers::WorkerStatus,
};
use serde_json::Value;
use utoipa::{
    Number, ToSchema,
    openapi::{
        Ref, RefOr,
        schema::{
            AllOfBuilder, ArrayBuilder, KnownFormat, Object, ObjectBuilder, OneOfBuilder, Schema,
            SchemaFormat, SchemaType, Type,
        },
    },
};

use crate::{
    forward::MAX_LINES,
    submit::limits::{MAX_METADATA, URLS},
};

/// Schemas by their names.
pub(crate) type Schemas = Vec<(String, RefOr<Schema>)>;

/// Defines types without values, each with its schema and the types that the schema refers to.
macro_rules! types {
    ($($(#[$doc:meta])* $name:ident: $schema:expr $(, $part:ty)*;)*) => {$(
        $(#[$doc])*
        #[derive(Debug)]
        pub(crate) enum $name {}

        impl utoipa::PartialSchema for $name {
            fn schema() -> utoipa::openapi::RefOr<utoipa::openapi::Schema> {
                utoipa::openapi::schema::Schema::from($schema).into()
            }
        }

        impl utoipa::ToSchema for $name {
            fn schemas(_found: &mut $crate::openapi::schema::Schemas) {
                $( $crate::openapi::schema::add::<$part>(_found); )*
            }
        }
    )*};
}
pub(crate) use types;

types! {
    /// The name of a class.
    ClassName: text().enum_values(Some(names(&Class::ALL))).build();
    /// The name of a job's state.
    StatusName: text().enum_values(Some(names(&Status::ALL))).build();
    /// The name of a state from which a job can be retried.
    RetryableStatus: {
        let all: Vec<Status> = Status::ALL.into_iter().filter(|one| one.is_retryable()).collect();
        text().enum_values(Some(names(&all))).build()
    };
    /// The optional parts of a job that a caller may include.
    Included: text().enum_values(Some(["request"])).build();
    /// A session key, an idempotency key or a user's id.
    Key: key();
    /// A moment as in RFC 3339.
    Moment: text().format(Some(SchemaFormat::KnownFormat(KnownFormat::DateTime))).build();
    /// The id of a tenant.
    TenantName: as_tenant(text());
    /// The size of a page.
    PageSize: number(1, MAX_PAGE);
    /// The order of a list.
    OrderName: text().enum_values(Some(["asc", "desc"])).build();
    /// A form of which only the model is read; its other fields pass through.
    ModelForm: ObjectBuilder::new().property("model", text()).build();
}

/// Adds the schema of `T`, and those that it refers to.
pub(crate) fn add<T: ToSchema>(schemas: &mut Schemas) {
    schemas.push((T::name().into_owned(), T::schema()));
    T::schemas(schemas);
}

/// Refers to the schema of `T` by its name.
pub(crate) fn of<T: ToSchema>() -> Ref {
    Ref::from_schema_name(T::name())
}

/// Any of these.
pub(crate) fn one_of(schemas: impl IntoIterator<Item = Ref>) -> Schema {
    schemas.into_iter().fold(OneOfBuilder::new(), OneOfBuilder::item).build().into()
}

/// All of these at once.
pub(crate) fn all_of(schemas: impl IntoIterator<Item = Ref>) -> Schema {
    schemas.into_iter().fold(AllOfBuilder::new(), AllOfBuilder::item).build().into()
}

/// A text or null.
fn optional_text() -> ObjectBuilder {
    ObjectBuilder::new().schema_type(SchemaType::from_iter([Type::String, Type::Null]))
}

pub(super) fn text() -> ObjectBuilder {
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

/// A class; `standard` where it is null.
pub(crate) fn optional_class() -> Object {
    optional_text().enum_values(Some(or_null(names(&Class::ALL)))).build()
}

/// The reason why a job waits.
pub(crate) fn waiting_for() -> Object {
    let reasons = WaitingFor::ALL.map(|(name, words)| format!("`{name}`: {words}"));
    let about =
        format!("What the job waits for; the first of these that holds. {}.", reasons.join(". "));
    let names = names(&WaitingFor::ALL.map(|(name, _)| name));
    optional_text().enum_values(Some(or_null(names))).description(Some(about)).build()
}

/// The status of a worker.
pub(crate) fn worker_status() -> Object {
    text().enum_values(Some(names(&WorkerStatus::NAMES))).build()
}

/// The owner of a failed attempt.
pub(crate) fn charged_to() -> Object {
    text().enum_values(Some(["job", "lane", "worker"])).build()
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
    as_tenant(optional_text())
}

fn as_tenant(text: ObjectBuilder) -> Object {
    let text = text.min_length(Some(1)).max_length(Some(MAX_TENANT_BYTES));
    text.pattern(Some(r"^[A-Za-z0-9._-]+$")).build()
}

/// A number of seconds up to `most`.
pub(crate) fn seconds(most: Duration) -> Object {
    let number = ObjectBuilder::new().schema_type(Type::Number).minimum(Some(0));
    number.maximum(Some(most.as_secs_f64())).build()
}

/// A whole number from `least` to `most`.
pub(crate) fn number(least: impl Into<Number>, most: impl Into<Number>) -> Object {
    let number = ObjectBuilder::new().schema_type(Type::Integer);
    number.minimum(Some(least)).maximum(Some(most)).build()
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
