//! The cost and the order of attempts: start-time fair queueing (Goyal, Vin and Cheng, SIGCOMM 1996), charged in
//! tokens.
//!
//! Every flow (class x tenant) has a tag, and the shard has a virtual time. The flow with the lowest start tag is
//! served next:
//!
//! ```text
//! start        = max(flow tag, min(virtual time, lowest start that waits))
//! virtual time = the highest of: start - unsettled / weight, of each started attempt
//! flow tag     = start + estimate / weight;                unsettled += estimate
//! at the end:    flow tag += (actual - estimate) / weight;  unsettled -= estimate
//! ```
//!
//! So backlogged flows receive tokens in proportion to their weights, and an idle flow neither saves up turns nor
//! loses any.
//!
//! The paper assumes that lengths are known and that one packet is served at a time; its virtual time is the start
//! tag itself. Here a flow runs many attempts at once, and an estimate may be a hundred times the actual cost.
//! Therefore virtual time leaves out unsettled cost: otherwise a new flow would wait until others had used tokens
//! that were only estimated. A flow whose estimates were too high falls behind virtual time at settlement: hence the
//! minimum.

use crate::{limits::TenantLimits, state::Class};

/// The completion tokens that a lane is estimated to return before its first answer.
pub const FIRST_COMPLETION_GUESS: f64 = 256.0;

/// The most tokens that one attempt is charged, and the most that an answer is counted with. It is more than any
/// model reads or writes at once, and so few that an invented number does no lasting harm to other tenants of the
/// lane.
pub const MOST_TOKENS: u64 = 1 << 24;

/// The most completion tokens that a job is estimated to cost, as a multiple of the lane's mean completion. A request
/// may allow millions of tokens that its answer never has, and a lane's token rate must not wait for them.
pub const MOST_COMPLETION_OF_MEAN: f64 = 8.0;

/// The weight of one answer in the lane's running mean of completions.
pub const LEARNING_RATE: f64 = 1.0 / 16.0;

/// The length of one measurement of a lane's drain rate, in milliseconds. Its result enters the running mean.
pub const DRAIN_WINDOW_MS: f64 = 2000.0;

/// The time without a start after which the drain rate of a lane with waiting jobs is outdated, in milliseconds. While
/// attempts run it is [`DRAIN_GAPS`] times the mean gap if that is longer, because long calls end seldom.
pub const DRAIN_OUTDATED_MS: f64 = 10_000.0;

/// See [`DRAIN_OUTDATED_MS`].
pub const DRAIN_GAPS: f64 = 3.0;

/// The bytes of a body that are estimated as one token: the usual rule of thumb for English text.
pub const BYTES_PER_TOKEN: u64 = 4;

/// The expected cost of a job, in tokens.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Estimate {
    /// Tokens of the prompt.
    pub prompt: u64,
    /// The most tokens of the completion, if the body limits them; otherwise the lane's running mean applies.
    pub completion: Option<u64>,
}

impl Estimate {
    /// Returns an estimate from the size of a body (`BYTES_PER_TOKEN`) and its limit of completion tokens.
    #[must_use]
    pub fn of_body(bytes: usize, completion: Option<u64>) -> Self {
        Self { prompt: (bytes as u64).div_ceil(BYTES_PER_TOKEN), completion }
    }

    /// Returns the estimate as one number, from 1 to [`MOST_TOKENS`]. `mean` is the lane's mean completion; one
    /// answer counts at most [`MOST_COMPLETION_OF_MEAN`] times that.
    #[must_use]
    pub fn total(&self, mean: f64) -> u64 {
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "a mean of u64"
        )]
        let (mean, most) = (mean.round() as u64, (mean * MOST_COMPLETION_OF_MEAN).round() as u64);
        let completion = self.completion.map_or(mean, |completion| completion.min(most));
        self.prompt.saturating_add(completion).clamp(1, MOST_TOKENS)
    }
}

/// Returns the weight of a tenant's flow of `class`.
#[must_use]
pub fn weight(class: Class, limits: &TenantLimits) -> f64 {
    f64::from(class.weight()) * f64::from(limits.weight.clamp(1, 1000))
}
