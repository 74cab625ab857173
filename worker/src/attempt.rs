//! One attempt: from its lease to its settlement.

use std::{
    ops::ControlFlow,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};

use causeway_queue::{
    Lease, Outcome, Queue, RawJson, Settlement,
    fair::Estimate,
    job::{Output, Response, Usage},
    news::{Listener, News},
    session::Turn,
};
use tokio::{
    sync::oneshot,
    time::{Instant, timeout},
};

use crate::{
    assembly::{self, Assembly},
    conversation,
    disposition::{self, Attempts, Rules},
    emitter::{Emitter, Tap},
    interrupt::Interrupt,
    settings::Settings,
    upstream::{Answer, Call, Failure, Sink, Upstream},
};

/// What every attempt of a shard shares.
#[derive(Debug, Clone)]
pub(crate) struct Bench {
    pub(crate) queue: Queue,
    pub(crate) settings: Arc<Settings>,
    pub(crate) upstream: Arc<dyn Upstream>,
    pub(crate) emitter: Arc<Emitter>,
    pub(crate) rules: Rules,
}

/// How the call itself came out.
type Called = Result<(Output, Option<Turn>), Failure>;

/// Runs one attempt. `None`: its lease is lost, there is nothing to settle.
pub(crate) async fn run(
    bench: &Bench,
    lease: Lease,
    interrupts: oneshot::Receiver<Interrupt>,
) -> Option<Settlement> {
    let began = Instant::now();
    let remaining = lease.deadline.map(|deadline| deadline.since(lease.claimed_at));
    let mut listener = bench.queue.backend().news().listen(&lease.key.job);
    let tap = Tap::new(lease.key.clone());
    let said = AtomicU64::new(0);
    let ended = tokio::select! {
        called = call(bench, &lease, &tap, &said) => Ok(called),
        why = interrupted(interrupts, &mut listener) => Err(Some(why)),
        () = past(remaining) => Err(None),
    };
    if lease.keeps_events {
        bench.emitter.flush(&tap).await;
    }
    let (outcome, usage) = match ended {
        Ok(called) => conclude(bench, &lease, called),
        Err(Some(Interrupt::Lost)) => {
            tracing::warn!(job.id = %lease.key.job, "the lease is lost; the call was dropped");
            return None;
        }
        Err(Some(Interrupt::Cancelled)) => (Outcome::Cancelled, None),
        Err(Some(Interrupt::Released)) => (Outcome::Released, None),
        Err(None) => (Outcome::Expired, None),
    };
    let name = name(&outcome);
    metrics::counter!("causeway_attempts_total", "outcome" => name).increment(1);
    metrics::histogram!("causeway_attempt_seconds").record(began.elapsed().as_secs_f64());
    tracing::debug!(job.id = %lease.key.job, outcome = name, "the attempt ended");
    let usage = match outcome {
        Outcome::Faulted { .. } | Outcome::Released => None,
        Outcome::Succeeded { .. }
        | Outcome::Failed { .. }
        | Outcome::Retry { .. }
        | Outcome::Cancelled
        | Outcome::Expired => usage.or_else(|| Some(counted(&lease, said.into_inner()))),
    };
    Some(lease.settle(outcome, usage))
}

/// What an attempt is taken to have used whose upstream does not say so: the prompt, and what came of an
/// answer. Not what was thought before, which may be many times as much.
fn counted(lease: &Lease, completion_tokens: u64) -> Usage {
    let prompt_tokens = Estimate::of_body(lease.body.len(), None).prompt;
    Usage { prompt_tokens, completion_tokens }
}

/// Ends when the attempt is to be interrupted.
async fn interrupted(
    interrupts: oneshot::Receiver<Interrupt>,
    listener: &mut Listener,
) -> Interrupt {
    let heard = async {
        // What is missed here comes again with the heartbeat.
        while !matches!(listener.next().await, News::Cancel) {}
        Interrupt::Cancelled
    };
    tokio::select! {
        why = interrupts => why.unwrap_or(Interrupt::Lost),
        why = heard => why,
    }
}

/// Ends when the job's deadline has passed.
async fn past(remaining: Option<Duration>) {
    match remaining {
        Some(remaining) => tokio::time::sleep(remaining).await,
        None => std::future::pending().await,
    }
}

/// `said` becomes about how many tokens were answered: one an event, or four bytes each.
async fn call(bench: &Bench, lease: &Lease, tap: &Arc<Tap>, said: &AtomicU64) -> Called {
    let total = bench.settings.timeouts.total;
    let call = Call {
        tenant: lease.key.tenant.clone(),
        url: lease.spec.url.clone(),
        body: conversation::recall(&lease.body, &lease.turns),
        headers: lease.spec.headers.clone(),
        stream: lease.spec.stream,
        max_bytes: bench.settings.max_response_bytes,
    };
    let assembly = Assembly::new(&call.url, call.max_bytes);
    let emitter = lease.keeps_events.then(|| (Arc::clone(&bench.emitter), Arc::clone(tap)));
    if let Some((emitter, tap)) = emitter.as_ref().filter(|_| lease.key.epoch > 1) {
        emitter.reset(tap);
    }
    let mut stream = Stream { assembly, emitter, said };
    let answered = timeout(total, bench.upstream.call(call, &mut stream)).await;
    let answer = answered.unwrap_or(Err(Failure::TotalTimeout(total)))?;
    let response = if lease.spec.stream {
        Response { status_code: answer.status_code, body: stream.assembly.finish()? }
    } else {
        said.store(answer.body.len() as u64 / 4, Relaxed);
        whole(&answer)
    };
    let usage = assembly::usage(response.body.as_str());
    let turn = lease.spec.memory.as_ref().and_then(|_| turn(lease, &response.body));
    Ok((Output { response: Some(response), error: None, usage }, turn))
}

/// A stream on its way through: into the event log, and into the whole answer.
struct Stream<'a> {
    assembly: Assembly,
    emitter: Option<(Arc<Emitter>, Arc<Tap>)>,
    said: &'a AtomicU64,
}

impl Sink for Stream<'_> {
    fn event(&mut self, data: &str) -> Result<ControlFlow<()>, Failure> {
        self.said.fetch_add(1, Relaxed);
        match self.assembly.take(data)? {
            ControlFlow::Break(()) => Ok(ControlFlow::Break(())),
            ControlFlow::Continue(chunk) => {
                if let (Some((emitter, tap)), Some(chunk)) = (&self.emitter, chunk) {
                    emitter.push(tap, chunk);
                }
                Ok(ControlFlow::Continue(()))
            }
        }
    }
}

fn whole(answer: &Answer) -> Response {
    let text = String::from_utf8_lossy(&answer.body).into_owned();
    let body = RawJson::parse(text.clone()).unwrap_or_else(|_| RawJson::string(&text));
    Response { status_code: answer.status_code, body }
}

fn turn(lease: &Lease, body: &RawJson) -> Option<Turn> {
    let user = conversation::last_said(&lease.body)?;
    Some(Turn { user, assistant: assembly::text(body.as_str())? })
}

fn conclude(bench: &Bench, lease: &Lease, called: Called) -> (Outcome, Option<Usage>) {
    match called {
        Ok((output, turn)) => {
            let usage = output.usage;
            (Outcome::Succeeded { output, turn }, usage)
        }
        Err(failure) => {
            tracing::info!(job.id = %lease.key.job, attempt = lease.attempt, %failure, "an attempt failed");
            let attempts = Attempts { attempt: lease.attempt, max: lease.max_attempts };
            let unit = rand::random::<f64>();
            (disposition::outcome(&failure, attempts, &bench.rules, unit), None)
        }
    }
}

fn name(outcome: &Outcome) -> &'static str {
    match outcome {
        Outcome::Succeeded { .. } => "succeeded",
        Outcome::Failed { .. } => "failed",
        Outcome::Retry { .. } => "retry",
        Outcome::Faulted { .. } => "faulted",
        Outcome::Released => "released",
        Outcome::Cancelled => "cancelled",
        Outcome::Expired => "expired",
    }
}
