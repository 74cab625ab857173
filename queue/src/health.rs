//! Lane health: whose fault a failed attempt is, and when a failing lane is tried again.
//!
//! Some failures say something about the upstream and nothing about the job. They are counted for the
//! lane: after [`FAILURES`] in a row without a success between, the lane cools down, which means that
//! nothing is claimed from it. When the cool-down is over, one job probes the upstream. Its success opens the lane;
//! its failure doubles the cool-down, from [`FIRST_COOL_DOWN`] to [`LONGEST_COOL_DOWN`]. This is the circuit
//! breaker of Nygard, "Release It!", 2nd edition, chapter 5.
//!
//! A failure that is charged to the lane spends no attempt of its job, and the job keeps its place.
//!
//! - An *unclear* failure is charged to the job, unless [`SUSPECTS`] different jobs met one in a row: then
//!   the lane cools down, and these jobs get their attempts back.
//! - A lane failure is charged to the job once the lane had [`PROOF`] successes since the job's first failure.
//! - After as many successes, a refusal for the rate stops the other jobs no more. It is charged to the job only when
//!   it cannot be chance: a rate refuses whichever job comes too early. See `Health::is_exception`.

use std::time::Duration;

use crate::clock::{Millis, millis};

/// Failures of the upstream in a row after which a lane cools down.
pub const FAILURES: u32 = 3;

/// Different jobs in a row with an unclear failure after which a lane cools down.
pub const SUSPECTS: usize = 5;

/// Successes of the lane that prove one job wrong.
pub const PROOF: i64 = 5;

/// The first cool-down of a lane. Each further one is twice as long.
pub const FIRST_COOL_DOWN: Duration = Duration::from_secs(1);

/// The longest cool-down of a lane.
pub const LONGEST_COOL_DOWN: Duration = Duration::from_secs(60);

/// How long a certain failure counts like any other after a cool-down has ended: the failures of single jobs
/// (a model that does not exist) must not close a lane again and again in which others succeed.
pub const CALM: Duration = Duration::from_secs(60);

/// The shortest part of a cool-down until the probe, and how much of it is random.
pub(crate) const PROBE_AFTER: (f64, f64) = (0.8, 0.3);

/// When the job whose failure began the cool-down may run again, as a part of the cool-down, if no other job can
/// probe.
pub(crate) const SAME_JOB_AFTER: f64 = 1.15;

/// How long a job that has failed is kept back where another job can probe, unless the lane opens before: jobs
/// that always fail must not probe for all others.
pub(crate) const KEPT_BACK: Duration = Duration::from_secs(600);

/// How many jobs that have not failed a probe passes over at most. Each failed probe passes over twice as many as the
/// one before, so that bad jobs in a row do not keep the lane closed.
pub(crate) const MOST_PASSED_OVER: usize = 31;

/// What a failed attempt says about its upstream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// The upstream refuses more requests for so long.
    Rate(Duration),
    /// The upstream failed, whatever the job asked.
    Upstream,
    /// The upstream is unavailable until a named time, which is the attempt's delay. The lane cools down with the
    /// first such failure, and nothing of it starts before that time.
    Unavailable,
    /// The upstream failed, and it will not pass by itself: a refused key, a missing model, a spent budget. The lane
    /// cools down with the first.
    Certain,
    /// The upstream failed, perhaps because of what the job asked: an internal error, a broken answer, a
    /// time-out.
    Unclear,
}

/// The health of one lane shard.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Health {
    tally: Tally,
    /// Failures of the upstream in a row.
    failures: u32,
    /// The jobs in a row that met an unclear failure, each with how many attempts it spent on them.
    suspects: Vec<(u128, u32)>,
    /// Cool-downs in a row; 0 while the lane is open.
    cool_downs: u32,
    /// When the first of them began.
    since: Millis,
    /// When the next probe may start.
    probe_at: Millis,
    /// The attempt that probes, as job and epoch.
    probe: Option<(u128, u32)>,
    /// When the last cool-down ended by an answer.
    recovered: Millis,
    /// Jobs that are kept back until the lane opens: see [`KEPT_BACK`].
    kept_back: Vec<u128>,
}

/// What a lane has met so far.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Tally {
    successes: i64,
    /// Failures that were charged to the lane, but unclear ones.
    faults: i64,
}

/// What a job that has failed had met before.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Faults {
    /// What the lane had met at the job's first failure, and the job's own faults since.
    before: Tally,
    /// The job's own faults.
    own: i64,
}

/// Whom a failure is charged to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Charge {
    /// The job: the attempt is spent.
    Job,
    /// The lane: the attempt is not spent, and the job may run again at `again_at`.
    Lane {
        /// The earliest start of the next attempt; may be in the past.
        again_at: Millis,
        /// Whether its failure began a cool-down.
        cools_down: bool,
        /// Until when nothing of the lane starts.
        stops_until: Option<Millis>,
        /// Other jobs that get attempts back, and how many.
        give_back: Vec<(u128, u32)>,
    },
}

/// A failed attempt, as [`Health::charge`] needs it.
#[derive(Debug)]
pub(crate) struct Failed {
    /// The job and the epoch of the attempt.
    pub(crate) attempt: (u128, u32),
    /// What happened.
    pub(crate) fault: Fault,
    /// How long the job waits before its next attempt while the lane is open.
    pub(crate) delay: Duration,
    /// A random number in [0, 1).
    pub(crate) unit: f64,
}

impl Health {
    /// Since when the lane is down, and when it is probed next; `None` while it is open.
    pub(crate) fn down(&self) -> Option<(Millis, Millis)> {
        (self.cool_downs > 0).then_some((self.since, self.probe_at))
    }

    /// The attempt that probes.
    #[cfg(feature = "conformance")]
    pub(crate) fn probe(&self) -> Option<(u128, u32)> {
        self.probe
    }

    /// When the lane may start an attempt: in the past while it is open, `None` while a probe runs.
    pub(crate) fn open_at(&self) -> Option<Millis> {
        self.probe.is_none().then_some(if self.cool_downs > 0 { self.probe_at } else { Millis(0) })
    }

    /// How many jobs that have not failed the next probe passes over.
    pub(crate) fn passes_over(&self) -> usize {
        let doubled = 1_usize.checked_shl(self.cool_downs.saturating_sub(1));
        doubled.map_or(MOST_PASSED_OVER, |count| (count - 1).min(MOST_PASSED_OVER))
    }

    /// An attempt was claimed: while the lane is down it is the probe.
    pub(crate) fn claimed(&mut self, attempt: (u128, u32)) {
        if self.cool_downs > 0 {
            self.probe = Some(attempt);
        }
    }

    /// An attempt succeeded.
    pub(crate) fn succeeded(&mut self, attempt: (u128, u32), now: Millis) {
        self.tally.successes += 1;
        if self.probe == Some(attempt) {
            self.open();
            self.recovered = now;
        }
        self.failures = 0;
        self.suspects.clear();
    }

    /// An attempt ended in a way that says nothing about the upstream. If it was the probe, the next job probes.
    pub(crate) fn ended(&mut self, attempt: (u128, u32)) {
        self.probe = self.probe.filter(|probe| *probe != attempt);
    }

    /// Opens the lane, as an operator asks for.
    pub(crate) fn open(&mut self) {
        self.cool_downs = 0;
        self.probe = None;
        self.failures = 0;
        self.suspects.clear();
    }

    /// Keeps a job back until the lane opens.
    pub(crate) fn keep_back(&mut self, key: u128) {
        if !self.kept_back.contains(&key) {
            self.kept_back.push(key);
        }
    }

    /// Takes the jobs that were kept back, if the lane is open.
    pub(crate) fn set_free(&mut self) -> Vec<u128> {
        if self.cool_downs > 0 { Vec::new() } else { std::mem::take(&mut self.kept_back) }
    }

    /// Decides whom a failure is charged to. `faults` are the job's own.
    pub(crate) fn charge(
        &mut self,
        failed: &Failed,
        faults: &mut Option<Faults>,
        now: Millis,
    ) -> Charge {
        let is_probe = self.probe == Some(failed.attempt);
        self.ended(failed.attempt);
        let is_down = self.cool_downs > 0;
        let known = *faults.get_or_insert(Faults { before: self.tally, own: 0 });
        let is_proven = !is_down && self.successes_since(known) >= PROOF;
        if failed.fault == Fault::Unclear {
            return self.charge_unclear(failed, is_probe, is_proven, now);
        }
        let is_rate = matches!(failed.fault, Fault::Rate(_));
        if is_proven && (!is_rate || self.is_exception(known)) {
            return Charge::Job;
        }
        self.tally.faults += 1;
        let before = Tally { faults: known.before.faults + 1, ..known.before };
        *faults = Some(Faults { before, own: known.own + 1 });
        let weight = match failed.fault {
            Fault::Rate(_) if is_proven => return lane(now.after(failed.delay), None),
            Fault::Rate(wait) => {
                // An upstream that refuses for the rate is there.
                if is_probe {
                    self.open();
                    self.recovered = now;
                }
                return lane(now, Some(now.after(wait)));
            }
            Fault::Certain | Fault::Unavailable if now >= self.recovered.after(CALM) => FAILURES,
            Fault::Upstream | Fault::Certain | Fault::Unavailable | Fault::Unclear => 1,
        };
        let stops_until = (failed.fault == Fault::Unavailable).then(|| now.after(failed.delay));
        if is_down && !is_probe {
            return lane(now, stops_until);
        }
        self.failures += weight;
        if is_probe || self.failures >= FAILURES {
            return self.cool_down(failed, stops_until, now);
        }
        lane(now.after(failed.delay), stops_until)
    }

    fn successes_since(&self, job: Faults) -> i64 {
        self.tally.successes - job.before.successes
    }

    /// True if a job is refused for the rate more often than by chance: had it fared like the others, as many tries as
    /// it had refusals would have brought [`PROOF`] successes.
    fn is_exception(&self, job: Faults) -> bool {
        let others = self.tally.faults - job.before.faults;
        self.successes_since(job) * job.own >= PROOF * (others + 1)
    }

    fn charge_unclear(
        &mut self,
        failed: &Failed,
        is_probe: bool,
        is_proven: bool,
        now: Millis,
    ) -> Charge {
        if is_probe {
            return self.cool_down(failed, None, now);
        }
        if self.cool_downs > 0 {
            return lane(now, None);
        }
        if is_proven {
            return Charge::Job;
        }
        let (key, _) = failed.attempt;
        match self.suspects.iter_mut().find(|(suspect, _)| *suspect == key) {
            Some((_, spent)) => *spent += 1,
            None => self.suspects.push((key, 1)),
        }
        if self.suspects.len() < SUSPECTS {
            return Charge::Job;
        }
        // This attempt was never counted; earlier ones are subtracted.
        if let Some((_, spent)) = self.suspects.iter_mut().find(|(suspect, _)| *suspect == key) {
            *spent -= 1;
        }
        self.cool_down(failed, None, now)
    }

    fn cool_down(&mut self, failed: &Failed, stops_until: Option<Millis>, now: Millis) -> Charge {
        if self.cool_downs == 0 {
            self.since = now;
        }
        let length = FIRST_COOL_DOWN
            .saturating_mul(1_u32.checked_shl(self.cool_downs).unwrap_or(u32::MAX))
            .min(LONGEST_COOL_DOWN);
        self.cool_downs += 1;
        self.failures = 0;
        self.probe_at = after(now, length, PROBE_AFTER.0 + PROBE_AFTER.1 * failed.unit);
        Charge::Lane {
            again_at: after(now, length, SAME_JOB_AFTER),
            cools_down: true,
            stops_until,
            give_back: std::mem::take(&mut self.suspects),
        }
    }
}

fn lane(again_at: Millis, stops_until: Option<Millis>) -> Charge {
    Charge::Lane { again_at, cools_down: false, stops_until, give_back: Vec::new() }
}

/// `part` of `length` after `now`, in whole milliseconds.
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_precision_loss,
    clippy::cast_sign_loss,
    reason = "a part of a minute"
)]
fn after(now: Millis, length: Duration, part: f64) -> Millis {
    now.after(Duration::from_millis((millis(length) as f64 * part) as u64))
}
