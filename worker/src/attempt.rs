//! One attempt of a job: from its lease to its settlement.

pub(crate) mod cause;
mod conversation;
pub(crate) mod describe;
pub(crate) mod disposition;
pub(crate) mod emitter;
pub(crate) mod interrupt;
pub(crate) mod measure;
pub(crate) mod verdict;

use std::{
    ops::ControlFlow,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};

use causeway_queue::{
    Lease, LeaseKey, Outcome, Queue, RawJson, Settlement,
    fair::Estimate,
    job::{AttemptError, Output, Response, Usage},
    news::{Listener, News},
    session::Turn,
};
use tokio::{
    sync::oneshot,
    time::{Instant, timeout},
};

use self::{
    disposition::Attempt,
    emitter::{Emitter, EventBuffer},
    interrupt::Interrupt,
    verdict::Rules,
};
use crate::{
    assembly::{self, Assembly, chunk::StreamChunk},
    failure::{Failure, NoAnswer},
    settings::WorkerSettings,
    upstream::{
        call::{Answer, Call, Sink, StreamEvent, Upstream},
        memory::{AnswerMemory, Share},
        offload::on_body,
        shape::{BodyShape, Endpoint, shape},
    },
};

/// The context that all attempts of a shard share.
#[derive(Debug, Clone)]
pub(crate) struct AttemptContext {
    pub(crate) queue: Queue,
    pub(crate) settings: Arc<WorkerSettings>,
    pub(crate) upstream: Arc<dyn Upstream>,
    pub(crate) emitter: Arc<Emitter>,
    pub(crate) rules: Rules,
    pub(crate) memory: Arc<AnswerMemory>,
}

/// Pause before a job is handed back because this worker lacks a resource, such as file descriptors or memory.
/// Without it the worker would claim the job again at once and fail again.
const EXHAUSTED_PAUSE: Duration = Duration::from_secs(1);

/// Most characters of an error message in a log line. Upstream messages may quote the prompt.
const MAX_LOGGED_CHARS: usize = 200;

/// The result of the call: the output and the new turn of the conversation, if the job has one.
type CallResult = Result<(Output, Option<Turn>), Failure>;

/// Runs one attempt. Returns `None` if its lease was lost: then nothing may be settled.
pub(crate) async fn run(
    context: &AttemptContext,
    lease: Lease,
    interrupts: oneshot::Receiver<Interrupt>,
) -> Option<Settlement> {
    let started = Instant::now();
    let remaining = lease.deadline.map(|deadline| deadline.since(lease.claimed_at));
    let mut listener = context.queue.news().listen(&lease.key.job);
    let buffer = EventBuffer::new(lease.key.clone());
    let progress = Progress::default();
    let memory = context.memory.share();
    let ended = tokio::select! {
        called = call(context, &lease, &buffer, &progress, &memory) => Ok(called),
        why = interrupted(interrupts, &mut listener) => Err(Some(why)),
        () = deadline_passed(remaining) => Err(None),
    };
    // Readers must have every event of the attempt before they see that the job has ended.
    if lease.keeps_events {
        context.emitter.flush(&buffer).await;
    }
    // `Err(None)`: the deadline has passed.
    let (outcome, usage) = match ended {
        Ok(called) => conclude(context, &lease, called),
        // The store would refuse the settlement: another attempt may hold the job already.
        Err(Some(Interrupt::Lost)) => {
            tracing::warn!(job.id = %lease.key.job, "the lease is lost; the call was dropped");
            return None;
        }
        Err(Some(Interrupt::Cancelled)) => (Outcome::Cancelled, None),
        Err(Some(Interrupt::Released)) => (Outcome::Released { delay: Duration::ZERO }, None),
        Err(None) => (Outcome::Expired, None),
    };
    let outcome = marked(outcome, progress.simulated.into_inner());
    measure::ended(&lease, &outcome, started.elapsed());
    tracing::debug!(job.id = %lease.key.job, outcome = measure::name(&outcome), "the attempt ended");
    // Attempts that are not charged to the job carry no usage.
    let usage = match outcome {
        Outcome::Faulted { .. } | Outcome::Released { .. } => None,
        Outcome::Succeeded { .. }
        | Outcome::Failed { .. }
        | Outcome::Retry { .. }
        | Outcome::Cancelled
        | Outcome::Expired => {
            usage.or_else(|| Some(assumed_usage(&lease, progress.tokens.into_inner())))
        }
    };
    Some(lease.settle(outcome, usage))
}

/// Marks the output of a simulated answer.
fn marked(mut outcome: Outcome, simulated: bool) -> Outcome {
    match &mut outcome {
        Outcome::Succeeded { output, .. }
        | Outcome::Failed { output }
        | Outcome::Faulted { output, .. } => output.simulated = simulated,
        Outcome::Retry { .. }
        | Outcome::Released { .. }
        | Outcome::Cancelled
        | Outcome::Expired => {}
    }
    outcome
}

/// Returns the assumed usage of an attempt without a usage report: the size of the prompt plus the tokens
/// received. The estimate of the submission is not used, as it may be many times as large.
fn assumed_usage(lease: &Lease, completion_tokens: u64) -> Usage {
    let prompt_tokens = Estimate::of_body(lease.body.len(), None).prompt;
    Usage { prompt_tokens, completion_tokens }
}

/// Waits for an interrupt: from this worker, or a cancellation from the store.
async fn interrupted(
    interrupts: oneshot::Receiver<Interrupt>,
    listener: &mut Listener,
) -> Interrupt {
    let cancelled = async {
        // A lost notification costs little: the next heartbeat reports the cancellation again.
        while !matches!(listener.next().await, News::Cancel) {}
        Interrupt::Cancelled
    };
    tokio::select! {
        why = interrupts => why.unwrap_or(Interrupt::Lost),
        why = cancelled => why,
    }
}

/// Waits until the job's deadline has passed; forever if it has none.
async fn deadline_passed(remaining: Option<Duration>) {
    match remaining {
        Some(remaining) => tokio::time::sleep(remaining).await,
        None => std::future::pending().await,
    }
}

/// Facts about an answer that are known while it is received.
#[derive(Debug, Default)]
struct Progress {
    /// The approximate number of tokens received: one per event, or one per four bytes.
    tokens: AtomicU64,
    /// True if the answer is simulated.
    simulated: AtomicBool,
}

/// Calls the upstream.
async fn call(
    context: &AttemptContext,
    lease: &Lease,
    buffer: &Arc<EventBuffer>,
    progress: &Progress,
    memory: &Share,
) -> CallResult {
    let total = context.settings.timeouts.total;
    let call = Call {
        id: format!("{}-{}", lease.key.job, lease.key.epoch),
        tenant: lease.key.tenant.clone(),
        url: lease.spec.url.clone(),
        body: conversation::recall(&lease.body, &lease.turns),
        headers: lease.spec.headers.clone(),
        stream: lease.spec.stream,
        max_bytes: context.settings.max_response_bytes,
        memory: memory.clone(),
    };
    let assembly = Assembly::new(&call.url, call.max_bytes);
    let emitter = lease.keeps_events.then(|| (Arc::clone(&context.emitter), Arc::clone(buffer)));
    // An earlier attempt may have streamed events: a reset event voids them.
    if let Some((emitter, buffer)) = emitter.as_ref().filter(|_| lease.key.epoch > 1) {
        emitter.reset(buffer);
    }
    let mut stream = CallSink { assembly, emitter, progress, held: 0 };
    let answered = timeout(total, context.upstream.call(call, &mut stream)).await;
    let answer = answered.unwrap_or_else(|_| Err(timeout_failure(memory, total)));
    if let Err(Failure::Exhausted(_)) = answer {
        // The permit stays taken meanwhile, which reduces the load that exhausted the resource.
        tokio::time::sleep(EXHAUSTED_PAUSE).await;
    }
    read(lease, answer?, stream).await
}

/// Returns the failure of a call that exceeded `total`. It is the worker's if the call waited for memory.
fn timeout_failure(memory: &Share, total: Duration) -> Failure {
    if memory.is_waiting() {
        return Failure::Exhausted("no memory was free for the answer".to_owned());
    }
    Failure::TotalTimeout(total)
}

/// Converts an answer, whole or streamed, into the job's output.
async fn read(lease: &Lease, answer: Answer, stream: CallSink<'_>) -> CallResult {
    // Some upstreams send a stream although the request was for a whole answer.
    let has_events = stream.progress.tokens.load(Relaxed) > 0;
    let (response, usage) = if lease.spec.stream || (answer.body.is_empty() && has_events) {
        let (assembly, status_code) = (stream.assembly, answer.status_code);
        let endpoint = Endpoint::of(&lease.spec.url);
        on_body(stream.held, move || assembled(assembly, status_code, endpoint)).await??
    } else {
        stream.progress.tokens.store(answer.body.len() as u64 / 4, Relaxed);
        on_body(answer.body.len(), move || whole(&answer)).await?
    };
    // Only jobs of a conversation with memory add a turn to it.
    let turn = lease.spec.memory.as_ref().and_then(|_| turn(&lease.body, &response.body));
    Ok((Output { response: Some(response), usage, ..Output::default() }, turn))
}

/// Returns the answer that was assembled from a stream. It must have the shape of the endpoint: a stream that
/// consists of its end marker only, or of an error that no event named as one, is not an answer.
fn assembled(
    assembly: Assembly,
    status_code: u16,
    endpoint: Endpoint,
) -> Result<(Response, Option<Usage>), Failure> {
    let body = assembly.finish()?;
    let what = match shape(endpoint, body.as_str()) {
        BodyShape::Answer => {
            let usage = assembly::usage(body.as_str());
            return Ok((Response { status_code, body }, usage));
        }
        BodyShape::Error => return Err(Failure::InStream(body)),
        BodyShape::Half(what) | BodyShape::Other(what) => NoAnswer::Stream(what),
    };
    Err(Failure::NoAnswer { status_code: Some(status_code), what })
}

/// The sink of one call: it forwards events to the event log and assembles the whole answer.
struct CallSink<'a> {
    assembly: Assembly,
    emitter: Option<(Arc<Emitter>, Arc<EventBuffer>)>,
    progress: &'a Progress,
    /// Bytes that the assembly keeps: of a text chunk the text only, of any other chunk all its data.
    held: usize,
}

impl Sink for CallSink<'_> {
    fn simulated(&mut self) {
        self.progress.simulated.store(true, Relaxed);
    }

    fn event(&mut self, event: StreamEvent<'_>) -> Result<ControlFlow<()>, Failure> {
        self.progress.tokens.fetch_add(1, Relaxed);
        let (flow, chunk) = match self.assembly.take(event)? {
            ControlFlow::Break(chunk) => (ControlFlow::Break(()), chunk),
            ControlFlow::Continue(chunk) => (ControlFlow::Continue(()), chunk),
        };
        self.held += match &chunk {
            Some(StreamChunk::Text { text, .. }) => text.len(),
            Some(StreamChunk::Other(_)) | None => event.data.len(),
        };
        if let (Some((emitter, buffer)), Some(chunk)) = (&self.emitter, chunk) {
            emitter.push(buffer, chunk);
        }
        Ok(flow)
    }

    fn is_complete(&self) -> bool {
        self.assembly.is_complete()
    }

    fn held(&self) -> usize {
        self.held
    }
}

fn whole(answer: &Answer) -> (Response, Option<Usage>) {
    let text = String::from_utf8_lossy(&answer.body);
    let body = RawJson::parse(text.clone().into_owned()).unwrap_or_else(|_| RawJson::string(&text));
    let usage = assembly::usage(body.as_str());
    (Response { status_code: answer.status_code, body }, usage)
}

fn turn(request: &[u8], body: &RawJson) -> Option<Turn> {
    let user = conversation::last_said(request)?;
    Some(Turn { user, assistant: assembly::text(body.as_str())? })
}

fn conclude(
    context: &AttemptContext,
    lease: &Lease,
    called: CallResult,
) -> (Outcome, Option<Usage>) {
    match called {
        Ok((output, turn)) => {
            let usage = output.usage;
            (Outcome::Succeeded { output, turn }, usage)
        }
        Err(failure) => (failed(context, lease, &failure), None),
    }
}

/// Returns the outcome of a failed attempt, and logs the failure once.
fn failed(context: &AttemptContext, lease: &Lease, failure: &Failure) -> Outcome {
    let attempt = Attempt {
        number: lease.attempt,
        max: lease.max_attempts,
        url: &lease.spec.url,
        target: context.upstream.target(&lease.spec.url),
    };
    // One random number for both: the delay of a retry, and that of a cool-down in the store.
    let unit = rand::random::<f64>();
    let verdict = context.rules.judge(failure, &attempt, unit);
    let AttemptError { code, message, status_code, .. } = verdict.error.clone();
    let reason = logged(&message);
    let outcome = verdict::outcome(verdict, failure, &attempt, unit);
    let LeaseKey { job, tenant, .. } = &lease.key;
    let model = lease.spec.model.as_deref().unwrap_or_default();
    // Of a fault the store decides whether the job fails; the consumer logs that.
    if matches!(outcome, Outcome::Failed { .. }) {
        tracing::warn!(
            job.id = %job, tenant.id = %tenant, lane = %job.shard().lane, model,
            attempt = lease.attempt, code, status = status_code, reason, "a job failed"
        );
    } else if !matches!(failure, Failure::Deferred(_)) {
        tracing::info!(
            job.id = %job, attempt = lease.attempt, code, status = status_code, reason,
            "an attempt failed"
        );
    }
    outcome
}

/// Truncates an error message for the log: an upstream may quote the prompt.
pub(crate) fn logged(message: &str) -> String {
    message.chars().take(MAX_LOGGED_CHARS).collect()
}
