//! The results of an experiment, as a table and as JSON.

use std::{collections::BTreeMap, fmt, time::Duration};

use serde::{Deserialize, Serialize};

use super::load::{Visit, VisitOutcome};

/// The results of an experiment.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Report {
    /// The name of the target.
    pub(super) target: String,
    /// The start of the experiment, in RFC 3339.
    pub(super) started_at: String,
    /// The number of users.
    pub(super) users: usize,
    /// The time after which a user gave up, in seconds.
    pub(super) timeout_s: f64,
    /// The number of answered users.
    pub(super) completed: usize,
    /// The waits of the answered users; `None` if there are none.
    pub(super) wait_s: Option<Waits>,
    /// The number of users that gave up.
    pub(super) timed_out: usize,
    /// The number of other failures, by kind.
    pub(super) errors: BTreeMap<String, usize>,
    /// The time from the common moment until the last user had finished, in seconds.
    pub(super) took_s: f64,
    /// The result of each user, in the order of their waits.
    pub(super) visits: Vec<UserResult>,
}

/// The waits of the answered users, in seconds; percentiles are by nearest rank.
#[derive(Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct Waits {
    pub(super) mean: f64,
    pub(super) p50: f64,
    pub(super) p99: f64,
    pub(super) max: f64,
}

/// The result of one user.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct UserResult {
    /// The wait in seconds.
    pub(super) wait_s: f64,
    #[serde(serialize_with = "as_text", deserialize_with = "of_text")]
    pub(super) outcome: VisitOutcome,
}

fn as_text<S: serde::Serializer>(outcome: &VisitOutcome, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(match outcome {
        VisitOutcome::Completed => "completed",
        VisitOutcome::TimedOut => "timed out",
        VisitOutcome::Failed(kind) => kind,
    })
}

fn of_text<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<VisitOutcome, D::Error> {
    let text = String::deserialize(deserializer)?;
    Ok(match text.as_str() {
        "completed" => VisitOutcome::Completed,
        "timed out" => VisitOutcome::TimedOut,
        _ => VisitOutcome::Failed(text),
    })
}

impl Report {
    /// Summarizes `visits`.
    pub(super) fn of(
        target: String,
        started_at: String,
        timeout: Duration,
        mut visits: Vec<Visit>,
    ) -> Self {
        visits.sort_by_key(|visit| visit.wait);
        let answered: Vec<f64> = visits
            .iter()
            .filter(|visit| visit.outcome == VisitOutcome::Completed)
            .map(|visit| visit.wait.as_secs_f64())
            .collect();
        let mut errors = BTreeMap::new();
        let mut timed_out = 0;
        for visit in &visits {
            match &visit.outcome {
                VisitOutcome::Completed => {}
                VisitOutcome::TimedOut => timed_out += 1,
                VisitOutcome::Failed(kind) => *errors.entry(kind.clone()).or_insert(0) += 1,
            }
        }
        let entry =
            |visit: Visit| UserResult { wait_s: visit.wait.as_secs_f64(), outcome: visit.outcome };
        Self {
            target,
            started_at,
            users: visits.len(),
            timeout_s: timeout.as_secs_f64(),
            completed: answered.len(),
            wait_s: Waits::of(&answered),
            timed_out,
            errors,
            took_s: visits.last().map_or(0.0, |visit| visit.wait.as_secs_f64()),
            visits: visits.into_iter().map(entry).collect(),
        }
    }
}

impl Waits {
    /// Returns the statistics of the ascending waits `sorted`; `None` if there are none.
    fn of(sorted: &[f64]) -> Option<Self> {
        let max = *sorted.last()?;
        #[expect(clippy::cast_precision_loss, reason = "far below 2^52 users")]
        let mean = sorted.iter().sum::<f64>() / sorted.len() as f64;
        let rank = |percent: usize| {
            let rank = (sorted.len() * percent).div_ceil(100);
            sorted.get(rank.saturating_sub(1)).copied().unwrap_or(max)
        };
        Some(Self { mean, p50: rank(50), p99: rank(99), max })
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { users, completed, timed_out, .. } = self;
        writeln!(f, "  completed   {completed} of {users}")?;
        if let Some(waits) = &self.wait_s {
            writeln!(f, "  mean wait   {:.3} s", waits.mean)?;
            writeln!(f, "  p50         {:.3} s", waits.p50)?;
            writeln!(f, "  p99         {:.3} s", waits.p99)?;
            writeln!(f, "  max         {:.3} s", waits.max)?;
        }
        writeln!(f, "  time-outs   {timed_out} (after {} s)", self.timeout_s)?;
        if self.errors.is_empty() {
            writeln!(f, "  errors      0")?;
        }
        for (kind, count) in &self.errors {
            writeln!(f, "  errors      {count} {kind}")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn visits(waits_ms: impl Iterator<Item = u64>, outcome: &VisitOutcome) -> Vec<Visit> {
        waits_ms
            .map(|ms| Visit { wait: Duration::from_millis(ms), outcome: outcome.clone() })
            .collect()
    }

    fn report(visits: Vec<Visit>) -> Report {
        Report::of("x".to_owned(), String::new(), Duration::from_secs(30), visits)
    }

    #[test]
    fn percentiles_cover_answered_users_only() {
        let mut all = visits((1..=100).rev().map(|n| n * 100), &VisitOutcome::Completed);
        all.extend(visits([30_000; 5].into_iter(), &VisitOutcome::TimedOut));
        all.extend(visits([3].into_iter(), &VisitOutcome::Failed("connection reset".to_owned())));
        let report = report(all);
        assert_eq!((report.users, report.completed, report.timed_out), (106, 100, 5));
        assert_eq!(report.errors["connection reset"], 1);
        let waits = report.wait_s.as_ref().unwrap();
        assert!((waits.mean - 5.05).abs() < 1e-9);
        assert_eq!(*waits, Waits { mean: waits.mean, p50: 5.0, p99: 9.9, max: 10.0 });
        let text = report.to_string();
        for line in ["100 of 106", "p50         5.000 s", "time-outs   5", "1 connection reset"] {
            assert!(text.contains(line), "{text}");
        }
    }

    #[test]
    fn unanswered_users_have_no_waits() {
        let report = report(visits([30_000; 3].into_iter(), &VisitOutcome::TimedOut));
        assert_eq!((report.completed, report.wait_s.as_ref()), (0, None));
        assert!(report.to_string().contains("completed   0 of 3"));
    }

    #[test]
    fn a_written_report_reads_back() {
        let mut all = visits([5000].into_iter(), &VisitOutcome::Completed);
        all.extend(visits([6000].into_iter(), &VisitOutcome::TimedOut));
        all.extend(visits([7].into_iter(), &VisitOutcome::Failed("HTTP 500".to_owned())));
        let written = serde_json::to_string(&report(all)).unwrap();
        let read: Report = serde_json::from_str(&written).unwrap();
        assert_eq!(serde_json::to_string(&read).unwrap(), written);
    }

    #[test]
    fn one_wait_is_all_its_percentiles() {
        assert_eq!(Waits::of(&[2.0]), Some(Waits { mean: 2.0, p50: 2.0, p99: 2.0, max: 2.0 }));
    }
}
