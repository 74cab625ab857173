//! What a turn costs, and how turns are ordered: start-time fair queueing (Goyal, Vin and Cheng,
//! SIGCOMM 1996), charged in tokens.
//!
//! Every flow (class x tenant) has a tag, and the shard has a virtual time. The flow with the
//! lowest start tag is served next:
//!
//! ```text
//! start        = max(flow tag, min(virtual time, lowest start that waits))
//! virtual time = the highest of: start - unsettled / weight, of each attempt that was begun
//! flow tag     = start + estimate / weight;                unsettled += estimate
//! at the end:    flow tag += (actual - estimate) / weight;  unsettled -= estimate
//! ```
//!
//! so backlogged flows receive tokens in proportion to their weights, and an idle flow neither
//! saves up turns nor loses any. In the paper lengths are known, and one packet is under way at a time;
//! its virtual time is the start itself. Here many attempts of a flow run at once, and their estimates
//! may be a hundred times what they use. So virtual time leaves out what is unsettled: whoever comes
//! would else wait until others have used what they were only thought to use. And a flow whose
//! estimates were too high falls behind virtual time when they are settled: hence the minimum.

use crate::{limits::TenantLimits, state::Class};

/// Completion tokens that a lane is thought to return before it has returned anything.
pub const FIRST_COMPLETION_GUESS: f64 = 256.0;

/// Most tokens that an attempt is taken to cost, and that an answer is taken to have: more than any
/// model reads or writes at once, and so few that what a client or an upstream makes up does no lasting
/// harm to those who share its lane.
pub const MOST_TOKENS: u64 = 1 << 24;

/// Most completion tokens that a job is thought to cost, as a multiple of the lane's mean completion: a
/// request may allow millions of tokens that its answer never has, and a lane's token rate must not wait for them.
pub const MOST_COMPLETION_OF_MEAN: f64 = 8.0;

/// How much one answer moves the lane's guess of the next.
pub const LEARNING_RATE: f64 = 1.0 / 16.0;

/// What a job is expected to cost, in tokens.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Estimate {
    /// Tokens of the prompt.
    pub prompt: u64,
    /// Most tokens of the completion, if the body bounds them; otherwise the lane's running mean.
    pub completion: Option<u64>,
}

impl Estimate {
    /// An estimate from the size of a body (four bytes a token) and the bound that it sets.
    #[must_use]
    pub fn of_body(bytes: usize, completion: Option<u64>) -> Self {
        Self { prompt: (bytes as u64).div_ceil(4), completion }
    }

    /// The estimate as one number, at least 1 and at most [`MOST_TOKENS`]; `mean` is the lane's mean
    /// completion, of which at most [`MOST_COMPLETION_OF_MEAN`] is taken for one answer.
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

/// The weight of a tenant's flow of `class`.
#[must_use]
pub fn weight(class: Class, limits: &TenantLimits) -> f64 {
    f64::from(class.weight()) * f64::from(limits.weight.clamp(1, 1000))
}
