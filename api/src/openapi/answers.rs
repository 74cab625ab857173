//! Parameters and answers that several operations have.
//!
//! An error has neither a description nor a body here: [`complete`](super::complete) puts the shared response of
//! its status in its place.

use std::collections::BTreeMap;

use utoipa::{
    IntoParams, IntoResponses, PartialSchema as _,
    openapi::{
        Content, ContentBuilder, Header, HeaderBuilder, RefOr, Required, Response, ResponseBuilder,
        ResponsesBuilder, Schema,
        path::{Parameter, ParameterBuilder, ParameterIn},
        schema::ObjectBuilder,
    },
};

use super::schema;
use crate::job_view::JobView;

/// The tag of the calls of existing SDKs.
pub(crate) const SDKS: &str = "OpenAI and Anthropic";

/// The description of the idempotency key of a call.
pub(crate) const SAME_JOB: &str = "The same key is the same job, for 24 h or as long as the job is \
                                   kept, within the lane of the model";

/// The headers that a held call may have.
#[derive(Debug)]
pub(crate) enum CallHeaders {}

impl IntoParams for CallHeaders {
    fn into_params(_: impl Fn() -> Option<ParameterIn>) -> Vec<Parameter> {
        let retries =
            "The number of retries of the client, unless it is an SDK with its default of 2";
        let prefer = "`respond-async` answers at once where the job is";
        vec![
            parameter("x-causeway-class", "The job's class", schema::ClassName::schema()),
            // Any text is accepted: one that is no number is ignored.
            parameter("x-causeway-max-retries", retries, schema::text().build()),
            parameter("Prefer", prefer, schema::text().build()),
            parameter("Idempotency-Key", SAME_JOB, schema::key()),
        ]
    }
}

fn parameter(name: &str, about: &str, schema: impl Into<RefOr<Schema>>) -> Parameter {
    let parameter = ParameterBuilder::new().name(name).parameter_in(ParameterIn::Header);
    let parameter = parameter.required(Required::False).description(Some(about));
    parameter.schema(Some(schema)).build()
}

/// The answer to a held call, or the events of one.
#[derive(Debug)]
pub(crate) enum Answered {}

impl IntoResponses for Answered {
    fn responses() -> BTreeMap<String, RefOr<Response>> {
        let headers = [
            ("x-causeway-job-id", "The call's job"),
            ("x-causeway-simulated", "`true` where a simulation answered, and no model"),
            ("x-ratelimit-remaining-requests", "What the tenant has left, where it has a rate"),
        ];
        let answer = json("The answer; a stream where `stream` is true", ObjectBuilder::new());
        let answer = answer.content("text/event-stream", ContentBuilder::new().build());
        let answer = headers
            .into_iter()
            .fold(answer, |answer, (name, about)| answer.header(name, header(about)));
        ResponsesBuilder::new().response("200", answer).build().into()
    }
}

/// The answer of the upstream, with its own status.
#[derive(Debug)]
pub(crate) enum Passed {}

impl IntoResponses for Passed {
    fn responses() -> BTreeMap<String, RefOr<Response>> {
        let answer = json("What the upstream answered, with its status", schema::anything());
        ResponsesBuilder::new().response("default", answer).build().into()
    }
}

/// All answers to a held call.
#[derive(Debug)]
pub(crate) enum CallAnswer {}

impl IntoResponses for CallAnswer {
    fn responses() -> BTreeMap<String, RefOr<Response>> {
        let place =
            json("Where the job is, for `Prefer: respond-async`", schema::of::<JobView<'_>>());
        ResponsesBuilder::new()
            .responses_from_into_responses::<Answered>()
            .responses_from_into_responses::<Passed>()
            .response("202", place)
            .response("410", ResponseBuilder::new())
            .response("422", ResponseBuilder::new())
            .build()
            .into()
    }
}

/// All answers to a call past the queue: that of the upstream may be of any type.
#[derive(Debug)]
pub(crate) enum DirectResponses {}

impl IntoResponses for DirectResponses {
    fn responses() -> BTreeMap<String, RefOr<Response>> {
        let any = ContentBuilder::new().build();
        let answer =
            ResponseBuilder::new().description("The upstream's answer").content("*/*", any);
        ResponsesBuilder::new()
            .responses_from_into_responses::<Passed>()
            .response("200", answer)
            .response("404", ResponseBuilder::new())
            .build()
            .into()
    }
}

/// A response of JSON.
pub(super) fn json(about: &str, schema: impl Into<RefOr<Schema>>) -> ResponseBuilder {
    let content = Content::new(Some(schema));
    ResponseBuilder::new().description(about).content("application/json", content)
}

/// A header of a response.
pub(super) fn header(about: &str) -> Header {
    HeaderBuilder::new().schema(Some(schema::text())).description(Some(about)).build()
}
