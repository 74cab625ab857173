//! The transitions: what is sent to each script, and what its answer means.

use std::{
    pin::{Pin, pin},
    sync::Arc,
    time::Duration,
};

use async_trait::async_trait;
use redis::{Cmd, Value};
use tokio::time::timeout;

use super::{
    ANSWER, MOST_LEASES, RedisStore, Server, breaks, gather, keys, news, outbox, record,
    reply::Reply, unavailable, views,
};
use crate::{
    backend::{Backend, Emission, ListQuery, Page, Reaped, Repairs, Stats, wait_then_claim},
    clock::{Millis, SystemClock, millis},
    error::{Error, Scope},
    event::{Event, retrying},
    id::{InvalidName, JobId, SessionKey, Shard, TenantId},
    job::{Accepted, Job, NewJob, worker_lost},
    lease::{Beat, ClaimRequest, Lease, LeaseKey, Outcome, Settled, Settlement, Step},
    limits::{LaneLimits, Rate, TenantLimits, Throttle, drain_delay},
    news::Switchboard,
    policy::MAX_CLAIM,
    session::Conversation,
    state::Status,
    webhook::End,
};

type Args = Vec<Vec<u8>>;

/// Takes one from each of these buckets in one call.
pub(super) fn throttler(
    server: &Arc<Server>,
    shard: &Shard,
) -> gather::Send<(String, Rate), Throttle> {
    let (server, shard) = (Arc::clone(server), shard.clone());
    Arc::new(move |takes| {
        let (server, shard) = (Arc::clone(&server), shard.clone());
        Box::pin(async move { throttle(&server, &shard, takes).await })
    })
}

async fn throttle(
    server: &Server,
    shard: &Shard,
    takes: Vec<(String, Rate)>,
) -> Result<Vec<Throttle>, Error> {
    let mut args = Vec::with_capacity(takes.len() * 3);
    for (bucket, rate) in &takes {
        args.push(bucket.clone());
        args.push(rate.limit.max(1).to_string());
        args.push(millis(rate.window).to_string());
    }
    let mut reply = Reply::new(server.call(shard, &server.scripts.throttle, &args).await?)?;
    let now = reply.text()?.parse().map_err(|_| Error::Corrupt("a time".to_owned()))?;
    takes.iter().map(|(_, rate)| Ok(rate.take(reply.float()?, Millis(now)).1)).collect()
}

/// How long a wait that was ended may take to end.
const UNBLOCK_AGAIN: Duration = Duration::from_millis(50);

/// About how many jobs one call accepts; a larger group goes alone.
const ACCEPTED_AT_ONCE: usize = 256;

/// Accepts groups of jobs in one call.
pub(super) fn enqueuer(
    server: &Arc<Server>,
    shard: &Shard,
) -> gather::Send<Vec<NewJob>, Result<Vec<Accepted>, Error>> {
    let (server, shard) = (Arc::clone(server), shard.clone());
    Arc::new(move |groups| {
        let (server, shard) = (Arc::clone(&server), shard.clone());
        Box::pin(async move { enqueue(&server, &shard, groups).await })
    })
}

/// Cuts the groups into calls of about [`ACCEPTED_AT_ONCE`] jobs, so that none holds the server for
/// long, and makes them at once.
async fn enqueue(
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
    calls.push(call);
    calls.retain(|call| !call.is_empty());
    let calls = calls.into_iter().map(|groups| enqueue_once(server, shard, groups));
    let answers = futures_util::future::join_all(calls).await;
    Ok(answers.into_iter().flatten().collect())
}

/// One call. Its failure is the failure of every group in it.
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

async fn try_enqueue(
    server: &Server,
    shard: &Shard,
    groups: Vec<Vec<NewJob>>,
) -> Result<Vec<Result<Vec<Accepted>, Error>>, Error> {
    let mut args = Args::new();
    for jobs in &groups {
        let are_plain = jobs.iter().all(record::is_plain);
        args.push(if are_plain { b"p".to_vec() } else { b"m".to_vec() });
        args.push(jobs.len().to_string().into_bytes());
        let push = if are_plain { record::push_plain_job } else { record::push_new_job };
        jobs.iter().try_for_each(|job| push(job, &mut args))?;
    }
    let mut reply = Reply::new(server.call(shard, &server.scripts.enqueue, &args).await?)?;
    // Nil says that all of a group are new: an answer that is too short must not be taken for it.
    if reply.len() != groups.len() {
        let (answers, asked) = (reply.len(), groups.len());
        return Err(Error::Corrupt(format!("enqueue answered {answers} of {asked} groups")));
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
        other => Err(Error::Corrupt(format!("enqueue answered {other:?}"))),
    }
}

fn full(reply: &mut Reply) -> Result<Error, Error> {
    let scope = if reply.text()? == "tenant" { Scope::Tenant } else { Scope::Lane };
    let limit = reply.count()?.unwrap_or(0);
    let excess = reply.count()?.unwrap_or(0);
    Ok(Error::Full { scope, limit, retry_after: drain_delay(excess, reply.float()?) })
}

/// Appends the arguments of one settlement, as `lua/step.lua` reads them.
fn push_settlement(server: &Server, one: &Settlement, args: &mut Args) -> Result<(), Error> {
    let json = |value: Result<Vec<u8>, serde_json::Error>| {
        value.map_err(|error| Error::Corrupt(format!("a settlement: {error}")))
    };
    let (mut out, mut turn, mut error, mut event) = Default::default();
    let mut pause = Duration::ZERO;
    let how = match &one.outcome {
        Outcome::Succeeded { output, turn: said } => {
            out = json(serde_json::to_vec(output))?;
            if let Some(said) = said {
                turn = json(serde_json::to_vec(said))?;
            }
            b's'
        }
        Outcome::Failed { output } => {
            out = json(serde_json::to_vec(output))?;
            b'f'
        }
        Outcome::Retry { delay, error: why } => {
            pause = *delay;
            error = json(serde_json::to_vec(why))?;
            event = retrying(*delay, why).1.as_str().as_bytes().to_vec();
            b'r'
        }
        Outcome::LaneStopped { delay, error: why } => {
            pause = *delay;
            event = retrying(*delay, why).1.as_str().as_bytes().to_vec();
            b'l'
        }
        Outcome::Released => b'b',
        Outcome::Cancelled => b'c',
        Outcome::Expired => b'x',
    };
    let plain =
        if how == b's' { record::succeeded(one, &out, server.clock.as_deref())? } else { None };
    let (how, fourth) = plain.as_ref().map_or((how, millis(pause)), |plain| (b'S', plain.cost));
    let mut numbers = vec![how];
    let (prompt, completion) = one.usage.map_or((record::double(-1.0), 0), |usage| {
        (record::double_of(usage.prompt_tokens), usage.completion_tokens)
    });
    numbers.extend(prompt);
    numbers.extend(record::double_of(completion));
    numbers.extend(record::double_of(fourth));
    args.push(record::member(&one.key).into_bytes());
    match plain {
        Some(plain) => args.extend([numbers, plain.record]),
        None => {
            numbers.extend(record::double_of(one.memory.map_or(0, |(keep, _)| keep.into())));
            args.extend([numbers, out, turn, error, event]);
        }
    }
    Ok(())
}

/// The first arguments of a step that begins at most `max` attempts.
fn step_args(max: usize, claim: ClaimRequest) -> Args {
    vec![max.to_string().into_bytes(), millis(claim.lease).to_string().into_bytes()]
}

/// The command that waits for a wake-up of `shard`.
fn wait(shard: &Shard, at_most: Duration) -> Cmd {
    let seconds = at_most.min(ANSWER / 2).as_secs_f64().max(0.001);
    let mut command = redis::cmd("BZPOPMIN");
    command.arg(keys::wake(shard)).arg(format!("{seconds:.3}"));
    command
}

/// Reads what a step brought.
async fn stepped(
    store: &RedisStore,
    shard: &Shard,
    mut reply: Reply,
) -> Result<(Vec<Settled>, Vec<Lease>, Option<Duration>), Error> {
    let settled = reply.bytes()?;
    let settled =
        settled.iter().map(|done| if *done == b'1' { Settled::Done } else { Settled::Lost });
    let settled = settled.collect();
    let look_again = reply.count()?.map(Duration::from_millis);
    let now = record::moment(&reply.bytes()?)?;
    let clock = SystemClock::set(now);
    let remembered = reply.maybe_array()?;
    let (mut leases, mut apart) = (Vec::with_capacity(reply.len() / 2), Vec::new());
    while reply.len() > 0 {
        let key = reply.text()?;
        let (lease, is_apart) = record::lease(shard, &key, reply.bytes()?, (now, clock))?;
        if is_apart {
            apart.push(leases.len());
        }
        leases.push(lease);
    }
    if let Some(remembered) = remembered {
        recall(&mut leases, remembered)?;
    }
    if !apart.is_empty() {
        fetch_bodies(store, &mut leases, apart).await?;
    }
    Ok((settled, leases, look_again))
}

/// Gives the leases of jobs that remember what was said before.
fn recall(leases: &mut [Lease], mut remembered: Reply) -> Result<(), Error> {
    while remembered.len() > 0 {
        let place = remembered.count()?.and_then(|place| usize::try_from(place).ok());
        let mut said = remembered.array()?;
        let lease = place.and_then(|place| leases.get_mut(place.checked_sub(1)?));
        let lease = lease.ok_or_else(|| Error::Corrupt("turns of no job".to_owned()))?;
        while said.len() > 0 {
            lease.turns.push(views::turn(&said.bytes()?)?);
        }
    }
    Ok(())
}

/// Fetches the bodies of these leases. One whose body is gone was ended meanwhile: it is dropped,
/// and its lease runs out.
async fn fetch_bodies(
    store: &RedisStore,
    leases: &mut Vec<Lease>,
    apart: Vec<usize>,
) -> Result<(), Error> {
    let mut command = redis::cmd("MGET");
    for place in &apart {
        command.arg(keys::body(&leases[*place].key.job));
    }
    let bodies: Vec<Option<Vec<u8>>> = store.server.ask(&command).await?;
    for (place, body) in apart.into_iter().zip(bodies).rev() {
        match body {
            Some(body) => leases[place].body = body.into(),
            None => drop(leases.remove(place)),
        }
    }
    Ok(())
}

#[async_trait]
impl Backend for RedisStore {
    async fn enqueue(&self, shard: &Shard, jobs: Vec<NewJob>) -> Result<Vec<Accepted>, Error> {
        self.gathers(shard).enqueue.ask(jobs).await?
    }

    async fn step(
        &self,
        shard: &Shard,
        settlements: &mut Vec<Settlement>,
        claim: ClaimRequest,
    ) -> Result<Step, Error> {
        let mut settled = Vec::with_capacity(settlements.len());
        loop {
            let part = &settlements[..settlements.len().min(MOST_LEASES)];
            let is_last = part.len() == settlements.len();
            let max = if is_last { claim.max.min(MAX_CLAIM) } else { 0 };
            let mut args = step_args(max, claim);
            for one in part {
                push_settlement(&self.server, one, &mut args)?;
            }
            let taken = part.len();
            let reply = self.server.call(shard, &self.server.scripts.step, &args).await?;
            settlements.drain(..taken);
            let (done, leases, look_again) = stepped(self, shard, Reply::new(reply)?).await?;
            settled.extend(done);
            if is_last {
                return Ok(Step { settled, leases, look_again });
            }
        }
    }

    async fn beat(
        &self,
        shard: &Shard,
        leases: &[LeaseKey],
        lease: Duration,
    ) -> Result<Beat, Error> {
        let mut beat = Beat::default();
        for part in leases.chunks(MOST_LEASES) {
            let mut args = vec![millis(lease).to_string()];
            args.extend(part.iter().map(record::member));
            let answer = self.server.call(shard, &self.server.scripts.beat, &args).await?;
            for (key, letter) in part.iter().zip(super::reply::bytes(answer)?) {
                match letter {
                    b'0' => beat.lost.push(key.clone()),
                    b'c' => beat.cancelled.push(key.clone()),
                    _ => {}
                }
            }
        }
        Ok(beat)
    }

    async fn reap(&self, shard: &Shard) -> Result<Reaped, Error> {
        let lost = worker_lost(0);
        let (_, event) = retrying(Duration::ZERO, &lost);
        let error =
            serde_json::to_string(&lost).map_err(|error| Error::Corrupt(error.to_string()))?;
        let args = [error.as_str(), event.as_str()];
        let mut reply =
            Reply::new(self.server.call(shard, &self.server.scripts.reap, args).await?)?;
        let ids = |mut keys: Reply| {
            let mut ids = Vec::with_capacity(keys.len());
            while keys.len() > 0 {
                ids.push(record::job_id(shard, &keys.text()?)?);
            }
            Ok::<_, Error>(ids)
        };
        Ok(Reaped { requeued: ids(reply.array()?)?, ended: ids(reply.array()?)? })
    }

    async fn cancel(&self, tenant: &TenantId, id: &JobId) -> Result<bool, Error> {
        let key = id.key();
        let args = [key.as_str(), tenant.as_str()];
        let answer = self.server.call(id.shard(), &self.server.scripts.cancel, args).await?;
        Ok(answer == Value::Int(1))
    }

    async fn retry(&self, tenant: &TenantId, id: &JobId) -> Result<bool, Error> {
        let key = id.key();
        let args = [key.as_str(), tenant.as_str()];
        let answer = self.server.call(id.shard(), &self.server.scripts.retry, args).await?;
        let mut reply = Reply::new(answer)?;
        match reply.text()?.as_str() {
            "ok" => Ok(true),
            "none" => Ok(false),
            "full" => Err(full(&mut reply)?),
            _ => {
                let letter = reply.bytes()?.first().copied().unwrap_or_default();
                let status = Status::from_code(letter).unwrap_or(Status::Queued);
                Err(Error::NotRetryable { id: id.clone(), status })
            }
        }
    }

    async fn reconcile(&self, shard: &Shard) -> Result<Repairs, Error> {
        let mut repairs = Repairs::default();
        let mut cursor = "0".to_owned();
        loop {
            let script = &self.server.scripts.reconcile;
            let mut reply = Reply::new(self.server.call(shard, script, [&cursor]).await?)?;
            cursor = reply.text()?;
            repairs.running += reply.count()?.unwrap_or(0);
            repairs.queued += reply.count()?.unwrap_or(0);
            repairs.flows += reply.count()?.unwrap_or(0);
            if cursor == "0" {
                return Ok(repairs);
            }
        }
    }

    async fn emit(&self, shard: &Shard, emissions: Vec<Emission>) -> Result<Vec<LeaseKey>, Error> {
        let mut lost = Vec::new();
        for part in emissions.chunks(MOST_LEASES) {
            let mut args = Args::with_capacity(part.len() * 3);
            for one in part {
                args.push(record::member(&one.lease).into_bytes());
                args.push(vec![news::letter(one.kind)]);
                args.push(one.data.as_str().as_bytes().to_vec());
            }
            let answer = self.server.call(shard, &self.server.scripts.emit, &args).await?;
            let letters = super::reply::bytes(answer)?;
            let gone = part.iter().zip(letters).filter(|(_, letter)| *letter == b'0');
            lost.extend(gone.map(|(one, _)| one.lease.clone()));
        }
        Ok(lost)
    }

    async fn get(&self, shard: &Shard, ids: &[JobId]) -> Result<Vec<Option<Job>>, Error> {
        let gather = self.gathers(shard).get;
        let asked = ids.iter().map(|id| gather.ask(id.clone()));
        futures_util::future::try_join_all(asked).await
    }

    async fn list(
        &self,
        shard: &Shard,
        tenant: &TenantId,
        query: &ListQuery,
    ) -> Result<Page, Error> {
        views::list(self, shard, tenant, query).await
    }

    async fn known_shards(&self, used: &[Shard]) -> Result<Vec<Shard>, Error> {
        let mut command = redis::cmd("SADD");
        command.arg(keys::SHARDS);
        for shard in used {
            command.arg(shard.to_string());
        }
        let _added: i64 = self.server.ask(&command).await?;
        let names: Vec<String> = self.server.ask(redis::cmd("SMEMBERS").arg(keys::SHARDS)).await?;
        let corrupt = |error: InvalidName| Error::Corrupt(error.to_string());
        names.iter().map(|name| name.parse().map_err(corrupt)).collect()
    }

    async fn stats(&self, shard: &Shard, tenant: Option<&TenantId>) -> Result<Stats, Error> {
        views::stats(&self.server, shard, tenant).await
    }

    async fn events(&self, id: &JobId, from: u64) -> Result<Vec<Event>, Error> {
        let mut command = redis::cmd("XRANGE");
        command.arg(keys::events(id)).arg(format!("1-{from}")).arg("+");
        views::events(Reply::new(self.server.ask(&command).await?)?)
    }

    async fn wait_for_work(&self, shard: &Shard, at_most: Duration) -> Result<(), Error> {
        let mut held = self.waiting_on(shard).await?;
        let wait = wait(shard, at_most);
        let _popped: Value = wait.query_async(&mut held.link).await.map_err(unavailable)?;
        super::lock(&self.waiting).insert(shard.clone(), held);
        Ok(())
    }

    async fn claim_when_woken(
        &self,
        shard: &Shard,
        at_most: Duration,
        claim: ClaimRequest,
        stop: Pin<&mut (dyn Future<Output = ()> + Send)>,
    ) -> Result<Step, Error> {
        let held = self.waiting_on(shard).await?;
        let Some(client_id) = held.client_id else {
            super::lock(&self.waiting).insert(shard.clone(), held);
            return wait_then_claim(self, shard, at_most, claim, stop).await;
        };
        // A blocked client's next command waits in the server, and runs as soon as it is woken.
        let mut both = redis::pipe();
        both.add_command(wait(shard, at_most)).ignore();
        both.add_command(self.server.command(
            shard,
            &self.server.scripts.step,
            step_args(claim.max.min(MAX_CLAIM), claim),
        ));
        let mut link = held.link.clone();
        link.answer_within(at_most.min(ANSWER / 2) + ANSWER);
        let mut asked = pin!(both.query_async::<(Value,)>(&mut link));
        let answer = tokio::select! {
            answer = &mut asked => answer,
            () = stop => loop {
                let mut unblock = redis::cmd("CLIENT");
                unblock.arg("UNBLOCK").arg(client_id);
                drop(self.server.ask::<Value>(&unblock).await);
                // Again, where the wait was still on its way to the server.
                if let Ok(answer) = timeout(UNBLOCK_AGAIN, &mut asked).await {
                    break answer;
                }
            }
        };
        match answer {
            Ok((reply,)) => {
                super::lock(&self.waiting).insert(shard.clone(), held);
                let (settled, leases, look_again) =
                    stepped(self, shard, Reply::new(reply)?).await?;
                Ok(Step { settled, leases, look_again })
            }
            Err(error) if breaks(&error) => Err(unavailable(error)),
            // A server that does not know the scripts, above all.
            Err(_) => self.step(shard, &mut Vec::new(), claim).await,
        }
    }

    async fn set_limits(
        &self,
        shard: &Shard,
        lane: &LaneLimits,
        tenants: &[(TenantId, TenantLimits)],
    ) -> Result<(), Error> {
        let bound = |bound: Option<u64>| bound.map_or(record::double(-1.0), record::double_of);
        let mut args = Args::with_capacity(1 + tenants.len() * 2);
        args.push(
            [
                bound(lane.max_running.map(Into::into)),
                record::double_of(lane.max_queued),
                bound(lane.requests_per_minute.map(Into::into)),
                bound(lane.tokens_per_minute),
            ]
            .concat(),
        );
        for (id, limits) in tenants {
            args.push(id.as_str().as_bytes().to_vec());
            args.push(
                [
                    record::double(limits.weight.clamp(1, 1000).into()),
                    bound(limits.max_running.map(Into::into)),
                    bound(limits.max_queued),
                    bound(limits.requests_per_minute.map(Into::into)),
                    bound(limits.tokens_per_minute),
                ]
                .concat(),
            );
        }
        self.server.call(shard, &self.server.scripts.limits, &args).await.map(drop)
    }

    async fn pause(
        &self,
        shard: &Shard,
        tenant: Option<&TenantId>,
        paused: bool,
    ) -> Result<(), Error> {
        let args = [tenant.map_or("", TenantId::as_str), if paused { "1" } else { "0" }];
        self.server.call(shard, &self.server.scripts.pause, args).await.map(drop)
    }

    async fn throttle(
        &self,
        shard: &Shard,
        tenant: &TenantId,
        name: &str,
        rate: Rate,
    ) -> Result<Throttle, Error> {
        self.gathers(shard).throttle.ask((format!("{tenant}:{name}"), rate)).await
    }

    async fn conversations(
        &self,
        shard: &Shard,
        tenant: &TenantId,
    ) -> Result<Vec<Conversation>, Error> {
        views::conversations(&self.server, shard, tenant, None).await
    }

    async fn conversation(
        &self,
        shard: &Shard,
        tenant: &TenantId,
        session: &SessionKey,
    ) -> Result<Option<Conversation>, Error> {
        let found = views::conversations(&self.server, shard, tenant, Some(session)).await?;
        Ok(found.into_iter().next())
    }

    async fn forget(
        &self,
        shard: &Shard,
        tenant: &TenantId,
        session: &SessionKey,
    ) -> Result<bool, Error> {
        let args = [tenant.as_str(), session.as_str()];
        let answer = self.server.call(shard, &self.server.scripts.forget, args).await?;
        Ok(answer == Value::Int(1))
    }

    async fn outbox(&self, shard: &Shard, most: usize) -> Result<Vec<End>, Error> {
        outbox::read(&self.server, shard, most).await
    }

    async fn take_out(&self, shard: &Shard, ends: &[End]) -> Result<(), Error> {
        outbox::take_out(&self.server, shard, ends).await
    }

    fn news(&self) -> &Arc<Switchboard> {
        &self.board
    }

    async fn ping(&self) -> Result<(), Error> {
        let _pong: Value = self.server.ask(&redis::cmd("PING")).await?;
        Ok(())
    }

    fn describe(&self) -> String {
        format!("Redis at {}", self.server.connections.address())
    }
}
