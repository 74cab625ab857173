//! Ends to be handed on: the other side of what `lua/ends.lua` writes.
//!
//! A member is the job's key (26 characters), its life in hexadecimal (16) and the letter of the
//! status; the score is the time of the end in milliseconds.

use super::{Server, keys, record};
use crate::{
    clock::Millis,
    error::Error,
    id::Shard,
    state::Status,
    webhook::{End, MAX_OUTBOX_PAGE},
};

const KEY_CHARS: usize = 26;
const LIFE_CHARS: usize = 16;

/// The oldest ends, at most `most`.
pub(super) async fn read(server: &Server, shard: &Shard, most: usize) -> Result<Vec<End>, Error> {
    let mut command = redis::cmd("ZRANGE");
    let last = most.clamp(1, MAX_OUTBOX_PAGE) - 1;
    command.arg(keys::outbox(shard)).arg(0).arg(last).arg("WITHSCORES");
    let found: Vec<(String, f64)> = server.read(&command).await?;
    let end = |(member, at): (String, f64)| {
        parse(shard, &member, at)
            .ok_or_else(|| Error::Corrupt(format!("an end to be handed on: {member:?}")))
    };
    found.into_iter().map(end).collect()
}

/// Takes these ends out.
pub(super) async fn take_out(server: &Server, shard: &Shard, ends: &[End]) -> Result<(), Error> {
    for part in ends.chunks(MAX_OUTBOX_PAGE) {
        let mut command = redis::cmd("ZREM");
        command.arg(keys::outbox(shard));
        for end in part {
            command.arg(member(end));
        }
        let _removed: u64 = server.ask(&command).await?;
    }
    Ok(())
}

fn member(end: &End) -> String {
    format!("{}{:016x}{}", end.job.key(), end.life, char::from(end.status.code()))
}

fn parse(shard: &Shard, member: &str, at: f64) -> Option<End> {
    let (key, rest) = member.split_at_checked(KEY_CHARS)?;
    let (life, letter) = rest.split_at_checked(LIFE_CHARS)?;
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "clamped")]
    let at = Millis(at.max(0.0) as u64);
    Some(End {
        job: record::job_id(shard, key).ok()?,
        status: Status::from_code(letter.bytes().next()?)?,
        at,
        life: u64::from_str_radix(life, 16).ok()?,
    })
}
