//! The operations of a history, and their random generation.

use causeway_queue::limits::{LaneLimits, TenantLimits};
use proptest::prelude::*;

pub(super) const TENANTS: [&str; 3] = ["ann", "bob", "cem"];

/// The profiles of conversations; the first means none.
pub(super) const PROFILES: [&str; 3] = ["", "profile", "other"];

/// A random job; every index is taken modulo the number of choices.
#[derive(Debug, Clone, Default)]
pub(super) struct Draft {
    pub(super) tenant: usize,
    pub(super) class: usize,
    pub(super) session: Option<u8>,
    /// The number of turns that its conversation keeps.
    pub(super) remembers: Option<u32>,
    pub(super) keeps_events: bool,
    pub(super) completion: Option<u16>,
    pub(super) delay_s: u64,
    pub(super) deadline_s: Option<u64>,
    pub(super) key: Option<(u8, u8, bool)>,
    pub(super) large: bool,
    pub(super) webhook: bool,
}

#[derive(Debug, Clone)]
pub(super) enum End {
    Succeed(Option<u16>),
    Fail(Option<u16>),
    Retry(u64, Option<u16>),
    /// The kind of fault, and the delay in seconds.
    Fault(u8, u64),
    /// The delay in seconds.
    Release(u64),
    Cancelled,
    Expired,
}

/// One operation; every index is taken modulo the number of items.
#[derive(Debug, Clone)]
pub(super) enum Op {
    Enqueue(Vec<Draft>),
    Step(Vec<(usize, End)>, usize),
    ZombieSettles(usize, End),
    ExtendLeases,
    Crash(usize),
    Reap,
    Cancel(usize, usize),
    Retry(usize, usize),
    Emit(usize),
    Pause(Option<usize>, bool),
    Stop(u64),
    Limit(LaneLimits, Vec<(usize, TenantLimits)>),
    Pass(u64),
    /// The tenant, the limit, the job to continue after, and the kind of filter.
    List(usize, usize, Option<usize>, u8),
    HandOn(usize),
    /// The tenant, the session, and the change of the profile: from the known one (0: none) to the
    /// new one. `None` deletes the conversation.
    Talk(usize, u8, Option<(usize, usize)>),
    /// The most outbox entries, and the delay in seconds.
    Postpone(usize, u64),
    Reconcile,
}

fn draft() -> impl Strategy<Value = Draft> {
    let options = (
        prop_oneof![3 => Just(0_u64), 1 => 1..20_u64],
        prop::option::weighted(0.15, 1..60_u64),
        prop::option::weighted(0.2, (0..3_u8, 0..2_u8, prop::bool::weighted(0.2))),
        (prop::bool::weighted(0.1), prop::bool::weighted(0.3)),
    );
    (
        (0..3_usize, 0..3_usize, prop::option::weighted(0.4, 0..2_u8)),
        (prop::option::of(0..4_u32), any::<bool>(), prop::option::of(1..5000_u16)),
        options,
    )
        .prop_map(
            |((tenant, class, session), (remembers, keeps_events, completion), options)| {
                let (delay_s, deadline_s, key, (large, webhook)) = options;
                Draft {
                    tenant,
                    class,
                    session,
                    remembers,
                    keeps_events,
                    completion,
                    delay_s,
                    deadline_s,
                    key,
                    large,
                    webhook,
                }
            },
        )
}

/// Returns runs of jobs that have nothing but a record, as most jobs do.
fn plain_group() -> impl Strategy<Value = Vec<Draft>> {
    let run = (0..3_usize, 0..3_usize, prop::collection::vec(prop::option::of(1..5000_u16), 1..5));
    prop::collection::vec(run, 1..4).prop_map(|runs| {
        let jobs = runs.into_iter().flat_map(|(tenant, class, completions)| {
            completions.into_iter().map(move |completion| (tenant, class, completion))
        });
        let draft =
            |(tenant, class, completion)| Draft { tenant, class, completion, ..Draft::default() };
        jobs.map(draft).collect()
    })
}

fn end() -> impl Strategy<Value = End> {
    prop_oneof![
        4 => prop::option::of(0..9000_u16).prop_map(End::Succeed),
        1 => prop::option::of(0..9000_u16).prop_map(End::Fail),
        2 => (0..10_u64, prop::option::of(0..9000_u16)).prop_map(|(s, tokens)| End::Retry(s, tokens)),
        3 => (0..5_u8, 0..10_u64).prop_map(|(fault, s)| End::Fault(fault, s)),
        1 => prop_oneof![Just(0), 1..5_u64].prop_map(End::Release),
        1 => Just(End::Cancelled),
        1 => Just(End::Expired),
    ]
}

fn lane_limits() -> impl Strategy<Value = LaneLimits> {
    (
        prop::option::of(1..6_u32),
        prop_oneof![3 => Just(1000_u64), 1 => 0..30_u64],
        prop::option::weighted(0.2, 1..60_u32),
        prop::option::weighted(0.2, 100..100_000_u64),
    )
        .prop_map(|(max_running, max_queued, requests_per_minute, tokens_per_minute)| {
            LaneLimits { max_running, max_queued, requests_per_minute, tokens_per_minute }
        })
}

fn tenant_limits() -> impl Strategy<Value = TenantLimits> {
    (
        1..7_u32,
        prop::option::of(1..4_u32),
        prop::option::weighted(0.2, 0..10_u64),
        prop::option::weighted(0.3, 1..60_u32),
        prop::option::weighted(0.3, 100..100_000_u64),
    )
        .prop_map(
            |(weight, max_running, max_queued, requests_per_minute, tokens_per_minute)| {
                TenantLimits {
                    weight,
                    max_running,
                    max_queued,
                    requests_per_minute,
                    tokens_per_minute,
                }
            },
        )
}

pub(super) fn op() -> impl Strategy<Value = Op> {
    let at = any::<usize>;
    prop_oneof![
        6 => prop::collection::vec(draft(), 1..5).prop_map(Op::Enqueue),
        2 => plain_group().prop_map(Op::Enqueue),
        10 => (prop::collection::vec((at(), end()), 0..7), 0..9_usize)
            .prop_map(|(ends, max)| Op::Step(ends, max)),
        2 => (at(), end()).prop_map(|(at, end)| Op::ZombieSettles(at, end)),
        2 => Just(Op::ExtendLeases),
        2 => at().prop_map(Op::Crash),
        2 => Just(Op::Reap),
        2 => (at(), at()).prop_map(|(job, tenant)| Op::Cancel(job, tenant)),
        2 => (at(), at()).prop_map(|(job, tenant)| Op::Retry(job, tenant)),
        2 => at().prop_map(Op::Emit),
        1 => (prop::option::of(0..3_usize), any::<bool>())
            .prop_map(|(tenant, paused)| Op::Pause(tenant, paused)),
        1 => (0..10_u64).prop_map(Op::Stop),
        2 => (lane_limits(), prop::collection::vec((0..3_usize, tenant_limits()), 0..3))
            .prop_map(|(lane, tenants)| Op::Limit(lane, tenants)),
        4 => prop_oneof![0..50_u64, 500..20_000_u64].prop_map(Op::Pass),
        2 => (0..3_usize, 1..5_usize, prop::option::of(at()), 0..8_u8)
            .prop_map(|(tenant, limit, after, by)| Op::List(tenant, limit, after, by)),
        1 => (1..4_usize).prop_map(Op::HandOn),
        3 => (0..3_usize, 0..2_u8, prop::option::of((0..PROFILES.len(), 1..PROFILES.len())))
            .prop_map(|(tenant, session, change)| Op::Talk(tenant, session, change)),
        1 => (1..4_usize, 0..5_u64).prop_map(|(most, s)| Op::Postpone(most, s)),
        1 => Just(Op::Reconcile),
    ]
}
