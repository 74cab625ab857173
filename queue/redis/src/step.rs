//! Claims and settlements: the arguments and the reply of `lua/calls/step.lua`.

use std::time::Duration;

use redis::{Cmd, Value};

use super::{
    bodies::{self, Apart, failed},
    connector::ANSWER,
    record::{self, Damaged},
    reply::Reply,
    server::{Args, MOST_LEASES, Server},
    views,
};
use causeway_queue::{
    clock::{Millis, millis},
    error::Error,
    event::retrying,
    health::Fault,
    id::{Shard, TenantId},
    lease::{ClaimRequest, Lease, Outcome, Receipt, Settled, Settlement, Step},
    policy::MAX_CLAIM,
};

/// Settles attempts, then starts new ones; see [`Backend::step`](causeway_queue::backend::Backend::step).
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
        let mut settling = Settling::default();
        for one in part {
            settling.push(server, one)?;
        }
        let until = server.waits_until(shard, ANSWER);
        // Only the last call claims, so that no attempt starts before all settlements are recorded.
        let args = args(if is_last { claim.max } else { 0 }, claim, until, settling);
        let taken = part.len();
        let answer = server.call(shard, &server.scripts.step, &args).await?;
        // Removed only after the reply: after an error the caller sends them again.
        settlements.drain(..taken);
        let mut step = read(server, shard, answer, settlements).await?;
        settled.append(&mut step.settled);
        if is_last {
            return Ok(Step { settled, ..step });
        }
    }
}

/// Returns the command that claims jobs, for a caller that sends it over its own connection and waits `patience` for
/// the reply; [`read`] parses the reply.
pub(super) fn command(
    server: &Server,
    shard: &Shard,
    claim: ClaimRequest,
    patience: Duration,
) -> Cmd {
    let until = server.waits_until(shard, patience);
    let args = args(claim.max, claim, until, Settling::default());
    server.command(shard, &server.scripts.step, args)
}

/// Returns the arguments of a step that starts at most `max` attempts, none after `until`.
fn args(max: usize, claim: ClaimRequest, until: Option<Millis>, settling: Settling<'_>) -> Args {
    let max = max.min(MAX_CLAIM).to_string().into_bytes();
    let lease = millis(claim.lease).to_string().into_bytes();
    let until = until.map_or(Vec::new(), |until| until.0.to_string().into_bytes());
    let mut args = vec![max, lease, until, settling.numbers];
    args.extend(settling.texts);
    args
}

/// Settlements in the form that `lua/calls/step.lua` reads.
#[derive(Default)]
struct Settling<'a> {
    numbers: Vec<u8>,
    texts: Args,
    /// The tenant of the latest settlement, if its job is plain.
    plain: Option<&'a TenantId>,
}

impl<'a> Settling<'a> {
    fn push(&mut self, server: &Server, one: &'a Settlement) -> Result<(), Error> {
        let json = |value: Result<Vec<u8>, serde_json::Error>| {
            value.map_err(|error| Error::Corrupt(format!("a settlement: {error}")))
        };
        let (mut out, mut turn, mut error, mut event) = Default::default();
        let mut pause = Duration::ZERO;
        let mut more = record::double_of(one.memory.map_or(0, |(keep, _)| keep.into()));
        // The letters of `lua/calls/step.lua`.
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
            Outcome::Faulted { fault, delay, unit, output, error: why } => {
                pause = *delay;
                out = json(serde_json::to_vec(output))?;
                error = json(serde_json::to_vec(why))?;
                event = retrying(*delay, why).1.as_str().as_bytes().to_vec();
                more = record::double(*unit);
                match fault {
                    Fault::Rate(stop) => {
                        more = record::double_of(millis(*stop));
                        b'l'
                    }
                    Fault::Upstream => b'u',
                    Fault::Certain => b'v',
                    Fault::Unavailable => b'w',
                    Fault::Unclear => b'd',
                }
            }
            Outcome::Released { delay } => {
                pause = *delay;
                b'b'
            }
            Outcome::Cancelled => b'c',
            Outcome::Expired => b'x',
        };
        self.texts.push(record::member(&one.key).into_bytes());
        // Exception: a plain job that succeeded is sent as its final record, which the script stores as it is.
        let plain =
            if how == b's' { record::succeeded(one, &out, server.clock.as_deref())? } else { None };
        let before = self.plain.take();
        if let Some(plain) = plain {
            // `T` continues a run of one tenant, for which the script reads the tenant only once.
            let same = before == Some(&one.key.tenant);
            let cost = record::double_of(plain.cost);
            self.push_numbers(if same { b'T' } else { b'S' }, one, [cost, record::double(0.0)]);
            self.texts.push(plain.record);
            self.plain = Some(&one.key.tenant);
        } else {
            self.push_numbers(how, one, [record::double_of(millis(pause)), more]);
            self.texts.extend([out, turn, error, event]);
        }
        Ok(())
    }

    fn push_numbers(&mut self, how: u8, one: &Settlement, others: [[u8; 8]; 2]) {
        let (prompt, completion) = one.usage.map_or((record::double(-1.0), 0), |usage| {
            (record::double_of(usage.prompt_tokens), usage.completion_tokens)
        });
        self.numbers.push(how);
        self.numbers.extend(prompt);
        self.numbers.extend(record::double_of(completion));
        self.numbers.extend(others.as_flattened());
    }
}

/// Parses the reply of a step. Attempts that cannot run are settled at once: their settlements are appended to
/// `settlements`, and the next step sends them.
pub(super) async fn read(
    server: &Server,
    shard: &Shard,
    answer: Value,
    settlements: &mut Vec<Settlement>,
) -> Result<Step, Error> {
    let mut reply = Reply::new(answer)?;
    let settled = reply.bytes()?;
    // The letters of `lua/calls/step.lua`.
    let settled = settled.iter().map(|letter| match letter {
        b'1' => Settled::Done,
        b'2' => Settled::LaneWaits,
        b'3' => Settled::LaneDown,
        b'4' => Settled::LaneUp,
        b'5' => Settled::Failed,
        _ => Settled::Lost,
    });
    let settled = settled.collect();
    let poll_after = reply.count()?.map(Duration::from_millis);
    let now = record::moment(&reply.bytes()?)?;
    let clock = server.sees(shard, now);
    let remembered = reply.maybe_array()?;
    let (mut leases, mut apart) = (Vec::with_capacity(reply.len() / 2), Vec::new());
    while reply.len() > 0 {
        let key = reply.text()?;
        let lease = match record::lease(shard, &key, reply.bytes()?, (now, clock)) {
            Ok((lease, most_bytes)) => {
                let place = leases.len();
                apart.extend(most_bytes.map(|most_bytes| Apart { place, most_bytes }));
                Some(lease)
            }
            Err(damaged) => {
                settlements.extend(unreadable(&key, damaged));
                None
            }
        };
        leases.push(lease);
    }
    if let Some(remembered) = remembered {
        recall(&mut leases, remembered, settlements)?;
    }
    bodies::fetch(server, &mut leases, apart, settlements).await?;
    let leases = leases.into_iter().flatten().collect();
    Ok(Step { settled, leases, poll_after })
}

/// Adds the remembered turns to the leases of jobs with a conversation. If the turns of a job cannot be parsed, the
/// job fails.
fn recall(
    leases: &mut [Option<Lease>],
    mut remembered: Reply,
    settlements: &mut Vec<Settlement>,
) -> Result<(), Error> {
    while remembered.len() > 0 {
        let place = remembered.count()?.and_then(|place| usize::try_from(place).ok());
        let mut said = remembered.array()?;
        let lease = place.and_then(|place| leases.get_mut(place.checked_sub(1)?));
        let lease = lease.ok_or_else(|| Error::Corrupt("turns of no job".to_owned()))?;
        let Some(mut one) = lease.take() else { continue };
        let mut turns = || {
            while said.len() > 0 {
                one.turns.push(views::turn(&said.bytes()?)?);
            }
            Ok::<_, Error>(())
        };
        if turns().is_ok() {
            *lease = Some(one);
        } else {
            // The detailed error would quote the conversation in a log.
            let why = Error::Corrupt("a turn of its conversation".to_owned());
            let job = one.key.job.key();
            let damaged = Damaged { lease: Some((one.key, one.attempt)), why };
            settlements.extend(unreadable(&job, damaged));
        }
    }
    Ok(())
}

/// Returns the settlement of an attempt with a damaged record, if at least its lease can be parsed. Otherwise the
/// lease expires, until the job has reached its stalls.
fn unreadable(job: &str, Damaged { lease, why }: Damaged) -> Option<Settlement> {
    tracing::error!(job.id = job, error = %why, "cannot run a job, because its record is damaged");
    let (key, attempt) = lease?;
    let message = "the store holds a damaged record of the job; submit the job again";
    let outcome = failed(attempt, "record_damaged", message);
    let (usage, model, receipt) = (None, None, Receipt::default());
    Some(Settlement { key, memory: None, has_webhook: false, outcome, usage, model, receipt })
}
