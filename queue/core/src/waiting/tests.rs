use super::*;

const PAGE: &str = include_str!("../../../../docs/operations.md");

const NOW: Millis = Millis(1_000);

/// The reasons that follow from gates, and not from the place of the job.
const FACTS: [&str; 7] = [
    "paused",
    "upstream_down",
    "upstream_rate",
    "tenant_cap",
    "tenant_rate",
    "lane_cap",
    "lane_rate",
];

fn gates(reasons: &[&str]) -> (Gate, LaneGate) {
    let holds = |name| reasons.contains(&name);
    let rate_until = |name| holds(name).then_some(NOW);
    let down = Down { since: NOW, probe_at: NOW, error: None };
    let tenant = Gate {
        is_paused: false,
        is_at_cap: holds("tenant_cap"),
        rate_until: rate_until("tenant_rate"),
    };
    let gate = Gate {
        is_paused: holds("paused"),
        is_at_cap: holds("lane_cap"),
        rate_until: rate_until("lane_rate"),
    };
    let down = holds("upstream_down").then_some(down);
    (tenant, LaneGate { gate, down, refused_until: rate_until("upstream_rate") })
}

fn names() -> impl Iterator<Item = &'static str> {
    WaitingFor::ALL.into_iter().map(|(name, _)| name)
}

#[test]
fn the_first_reason_that_holds_is_reported() {
    let places = [
        (WaitingPlace::Ready, "turn"),
        (WaitingPlace::Held, "session"),
        (WaitingPlace::BetweenAttempts, "retry"),
        (WaitingPlace::Delayed, "schedule"),
    ];
    for subset in 0..1_usize << FACTS.len() {
        let facts: Vec<&str> =
            (0..FACTS.len()).filter(|n| subset & (1 << n) != 0).map(|n| FACTS[n]).collect();
        let (tenant, lane) = gates(&facts);
        for (place, own) in places {
            let holds = |name: &&str| facts.contains(name) || *name == own;
            let first = names().find(holds);
            let reported = WaitingFor::of(place, &tenant, &lane);
            assert_eq!(Some(reported.as_str()), first, "{facts:?}, {own}");
        }
    }
}

#[test]
fn a_paused_tenant_is_paused() {
    let tenant = Gate { is_paused: true, ..Gate::default() };
    let reported = WaitingFor::of(WaitingPlace::Ready, &tenant, &LaneGate::default());
    assert_eq!(reported, WaitingFor::Paused);
}

#[test]
fn a_missing_worker_precedes_later_reasons() {
    for (subset, reported) in [
        (&["paused", "upstream_down"][..], "paused"),
        (&["upstream_down"], "no_worker"),
        (&["tenant_cap"], "no_worker"),
        (&[], "no_worker"),
    ] {
        let (tenant, lane) = gates(subset);
        let reason = WaitingFor::of(WaitingPlace::Ready, &tenant, &lane);
        assert_eq!(reason.without_worker().as_str(), reported, "{subset:?}");
    }
    assert_eq!(WaitingFor::Schedule.without_worker(), WaitingFor::Schedule);
}

#[test]
fn the_table_of_reasons_equals_the_order() {
    let lines = PAGE.lines().skip_while(|line| !line.starts_with("| `waiting_for` |")).skip(2);
    let rows: Vec<&str> = lines.take_while(|line| line.starts_with('|')).collect();
    assert_eq!(rows.len(), WaitingFor::ALL.len());
    for (row, (name, words)) in rows.into_iter().zip(WaitingFor::ALL) {
        assert!(row.starts_with(&format!("| `{name}` | {words} |")), "{row}");
    }
}
