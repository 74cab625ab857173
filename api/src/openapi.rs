//! `/openapi.json`: what this server serves, as OpenAPI 3.1.
//!
//! Schemas are derived from the types that are read and written; routes are described in files
//! beside this one, apart from the handlers. A test compares them with the table of routes.

mod bridge;
mod direct;
mod doors;
mod examples;
mod jobs;
mod lanes;
mod operation;
mod paths;
mod process;
mod responses;
pub(crate) mod schema;
mod tenants;
mod webhooks;

use axum::{
    extract::State,
    http::header,
    response::{IntoResponse, Response},
};
use bytes::Bytes;
use utoipa::{
    ToSchema,
    openapi::{
        Components, ComponentsBuilder, InfoBuilder, LicenseBuilder, OpenApi, OpenApiBuilder, Ref,
        RefOr, Schema,
        security::{ApiKey, ApiKeyValue, HttpAuthScheme, HttpBuilder, SecurityScheme},
    },
};

use self::{
    doors::IN_ANTHROPIC_SHAPE,
    operation::{ERRORS, anthropic_error_name, error, error_name, of},
};
use crate::{
    bridge as chat, deliveries,
    error::{AnthropicEnvelope, Envelope},
    gateway::{
        RequestOptions, ResponseOptions,
        generate::{GenerateRequest, Generated},
        responses::{
            DeletedResponse,
            conversation::{
                ConversationRequest, ConversationUpdate, ConversationView, DeletedConversation,
            },
        },
    },
    health::HealthReport,
    job_view::{IncludedView, JobListView, JobView, PageView},
    lanes::{LaneList, PauseRequest, QueueView},
    models::{ModelList, ModelView},
    root::About,
    settings::Settings,
    state::AppState,
    submit::{JobRequest, ManyRequest, Peek},
    tenants::{KeyRequest, LimitsRequest, TenantList, TenantRequest},
    workers::WorkerList,
};

const ABOUT: &str = "Every request to a language model becomes a job with an id. Every answer \
                     carries `x-request-id`, the caller's own where it sent a usable one; every \
                     error has one shape. Paths that are not described here answer 404, other \
                     methods 405 with `Allow`; HEAD is possible where GET is. Any request may be refused for its \
                     form: 400 without one `Host`, 501 for a transfer encoding other than `chunked`.";

/// `GET /openapi.json`.
pub(crate) async fn document(State(state): State<AppState>) -> Response {
    let [closed, open] = state.documents.get_or_init(|| documents(&state.settings));
    let document = if state.tenants.are_open() { open } else { closed };
    ([(header::CONTENT_TYPE, "application/json")], document.clone()).into_response()
}

/// The document of a server with tenants, and of one that lets everybody in.
fn documents(settings: &Settings) -> [Bytes; 2] {
    let closed = document_of_closed(settings);
    let mut open = closed.clone();
    for item in open.paths.paths.values_mut() {
        let operations = [&mut item.get, &mut item.post, &mut item.patch, &mut item.delete];
        for operation in operations.into_iter().flatten() {
            operation.security = None;
            operation.responses.responses.remove("401");
            // A page of another origin, or a host that is not this server.
            let refusal = Ref::from_response_name(error_name(403)).into();
            operation.responses.responses.entry("403".to_owned()).or_insert(refusal);
        }
    }
    [closed, open].map(|document| document.to_json().unwrap_or_default().into())
}

/// The document of a server with tenants.
pub(crate) fn document_of_closed(settings: &Settings) -> OpenApi {
    let license = LicenseBuilder::new().name("MIT OR Apache-2.0");
    let license = license.identifier(Some("MIT OR Apache-2.0")).build();
    let info = InfoBuilder::new()
        .title("Causeway")
        .version(env!("CARGO_PKG_VERSION"))
        .description(Some(ABOUT))
        .license(Some(license));
    let mut paths = paths::all(settings);
    examples::add_to_requests(&mut paths);
    OpenApiBuilder::new().info(info).paths(paths).components(Some(components())).build()
}

fn components() -> Components {
    let key = "A key of a tenant; none is needed where no tenant is configured";
    let bearer = HttpBuilder::new().scheme(HttpAuthScheme::Bearer).description(Some(key)).build();
    let header = ApiKeyValue::with_description("x-api-key", key);
    let mut answers = answers();
    answers.iter_mut().for_each(|(_, schema)| whole(schema));
    let mut components = ComponentsBuilder::new()
        .schemas_from_iter(requests())
        .schemas_from_iter(answers)
        .security_scheme("bearer", SecurityScheme::Http(bearer))
        .security_scheme("x-api-key", SecurityScheme::ApiKey(ApiKey::Header(header)))
        .build();
    for (status, about) in ERRORS {
        let openai = error(status, about, of::<Envelope<'_>>());
        components.responses.insert(error_name(status), openai.into());
        if IN_ANTHROPIC_SHAPE.contains(&status) {
            let anthropic = error(status, about, of::<AnthropicEnvelope<'_>>());
            components.responses.insert(anthropic_error_name(status), anthropic.into());
        }
    }
    examples::add_to_answers(&mut components);
    components
}

type Schemas = Vec<(String, RefOr<Schema>)>;

/// Adds the schema of `T`, and those that it names.
fn add<T: ToSchema>(schemas: &mut Schemas) {
    schemas.push((T::name().into_owned(), T::schema()));
    T::schemas(schemas);
}

fn requests() -> Schemas {
    let mut schemas = Schemas::new();
    add::<JobRequest>(&mut schemas);
    add::<ManyRequest>(&mut schemas);
    add::<Peek>(&mut schemas);
    add::<RequestOptions>(&mut schemas);
    add::<ResponseOptions>(&mut schemas);
    add::<ConversationRequest>(&mut schemas);
    add::<ConversationUpdate>(&mut schemas);
    add::<GenerateRequest>(&mut schemas);
    add::<PauseRequest>(&mut schemas);
    add::<TenantRequest>(&mut schemas);
    add::<LimitsRequest>(&mut schemas);
    add::<KeyRequest>(&mut schemas);
    add::<chat::BridgeMessage>(&mut schemas);
    // Answers, which say only what they have to say.
    add::<HealthReport>(&mut schemas);
    add::<About>(&mut schemas);
    add::<IncludedView<'_>>(&mut schemas);
    schemas
}

fn answers() -> Schemas {
    let mut schemas = Schemas::new();
    add::<Envelope<'_>>(&mut schemas);
    add::<AnthropicEnvelope<'_>>(&mut schemas);
    add::<JobView<'_>>(&mut schemas);
    add::<JobListView<'_>>(&mut schemas);
    add::<PageView<'_>>(&mut schemas);
    add::<deliveries::DeliveryPage<'_>>(&mut schemas);
    add::<QueueView>(&mut schemas);
    add::<LaneList>(&mut schemas);
    add::<WorkerList>(&mut schemas);
    add::<TenantList>(&mut schemas);
    add::<ModelList>(&mut schemas);
    add::<ModelView>(&mut schemas);
    add::<ConversationView>(&mut schemas);
    add::<DeletedConversation>(&mut schemas);
    add::<DeletedResponse>(&mut schemas);
    add::<Generated>(&mut schemas);
    add::<chat::BridgeAnswer<'_>>(&mut schemas);
    add::<chat::Pending>(&mut schemas);
    add::<chat::SessionList>(&mut schemas);
    add::<chat::WithHistory<'_>>(&mut schemas);
    add::<chat::Forgotten>(&mut schemas);
    add::<chat::RoomList>(&mut schemas);
    schemas
}

/// Says of an answer that everything in it is always there, be it null.
fn whole(schema: &mut RefOr<Schema>) {
    if let RefOr::T(Schema::Object(object)) = schema {
        object.required = object.properties.keys().cloned().collect();
    }
}
