//! Lane health: the party that a failed attempt is charged to, and the recovery of a failing lane.
//!
//! Some failures are caused by the upstream and not by the job. They are counted for the lane: after [`FAILURES`] in
//! a row without a success between, the lane cools down, so nothing is claimed from it. After the cool-down, one job
//! probes the upstream. A success opens the lane; a failure doubles the cool-down, from [`FIRST_COOL_DOWN`] to
//! [`LONGEST_COOL_DOWN`]. This is the circuit breaker of Nygard, "Release It!", 2nd edition, chapter 5.
//!
//! A failure that is charged to the lane spends no attempt of its job, and the job keeps its place.
//!
//! - An *unclear* failure is charged to the job, unless [`SUSPECTS`] different jobs in a row had one: then the lane
//!   cools down, and these jobs get their attempts back.
//! - A lane failure is charged to the job if the lane had [`PROOF`] successes since the job's first failure.
//! - After as many successes, a refusal because of a rate no longer stops the other jobs. It is charged to the job
//!   only if it cannot be chance, for a rate refuses any job that is sent too early.

use std::time::Duration;

/// The failures of the upstream in a row after which a lane cools down.
pub const FAILURES: u32 = 3;

/// The different jobs in a row with an unclear failure after which a lane cools down.
pub const SUSPECTS: usize = 5;

/// The successes of the lane after which a job's failures are charged to the job.
pub const PROOF: i64 = 5;

/// The first cool-down of a lane. Each further one is twice as long.
pub const FIRST_COOL_DOWN: Duration = Duration::from_secs(1);

/// The longest cool-down of a lane.
pub const LONGEST_COOL_DOWN: Duration = Duration::from_secs(60);

/// The time after a recovery for which a certain failure counts like any other. Otherwise failures of single jobs (a
/// model that does not exist) would close a lane again and again in which other jobs succeed.
pub const CALM: Duration = Duration::from_secs(60);

/// The start of the probe as a part of the cool-down: the fixed part, and the most that is added at random. The
/// random part spreads the probes of lanes that failed together.
pub const PROBE_AFTER: (f64, f64) = (0.8, 0.3);

/// The next start of the job that caused the cool-down, as a part of the cool-down. It is later than the latest
/// probe, so that another job probes first if there is one.
pub const SAME_JOB_AFTER: f64 = 1.15;

/// The time for which a failed job is kept back if another job can probe, unless the lane opens before: a job that
/// always fails must not probe for all others.
pub const KEPT_BACK: Duration = Duration::from_secs(600);

/// The most jobs without failures that a probe passes over. Each failed probe passes over twice as many as the one
/// before, so that bad jobs in a row do not keep the lane closed.
pub const MOST_PASSED_OVER: usize = 31;

/// The meaning of a failed attempt for its upstream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// The upstream refuses further requests for this time.
    Rate(Duration),
    /// The upstream failed, whatever the request.
    Upstream,
    /// The upstream is unavailable until a named time, which is the attempt's delay. The lane cools down at the first
    /// such failure, and nothing of it starts before that time.
    Unavailable,
    /// The upstream failed, and it will not recover by itself: a refused key, a missing model, a spent budget. The
    /// lane cools down at the first.
    Certain,
    /// The upstream failed, perhaps because of the request: an internal error, a broken answer, a time-out.
    Unclear,
}
