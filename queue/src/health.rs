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
//! - A lane failure is charged to the job once the lane had [`PROOF`] successes since the job's first failure. A
//!   refusal for the rate is so only once these outweigh other jobs' failures ([`PROOF`] successes each) by [`PROOF`].

use std::time::Duration;

use crate::clock::{Millis, millis};

/// Failures of the upstream in a row after which a lane cools down.
pub const FAILURES: u32 = 3;

/// Different jobs in a row with an unclear failure after which a lane cools down.
pub const SUSPECTS: usize = 5;

/// Successes of the lane that prove one job wrong; also how many successes one failure of another job
/// outweighs.
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
    /// Successes, and failures that were charged to the lane, each as many as the successes that outweigh it.
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

/// What a lane has met so far; of a job, what its lane had met at the job's first failure.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Tally {
    successes: i64,
    /// [`PROOF`] for each failure that was charged to the lane; of a job without its own.
    penalties: i64,
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

    /// Decides whom a failure is charged to. `first` is the job's own: the lane's tally at the job's first failure
    /// that was charged to the lane.
    pub(crate) fn charge(
        &mut self,
        failed: &Failed,
        first: &mut Option<Tally>,
        now: Millis,
    ) -> Charge {
        let is_probe = self.probe == Some(failed.attempt);
        self.ended(failed.attempt);
        if failed.fault == Fault::Unclear {
            return self.charge_unclear(failed, first, is_probe, now);
        }
        let is_down = self.cool_downs > 0;
        let is_proven = first.is_some_and(|first| self.is_proven(first, failed.fault));
        if is_proven && !is_down {
            return Charge::Job;
        }
        self.tally.penalties += PROOF;
        match first {
            Some(first) => first.penalties += PROOF,
            None => *first = Some(self.tally),
        }
        let weight = match failed.fault {
            Fault::Rate(_) => {
                // An upstream that refuses for the rate is there.
                if is_probe {
                    self.open();
                    self.recovered = now;
                }
                return at(now);
            }
            Fault::Certain | Fault::Unavailable if now >= self.recovered.after(CALM) => FAILURES,
            Fault::Upstream | Fault::Certain | Fault::Unavailable | Fault::Unclear => 1,
        };
        if is_down && !is_probe {
            return at(now);
        }
        self.failures += weight;
        if is_probe || self.failures >= FAILURES {
            return self.cool_down(failed, now);
        }
        at(now.after(failed.delay))
    }

    /// True if the lane's successes since a job's first failure show that the job is the exception. A rate refuses
    /// whichever job comes too early, so there the failures of other jobs count, too.
    fn is_proven(&self, first: Tally, fault: Fault) -> bool {
        let successes = self.tally.successes - first.successes;
        let penalties = match fault {
            Fault::Rate(_) => self.tally.penalties - first.penalties,
            Fault::Upstream | Fault::Unavailable | Fault::Certain | Fault::Unclear => 0,
        };
        successes - penalties >= PROOF
    }

    fn charge_unclear(
        &mut self,
        failed: &Failed,
        first: &mut Option<Tally>,
        is_probe: bool,
        now: Millis,
    ) -> Charge {
        let is_proven = first.is_some_and(|first| self.is_proven(first, failed.fault));
        first.get_or_insert(self.tally);
        if is_probe {
            return self.cool_down(failed, now);
        }
        if self.cool_downs > 0 {
            return at(now);
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
        self.cool_down(failed, now)
    }

    fn cool_down(&mut self, failed: &Failed, now: Millis) -> Charge {
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
            give_back: std::mem::take(&mut self.suspects),
        }
    }
}

fn at(again_at: Millis) -> Charge {
    Charge::Lane { again_at, cools_down: false, give_back: Vec::new() }
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
