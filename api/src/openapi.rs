//! `/openapi.json`: what this server serves, as OpenAPI 3.1.
//!
//! A handler describes its operation in `#[utoipa::path]`, the types that are read and written are the schemas, and
//! what all operations have in common is added here.

pub(crate) mod answers;
mod complete;
pub(crate) mod schema;

use bytes::Bytes;
use utoipa::openapi::{
    Components, InfoBuilder, LicenseBuilder, OpenApi, OpenApiBuilder, RefOr, Schema,
    security::{ApiKey, ApiKeyValue, HttpAuthScheme, HttpBuilder, SecurityScheme},
};

use self::complete::{KEYS, add_responses, complete, operations, shared};
use crate::{
    error::{AnthropicEnvelope, Envelope},
    settings::Settings,
};

const ABOUT: &str = "Every request to a language model becomes a job with an id. Every answer \
                     carries `x-request-id`, the caller's own where it sent a usable one; every \
                     error has one shape. Paths that are not described here answer 404, other \
                     methods 405 with `Allow`; HEAD is possible where GET is. Any request may be refused for its \
                     form: 400 without one `Host`, 501 for a transfer encoding other than `chunked`.";

/// Schemas with fields that may be absent, besides those of requests (`…Request`).
const PARTIAL: [&str; 5] =
    ["About", "ChatMessage", "ConversationUpdate", "JobIncluded", "HealthReport"];

/// The document of a server with tenants, and of one that serves every caller.
pub(crate) fn documents(closed: OpenApi) -> [Bytes; 2] {
    let mut open = closed.clone();
    for (path, item) in &mut open.paths.paths {
        for operation in operations(item) {
            operation.security = None;
            let responses = &mut operation.responses.responses;
            responses.remove("401");
            // A page of another origin, or a host that is not this server.
            responses.insert("403".to_owned(), shared(path, 403));
        }
    }
    [closed, open].map(|document| document.to_json().unwrap_or_default().into())
}

/// Completes the descriptions of the routes: of those for callers with a key, and of those that need none.
pub(crate) fn describe(callers: OpenApi, public: OpenApi, settings: &Settings) -> OpenApi {
    let license = LicenseBuilder::new().name("MIT OR Apache-2.0");
    let license = license.identifier(Some("MIT OR Apache-2.0")).build();
    let info = InfoBuilder::new()
        .title("Causeway")
        .version(env!("CARGO_PKG_VERSION"))
        .description(Some(ABOUT))
        .license(Some(license));
    let mut document = OpenApiBuilder::new().info(info).build();
    for (mut routes, for_callers) in [(callers, true), (public, false)] {
        complete(&mut routes.paths, for_callers, settings.max_wait);
        document.merge(routes);
    }
    complete_components(document.components.get_or_insert_default());
    document
}

fn complete_components(components: &mut Components) {
    let key = "A key of a tenant; none is needed where no tenant is configured";
    let bearer = HttpBuilder::new().scheme(HttpAuthScheme::Bearer).description(Some(key)).build();
    let header = ApiKeyValue::with_description(KEYS[1], key);
    components.add_security_scheme(KEYS[0], SecurityScheme::Http(bearer));
    components.add_security_scheme(KEYS[1], SecurityScheme::ApiKey(ApiKey::Header(header)));
    let mut errors = schema::Schemas::new();
    schema::add::<Envelope<'_>>(&mut errors);
    schema::add::<AnthropicEnvelope<'_>>(&mut errors);
    components.schemas.extend(errors);
    add_responses(components);
    for (name, schema) in &mut components.schemas {
        if !name.ends_with("Request") && !PARTIAL.contains(&name.as_str()) {
            require_all(schema);
        }
    }
}

/// Declares that all fields of an answer are always present, be they null.
fn require_all(schema: &mut RefOr<Schema>) {
    if let RefOr::T(Schema::Object(object)) = schema {
        object.required = object.properties.keys().cloned().collect();
    }
}
