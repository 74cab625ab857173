//! Jobs as bytes: the other side of `lua/jobs.lua`.
//!
//! A record is a packed header of [`HEAD_BYTES`], of which the first 31 change in a job's
//! life; then tenant, session, spec (JSON), the output (JSON) once there is one, and, up to
//! [`INLINE_BODY_BYTES`] and as long as it is needed, the body. One string instead of a hash of
//! fields: measured a third cheaper in commands, time and memory.

use bytes::Bytes;

use crate::{
    clock::{Clock, Millis, SystemClock},
    error::Error,
    id::{JobId, SessionKey, Shard, TenantId},
    job::{Output, Spec},
    lease::{Lease, LeaseKey, Receipt, Settlement},
    state::{Class, Status},
};

/// Length of the packed header.
const HEAD_BYTES: usize = 72;

/// Up to this size a body is part of the record; a larger one gets a key of its own, so that
/// scripts do not carry it around.
pub(super) const INLINE_BODY_BYTES: usize = 2048;

/// Where in a record some of its parts begin.
const STATE: usize = 0;
const ATTEMPTS: usize = 3;
const EPOCH: usize = 7;
const OUTPUT_LEN: usize = 11;
const STARTED: usize = 15;
const AT: usize = 23;

const CANCELLING: u8 = 1;
pub(super) const KEEPS_EVENTS: u8 = 2;
pub(super) const REMEMBERS: u8 = 4;
pub(super) const BODY_APART: u8 = 8;
const HAS_ERRORS: u8 = 16;
const BETWEEN_ATTEMPTS: u8 = 32;
pub(super) const HAS_WEBHOOK: u8 = 64;

/// The letter of a job that is held by its session; all other letters are [`Status::code`].
const HELD: u8 = b'h';

/// What a record's header says.
#[derive(Debug)]
pub(super) struct Header {
    state: u8,
    flags: u8,
    class: u8,
    pub(super) attempts: u32,
    pub(super) max_attempts: u32,
    cost: u64,
    pub(super) stalls: u32,
    epoch: u32,
    pub(super) created: Millis,
    started: Millis,
    pub(super) at: Millis,
    deadline: Millis,
    tenant_len: usize,
    session_len: usize,
    spec_len: usize,
    output_len: usize,
}

/// Takes fixed-width numbers, least significant byte first, from the front of `bytes`.
struct Fields<'a>(&'a [u8]);

impl Fields<'_> {
    fn take<const N: usize>(&mut self) -> Result<[u8; N], Error> {
        let (first, rest) = self.0.split_first_chunk().ok_or_else(short)?;
        self.0 = rest;
        Ok(*first)
    }

    fn u8(&mut self) -> Result<u8, Error> {
        Ok(u8::from_le_bytes(self.take()?))
    }

    fn u16(&mut self) -> Result<u32, Error> {
        Ok(u16::from_le_bytes(self.take()?).into())
    }

    fn u32(&mut self) -> Result<u32, Error> {
        Ok(u32::from_le_bytes(self.take()?))
    }

    fn moment(&mut self) -> Result<Millis, Error> {
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "clamped")]
        Ok(Millis(f64::from_le_bytes(self.take()?).max(0.0) as u64))
    }
}

/// A time that stands by itself, as in a record.
pub(super) fn moment(bytes: &[u8]) -> Result<Millis, Error> {
    Fields(bytes).moment()
}

fn short() -> Error {
    Error::Corrupt("a job's record is too short".to_owned())
}

pub(super) fn corrupt(what: &str) -> impl FnOnce(serde_json::Error) -> Error {
    move |error| Error::Corrupt(format!("a job's {what}: {error}"))
}

impl Header {
    /// Reads the header at the front of `bytes`.
    pub(super) fn parse(bytes: &[u8]) -> Result<Self, Error> {
        let mut fields = Fields(bytes);
        let [state, flags, class] = fields.take()?;
        let (attempts, stalls, epoch) = (fields.u16()?, fields.u16()?, fields.u32()?);
        let output_len = usize::try_from(fields.u32()?).map_err(|_| short())?;
        let (started, at) = (fields.moment()?, fields.moment()?);
        let (_version, max_attempts) = (fields.u8()?, fields.u16()?);
        let (_order, cost) = (fields.moment()?, fields.moment()?.0);
        let (created, deadline) = (fields.moment()?, fields.moment()?);
        let (tenant_len, session_len) = (fields.u8()?.into(), fields.u8()?.into());
        let spec_len = usize::try_from(fields.u32()?).map_err(|_| short())?;
        Ok(Self {
            state,
            flags,
            class,
            attempts,
            max_attempts,
            cost,
            stalls,
            epoch,
            created,
            started,
            at,
            deadline,
            tenant_len,
            session_len,
            spec_len,
            output_len,
        })
    }

    /// The status; `None` for a letter that nobody wrote.
    pub(super) fn status(&self) -> Option<Status> {
        if self.state == HELD { Some(Status::Queued) } else { Status::from_code(self.state) }
    }

    /// Whether the job has ended and no errors are kept apart from its record.
    pub(super) fn is_settled(&self) -> bool {
        let ended = self.status().is_some_and(Status::is_terminal);
        ended && self.flags & HAS_ERRORS == 0
    }

    /// Whether there is nothing of the job but its record, and nobody waits for it in a line.
    fn is_plain(&self) -> bool {
        self.flags == 0 && self.session_len == 0 && self.deadline.0 == 0
    }

    pub(super) fn is_held(&self) -> bool {
        self.state == HELD
    }

    /// True if the body has a key of its own.
    pub(super) fn has_body_apart(&self) -> bool {
        self.flags & BODY_APART != 0
    }

    pub(super) fn is_cancelling(&self) -> bool {
        self.flags & CANCELLING != 0
    }

    pub(super) fn is_between_attempts(&self) -> bool {
        self.flags & BETWEEN_ATTEMPTS != 0
    }

    pub(super) fn keeps_events(&self) -> bool {
        self.flags & KEEPS_EVENTS != 0
    }

    pub(super) fn started(&self) -> Option<Millis> {
        (self.started.0 > 0).then_some(self.started)
    }

    pub(super) fn deadline(&self) -> Option<Millis> {
        (self.deadline.0 > 0).then_some(self.deadline)
    }

    pub(super) fn class(&self) -> Result<Class, Error> {
        let class = Class::ALL.get(usize::from(self.class)).copied();
        class.ok_or_else(|| Error::Corrupt(format!("a job of class {}", self.class)))
    }
}

/// What follows a record's header.
#[derive(Debug)]
pub(super) struct Tail {
    pub(super) session: Option<SessionKey>,
    /// Why not, where it cannot be read: the job can still be seen, and end.
    pub(super) spec: Result<Spec, Error>,
    pub(super) output: Option<Output>,
    pub(super) body: Bytes,
}

impl Tail {
    /// Reads what follows the header in `record`.
    pub(super) fn parse(header: &Header, mut rest: Bytes) -> Result<Self, Error> {
        let mut part = |length: usize| {
            if rest.len() < length { Err(short()) } else { Ok(rest.split_to(length)) }
        };
        part(HEAD_BYTES + header.tenant_len)?;
        let session = text(&part(header.session_len)?)?;
        let session = match session.as_str() {
            "" => None,
            key => Some(SessionKey::new(key).map_err(|error| Error::Corrupt(error.to_string()))?),
        };
        let spec = serde_json::from_slice(&part(header.spec_len)?).map_err(corrupt("spec"));
        let output = part(header.output_len)?;
        let output = if output.is_empty() {
            None
        } else {
            Some(serde_json::from_slice(&output).map_err(corrupt("output"))?)
        };
        Ok(Self { session, spec, output, body: rest })
    }
}

/// Whose job it is.
pub(super) fn tenant(header: &Header, record: &[u8]) -> Result<TenantId, Error> {
    let name = record.get(HEAD_BYTES..HEAD_BYTES + header.tenant_len).ok_or_else(short)?;
    TenantId::new(&text(name)?).map_err(|error| Error::Corrupt(error.to_string()))
}

fn text(bytes: &[u8]) -> Result<String, Error> {
    super::reply::text(bytes.to_vec())
}

/// A job that was claimed just now, and whose record cannot be read.
#[derive(Debug)]
pub(super) struct Damaged {
    /// Its lease and which attempt this is, as far as they can be read.
    pub(super) lease: Option<(LeaseKey, u32)>,
    pub(super) why: Error,
}

impl From<Error> for Damaged {
    fn from(why: Error) -> Self {
        Self { lease: None, why }
    }
}

/// Reads a job that was claimed just now from its record as it was before. Where its body still has to be
/// fetched from its own key, also how many bytes that has at most: four for each token that the job was
/// thought to cost, see [`Estimate`](crate::fair::Estimate). `clock` goes as the store's, on which it was
/// `now`.
pub(super) fn lease(
    shard: &Shard,
    key: &str,
    mut record: Vec<u8>,
    (now, clock): (Millis, SystemClock),
) -> Result<(Lease, Option<u64>), Damaged> {
    if record.len() < HEAD_BYTES {
        return Err(short().into());
    }
    let before = Header::parse(&record)?;
    put(&mut record, STATE, &[Status::Running.code()]);
    put(&mut record, ATTEMPTS, &u16_of(before.attempts + 1));
    put(&mut record, EPOCH, &(before.epoch + 1).to_le_bytes());
    put(&mut record, STARTED, &double_of(now.0));
    let header = Header::parse(&record)?;
    let record = Bytes::from(record);
    let key = LeaseKey {
        job: job_id(shard, key)?,
        epoch: header.epoch,
        class: header.class()?,
        tenant: tenant(&header, &record)?,
    };
    let kept = HEAD_BYTES + header.tenant_len + header.session_len + header.spec_len;
    let is_plain = header.is_plain() && kept <= record.len();
    let receipt = is_plain.then(|| (record.slice(..kept), clock));
    let tail = Tail::parse(&header, record)
        .and_then(|Tail { session, spec, body, .. }| Ok((session, spec?, body)));
    let (session, spec, body) = match tail {
        Ok(read) => read,
        Err(why) => return Err(Damaged { lease: Some((key, header.attempts)), why }),
    };
    let lease = Lease {
        key,
        session,
        spec,
        body,
        attempt: header.attempts,
        max_attempts: header.max_attempts,
        keeps_events: header.keeps_events(),
        deadline: header.deadline(),
        created_at: header.created,
        claimed_at: now,
        turns: Vec::new(),
        receipt: Receipt(receipt),
    };
    Ok((lease, header.has_body_apart().then(|| header.cost.saturating_mul(4))))
}

/// What a plain job that succeeded leaves.
pub(super) struct Plain {
    pub(super) cost: u64,
    /// Its record.
    pub(super) record: Vec<u8>,
}

/// What `one` leaves with this output; `None` when its job is not a plain one. It has ended now: by
/// `clock`, or by the one that came with its lease.
pub(super) fn succeeded(
    one: &Settlement,
    output: &[u8],
    clock: Option<&dyn Clock>,
) -> Result<Option<Plain>, Error> {
    let Some((before, its_clock)) = &one.receipt.0 else { return Ok(None) };
    let mut record = Vec::with_capacity(before.len() + output.len());
    record.extend(before);
    record.extend(output);
    put(&mut record, STATE, &[Status::Succeeded.code()]);
    put(&mut record, OUTPUT_LEN, &u32_of(output.len()).to_le_bytes());
    put(&mut record, AT, &double_of(clock.unwrap_or(its_clock).now().0));
    Ok(Some(Plain { cost: Header::parse(before)?.cost, record }))
}

/// The job whose key inside `shard` is `key`.
pub(super) fn job_id(shard: &Shard, key: &str) -> Result<JobId, Error> {
    JobId::in_shard(shard.clone(), key)
        .ok_or_else(|| Error::Corrupt(format!("{key:?} is not the key of a job")))
}

/// The lease's member in `leases`, which is what the fence compares: id (26 bytes), epoch (8), flow.
pub(super) fn member(lease: &LeaseKey) -> String {
    format!("{}{:08x}{}:{}", lease.job.key(), lease.epoch, lease.class.rank(), lease.tenant)
}

/// The letters of the stored states that are `status`.
pub(super) fn letters(status: Status) -> String {
    let letter = char::from(status.code());
    match status {
        Status::Queued => format!("{letter}{}", char::from(HELD)),
        Status::Scheduled
        | Status::Running
        | Status::Succeeded
        | Status::Failed
        | Status::Cancelled
        | Status::Expired => letter.to_string(),
    }
}

/// What a stored spec names `model` with: see [`Spec`], which writes it second, behind a url that is not the usual
/// one.
pub(super) fn model(model: &str) -> String {
    format!("\"m\":{}", crate::RawJson::string(model).as_str())
}

/// `number` as eight bytes that `struct.unpack('<d')` reads.
pub(super) fn double(number: f64) -> [u8; 8] {
    number.to_le_bytes()
}

/// `count` as a double.
#[expect(clippy::cast_precision_loss, reason = "counts and milliseconds lie below 2^53")]
pub(super) fn double_of(count: u64) -> [u8; 8] {
    double(count as f64)
}

pub(super) fn u16_of(number: u32) -> [u8; 2] {
    u16::try_from(number).unwrap_or(u16::MAX).to_le_bytes()
}

pub(super) fn u32_of(length: usize) -> u32 {
    u32::try_from(length).unwrap_or(u32::MAX)
}

fn put(record: &mut [u8], place: usize, bytes: &[u8]) {
    record[place..place + bytes.len()].copy_from_slice(bytes);
}
