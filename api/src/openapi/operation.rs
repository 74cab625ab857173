//! How an operation is described, in few words each.

use utoipa::{
    ToSchema,
    openapi::{
        Content, ContentBuilder, Header, HeaderBuilder, Ref, RefOr, Required, Response,
        ResponseBuilder, Schema,
        path::{OperationBuilder, ParameterBuilder, ParameterIn},
        request_body::RequestBodyBuilder,
        schema::{AllOfBuilder, ObjectBuilder, OneOfBuilder},
        security::SecurityRequirement,
    },
};

use super::schema;

/// The statuses that any operation may have that asks the store: it does not answer, or holds
/// something unreadable.
const OF_STORE: [u16; 2] = [500, 503];

/// One operation of a route.
pub(super) struct Operation(OperationBuilder);

/// What any operation for callers may have: no good key; a tenant with too many connections, or too many bytes on their
/// way; no memory for the answer.
const OF_CALLERS: [u16; 3] = [401, 429, 503];

/// What any operation with a body may have, beside what its own checks refuse.
const OF_BODY: [u16; 4] = [400, 408, 413, 415];

/// An operation for callers, which is refused without a good key.
pub(super) fn operation(tag: &str, id: &str, summary: &str) -> Operation {
    let keys = ["bearer", "x-api-key"].map(|name| SecurityRequirement::new(name, [""; 0]));
    let Operation(builder) = open_operation(tag, id, summary);
    Operation(builder.securities(Some(keys))).refuses(OF_CALLERS)
}

/// An operation for everybody.
pub(super) fn open_operation(tag: &str, id: &str, summary: &str) -> Operation {
    Operation(OperationBuilder::new().tag(tag).operation_id(Some(id)).summary(Some(summary)))
}

impl Operation {
    pub(super) fn build(self) -> OperationBuilder {
        self.0
    }

    pub(super) fn about(self, description: &str) -> Self {
        Self(self.0.description(Some(description)))
    }

    /// The part of the path that is a name.
    pub(super) fn path(self, name: &str, about: &str) -> Self {
        let parameter = ParameterBuilder::new().parameter_in(ParameterIn::Path).name(name);
        let parameter = parameter.required(Required::True).description(Some(about));
        Self(self.0.parameter(parameter.schema(Some(schema::any_text()))))
    }

    /// A parameter of the query.
    pub(super) fn query(self, name: &str, about: &str, schema: impl Into<RefOr<Schema>>) -> Self {
        self.parameter(ParameterIn::Query, name, about, schema.into())
    }

    /// A parameter of the query that must be there.
    pub(super) fn required_query(
        self,
        name: &str,
        about: &str,
        schema: impl Into<RefOr<Schema>>,
    ) -> Self {
        let parameter = ParameterBuilder::new().parameter_in(ParameterIn::Query).name(name);
        let parameter = parameter.required(Required::True).description(Some(about));
        Self(self.0.parameter(parameter.schema(Some(schema))))
    }

    /// A header that is read.
    pub(super) fn header(self, name: &str, about: &str, schema: impl Into<RefOr<Schema>>) -> Self {
        self.parameter(ParameterIn::Header, name, about, schema.into())
    }

    fn parameter(self, place: ParameterIn, name: &str, about: &str, schema: RefOr<Schema>) -> Self {
        let parameter = ParameterBuilder::new().parameter_in(place).name(name);
        let parameter = parameter.required(Required::False).description(Some(about));
        Self(self.0.parameter(parameter.schema(Some(schema))))
    }

    /// A body of JSON, which is needed.
    pub(super) fn takes(self, schema: impl Into<RefOr<Schema>>) -> Self {
        let body = RequestBodyBuilder::new().required(Some(Required::True));
        let body = body.content("application/json", Content::new(Some(schema))).build();
        Self(self.0.request_body(Some(body))).refuses(OF_BODY)
    }

    /// A form with files, which is needed.
    pub(super) fn takes_form(self, schema: impl Into<RefOr<Schema>>) -> Self {
        let body = RequestBodyBuilder::new().required(Some(Required::True));
        let body = body.content("multipart/form-data", Content::new(Some(schema))).build();
        Self(self.0.request_body(Some(body))).refuses(OF_BODY)
    }

    /// A body of JSON, which may be left out.
    pub(super) fn may_take(self, schema: impl Into<RefOr<Schema>>) -> Self {
        let body = RequestBodyBuilder::new().required(Some(Required::False));
        let body = body.content("application/json", Content::new(Some(schema))).build();
        Self(self.0.request_body(Some(body))).refuses(OF_BODY)
    }

    /// An answer of JSON.
    pub(super) fn answers(
        self,
        status: u16,
        about: &str,
        schema: impl Into<RefOr<Schema>>,
    ) -> Self {
        self.responds(status, json(about, schema))
    }

    /// An answer of whatever kind.
    pub(super) fn responds(self, status: u16, response: ResponseBuilder) -> Self {
        Self(self.0.response(status.to_string(), response.build()))
    }

    /// Whatever the upstream answered, with its own status.
    pub(super) fn passes_on(self) -> Self {
        let about = "What the upstream answered, with its status";
        Self(self.0.response("default", json(about, schema::anything()).build()))
    }

    /// Errors in the envelope.
    pub(super) fn refuses<const N: usize>(self, statuses: [u16; N]) -> Self {
        self.refuses_as(statuses, error_name)
    }

    /// Errors as Anthropic's SDKs parse them.
    pub(super) fn refuses_in_anthropic_shape<const N: usize>(self, statuses: [u16; N]) -> Self {
        self.refuses_as(statuses, anthropic_error_name)
    }

    fn refuses_as<const N: usize>(self, statuses: [u16; N], name: fn(u16) -> String) -> Self {
        Self(statuses.into_iter().fold(self.0, |builder, status| {
            builder.response(status.to_string(), Ref::from_response_name(name(status)))
        }))
    }

    /// It asks the store, which may fail.
    pub(super) fn asks_the_store(self) -> Self {
        self.refuses(OF_STORE)
    }
}

/// The schema of `T`, by its name.
pub(super) fn of<T: ToSchema>() -> Ref {
    Ref::from_schema_name(T::name())
}

/// A response of JSON.
pub(super) fn json(about: &str, schema: impl Into<RefOr<Schema>>) -> ResponseBuilder {
    let content = Content::new(Some(schema));
    ResponseBuilder::new().description(about).content("application/json", content)
}

/// A response of another kind.
pub(super) fn plain(about: &str, kind: &str) -> ResponseBuilder {
    let content: Content = ContentBuilder::new().build();
    ResponseBuilder::new().description(about).content(kind, content)
}

/// A response without a body.
pub(super) fn nothing(about: &str) -> ResponseBuilder {
    ResponseBuilder::new().description(about)
}

/// A header of a response.
pub(super) fn told(about: &str) -> Header {
    HeaderBuilder::new().schema(Some(schema::any_text())).description(Some(about)).build()
}

pub(super) fn error_name(status: u16) -> String {
    format!("Error{status}")
}

pub(super) fn anthropic_error_name(status: u16) -> String {
    format!("AnthropicError{status}")
}

/// What a status says, wherever it is answered.
pub(super) const ERRORS: [(u16, &str); 16] = [
    (400, "The request is wrong; the error says how, and what would be right"),
    (401, "There is no key, or it is unknown"),
    (403, "This caller may not do that"),
    (404, "There is nothing of that name, or it belongs to another tenant"),
    (406, "It is not to be had in a form that the client accepts"),
    (408, "The body came too slowly; the error says how fast it has to come"),
    (410, "It was there and is no more, or it has no result"),
    (413, "The body is too large; the error says how large it may be"),
    (415, "The content type is not application/json, or the body is compressed"),
    (422, "The idempotency key was used for another request"),
    (426, "The route opens a WebSocket"),
    (429, "Too much at once; `Retry-After` says when to come again"),
    (500, "The store holds something that this version cannot read"),
    (502, "The upstream gave no answer; trying again would only enqueue it again"),
    (
        503,
        "The store does not answer, the process stops, or its memory is taken; `Retry-After` says when to come again",
    ),
    (504, "There was no answer in time; trying again would only enqueue it again"),
];

/// The response of `status`, with an error of the schema `error`.
pub(super) fn error(status: u16, about: &str, error: Ref) -> Response {
    let response = json(about, error);
    let response = match status {
        401 => response.header("www-authenticate", told("How to send a key")),
        429 | 503 => response.header("retry-after", told("In how many seconds to come again")),
        _ => response,
    };
    response.build()
}

/// Any of these.
pub(super) fn one_of(schemas: impl IntoIterator<Item = Ref>) -> Schema {
    schemas.into_iter().fold(OneOfBuilder::new(), OneOfBuilder::item).build().into()
}

/// All of these at once.
pub(super) fn all_of(schemas: impl IntoIterator<Item = Ref>) -> Schema {
    schemas.into_iter().fold(AllOfBuilder::new(), AllOfBuilder::item).build().into()
}

/// An object of which nothing more is said.
pub(super) fn object() -> ObjectBuilder {
    ObjectBuilder::new()
}
