//! Jobs as bytes, in the format of `lua/lib/jobs.lua`.
//!
//! A record is a packed header of [`HEAD_BYTES`], of which the first 31 bytes change during a job's life. Then follow
//! tenant, session, spec (JSON), the output (JSON) if there is one, and the body, if it has at most
//! [`INLINE_BODY_BYTES`] and as long as it is needed. One string instead of a hash of fields needs a third fewer
//! commands, and a third less time and memory, as measured.

use bytes::Bytes;

use causeway_queue::{
    clock::{Clock, Millis, SystemClock},
    error::Error,
    fair::BYTES_PER_TOKEN,
    id::{JobId, SessionKey, Shard, TenantId},
    job::{Output, Spec},
    lease::{Lease, LeaseKey, Receipt, Settlement},
    state::{Class, Status},
};

/// The length of the packed header.
const HEAD_BYTES: usize = 72;

/// The size up to which a body is part of the record. A larger one gets a key of its own, so that scripts do not copy
/// it.
pub(super) const INLINE_BODY_BYTES: usize = 2048;

/// The offsets of some fields of a record.
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

/// The letter of a job that is held by its session. All other letters are [`Status::code`].
const HELD: u8 = b'h';

/// The header of a record.
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

/// A reader of fixed-width numbers, least significant byte first.
struct RecordFields<'a>(&'a [u8]);

impl RecordFields<'_> {
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

/// Parses a time that is stored as in a record.
pub(super) fn moment(bytes: &[u8]) -> Result<Millis, Error> {
    RecordFields(bytes).moment()
}

fn short() -> Error {
    Error::Corrupt("a job's record is too short".to_owned())
}

pub(super) fn corrupt(what: &str) -> impl FnOnce(serde_json::Error) -> Error {
    move |error| Error::Corrupt(format!("a job's {what}: {error}"))
}

impl Header {
    /// Parses the header at the front of `bytes`.
    pub(super) fn parse(bytes: &[u8]) -> Result<Self, Error> {
        let mut fields = RecordFields(bytes);
        // In the order of HOT and COLD in `lua/lib/jobs.lua`.
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

    /// Returns the status; `None` for an unknown letter.
    pub(super) fn status(&self) -> Option<Status> {
        if self.state == HELD { Some(Status::Queued) } else { Status::from_code(self.state) }
    }

    /// Returns true if the job has ended and no errors are stored apart from its record.
    pub(super) fn is_settled(&self) -> bool {
        let ended = self.status().is_some_and(Status::is_terminal);
        ended && self.flags & HAS_ERRORS == 0
    }

    /// Returns true if the job has no state besides its record: no session, deadline, events or other flags.
    fn is_plain(&self) -> bool {
        self.flags == 0 && self.session_len == 0 && self.deadline.0 == 0
    }

    pub(super) fn is_held(&self) -> bool {
        self.state == HELD
    }

    /// Returns true if the body has a key of its own.
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

/// The parts of a record after its header.
#[derive(Debug)]
pub(super) struct Tail {
    pub(super) session: Option<SessionKey>,
    /// The spec, or the reason why it cannot be parsed: the job can still be read, and end.
    pub(super) spec: Result<Spec, Error>,
    pub(super) output: Option<Output>,
    pub(super) body: Bytes,
}

impl Tail {
    /// Parses the parts after the header in `record`.
    pub(super) fn parse(header: &Header, mut rest: Bytes) -> Result<Self, Error> {
        let mut part = |length: usize| {
            if rest.len() < length { Err(short()) } else { Ok(rest.split_to(length)) }
        };
        // Header and tenant are parsed by their own functions.
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

/// Returns the owner of a job.
pub(super) fn tenant(header: &Header, record: &[u8]) -> Result<TenantId, Error> {
    let name = record.get(HEAD_BYTES..HEAD_BYTES + header.tenant_len).ok_or_else(short)?;
    TenantId::new(&text(name)?).map_err(|error| Error::Corrupt(error.to_string()))
}

fn text(bytes: &[u8]) -> Result<String, Error> {
    super::reply::text(bytes.to_vec())
}

/// A claimed job with a record that cannot be parsed.
#[derive(Debug)]
pub(super) struct Damaged {
    /// Its lease and the number of the attempt, as far as they can be parsed.
    pub(super) lease: Option<(LeaseKey, u32)>,
    pub(super) why: Error,
}

impl From<Error> for Damaged {
    fn from(why: Error) -> Self {
        Self { lease: None, why }
    }
}

/// Parses a claimed job from its record before the claim. If its body is stored under its own key, also returns the
/// most bytes of the body: four for each token of the job's estimate, see [`Estimate`](causeway_queue::fair::Estimate).
/// `clock` runs with the store's clock, which showed `now`.
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
    // The script returns the record before the claim, to save a copy; these are the claim's changes.
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
    // The part that the final record keeps: a succeeded job has no body.
    let kept = HEAD_BYTES + header.tenant_len + header.session_len + header.spec_len;
    let is_plain = header.is_plain() && kept <= record.len();
    // Only the record of a plain job can be written without reading anything else.
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
    Ok((lease, header.has_body_apart().then(|| header.cost.saturating_mul(BYTES_PER_TOKEN))))
}

/// The record of a plain job that succeeded.
pub(super) struct Plain {
    pub(super) cost: u64,
    /// Its record.
    pub(super) record: Vec<u8>,
}

/// Returns the final record of the job of `one` with this output; `None` if the job is not plain.
///
/// Exception: the time of the end is not the script's TIME. It is read from `clock`, or from the clock that was
/// carried with the lease.
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

/// Returns the id of the job with this key inside `shard`.
pub(super) fn job_id(shard: &Shard, key: &str) -> Result<JobId, Error> {
    JobId::in_shard(shard.clone(), key)
        .ok_or_else(|| Error::Corrupt(format!("{key:?} is not the key of a job")))
}

/// Returns the member of a lease in `leases`, which the fence compares: id (26 bytes), epoch (8), flow.
pub(super) fn member(lease: &LeaseKey) -> String {
    format!("{}{:08x}{}:{}", lease.job.key(), lease.epoch, lease.class.rank(), lease.tenant)
}

/// Returns the letters of the stored states with this status.
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

/// Returns the text by which a stored spec names `model`: see [`Spec`], which writes the model second, after an
/// unusual URL.
pub(super) fn model(model: &str) -> String {
    format!("\"m\":{}", causeway_queue::RawJson::string(model).as_str())
}

/// Returns `number` as eight bytes for `struct.unpack('<d')`.
pub(super) fn double(number: f64) -> [u8; 8] {
    number.to_le_bytes()
}

/// Returns `count` as a packed double.
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
