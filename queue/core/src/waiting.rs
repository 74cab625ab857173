//! The reason why a waiting job does not run: one reason, although several may hold at once.
//!
//! The reported reason is the first that holds in the order of [`WaitingFor::ALL`]: first the job's own start time,
//! then blocks on the whole lane, then the job's own waits, then limits, then its turn. So each reason is worth
//! acting on: nothing behind it would let the job start sooner. docs/operations.md has the order as a table; a test
//! compares it with this file.
//!
//! The engines collect the facts (`Gate`, `LaneGate`), and this module decides. Workers belong to no shard, so
//! [`Queue`](crate::Queue) adds [`WaitingFor::NoWorker`].

#![warn(clippy::wildcard_enum_match_arm)]

use crate::{attempt::AttemptError, clock::Millis};

/// The reason why a job waits.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub enum WaitingFor {
    /// Its start time: it was submitted with a delay.
    Schedule,
    /// A pause of its lane, or of its tenant in the lane, by an operator.
    Paused,
    /// A live worker that serves its lane.
    NoWorker,
    /// The recovery of its lane's failing upstream; one job at a time probes it.
    UpstreamDown(Down),
    /// The time that the upstream of its lane named when it refused a request.
    UpstreamRate {
        /// The named time.
        until: Millis,
    },
    /// The pause before its next attempt.
    Retry,
    /// An earlier job of its session.
    Session,
    /// The end of an attempt of its tenant, which runs as many as its cap allows.
    TenantCap,
    /// The rates of its tenant.
    TenantRate {
        /// The time of the tenant's next permitted attempt.
        until: Millis,
    },
    /// The end of an attempt in its lane, which runs as many as its cap allows.
    LaneCap,
    /// The rates of its lane.
    LaneRate {
        /// The time of the lane's next permitted attempt.
        until: Millis,
    },
    /// Its turn: jobs before it, or a worker with a free permit.
    #[default]
    Turn,
}

impl WaitingFor {
    /// All reasons in the order of precedence: the name that clients see, and its explanation.
    pub const ALL: [(&str, &str); 12] = [
        ("schedule", "its start time, which `delay_ms` set"),
        ("paused", "an operator, who paused its lane, or its tenant in the lane"),
        ("no_worker", "a worker: no live one serves its lane"),
        ("upstream_down", "the upstream of its lane, which fails"),
        ("upstream_rate", "the time that the upstream named when it refused a request"),
        ("retry", "the pause before its next attempt"),
        ("session", "an earlier job of its session"),
        ("tenant_cap", "a running job of its tenant, which is at its `max_running`"),
        ("tenant_rate", "the rates of its tenant"),
        ("lane_cap", "a running job of its lane, which is at its `max_running`"),
        ("lane_rate", "the rates of its lane"),
        ("turn", "its turn, or a worker with a free permit"),
    ];

    /// Returns the name that clients see.
    #[must_use]
    pub fn as_str(&self) -> &'static str {
        Self::ALL[self.precedence()].0
    }

    /// Returns the index in [`ALL`](Self::ALL): a lower one is reported before a higher one.
    pub fn precedence(&self) -> usize {
        match self {
            Self::Schedule => 0,
            Self::Paused => 1,
            Self::NoWorker => 2,
            Self::UpstreamDown(_) => 3,
            Self::UpstreamRate { .. } => 4,
            Self::Retry => 5,
            Self::Session => 6,
            Self::TenantCap => 7,
            Self::TenantRate { .. } => 8,
            Self::LaneCap => 9,
            Self::LaneRate { .. } => 10,
            Self::Turn => 11,
        }
    }

    /// Returns the reason of a job in this place, ignoring workers.
    pub fn of(place: WaitingPlace, tenant: &Gate, lane: &LaneGate) -> Self {
        // In the order of `ALL`: the first reason that holds is the one to act on.
        if place == WaitingPlace::Delayed {
            return Self::Schedule;
        }
        if tenant.is_paused || lane.gate.is_paused {
            return Self::Paused;
        }
        if let Some(down) = &lane.down {
            return Self::UpstreamDown(down.clone());
        }
        if let Some(until) = lane.refused_until {
            return Self::UpstreamRate { until };
        }
        match place {
            WaitingPlace::BetweenAttempts => return Self::Retry,
            WaitingPlace::Held => return Self::Session,
            WaitingPlace::Delayed | WaitingPlace::Ready => {}
        }
        let rate = tenant.rate_until.map(|until| Self::TenantRate { until });
        let rate_of_lane = lane.gate.rate_until.map(|until| Self::LaneRate { until });
        let cap = tenant.is_at_cap.then_some(Self::TenantCap);
        let cap_of_lane = lane.gate.is_at_cap.then_some(Self::LaneCap);
        cap.or(rate).or(cap_of_lane).or(rate_of_lane).unwrap_or_default()
    }

    /// Returns the reason if no live worker serves the lane.
    pub fn without_worker(self) -> Self {
        if self.precedence() > Self::NoWorker.precedence() { Self::NoWorker } else { self }
    }
}

/// The outage of a lane with a failing upstream: see [`crate::health`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Down {
    /// The start of the outage.
    pub since: Millis,
    /// The time of the next probe; in the past while a probe runs.
    pub probe_at: Millis,
    /// The latest error.
    pub error: Option<AttemptError>,
}

/// The set that holds a waiting job.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WaitingPlace {
    /// In its flow's ready set.
    Ready,
    /// Behind an earlier job of its session.
    Held,
    /// In the due set, between two attempts, or kept back while its lane is down.
    BetweenAttempts,
    /// In the due set, before its first attempt.
    Delayed,
}

/// The facts that may block the jobs of a lane, or those of a tenant.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Gate {
    /// True if an operator paused it.
    pub is_paused: bool,
    /// True if its running jobs are at its cap.
    pub is_at_cap: bool,
    /// The time of the next attempt that its rates permit; `None` if they permit one now.
    pub rate_until: Option<Millis>,
}

/// The facts that may block all jobs of a lane.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct LaneGate {
    /// The lane's own limits.
    pub gate: Gate,
    /// The outage of its upstream.
    pub down: Option<Down>,
    /// The end of the refusal by its upstream; `None` if there is none.
    pub refused_until: Option<Millis>,
}

#[cfg(test)]
mod tests;
