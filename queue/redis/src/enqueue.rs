//! Acceptance: the arguments and the reply of `lua/calls/enqueue.lua`.

use std::{sync::Arc, time::Duration};

use super::{
    gather, keys,
    record::{
        self, BODY_APART, HAS_WEBHOOK, INLINE_BODY_BYTES, KEEPS_EVENTS, REMEMBERS, corrupt, double,
        double_of, u16_of, u32_of,
    },
    reply::{self, Reply},
    server::{Args, Server},
};
use causeway_queue::{
    clock::{Clock as _, SystemClock, millis},
    error::{Error, Scope},
    id::{JobId, SessionKey, Shard, TenantId},
    job::{Accepted, NewJob},
    limits::come_again,
    state::Class,
};

/// The approximate number of jobs that one call accepts; a group of at least this size is sent alone. It bounds the
/// time for which one script blocks the server.
pub(super) const ACCEPTED_AT_ONCE: usize = 256;

/// The most groups that are sent alone at once. Further groups wait for a permit; that wait does not count against
/// the time limit of a reply.
pub(super) const BULK_PERMITS: usize = 8;

/// The lengths of a packed run of plain jobs: its head, and each job after it. `lua/calls/enqueue.lua` has the same.
const RUN_BYTES: usize = 3;
const JOB_BYTES: usize = 16;

/// Returns the function that accepts groups of jobs in one call.
pub(super) fn enqueuer(
    server: &Arc<Server>,
    shard: &Shard,
) -> gather::Send<Vec<NewJob>, Result<Vec<Accepted>, Error>> {
    let (server, shard) = (Arc::clone(server), shard.clone());
    Arc::new(move |groups| {
        let (server, shard) = (Arc::clone(&server), shard.clone());
        Box::pin(async move { enqueue_groups(&server, &shard, groups).await })
    })
}

/// Splits the groups into calls of about [`ACCEPTED_AT_ONCE`] jobs, so that none blocks the server for long, and
/// sends them concurrently.
async fn enqueue_groups(
    server: &Server,
    shard: &Shard,
    groups: Vec<Vec<NewJob>>,
) -> Result<Vec<Result<Vec<Accepted>, Error>>, Error> {
    let (mut calls, mut call, mut jobs) = (Vec::new(), Vec::new(), 0);
    for group in groups {
        jobs += group.len();
        call.push(group);
        if jobs >= ACCEPTED_AT_ONCE {
            calls.push(std::mem::take(&mut call));
            jobs = 0;
        }
    }
    // The rest; it is empty if the last group filled its call.
    calls.push(call);
    calls.retain(|call| !call.is_empty());
    let calls = calls.into_iter().map(|groups| enqueue_once(server, shard, groups));
    let answers = futures_util::future::join_all(calls).await;
    Ok(answers.into_iter().flatten().collect())
}

/// Sends one call. If it fails, every group in it fails.
async fn enqueue_once(
    server: &Server,
    shard: &Shard,
    groups: Vec<Vec<NewJob>>,
) -> Vec<Result<Vec<Accepted>, Error>> {
    let count = groups.len();
    match try_enqueue(server, shard, groups).await {
        Ok(answers) => answers,
        Err(error) => (0..count).map(|_| Err(gather::again(&error))).collect(),
    }
}

pub(super) async fn try_enqueue(
    server: &Server,
    shard: &Shard,
    groups: Vec<Vec<NewJob>>,
) -> Result<Vec<Result<Vec<Accepted>, Error>>, Error> {
    let mut args = Args::new();
    for jobs in &groups {
        let are_plain = jobs.iter().all(is_plain);
        let kind = if are_plain { b"p" } else { b"m" };
        args.extend([kind.to_vec(), jobs.len().to_string().into_bytes()]);
        if are_plain {
            // The jobs of a run share tenant, class and number of attempts, which are sent once.
            let mut runs = jobs.chunk_by(|one, next| run_of(one) == run_of(next));
            runs.try_for_each(|run| push_run(run, &mut args))?;
        } else {
            jobs.iter().try_for_each(|job| push_new_job(job, &mut args))?;
        }
    }
    let mut reply = Reply::new(server.call(shard, &server.scripts.enqueue, &args).await?)?;
    // Nil means that all jobs of a group are new, so a reply that is too short must not be padded with nil.
    if reply.len() != groups.len() {
        let (answers, asked) = (reply.len(), groups.len());
        return Err(Error::Corrupt(format!("enqueue returned {answers} of {asked} results")));
    }
    groups.into_iter().map(|jobs| accepted(shard, jobs, reply.maybe_array()?)).collect()
}

fn accepted(
    shard: &Shard,
    jobs: Vec<NewJob>,
    reply: Option<Reply>,
) -> Result<Result<Vec<Accepted>, Error>, Error> {
    let Some(mut reply) = reply else {
        return Ok(Ok(jobs.into_iter().map(|job| Accepted::New(job.id)).collect()));
    };
    match reply.text()?.as_str() {
        "ok" => {
            let answer = |job: NewJob| {
                let id = record::job_id(shard, &reply.text()?)?;
                Ok(if id == job.id { Accepted::New(id) } else { Accepted::Replayed(id) })
            };
            jobs.into_iter().map(answer).collect::<Result<_, Error>>().map(Ok)
        }
        "reused" => Ok(Err(Error::IdempotencyKeyReused { key: reply.text()? })),
        "full" => Ok(Err(full(&mut reply)?)),
        other => Err(Error::Corrupt(format!("enqueue returned {other:?}"))),
    }
}

/// Parses the refusal of a group that does not fit.
pub(super) fn full(reply: &mut Reply) -> Result<Error, Error> {
    let scope = if reply.text()? == "tenant" { Scope::Tenant } else { Scope::Lane };
    let mut count = || Ok::<_, Error>(reply.count()?.unwrap_or(0));
    let (limit, waiting, new) = (count()?, count()?, count()?);
    Ok(Error::Full { scope, limit, waiting, new, retry_after: come_again(reply.count()?) })
}

/// Returns true if a job has no state besides its record and its entry in the ready set. Such jobs are sent in a
/// shorter form.
fn is_plain(job: &NewJob) -> bool {
    job.session.is_none()
        && job.delay.is_zero()
        && job.deadline.is_none()
        && job.idempotency.is_none()
        && !job.keeps_events
        && job.spec.webhook.is_none()
        && job.body.len() <= INLINE_BODY_BYTES
}

/// Returns the jobs that were accepted before under the idempotency keys of `jobs`.
pub(super) async fn accepted_before(
    server: &Server,
    shard: &Shard,
    jobs: &[&NewJob],
) -> Result<Vec<Option<JobId>>, Error> {
    let mut accepted = vec![None; jobs.len()];
    let keyed = jobs.iter().zip(&mut accepted);
    let (keyed, places): (Vec<_>, Vec<_>) =
        keyed.filter_map(|(job, place)| Some(((job, job.idempotency.as_ref()?), place))).unzip();
    if keyed.is_empty() {
        return Ok(accepted);
    }
    let mut command = redis::cmd("MGET");
    for (job, idempotency) in &keyed {
        command.arg(keys::idempotency(shard, &job.tenant, &idempotency.key));
    }
    let found: Vec<Option<Vec<u8>>> = server.read(&command).await?;
    for ((found, (_, idempotency)), place) in found.into_iter().zip(keyed).zip(places) {
        let Some(found) = found else { continue };
        // The format of `keys::idempotency`.
        let (digest, job) = found.split_at_checked(32).unwrap_or_default();
        let job = record::job_id(shard, &reply::text(job.to_vec())?)?;
        if !is_valid(server, &job, idempotency.ttl).await? {
            continue;
        }
        if digest != idempotency.digest {
            return Err(Error::IdempotencyKeyReused { key: idempotency.key.to_string() });
        }
        *place = Some(job);
    }
    Ok(accepted)
}

/// Returns true if a key still belongs to this job: see `known_by` in `lua/calls/enqueue.lua`.
async fn is_valid(server: &Server, job: &JobId, ttl: Duration) -> Result<bool, Error> {
    // MGET returns no time, so the clock of this process must do.
    let now =
        server.clock.as_ref().map_or_else(|| SystemClock::default().now(), |clock| clock.now());
    if job.named_at().after(ttl) > now {
        return Ok(true);
    }
    server.read(redis::cmd("EXISTS").arg(keys::job(job))).await
}

/// Returns the idempotency data of a job as `lua/calls/enqueue.lua` reads it; empty without a key.
fn idempotency_of(job: &NewJob) -> Vec<u8> {
    let mut packed = Vec::new();
    if let Some(one) = &job.idempotency {
        packed.push(u8::from(one.spans_job));
        packed.extend(double_of(millis(one.ttl).max(1)));
        packed.extend(one.digest);
        packed.extend(one.key.as_str().as_bytes());
    }
    packed
}

/// Returns the values that jobs of one run share.
fn run_of(job: &NewJob) -> (&TenantId, Class, u32) {
    (&job.tenant, job.class, job.max_attempts)
}

/// Appends the arguments of a run of plain jobs, as `lua/calls/enqueue.lua` reads them.
fn push_run(run: &[NewJob], args: &mut Args) -> Result<(), Error> {
    let Some(first) = run.first() else { return Ok(()) };
    let tenant = first.tenant.as_str().as_bytes();
    let length = RUN_BYTES + JOB_BYTES * run.len();
    let mut numbers = Vec::with_capacity(length);
    numbers.push(rank(first));
    numbers.extend(u16_of(first.max_attempts));
    for job in run {
        push_cost(job, &mut numbers);
    }
    debug_assert_eq!(numbers.len(), length, "the script counts by the length");
    args.extend([tenant.to_vec(), numbers]);
    for job in run {
        let spec = serde_json::to_vec(&job.spec).map_err(corrupt("spec"))?;
        let mut rest = Vec::with_capacity(14 + tenant.len() + spec.len() + job.body.len());
        // This is the record from its deadline on: no deadline, the lengths of tenant and session, then the parts.
        rest.extend(double(0.0));
        rest.extend([u8::try_from(tenant.len()).unwrap_or(u8::MAX), 0]);
        rest.extend(u32_of(spec.len()).to_le_bytes());
        rest.extend(tenant);
        rest.extend(spec);
        rest.extend(&job.body);
        args.extend([job.id.key().into_bytes(), rest]);
    }
    Ok(())
}

fn rank(job: &NewJob) -> u8 {
    u8::try_from(job.class.rank()).unwrap_or(0)
}

/// Appends the estimated cost of a job: prompt tokens; completion tokens or -1.
fn push_cost(job: &NewJob, numbers: &mut Vec<u8>) {
    numbers.extend(double_of(job.cost.prompt));
    numbers.extend(job.cost.completion.map_or(double(-1.0), double_of));
}

/// Appends the arguments of one job, as `lua/calls/enqueue.lua` reads them.
fn push_new_job(job: &NewJob, args: &mut Args) -> Result<(), Error> {
    let session = job.session.as_ref().map_or("", SessionKey::as_str);
    let memory = job.spec.memory.as_ref().filter(|_| job.session.is_some());
    let spec = serde_json::to_vec(&job.spec).map_err(corrupt("spec"))?;
    let apart = job.body.len() > INLINE_BODY_BYTES;
    let mut flags = 0;
    for (flag, on) in [
        (KEEPS_EVENTS, job.keeps_events),
        (REMEMBERS, memory.is_some()),
        (BODY_APART, apart),
        (HAS_WEBHOOK, job.spec.webhook.is_some()),
    ] {
        flags |= if on { flag } else { 0 };
    }

    let mut numbers = vec![rank(job), flags];
    numbers.extend(u16_of(job.max_attempts));
    push_cost(job, &mut numbers);
    numbers.extend(double_of(millis(job.delay)));
    // The script reads 0 as no deadline.
    numbers.extend(double_of(job.deadline.map_or(0, |deadline| millis(deadline).max(1))));
    numbers.push(u8::try_from(job.tenant.as_str().len()).unwrap_or(u8::MAX));
    numbers.push(u8::try_from(session.len()).unwrap_or(u8::MAX));
    numbers.extend(u32_of(spec.len()).to_le_bytes());

    let mut tail = Vec::with_capacity(64 + spec.len() + job.body.len());
    tail.extend(job.tenant.as_str().as_bytes());
    tail.extend(session.as_bytes());
    tail.extend(spec);
    let body = if apart {
        job.body.to_vec()
    } else {
        tail.extend(&job.body);
        Vec::new()
    };

    let tenant = job.tenant.as_str().as_bytes().to_vec();
    args.extend([job.id.key().into_bytes(), tenant, numbers, idempotency_of(job), tail, body]);
    // Two more arguments, which the flag REMEMBERS announces.
    if let Some(memory) = memory {
        args.push(millis(memory.ttl()).max(1).to_string().into_bytes());
        args.push(memory.profile.as_str().as_bytes().to_vec());
    }
    Ok(())
}
