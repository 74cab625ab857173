//! `POST /v1/jobs`: submission of one job, or of many.

pub(crate) mod limits;

use std::{collections::BTreeMap, time::Duration};

use axum::{
    extract::State,
    http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header},
    response::Response,
};
use bytes::Bytes;
use causeway_queue::{
    Accepted, Class, IdempotencyKey, JobId, NewJob, RawJson, SessionKey, Spec, headers::Headers,
    job::Idempotency,
};
use serde::{
    Deserialize, Deserializer,
    de::{IgnoredAny, MapAccess},
};
use serde_json::Value;
use sha2::{Digest, Sha256};
use utoipa::ToSchema;

use crate::{
    access,
    caller::Caller,
    error::ApiError,
    extract::{JsonBytes, number, parse, preferred_wait},
    forward,
    job_view::{self, JobListView, JobView},
    jobs::{one_of, respond, respond_with},
    members::{self, Members},
    openapi::{
        answers::SAME_JOB,
        schema::{self, of},
    },
    settings::Settings,
    state::AppState,
    submit::limits::{MAX_METADATA, URLS},
    webhook::{self, WebhookRequest},
};

/// The `max_attempts` of a job that names none.
const DEFAULT_ATTEMPTS: u64 = 5;

/// Highest `max_attempts` of a job.
const MAX_ATTEMPTS: u32 = 100;

/// A job to submit.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct JobRequest {
    /// The body for the upstream, forwarded unchanged.
    #[schema(value_type = Peek)]
    body: RawJson,
    /// The endpoint of the upstream.
    #[serde(default)]
    #[schema(schema_with = schema::url)]
    url: Option<String>,
    #[serde(default)]
    #[schema(schema_with = schema::optional_class)]
    class: Option<Value>,
    /// Jobs of one session and lane run one at a time, in the order of their submission.
    #[serde(default)]
    #[schema(schema_with = schema::session)]
    session: Option<String>,
    /// Delay before the job may start; by default at most 30 days.
    #[serde(default)]
    #[schema(value_type = Option<u64>, maximum = 2_592_000_000_u64)]
    delay_ms: Option<Value>,
    /// Time until the job must have ended, from now on; more than `delay_ms`, with the same maximum.
    #[serde(default)]
    #[schema(value_type = Option<u64>, minimum = 1, maximum = 2_592_000_000_u64)]
    deadline_ms: Option<Value>,
    /// Most attempts; by default 5.
    #[serde(default)]
    #[schema(value_type = Option<u64>, minimum = 1, maximum = 100)]
    max_attempts: Option<Value>,
    /// Labels, which are returned with the job.
    #[serde(default)]
    #[schema(schema_with = schema::metadata)]
    metadata: Option<BTreeMap<String, String>>,
    /// Further headers for the upstream, each a string or an array of strings: at most 32 lines and 8 KiB. Headers
    /// of credentials, content and connection are not allowed.
    #[serde(default)]
    #[schema(schema_with = schema::headers)]
    headers: Option<Headers>,
    /// The receiver of the job's end; by default that of the tenant.
    #[serde(default)]
    webhook: Option<WebhookRequest>,
}

/// A batch of jobs: either all are accepted or none.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct ManyRequest {
    /// By default at most 10,000.
    #[schema(value_type = Vec<JobRequest>, min_items = 1, max_items = 10_000)]
    jobs: Vec<RawJson>,
}

schema::types! {
    /// One job, or many.
    Submission: schema::one_of([of::<JobRequest>(), of::<ManyRequest>()]), JobRequest, ManyRequest;
    /// The job that was accepted, or all of them.
    Submitted: schema::one_of([of::<JobView<'_>>(), of::<JobListView<'_>>()]), JobView<'_>, JobListView<'_>;
}

/// Tells one shape from the other.
#[derive(Debug, Deserialize)]
struct SubmissionForm {
    jobs: Option<IgnoredAny>,
}

/// The members of an upstream request that Causeway reads. All others are only forwarded.
#[derive(Debug, Default, ToSchema)]
#[schema(as = UpstreamRequest)]
pub(crate) struct Peek {
    /// Selects the lane.
    pub(crate) model: Option<String>,
    /// True for a streamed answer.
    stream: Option<bool>,
    /// Most tokens of the answer, for the estimate of its cost. Values of other types are only forwarded. The same
    /// holds for the next two.
    #[schema(schema_with = schema::anything)]
    max_completion_tokens: Option<u64>,
    #[schema(schema_with = schema::anything)]
    max_tokens: Option<u64>,
    #[schema(schema_with = schema::anything)]
    max_output_tokens: Option<u64>,
}

impl Members for Peek {
    fn take<'de, M: MapAccess<'de>>(
        &mut self,
        name: &str,
        values: &mut M,
    ) -> Result<bool, M::Error> {
        match name {
            "model" => self.model = members::strict(values)?,
            "stream" => self.stream = members::strict(values)?,
            "max_completion_tokens" => self.max_completion_tokens = members::estimate(values)?,
            "max_tokens" => self.max_tokens = members::estimate(values)?,
            "max_output_tokens" => self.max_output_tokens = members::estimate(values)?,
            _ => return Ok(false),
        }
        Ok(true)
    }
}

impl<'de> Deserialize<'de> for Peek {
    fn deserialize<D: Deserializer<'de>>(source: D) -> Result<Self, D::Error> {
        members::read(source)
    }
}

impl Peek {
    /// True if the answer of the endpoint `url` is streamed. Embeddings never are, whatever their request says.
    pub(crate) fn streams(&self, url: &str) -> bool {
        self.stream.unwrap_or(false) && url != limits::EMBEDDINGS
    }

    /// Returns the most tokens that the answer may have.
    pub(crate) fn completion(&self) -> Option<u64> {
        self.max_completion_tokens.or(self.max_tokens).or(self.max_output_tokens)
    }
}

/// Submits one job, or many at once.
#[utoipa::path(post, path = "/v1/jobs", tag = "jobs", operation_id = "submitJobs",
    params(("Prefer" = String, Header, description = "`wait=N` waits for the end, at most N seconds"),
        ("Idempotency-Key" = inline(schema::Key), Header, description = SAME_JOB)),
    request_body(content = inline(Submission), example = json!({
        "body": {"model": "default", "messages": [{"role": "user", "content": "Name three rivers"}]},
        "class": "standard", "metadata": {"order": "17"}})),
    responses((status = 200, description = "The job, which has ended within the wait", body = JobView<'_>),
        (status = 202, description = "Accepted", body = inline(Submitted), headers(
            ("location" = String, description = "Where the one job is"),
            ("x-causeway-job-id" = String, description = "The one job, in errors too"),
            ("idempotent-replayed" = String, description = "`true` where an earlier call with this key made the job"))),
        (status = 410), (status = 422)))]
pub(crate) async fn submit(
    State(state): State<AppState>,
    caller: Caller,
    headers: HeaderMap,
    JsonBytes(bytes): JsonBytes,
) -> Result<Response, ApiError> {
    let wait = preferred_wait(&headers, state.settings.max_wait)?;
    let key = idempotency(&headers)?;
    // The member `jobs` decides, because errors of an untagged enum would name neither form.
    let shape: SubmissionForm = parse(&bytes)?;
    if shape.jobs.is_some() {
        let many: ManyRequest = parse(&bytes)?;
        return submit_many(&state, caller, many, key.map(|key| (key, digest(&bytes)))).await;
    }
    let accepted = submit_one(&state, &caller, &bytes, key).await?;
    // The job is stored. A waiting caller must not occupy the budget for bodies.
    drop(bytes);
    finish(&state, caller, &accepted, wait).await
}

/// Checks a single job, given as JSON, and submits it.
pub(crate) async fn submit_one(
    state: &AppState,
    caller: &Caller,
    bytes: &[u8],
    key: Option<IdempotencyKey>,
) -> Result<Accepted, ApiError> {
    let mut job = draft(state, caller, parse(bytes)?, None)?;
    if let Some(key) = key {
        job.idempotency = Some(remembered(&state.settings, key, digest(bytes).finalize().into()));
    }
    Ok(state.queue.submit(vec![job]).await?.remove(0))
}

/// Returns the digest by which submissions with the same idempotency key are compared.
fn digest(bytes: &[u8]) -> Sha256 {
    // The prefix keeps keys of submissions and of SDK calls apart.
    Sha256::new().chain_update(b"/v1/jobs\0").chain_update(bytes)
}

/// Answers with the submitted job, after the wait that the client prefers.
async fn finish(
    state: &AppState,
    caller: Caller,
    accepted: &Accepted,
    wait: Option<Duration>,
) -> Result<Response, ApiError> {
    let id = accepted.id();
    access::of_job(id);
    let ended = state.queue.wait(&caller.tenant, id, wait.unwrap_or_default());
    // After a handover the client can poll the job at another process.
    let found = state.unless_handed_over(ended, &caller.tenant, id).await;
    let job = state.accepted_job(found, &caller.tenant, id).await;
    let job = job.map_err(|error| ApiError::after_acceptance(error, id))?;
    let job = job.ok_or_else(|| expired(id).about(id))?;
    // Without a wait the answer is always 202, also for a replayed job that has ended.
    let is_done = wait.is_some() && job.status().is_terminal();
    let status = if is_done { StatusCode::OK } else { StatusCode::ACCEPTED };
    let mut response = respond_with(status, &job);
    let headers = response.headers_mut();
    if let Ok(location) = HeaderValue::from_str(&format!("/v1/jobs/{id}")) {
        headers.insert(header::LOCATION, location);
    }
    if let Some(wait) = wait {
        let applied = format!("wait={}", wait.as_secs_f64());
        headers.extend(
            HeaderValue::from_str(&applied)
                .ok()
                .map(|value| (HeaderName::from_static("preference-applied"), value)),
        );
    }
    mark_replay(headers, std::slice::from_ref(accepted));
    Ok(response)
}

async fn submit_many(
    state: &AppState,
    caller: Caller,
    many: ManyRequest,
    key: Option<(IdempotencyKey, Sha256)>,
) -> Result<Response, ApiError> {
    let limit = state.settings.max_jobs_per_call;
    if !(1..=limit).contains(&many.jobs.len()) {
        let message = format!("jobs must have 1 to {limit} members; it has {}", many.jobs.len());
        return Err(ApiError::invalid_param("jobs", message));
    }
    let mut jobs = Vec::with_capacity(many.jobs.len());
    for (place, request) in many.jobs.into_iter().enumerate() {
        let request: JobRequest = parse(request.as_str().as_bytes())
            .map_err(|error| error.within(&format!("jobs[{place}]")))?;
        let mut job = draft(state, &caller, request, Some(place))?;
        if let Some((key, digest)) = &key {
            // The key of a batch yields a key for each of its jobs.
            let key = IdempotencyKey::new(&format!("{key}#{place}"))
                .map_err(|error| ApiError::invalid("invalid_idempotency_key", error.to_string()))?;
            let digest = digest.clone().finalize().into();
            job.idempotency = Some(remembered(&state.settings, key, digest));
        }
        jobs.push(job);
    }
    let accepted = state.queue.submit(jobs).await?;
    let ids: Vec<JobId> = accepted.iter().map(|one| one.id().clone()).collect();
    // The jobs are read back for their positions and estimates.
    let jobs = state.read_with_retries(|| state.queue.jobs(&ids)).await;
    let jobs = jobs.map_err(|error| match ids.first() {
        // One id must do: an error names a single job.
        Some(first) => ApiError::after_acceptance(error, first),
        None => error.into(),
    })?;
    let mut response = respond(StatusCode::ACCEPTED, &job_view::list(jobs.iter().flatten()));
    mark_replay(response.headers_mut(), &accepted);
    Ok(response)
}

fn mark_replay(headers: &mut HeaderMap, accepted: &[Accepted]) {
    if accepted.iter().any(|one| matches!(one, Accepted::Replayed(_))) {
        let name = HeaderName::from_static("idempotent-replayed");
        headers.insert(name, HeaderValue::from_static("true"));
    }
}

pub(crate) fn expired(id: &JobId) -> ApiError {
    ApiError::gone(format!("job {id} was accepted earlier, and its result has expired"))
}

pub(crate) fn idempotency(headers: &HeaderMap) -> Result<Option<IdempotencyKey>, ApiError> {
    let Some(value) = headers.get("idempotency-key") else { return Ok(None) };
    idempotency_key(value.to_str().unwrap_or_default()).map(Some)
}

pub(crate) fn idempotency_key(text: &str) -> Result<IdempotencyKey, ApiError> {
    IdempotencyKey::new(text).map_err(|why| {
        let message = format!("the Idempotency-Key cannot be used: {why}");
        ApiError::invalid("invalid_idempotency_key", message)
    })
}

fn remembered(settings: &Settings, key: IdempotencyKey, digest: [u8; 32]) -> Idempotency {
    Idempotency { key, digest, ttl: settings.idempotency_ttl, spans_job: true }
}

/// Checks a request and builds its job; `place` is its position in a batch.
fn draft(
    state: &AppState,
    caller: &Caller,
    request: JobRequest,
    place: Option<usize>,
) -> Result<NewJob, ApiError> {
    checked(state, caller, request).map_err(|error| match place {
        Some(place) => error.within(&format!("jobs[{place}]")),
        None => error,
    })
}

fn checked(state: &AppState, caller: &Caller, request: JobRequest) -> Result<NewJob, ApiError> {
    let url = request.url.unwrap_or_else(|| URLS[0].to_owned());
    if !URLS.contains(&url.as_str()) {
        let message = format!("url must be one of {}; it is {url:?}", URLS.join(", "));
        return Err(ApiError::invalid_param("url", message));
    }
    // Parsing skips blanks, so an object starts with its brace.
    if !request.body.as_str().starts_with('{') {
        let message = "body must be a JSON object: the request for the model";
        return Err(ApiError::invalid_param("body", message));
    }
    let peek: Peek =
        parse(request.body.as_str().as_bytes()).map_err(|error| error.within("body"))?;
    let session = request.session.as_deref().map(SessionKey::new).transpose();
    let session = session.map_err(|error| ApiError::invalid_param("session", error.to_string()))?;
    let class = request.class.map(|sent| {
        let name = sent.as_str().map_or_else(|| sent.to_string(), str::to_owned);
        one_of("class", &name, &Class::ALL)
    });
    let class = class.transpose()?.unwrap_or_default();
    let attempts = match request.max_attempts {
        Some(sent) => number("max_attempts", &sent, 1..=MAX_ATTEMPTS.into())?,
        None => DEFAULT_ATTEMPTS,
    };
    let max = state.settings.max_delay;
    let delay = span("delay_ms", request.delay_ms, 0, max)?;
    let deadline = span("deadline_ms", request.deadline_ms, 1, max)?;
    check_deadline(delay.unwrap_or_default(), deadline)?;
    let metadata = request.metadata.unwrap_or_default();
    check_metadata(&metadata)?;
    let headers = forward::of_job(&url, request.headers.unwrap_or_default())?;
    let webhook = webhook::of_job(&state.settings, caller, request.webhook)?;

    let completion = peek.completion();
    let stream = peek.streams(&url);
    let spec =
        Spec { url, model: peek.model, stream, headers, metadata, webhook, ..Spec::default() };
    // Copied, so the whole request is not kept alive with the job.
    let body = Bytes::copy_from_slice(request.body.as_str().as_bytes());
    Ok(NewJob {
        class,
        session,
        delay: delay.unwrap_or_default(),
        deadline,
        max_attempts: u32::try_from(attempts).unwrap_or(MAX_ATTEMPTS),
        keeps_events: stream,
        ..state.queue.draft(caller.tenant.clone(), spec, body, completion)
    })
}

/// Refuses a deadline before the job's start.
fn check_deadline(delay: Duration, deadline: Option<Duration>) -> Result<(), ApiError> {
    let Some(deadline) = deadline.filter(|deadline| *deadline <= delay) else { return Ok(()) };
    let message = format!(
        "deadline_ms must be more than delay_ms, as both count from now: the job would start after {} ms, and would \
         have to end within {} ms",
        delay.as_millis(),
        deadline.as_millis()
    );
    Err(ApiError::invalid_param("deadline_ms", message))
}

fn span(
    param: &str,
    ms: Option<Value>,
    least: u64,
    most: Duration,
) -> Result<Option<Duration>, ApiError> {
    let Some(sent) = ms else { return Ok(None) };
    let most = u64::try_from(most.as_millis()).unwrap_or(u64::MAX);
    number(param, &sent, least..=most).map(|ms| Some(Duration::from_millis(ms)))
}

pub(crate) fn check_metadata(metadata: &BTreeMap<String, String>) -> Result<(), ApiError> {
    let (most, longest_name, longest_value) = MAX_METADATA;
    let fits = metadata.len() <= most
        && metadata.iter().all(|(name, value)| {
            name.chars().count() <= longest_name && value.chars().count() <= longest_value
        });
    if fits {
        return Ok(());
    }
    let message = format!(
        "metadata may have {most} pairs, with names of {longest_name} and values of \
         {longest_value} characters"
    );
    Err(ApiError::invalid_param("metadata", message))
}
