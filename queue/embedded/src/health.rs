//! The health of one lane shard: see [`causeway_queue::health`] for its rules.

use std::time::Duration;

use causeway_queue::{
    clock::{Millis, millis},
    health::{
        CALM, FAILURES, FIRST_COOL_DOWN, Fault, LONGEST_COOL_DOWN, MOST_PASSED_OVER, PROBE_AFTER,
        PROOF, SAME_JOB_AFTER, SUSPECTS,
    },
};

/// The health of one lane shard.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Health {
    tally: Tally,
    /// Failures of the upstream in a row.
    failures: u32,
    /// The jobs in a row with an unclear failure, each with the number of attempts that it spent on them.
    suspects: Vec<(u128, u32)>,
    /// Cool-downs in a row; 0 while the lane is open.
    cool_downs: u32,
    /// The start of the first of them.
    since: Millis,
    /// The earliest start of the next probe.
    probe_at: Millis,
    /// The attempt that probes the upstream, as job and epoch.
    probe: Option<(u128, u32)>,
    /// The time at which the latest cool-down was ended by an answer.
    recovered: Millis,
    /// The jobs that are kept back until the lane opens: see [`KEPT_BACK`].
    kept_back: Vec<u128>,
}

/// The counts of a lane's attempts so far.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Tally {
    successes: i64,
    /// Failures that were charged to the lane, without unclear ones.
    faults: i64,
}

/// The history of a job that has failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Faults {
    /// The lane's tally at the job's first failure, plus the job's own faults since.
    before: Tally,
    /// The number of the job's own faults.
    own: i64,
}

/// The party that a failure is charged to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Charge {
    /// The job: the attempt is spent.
    Job,
    /// The lane: the attempt is not spent, and the job may run again at `again_at`.
    Lane {
        /// The earliest start of the next attempt; it may be in the past.
        again_at: Millis,
        /// True if the failure started a cool-down.
        cools_down: bool,
        /// The time before which nothing of the lane starts.
        stops_until: Option<Millis>,
        /// The other jobs that get attempts back, and the number of these.
        give_back: Vec<(u128, u32)>,
    },
}

/// A failed attempt, as input of [`Health::charge`].
#[derive(Debug)]
pub(crate) struct Failed {
    /// The job and the epoch of the attempt.
    pub(crate) attempt: (u128, u32),
    /// The fault.
    pub(crate) fault: Fault,
    /// The wait before the job's next attempt while the lane is open.
    pub(crate) delay: Duration,
    /// A random number in [0, 1).
    pub(crate) unit: f64,
}

impl Health {
    /// Returns the start of the outage and the time of the next probe; `None` while the lane is open.
    pub(crate) fn down(&self) -> Option<(Millis, Millis)> {
        (self.cool_downs > 0).then_some((self.since, self.probe_at))
    }

    /// Returns the attempt that probes the upstream.
    #[cfg(feature = "audit")]
    pub(crate) fn probe(&self) -> Option<(u128, u32)> {
        self.probe
    }

    /// Returns the earliest start of an attempt: in the past while the lane is open, `None` while a probe runs.
    pub(crate) fn open_at(&self) -> Option<Millis> {
        self.probe.is_none().then_some(if self.cool_downs > 0 { self.probe_at } else { Millis(0) })
    }

    /// Returns the number of jobs without failures that the next probe passes over.
    pub(crate) fn passes_over(&self) -> usize {
        let doubled = 1_usize.checked_shl(self.cool_downs.saturating_sub(1));
        doubled.map_or(MOST_PASSED_OVER, |count| (count - 1).min(MOST_PASSED_OVER))
    }

    /// Records a claimed attempt: while the lane is down, it is the probe.
    pub(crate) fn claimed(&mut self, attempt: (u128, u32)) {
        if self.cool_downs > 0 {
            self.probe = Some(attempt);
        }
    }

    /// Records a successful attempt.
    pub(crate) fn succeeded(&mut self, attempt: (u128, u32), now: Millis) {
        self.tally.successes += 1;
        if self.probe == Some(attempt) {
            self.open();
            self.recovered = now;
        }
        // The upstream works, so earlier unclear failures were not its own.
        self.failures = 0;
        self.suspects.clear();
    }

    /// Records an attempt that ended without evidence about the upstream. If it was the probe, the next job probes.
    pub(crate) fn ended(&mut self, attempt: (u128, u32)) {
        self.probe = self.probe.filter(|probe| *probe != attempt);
    }

    /// Opens the lane, also on an operator's request.
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

    /// Decides which party a failure is charged to. `faults` is the history of the job.
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
        // The job's own fault counts for the lane and is subtracted on the job's side: `is_exception` compares it
        // with others.
        self.tally.faults += 1;
        let before = Tally { faults: known.before.faults + 1, ..known.before };
        *faults = Some(Faults { before, own: known.own + 1 });
        let weight = match failed.fault {
            // The lane works for others, so the refusal delays this job only.
            Fault::Rate(_) if is_proven => return lane(now.after(failed.delay), None),
            Fault::Rate(wait) => {
                // A refusal because of a rate proves that the upstream is reachable.
                if is_probe {
                    self.open();
                    self.recovered = now;
                }
                return lane(now, Some(now.after(wait)));
            }
            // Enough to cool the lane down by itself.
            Fault::Certain | Fault::Unavailable if now >= self.recovered.after(CALM) => FAILURES,
            Fault::Upstream | Fault::Certain | Fault::Unavailable | Fault::Unclear => 1,
        };
        let stops_until = (failed.fault == Fault::Unavailable).then(|| now.after(failed.delay));
        // A straggler that started before the cool-down: it is evidence of the same outage and must not prolong it.
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

    /// Returns true if a job is refused because of a rate more often than by chance: with the success rate of the
    /// other jobs, as many attempts as its refusals would have brought [`PROOF`] successes.
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
            // A failed probe closes the lane, whatever its fault.
            return self.cool_down(failed, None, now);
        }
        if self.cool_downs > 0 {
            // A straggler that started before the cool-down, as in `charge`.
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
        // `suspects` counts spent attempts only. This one is handed back by the lane's charge, so it is taken off
        // again.
        if let Some((_, spent)) = self.suspects.iter_mut().find(|(suspect, _)| *suspect == key) {
            *spent -= 1;
        }
        self.cool_down(failed, None, now)
    }

    fn cool_down(&mut self, failed: &Failed, stops_until: Option<Millis>, now: Millis) -> Charge {
        // The outage lasts from the first cool-down to the recovery.
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

/// Returns a charge to the lane without a cool-down.
fn lane(again_at: Millis, stops_until: Option<Millis>) -> Charge {
    Charge::Lane { again_at, cools_down: false, stops_until, give_back: Vec::new() }
}

/// Returns the moment `part` of `length` after `now`, in whole milliseconds.
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_precision_loss,
    clippy::cast_sign_loss,
    reason = "a part of a minute"
)]
fn after(now: Millis, length: Duration, part: f64) -> Millis {
    now.after(Duration::from_millis((millis(length) as f64 * part) as u64))
}
