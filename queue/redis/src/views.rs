//! The views: parsing of jobs, lists, statistics, events and conversations from the replies of scripts.

use std::sync::Arc;

use bytes::Bytes;

use super::{
    gates::{gate, lane_gate},
    gather, keys, news,
    record::{self, Header, Tail},
    reply::{Reply, json},
    server::Server,
};
use causeway_queue::{
    backend::{ListQuery, MAX_LOOKED_AT, MAX_PAGE, Page, Stats},
    clock::Millis,
    error::Error,
    event::Event,
    id::{JobId, SessionKey, Shard, TenantId},
    job::{FailedAttempt, Job, Output, State},
    json::RawJson,
    limits::{Allowance, Headroom, TenantLimits},
    session::{Conversation, Turn},
    state::Status,
    waiting::{Gate, LaneGate, WaitingFor, WaitingPlace},
};

/// Returns the function that reads jobs in one call.
pub(super) fn reader(server: &Arc<Server>, shard: &Shard) -> gather::Send<JobId, Option<Job>> {
    let (server, shard) = (Arc::clone(server), shard.clone());
    Arc::new(move |ids| {
        let (server, shard) = (Arc::clone(&server), shard.clone());
        Box::pin(async move { get(&server, &shard, &ids).await })
    })
}

/// Reads jobs. The record of an ended job is complete, and most requested jobs have ended. Only the others need the
/// script, which knows their position.
pub(super) async fn get(
    server: &Server,
    shard: &Shard,
    ids: &[JobId],
) -> Result<Vec<Option<Job>>, Error> {
    if ids.is_empty() {
        return Ok(Vec::new());
    }
    let mut command = redis::cmd("MGET");
    for id in ids {
        command.arg(keys::job(id));
    }
    let records: Vec<Option<Vec<u8>>> = server.read(&command).await?;
    let mut jobs = Vec::with_capacity(ids.len());
    let mut others = Vec::new();
    for (place, (id, record)) in ids.iter().zip(records).enumerate() {
        let read = match record {
            None => None,
            Some(record) => {
                let header = Header::parse(&record)?;
                if header.is_settled() {
                    // An ended job has no position and waits for nothing.
                    let nothing = (Standing::default(), &LaneGate::default());
                    Some(job(id.clone(), &header, record, nothing)?)
                } else {
                    others.push(place);
                    None
                }
            }
        };
        jobs.push(read);
    }
    if !others.is_empty() {
        let keys = others.iter().map(|place| ids[*place].key());
        let mut reply = Reply::new(server.view(shard, &server.scripts.get, keys).await?)?;
        let lane = lane_gate(reply.array()?)?;
        for place in others {
            let job = reply.maybe_array()?;
            jobs[place] = job.map(|job| read_job(&ids[place], &lane, job)).transpose()?;
        }
    }
    Ok(jobs)
}

/// The script's data of a job besides its record.
#[derive(Debug, Default)]
struct Standing {
    errors: Vec<FailedAttempt>,
    position: Option<u64>,
    estimated_wait_ms: Option<u64>,
    tenant: Gate,
}

fn read_job(id: &JobId, lane: &LaneGate, mut reply: Reply) -> Result<Job, Error> {
    let record = reply.bytes()?;
    let mut listed = reply.array()?;
    let mut errors = Vec::with_capacity(listed.len());
    while listed.len() > 0 {
        errors.push(json::<FailedAttempt>(&listed.bytes()?)?);
    }
    let (position, estimated_wait_ms) = (reply.count()?, reply.count()?);
    let mut tenant = reply.array()?;
    let tenant = if tenant.len() > 0 { gate(&mut tenant)? } else { Gate::default() };
    let standing = Standing { errors, position, estimated_wait_ms, tenant };
    job(id.clone(), &Header::parse(&record)?, record, (standing, lane))
}

fn job(
    id: JobId,
    header: &Header,
    record: Vec<u8>,
    (standing, lane): (Standing, &LaneGate),
) -> Result<Job, Error> {
    let tenant = record::tenant(header, &record)?;
    let tail = Tail::parse(header, record.into())?;
    Ok(Job {
        id,
        tenant,
        class: header.class()?,
        session: tail.session,
        // Of a damaged job only the state is returned; the job fails when it is claimed.
        spec: tail.spec.unwrap_or_default(),
        attempts: header.attempts,
        max_attempts: header.max_attempts,
        stalls: header.stalls,
        created_at: header.created,
        started_at: header.started(),
        deadline: header.deadline(),
        keeps_events: header.keeps_events(),
        state: state(header, tail.output, (&standing, lane))?,
        errors: standing.errors,
    })
}

fn state(
    header: &Header,
    output: Option<Output>,
    (standing, lane): (&Standing, &LaneGate),
) -> Result<State, Error> {
    let status = header.status().ok_or_else(|| Error::Corrupt("a job's state".to_owned()))?;
    let waiting_for = |place| WaitingFor::of(place, &standing.tenant, lane);
    let Standing { position, estimated_wait_ms, .. } = *standing;
    Ok(match status {
        Status::Queued if header.is_held() => State::Queued {
            position: None,
            waiting_for: waiting_for(WaitingPlace::Held),
            estimated_wait_ms: None,
        },
        Status::Queued => {
            let waiting_for = waiting_for(WaitingPlace::Ready);
            State::Queued { position, waiting_for, estimated_wait_ms }
        }
        Status::Scheduled => {
            let is_retry = header.is_between_attempts();
            let place =
                if is_retry { WaitingPlace::BetweenAttempts } else { WaitingPlace::Delayed };
            State::Scheduled { until: header.at, waiting_for: waiting_for(place) }
        }
        Status::Running => State::Running { cancelling: header.is_cancelling() },
        Status::Succeeded | Status::Failed | Status::Cancelled | Status::Expired => {
            State::Ended { status, at: header.at, output }
        }
    })
}

/// Parses a turn of a conversation.
pub(super) fn turn(bytes: &[u8]) -> Result<Turn, Error> {
    json(bytes)
}

/// Returns the body of a job, if it is kept.
pub(super) async fn body(server: &Server, id: &JobId) -> Result<Option<Bytes>, Error> {
    let record: Option<Vec<u8>> = server.read(redis::cmd("GET").arg(keys::job(id))).await?;
    let Some(record) = record else { return Ok(None) };
    let header = Header::parse(&record)?;
    if header.status() == Some(Status::Succeeded) {
        return Ok(None);
    }
    if header.has_body_apart() {
        let body: Option<Vec<u8>> = server.read(redis::cmd("GET").arg(keys::body(id))).await?;
        return Ok(body.map(Bytes::from));
    }
    Ok(Some(Tail::parse(&header, record.into())?.body))
}

/// The most entries of a list that one call reads: it blocks the server for some milliseconds.
const LOOKED_AT_ONCE: usize = 500;

/// Returns a page of a tenant's jobs: first the ids, in as many calls as the filter needs, then the jobs.
pub(super) async fn list(
    server: &Server,
    shard: &Shard,
    tenant: &TenantId,
    query: &ListQuery,
) -> Result<Page, Error> {
    let limit = query.limit.clamp(1, MAX_PAGE);
    let states = query.status.map_or(String::new(), record::letters);
    let class = query.class.map_or(String::new(), |class| class.rank().to_string());
    let session = query.session.as_ref().map_or("", SessionKey::as_str);
    let since = query.since.map_or(String::new(), |since| since.0.to_string());
    let model = query.model.as_deref().map_or(String::new(), record::model);
    let error_code = query.error_code.as_deref().unwrap_or_default();
    let looks = LOOKED_AT_ONCE.to_string();
    let mut after = query.after.as_ref().map_or(String::new(), JobId::key);
    // The script finds a cursor of this shard by its place, and one of another shard by its id.
    let mut is_here = query.after.as_ref().is_some_and(|id| id.shard() == shard);
    let mut ids: Vec<JobId> = Vec::new();
    let mut looked_at = 0;
    let next = loop {
        let wanted = (limit - ids.len()).to_string();
        let here = if is_here { "1" } else { "0" };
        let jobs = [tenant.as_str(), &states, &class, session, &wanted, &after, here];
        let more = [since.as_str(), &model, error_code, &looks];
        let script = &server.scripts.list;
        let args = jobs.into_iter().chain(more);
        let mut reply = Reply::new(server.view(shard, script, args).await?)?;
        let how = reply.text()?;
        if how == "unknown" {
            return match &query.after {
                Some(id) => Err(Error::UnknownCursor(id.clone())),
                None => Err(Error::Corrupt("a list rejected its own cursor".to_owned())),
            };
        }
        after = reply.text()?;
        while reply.len() > 0 {
            ids.push(record::job_id(shard, &reply.text()?)?);
        }
        looked_at += LOOKED_AT_ONCE;
        match how.as_str() {
            // Continue until the page is full, or the bound of one page is reached.
            "more" if looked_at < MAX_LOOKED_AT => is_here = true,
            "more" => break Some(record::job_id(shard, &after)?),
            "full" => break ids.last().cloned(),
            _ => break None,
        }
    };
    let jobs = get(server, shard, &ids).await?;
    Ok(Page { jobs: jobs.into_iter().flatten().collect(), next })
}

/// Returns the number of ready jobs by class.
pub(super) async fn ready(server: &Server, shard: &Shard) -> Result<[u64; 3], Error> {
    let (mut sum, mut cursor) = ([0; 3], "0".to_owned());
    loop {
        let mut reply =
            Reply::new(server.view(shard, &server.scripts.count_ready, [&cursor]).await?)?;
        cursor = reply.text()?;
        for count in &mut sum {
            *count += reply.count()?.unwrap_or(0);
        }
        if cursor == "0" {
            return Ok(sum);
        }
    }
}

/// Returns the statistics of the shard.
pub(super) async fn stats(
    server: &Server,
    shard: &Shard,
    tenant: Option<&TenantId>,
) -> Result<Stats, Error> {
    let args = [tenant.map_or("", TenantId::as_str)];
    let mut reply = Reply::new(server.view(shard, &server.scripts.stats, args).await?)?;
    let mut stats = Stats {
        queued: reply.count()?.unwrap_or(0),
        running: reply.count()?.unwrap_or(0),
        scheduled: reply.count()?.unwrap_or(0),
        dead: reply.count()?,
        oldest_wait_ms: reply.count()?.unwrap_or(0),
        drain_per_s: reply.float()?,
        shard_queued: reply.count()?.unwrap_or(0),
        shard_max_queued: reply.count()?.unwrap_or(0),
        ..Stats::default()
    };
    let lane = lane_gate(reply.array()?)?;
    let own = if tenant.is_some() { gate(&mut reply.array()?)? } else { Gate::default() };
    stats.paused = lane.gate.is_paused || own.is_paused;
    stats.waiting_for = WaitingFor::of(WaitingPlace::Ready, &own, &lane);
    stats.down = lane.down;
    // The script appends these for one tenant only.
    if tenant.is_some() {
        let mut headroom = || {
            let (limit, backlog_ms) = (reply.count()?, reply.float()?);
            Ok::<_, Error>(limit.map(|limit| Headroom::new(limit, backlog_ms)))
        };
        let (requests, tokens) = (headroom()?, headroom()?);
        let bound = |bound: Option<u64>| bound.and_then(|bound| u32::try_from(bound).ok());
        stats.limits = Some(TenantLimits {
            weight: bound(reply.count()?).unwrap_or(1),
            max_running: bound(reply.count()?),
            max_queued: reply.count()?,
            requests_per_minute: bound(requests.map(|requests| requests.limit)),
            tokens_per_minute: tokens.map(|tokens| tokens.limit),
        });
        stats.estimated_wait_ms = reply.count()?;
        stats.allowance = Allowance { requests, tokens };
    }
    Ok(stats)
}

/// Parses the entries of an event log.
pub(super) fn events(mut entries: Reply) -> Result<Vec<Event>, Error> {
    let mut events = Vec::with_capacity(entries.len());
    while entries.len() > 0 {
        let mut entry = entries.array()?;
        let name = entry.text()?;
        let seq = name.strip_prefix("1-").and_then(|seq| seq.parse().ok());
        let seq = seq.ok_or_else(|| Error::Corrupt(format!("an event named {name:?}")))?;
        let mut fields = entry.array()?;
        // An entry is its field names and values in turn: the kind, then the data.
        fields.bytes()?;
        let letter = fields.bytes()?.first().copied().unwrap_or_default();
        let kind = news::kind(letter)
            .ok_or_else(|| Error::Corrupt(format!("an event of kind {letter}")))?;
        fields.bytes()?;
        let data = RawJson::parse(fields.text()?)
            .map_err(|error| Error::Corrupt(format!("an event's data: {error}")))?;
        events.push(Event { seq, kind, data });
    }
    Ok(events)
}

/// Returns a tenant's remembered conversations, or one of them.
pub(super) async fn conversations(
    server: &Server,
    shard: &Shard,
    tenant: &TenantId,
    session: Option<&SessionKey>,
) -> Result<Vec<Conversation>, Error> {
    let args = [tenant.as_str(), session.map_or("", SessionKey::as_str)];
    let script = &server.scripts.conversations;
    let mut reply = Reply::new(server.view(shard, script, args).await?)?;
    let mut found = Vec::with_capacity(reply.len());
    while reply.len() > 0 {
        let mut one = reply.array()?;
        let session =
            SessionKey::new(&one.text()?).map_err(|error| Error::Corrupt(error.to_string()))?;
        let profile = RawJson::parse(one.text()?)
            .map_err(|error| Error::Corrupt(format!("a profile: {error}")))?;
        let expires_at = one.text()?.parse().map_err(|_| Error::Corrupt("a time".to_owned()))?;
        let mut turns = Vec::with_capacity(one.len());
        while one.len() > 0 {
            turns.push(turn(&one.bytes()?)?);
        }
        found.push(Conversation { session, profile, expires_at: Millis(expires_at), turns });
    }
    Ok(found)
}
