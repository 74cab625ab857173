//! Begins and ends of attempts: what `lua/step.lua` is sent, and what its answer means.

use std::time::Duration;

use redis::{Cmd, Value};

use super::{Args, MOST_LEASES, Server, keys, record, reply::Reply, views};
use crate::{
    clock::{SystemClock, millis},
    error::Error,
    event::retrying,
    id::Shard,
    lease::{ClaimRequest, Lease, Outcome, Settled, Settlement, Step},
    policy::MAX_CLAIM,
};

/// Ends attempts, then begins new ones; see [`Backend::step`](crate::backend::Backend::step).
pub(super) async fn step(
    server: &Server,
    shard: &Shard,
    settlements: &mut Vec<Settlement>,
    claim: ClaimRequest,
) -> Result<Step, Error> {
    let mut settled = Vec::with_capacity(settlements.len());
    loop {
        let part = &settlements[..settlements.len().min(MOST_LEASES)];
        let is_last = part.len() == settlements.len();
        let mut args = first_args(if is_last { claim.max } else { 0 }, claim);
        for one in part {
            push_settlement(server, one, &mut args)?;
        }
        let taken = part.len();
        let answer = server.call(shard, &server.scripts.step, &args).await?;
        settlements.drain(..taken);
        let mut step = read(server, shard, answer).await?;
        settled.append(&mut step.settled);
        if is_last {
            return Ok(Step { settled, ..step });
        }
    }
}

/// The command that begins attempts, for somebody who sends it by himself; [`read`] reads its answer.
pub(super) fn command(server: &Server, shard: &Shard, claim: ClaimRequest) -> Cmd {
    server.command(shard, &server.scripts.step, first_args(claim.max, claim))
}

/// The arguments before the settlements, of a step that begins at most `max` attempts.
fn first_args(max: usize, claim: ClaimRequest) -> Args {
    vec![max.min(MAX_CLAIM).to_string().into_bytes(), millis(claim.lease).to_string().into_bytes()]
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

/// Reads what a step brought.
pub(super) async fn read(server: &Server, shard: &Shard, answer: Value) -> Result<Step, Error> {
    let mut reply = Reply::new(answer)?;
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
        fetch_bodies(server, &mut leases, apart).await?;
    }
    Ok(Step { settled, leases, look_again })
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
    server: &Server,
    leases: &mut Vec<Lease>,
    apart: Vec<usize>,
) -> Result<(), Error> {
    let mut command = redis::cmd("MGET");
    for place in &apart {
        command.arg(keys::body(&leases[*place].key.job));
    }
    let bodies: Vec<Option<Vec<u8>>> = server.ask(&command).await?;
    for (place, body) in apart.into_iter().zip(bodies).rev() {
        match body {
            Some(body) => leases[place].body = body.into(),
            None => drop(leases.remove(place)),
        }
    }
    Ok(())
}
