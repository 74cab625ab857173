//! Promises about the charging of failed attempts, and about lanes with a failing upstream.

use std::time::Duration;

use super::stage::{RELEASED, Stage, error, faulted, tenant_id};
use causeway_queue::{
    Fault, JobId, Lease, NewJob, Status,
    clock::Clock,
    fair::Estimate,
    health::{CALM, FAILURES, LONGEST_COOL_DOWN, PROOF, SUSPECTS},
    job::{ChargedTo, Output, State},
    lease::Settled,
    limits::LaneLimits,
};

const SECOND: Duration = Duration::from_secs(1);

/// Accepts `count` jobs of one tenant.
async fn accept(stage: &Stage, count: usize) -> Vec<JobId> {
    let mut ids = Vec::new();
    for _ in 0..count {
        ids.push(stage.accept(stage.job("ann")).await);
    }
    ids
}

/// Fails the attempts one after the other, each without a delay before the next attempt.
async fn fail(stage: &Stage, leases: impl IntoIterator<Item = Lease>, fault: Fault) {
    for lease in leases {
        let outcome = faulted(fault, Duration::ZERO, lease.attempt);
        stage.settle(lease, outcome).await;
    }
}

/// Returns the parties that the failed attempts of a job were charged to.
async fn charges(stage: &Stage, id: &JobId) -> Vec<ChargedTo> {
    stage.see(id).await.errors.iter().map(|failed| failed.charged_to).collect()
}

/// Makes the lane cool down.
async fn break_down(stage: &Stage) {
    let lease = stage.claim_one().await;
    fail(stage, [lease], Fault::Certain).await;
    assert!(stage.claim(10).await.is_empty(), "the lane is not down");
}

/// Returns the time until the next probe of the lane, which must be down.
async fn probe_in(stage: &Stage) -> Duration {
    let down = stage.store().stats(&stage.shard, None).await.unwrap().down;
    down.expect("the lane is down").probe_at.since(stage.clock.now())
}

/// Three failures of the upstream in a row cool the lane down; no attempt is spent and none is started.
pub async fn failures_in_a_row_cool_the_lane_down(stage: Stage) {
    let ids = accept(&stage, 10).await;
    let leases = stage.claim(5).await;
    fail(&stage, leases, Fault::Upstream).await;
    assert!(stage.claim(10).await.is_empty());
    let wait = probe_in(&stage).await;
    assert!(wait >= SECOND * 8 / 10 && wait <= SECOND * 12 / 10, "{wait:?}");
    for id in ids {
        let seen = stage.see(&id).await;
        assert_eq!(seen.attempts, 0);
        if seen.status() != Status::Running {
            assert_eq!(stage.reason(&id).await, "upstream_down");
        }
    }
    let down = stage.store().stats(&stage.shard, None).await.unwrap().down.unwrap();
    assert_eq!(down.error, Some(error(1)));
    stage.assert_sound().await;
}

/// A success between failures resets the count.
pub async fn a_success_resets_the_failure_count(stage: Stage) {
    accept(&stage, 20).await;
    for _ in 0..3 {
        let mut leases = stage.claim(FAILURES as usize).await;
        let last = leases.pop().unwrap();
        fail(&stage, leases, Fault::Upstream).await;
        stage.succeed(last).await;
    }
    assert_eq!(stage.claim(1).await.len(), 1);
    stage.assert_sound().await;
}

/// A refused key cools the lane down at the first failure.
pub async fn a_certain_failure_cools_the_lane_down(stage: Stage) {
    accept(&stage, 3).await;
    break_down(&stage).await;
    stage.assert_sound().await;
}

/// An upstream that names the time of its recovery is probed then, by one job.
pub async fn an_unavailable_lane_is_probed_at_the_named_time(stage: Stage) {
    accept(&stage, 4).await;
    let lease = stage.claim_one().await;
    let unavailable = faulted(Fault::Unavailable, SECOND * 7, 1);
    let step = stage.step(vec![lease.settle(unavailable, None)], 10).await;
    assert_eq!((step.settled[0], step.leases.len()), (Settled::LaneDown, 0));
    stage.pass(SECOND * 6);
    assert!(stage.claim(10).await.is_empty());
    stage.pass(SECOND);
    assert_eq!(stage.claim(10).await.len(), 1);
    stage.assert_sound().await;
}

/// Soon after a recovery, a certain failure counts like any other: one bad job does not cool the lane down again.
pub async fn a_recovered_lane_waits_for_more_certain_failures(stage: Stage) {
    accept(&stage, 10).await;
    break_down(&stage).await;
    stage.pass(SECOND);
    let probe = stage.claim_one().await;
    stage.succeed(probe).await;
    let lease = stage.claim_one().await;
    fail(&stage, [lease], Fault::Certain).await;
    assert_eq!(stage.claim(1).await.len(), 1);
    stage.assert_sound().await;
}

/// After the cool-down one job probes, and its success lets the others start, in their order.
pub async fn one_job_probes_and_its_success_opens_the_lane(stage: Stage) {
    let ids = accept(&stage, 4).await;
    break_down(&stage).await;
    stage.pass(SECOND);
    let mut probes = stage.claim(10).await;
    assert_eq!(probes.len(), 1);
    let probe = probes.pop().unwrap();
    assert_eq!(probe.key.job, ids[1], "another job than the one that failed probes");
    assert!(stage.claim(10).await.is_empty(), "a second job probes");
    stage.pass(SECOND);
    let step = stage.step(vec![probe.settle(super::stage::succeeded(), None)], 10).await;
    let started: Vec<JobId> = step.leases.iter().map(|lease| lease.key.job.clone()).collect();
    assert_eq!(started, [ids[0].clone(), ids[2].clone(), ids[3].clone()]);
    assert!(step.leases.iter().all(|lease| lease.attempt == 1));
    assert_eq!(stage.store().stats(&stage.shard, None).await.unwrap().down, None);
    stage.assert_sound().await;
}

/// Jobs that always fail do not probe for all others: each is kept back while another can probe, and each failed
/// probe passes over more jobs.
pub async fn bad_jobs_do_not_keep_the_lane_closed(stage: Stage) {
    let ids = accept(&stage, 10).await;
    for bad in [0, 1, 3] {
        let probe = stage.claim_one().await;
        assert_eq!(probe.key.job, ids[bad]);
        fail(&stage, [probe], Fault::Certain).await;
        stage.pass(probe_in(&stage).await);
    }
    let good = stage.claim_one().await;
    assert_eq!(good.key.job, ids[7], "three jobs are passed over");
    let step = stage.step(vec![good.settle(super::stage::succeeded(), None)], 10).await;
    assert_eq!(step.settled, [Settled::LaneUp]);
    let again: Vec<JobId> = step.leases.iter().map(|lease| lease.key.job.clone()).collect();
    let rest: Vec<JobId> = (0..10).filter(|n| *n != 7).map(|n| ids[n].clone()).collect();
    assert_eq!(again, rest, "jobs that were kept back run now, in their places");
    stage.assert_sound().await;
}

/// After a job of one tenant has cooled the lane down, a job of another tenant probes.
pub async fn another_tenant_probes(stage: Stage) {
    accept(&stage, 40).await;
    let leases = stage.claim(SUSPECTS).await;
    fail(&stage, leases, Fault::Unclear).await;
    let good = stage.accept(stage.job("bob")).await;
    stage.pass(probe_in(&stage).await);
    assert_eq!(stage.claim_one().await.key.job, good);
    stage.assert_sound().await;
}

/// A job that has not failed probes before failed ones, even if it was accepted later.
pub async fn a_job_that_has_not_failed_probes_first(stage: Stage) {
    for fault in [Fault::Certain, Fault::Unclear] {
        let bad = accept(&stage, 8).await;
        let leases = stage.claim(8).await;
        fail(&stage, leases, fault).await;
        let good = stage.accept(stage.job("bob")).await;
        stage.pass(SECOND * 12 / 10);
        let probe = stage.claim_one().await;
        assert_eq!(probe.key.job, good);
        let step = stage.step(vec![probe.settle(super::stage::succeeded(), None)], 10).await;
        assert_eq!((&step.settled[..], step.leases.len()), (&[Settled::LaneUp][..], bad.len()));
        for lease in step.leases {
            stage.succeed(lease).await;
        }
        stage.pass(CALM);
    }
    stage.assert_sound().await;
}

/// Jobs that always fail are charged after five successes of other jobs, and then no longer cool the lane down.
pub async fn jobs_that_always_fail_are_charged(stage: Stage) {
    for fault in [Fault::Certain, Fault::Upstream, Fault::Unclear] {
        let bad = accept(&stage, 8).await;
        let leases = stage.claim(8).await;
        fail(&stage, leases, fault).await;
        for _ in 0..PROOF {
            stage.accept(stage.job("bob")).await;
            stage.pass(SECOND * 2);
            let leases = stage.claim(20).await;
            let (good, rest): (Vec<_>, Vec<_>) =
                leases.into_iter().partition(|lease| lease.key.tenant == tenant_id("bob"));
            fail(&stage, rest, fault).await;
            for lease in good {
                stage.succeed(lease).await;
            }
        }
        stage.store().pause(&stage.shard, None, false).await.unwrap();
        for _ in 0..5 {
            let leases = stage.claim(20).await;
            fail(&stage, leases, fault).await;
        }
        for id in bad {
            assert_eq!(stage.status(&id).await, Status::Failed, "{fault:?}");
        }
    }
    stage.assert_sound().await;
}

/// A probe that is refused because of a rate shows that the upstream is reachable, so it opens the lane.
pub async fn a_refused_probe_opens_the_lane(stage: Stage) {
    let ids = accept(&stage, 3).await;
    break_down(&stage).await;
    stage.pass(SECOND);
    let probe = stage.claim_one().await;
    let refused = faulted(Fault::Rate(SECOND), Duration::ZERO, 1);
    let step = stage.step(vec![probe.settle(refused, None)], 10).await;
    assert_eq!((step.settled[0], step.leases.len()), (Settled::LaneUp, 0));
    stage.pass(SECOND);
    assert_eq!(stage.claim(10).await.len(), ids.len());
    stage.assert_sound().await;
}

/// Each failed probe doubles the cool-down, up to a minute.
pub async fn failed_probes_double_the_cool_down(stage: Stage) {
    accept(&stage, 2).await;
    break_down(&stage).await;
    for exponent in 1..9 {
        let wait = probe_in(&stage).await;
        let length = (SECOND * 2_u32.pow(exponent - 1)).min(LONGEST_COOL_DOWN);
        assert!(wait >= length * 8 / 10 && wait <= length * 12 / 10, "{exponent}: {wait:?}");
        // The other job is kept back, so the same one probes, a little later.
        stage.pass(length * 115 / 100);
        let probe = stage.claim_one().await;
        assert_eq!(probe.attempt, 1);
        fail(&stage, [probe], if exponent % 2 == 0 { Fault::Unclear } else { Fault::Upstream })
            .await;
    }
    stage.assert_sound().await;
}

/// If the worker of a probe is lost, or the probe ends without an answer, another job probes.
pub async fn a_lost_probe_makes_room_for_the_next(stage: Stage) {
    accept(&stage, 4).await;
    break_down(&stage).await;
    stage.pass(SECOND);
    drop(stage.claim_one().await);
    stage.pass(super::stage::LEASE);
    stage.reap().await;
    let probe = stage.claim_one().await;
    stage.settle(probe, RELEASED).await;
    assert_eq!(stage.claim(10).await.len(), 1);
    stage.assert_sound().await;
}

/// The success of an attempt from before the cool-down does not open the lane.
pub async fn only_the_probe_opens_the_lane(stage: Stage) {
    accept(&stage, 5).await;
    let before = stage.claim_one().await;
    break_down(&stage).await;
    stage.succeed(before).await;
    assert!(stage.claim(10).await.is_empty());
    stage.assert_sound().await;
}

/// A resumed lane is open at once, even before a time that its upstream named.
pub async fn a_resumed_lane_is_open(stage: Stage) {
    accept(&stage, 3).await;
    let lease = stage.claim_one().await;
    let unavailable = faulted(Fault::Unavailable, SECOND * 3600, 1);
    stage.settle(lease, unavailable).await;
    assert!(stage.claim(10).await.is_empty());
    stage.store().pause(&stage.shard, None, false).await.unwrap();
    assert_eq!(stage.claim(10).await.len(), 3);
    stage.assert_sound().await;
}

/// An unclear failure is charged to its job, and the last attempt ends it.
pub async fn an_unclear_failure_is_charged_to_its_job(stage: Stage) {
    let job = NewJob { max_attempts: 2, ..stage.job("ann") };
    let id = stage.accept(job).await;
    let lease = stage.claim_one().await;
    fail(&stage, [lease], Fault::Unclear).await;
    let lease = stage.claim_one().await;
    assert_eq!(lease.attempt, 2);
    assert_eq!(stage.settle(lease, faulted(Fault::Unclear, SECOND, 2)).await, Settled::Failed);
    assert_eq!(stage.status(&id).await, Status::Failed);
    stage.assert_sound().await;
}

/// Unclear failures of five different jobs in a row are charged to the lane, and the jobs get their attempts back.
pub async fn unclear_failures_of_many_jobs_charge_the_lane(stage: Stage) {
    let ids = accept(&stage, SUSPECTS + 3).await;
    let mut leases = stage.claim(SUSPECTS + 1).await;
    let late = leases.pop().unwrap();
    let last = leases.pop().unwrap();
    fail(&stage, leases, Fault::Unclear).await;
    assert_eq!(stage.see(&ids[0]).await.attempts, 1);
    assert_eq!(charges(&stage, &ids[0]).await, [ChargedTo::Job]);
    fail(&stage, [last, late], Fault::Unclear).await;
    assert!(stage.claim(10).await.is_empty());
    for (place, id) in ids.iter().enumerate() {
        assert_eq!(stage.see(id).await.attempts, 0);
        let failed = usize::from(place <= SUSPECTS);
        assert_eq!(charges(&stage, id).await, [ChargedTo::Lane].repeat(failed));
    }
    stage.assert_sound().await;
}

/// Several unclear failures of one job count as one of the five.
pub async fn unclear_failures_of_one_job_count_once(stage: Stage) {
    let job = NewJob { max_attempts: 20, ..stage.job("ann") };
    let id = stage.accept(job).await;
    for _ in 0..=SUSPECTS {
        let lease = stage.claim_one().await;
        fail(&stage, [lease], Fault::Unclear).await;
    }
    assert_eq!(stage.see(&id).await.attempts as usize, SUSPECTS + 1);
    assert_eq!(stage.claim(1).await.len(), 1, "the lane is down");
    stage.assert_sound().await;
}

/// After a success in the lane, unclear failures are charged to their jobs.
pub async fn a_success_charges_unclear_failures_to_jobs(stage: Stage) {
    let ids = accept(&stage, 2 * SUSPECTS).await;
    let mut leases = stage.claim(2 * SUSPECTS - 1).await;
    let good = leases.pop().unwrap();
    let rest = leases.split_off(SUSPECTS - 1);
    fail(&stage, leases, Fault::Unclear).await;
    stage.succeed(good).await;
    fail(&stage, rest, Fault::Unclear).await;
    assert_eq!(stage.see(&ids[0]).await.attempts, 1);
    assert!(!stage.claim(1).await.is_empty());
    stage.assert_sound().await;
}

/// A job that is refused because of a rate while five others succeed spends its own attempts from then on, and no
/// longer stops the lane.
pub async fn a_job_refused_alone_is_charged(stage: Stage) {
    let refused = stage.accept(stage.job("ann")).await;
    let rate = Fault::Rate(SECOND);
    let lease = stage.claim_one().await;
    fail(&stage, [lease], rate).await;
    assert_eq!(stage.see(&refused).await.attempts, 0);
    accept(&stage, 8).await;
    stage.pass(SECOND);
    let mut leases = stage.claim(1 + usize::try_from(PROOF).unwrap()).await;
    let again = leases.remove(0);
    assert_eq!(again.key.job, refused);
    for lease in leases {
        stage.succeed(lease).await;
    }
    fail(&stage, [again], rate).await;
    assert_eq!(stage.see(&refused).await.attempts, 1);
    assert!(!stage.claim(1).await.is_empty(), "the lane was stopped again");
    stage.assert_sound().await;
}

/// Many jobs that are always refused while others succeed end, and no longer stop the others.
pub async fn always_refused_jobs_are_charged(stage: Stage) {
    let refused = accept(&stage, 10).await;
    let rate = Fault::Rate(SECOND);
    let leases = stage.claim(10).await;
    fail(&stage, leases, rate).await;
    stage.pass(SECOND);
    for round in 0..30 {
        for _ in 0..10 {
            stage.accept(stage.job("bob")).await;
        }
        let leases = stage.claim(30).await;
        let (good, bad): (Vec<_>, Vec<_>) =
            leases.into_iter().partition(|lease| lease.key.tenant == tenant_id("bob"));
        assert_eq!(good.len(), 10, "others were stopped in round {round}");
        for lease in good {
            stage.succeed(lease).await;
        }
        fail(&stage, bad, rate).await;
    }
    for id in refused {
        assert_eq!(stage.status(&id).await, Status::Failed);
    }
    stage.assert_sound().await;
}

/// If the upstream refuses many jobs, none of them is charged.
pub async fn a_common_refusal_charges_no_job(stage: Stage) {
    let ids = accept(&stage, 12).await;
    for _ in 0..6 {
        let mut leases = stage.claim(12).await;
        let good = leases.pop();
        fail(&stage, leases, Fault::Rate(SECOND)).await;
        if let Some(good) = good {
            stage.succeed(good).await;
        }
        stage.pass(SECOND);
    }
    for id in ids {
        let seen = stage.see(&id).await;
        assert!(seen.attempts == 0 || seen.status() == Status::Succeeded, "{seen:?}");
    }
    stage.assert_sound().await;
}

/// A job that expires untried in an outage reports the outage; one that failed reports its own errors.
pub async fn a_job_expired_in_an_outage_reports_it(stage: Stage) {
    let tried = accept(&stage, 1).await.remove(0);
    break_down(&stage).await;
    let untried = accept(&stage, 1).await.remove(0);
    let deadline = Some(SECOND * 600);
    let late = stage.accept(NewJob { deadline, ..stage.job("bob") }).await;
    let output = async |id: &JobId| match stage.see(id).await.state {
        State::Ended { status: Status::Expired, output, .. } => output,
        other => panic!("{other:?}"),
    };
    let outage = Some(Output { error: Some(error(1)), ..Output::default() });
    stage.pass(SECOND * 600);
    stage.step(Vec::new(), 0).await;
    assert_eq!(output(&late).await, outage);
    stage.pass(causeway_queue::Policy::default().give_up_after);
    stage.store().reconcile(&stage.shard).await.unwrap();
    assert_eq!(output(&untried).await, outage);
    stage.step(Vec::new(), 0).await;
    stage.store().reconcile(&stage.shard).await.unwrap();
    assert_eq!(output(&tried).await, None);
    stage.assert_sound().await;
}

/// A job without success expires after `give_up_after`: at a failure, or while it waits.
pub async fn a_job_expires_by_its_age(stage: Stage) {
    let mut ids = accept(&stage, 1).await;
    let patient = NewJob { deadline: Some(SECOND * 900_000), ..stage.job("ann") };
    let patient = stage.accept(patient).await;
    ids.extend(accept(&stage, 1).await);
    let delayed = stage.accept(NewJob { delay: SECOND, ..stage.job("bob") }).await;
    let running = stage.claim_one().await;
    stage.pass(causeway_queue::Policy::default().give_up_after - SECOND);
    assert_eq!(stage.store().reconcile(&stage.shard).await.unwrap().total(), 0);
    assert_eq!(stage.status(&ids[1]).await, Status::Queued);
    stage.pass(SECOND);
    fail(&stage, [running], Fault::Upstream).await;
    assert_eq!(stage.status(&ids[0]).await, Status::Expired);
    let errors = stage.see(&ids[0]).await.errors;
    let said: Vec<_> = errors.iter().map(|one| (&one.error, one.charged_to)).collect();
    assert_eq!(said, [(&error(1), ChargedTo::Lane)]);
    stage.store().reconcile(&stage.shard).await.unwrap();
    assert_eq!(stage.status(&ids[1]).await, Status::Expired);
    assert_eq!(stage.status(&delayed).await, Status::Queued);
    assert_eq!(stage.status(&patient).await, Status::Queued);
    stage.store().retry(&tenant_id("ann"), &ids[1]).await.unwrap();
    assert_eq!(stage.status(&ids[1]).await, Status::Queued);
    stage.assert_sound().await;
}

/// A delayed or retried job that expires by `give_up_after` does not report a deadline.
pub async fn expiry_by_age_is_not_a_deadline(stage: Stage) {
    let late = stage.accept(NewJob { deadline: Some(SECOND), ..stage.job("ann") }).await;
    let delayed = stage.accept(NewJob { delay: SECOND, ..stage.job("ann") }).await;
    stage.pass(SECOND);
    stage.step(Vec::new(), 0).await;
    let seen = stage.see(&late).await;
    assert_eq!((seen.status(), seen.gave_up()), (Status::Expired, false));
    stage.store().retry(&tenant_id("ann"), &late).await.unwrap();
    stage.pass(causeway_queue::Policy::default().give_up_after);
    stage.step(Vec::new(), 0).await;
    for id in [late, delayed] {
        let seen = stage.see(&id).await;
        assert_eq!((seen.status(), seen.gave_up()), (Status::Expired, true));
    }
    stage.assert_sound().await;
}

/// A request that allows an absurd number of tokens is charged eight mean answers.
pub async fn a_huge_limit_costs_eight_mean_answers(stage: Stage) {
    let lane = LaneLimits { tokens_per_minute: Some(60_000), ..LaneLimits::default() };
    stage.store().set_limits(&stage.shard, &lane, &[]).await.unwrap();
    let cost = Estimate { prompt: 0, completion: Some(10_000_000) };
    stage.accept(NewJob { cost, ..stage.job("ann") }).await;
    stage.accept(stage.job("bob")).await;
    assert_eq!(stage.claim(2).await.len(), 2, "the lane is closed by the allowed tokens");
    stage.assert_sound().await;
}
