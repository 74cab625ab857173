//! The outbox: entries as `lua/lib/finish.lua` and `lua/calls/postpone.lua` write them.
//!
//! A member is the job's key (26 characters), its generation in hexadecimal (16) and the letter of the status; the
//! score is the time of the end in milliseconds. A delayed entry has the time of the end in hexadecimal (16) after
//! the letter, and as its score the time at which it is due.

use std::time::Duration;

use super::{
    keys, record,
    server::{Args, Server},
};
use causeway_queue::{
    clock::{Millis, millis},
    error::Error,
    id::Shard,
    state::Status,
    webhook::{End, MAX_OUTBOX_PAGE},
};

const KEY_CHARS: usize = 26;
const LIFE_CHARS: usize = 16;

/// Returns the entries that are due, at most `most`. Members that cannot be parsed are removed, because they would
/// stay at the front.
pub(super) async fn read(server: &Server, shard: &Shard, most: usize) -> Result<Vec<End>, Error> {
    let args = [most.clamp(1, MAX_OUTBOX_PAGE).to_string()];
    let answer = server.call(shard, &server.scripts.read_outbox, args).await?;
    let found: Vec<(String, f64)> =
        redis::from_redis_value(answer).map_err(|error| Error::Corrupt(error.to_string()))?;
    let mut ends = Vec::with_capacity(found.len());
    for (member, score) in found {
        match parse(shard, &member, score) {
            Some(end) => ends.push(end),
            None => discard(server, shard, &member).await?,
        }
    }
    Ok(ends)
}

async fn discard(server: &Server, shard: &Shard, member: &str) -> Result<(), Error> {
    tracing::error!(shard = %shard, member, "removed an outbox entry that cannot be read");
    let mut command = redis::cmd("ZREM");
    command.arg(keys::outbox(shard)).arg(member);
    let _removed: u64 = server.ask(&command).await?;
    Ok(())
}

/// Acknowledges these entries, which removes them.
pub(super) async fn take_out(server: &Server, shard: &Shard, ends: &[End]) -> Result<(), Error> {
    for part in ends.chunks(MAX_OUTBOX_PAGE) {
        let mut command = redis::cmd("ZREM");
        command.arg(keys::outbox(shard));
        for end in part {
            // An entry is stored under one of two names, depending on whether it was delayed.
            command.arg(member(end)).arg(postponed(end));
        }
        let _removed: u64 = server.ask(&command).await?;
    }
    Ok(())
}

/// Delays these entries by `delay`.
pub(super) async fn postpone(
    server: &Server,
    shard: &Shard,
    ends: &[End],
    delay: Duration,
) -> Result<(), Error> {
    for part in ends.chunks(MAX_OUTBOX_PAGE) {
        let mut args: Args = vec![millis(delay).to_string().into_bytes()];
        args.extend(part.iter().flat_map(|end| [member(end), postponed(end)]).map(Into::into));
        server.call(shard, &server.scripts.postpone, &args).await?;
    }
    Ok(())
}

fn member(end: &End) -> String {
    format!("{}{:016x}{}", end.job.key(), end.life, char::from(end.status.code()))
}

fn postponed(end: &End) -> String {
    format!("{}{:016x}", member(end), end.at.0)
}

fn parse(shard: &Shard, member: &str, score: f64) -> Option<End> {
    let (key, rest) = member.split_at_checked(KEY_CHARS)?;
    let (life, rest) = rest.split_at_checked(LIFE_CHARS)?;
    let (letter, at) = rest.split_at_checked(1)?;
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "clamped")]
    let scored = score.max(0.0) as u64;
    // The score of a delayed entry is its due time, so the time of the end is part of the member.
    let at = if at.is_empty() { scored } else { u64::from_str_radix(at, 16).ok()? };
    Some(End {
        job: record::job_id(shard, key).ok()?,
        status: Status::from_code(letter.bytes().next()?)?,
        at: Millis(at),
        life: u64::from_str_radix(life, 16).ok()?,
    })
}
