//! Promises about lanes of several shards.

use std::{collections::HashSet, sync::Arc, time::Duration};

use super::{
    accept::keyed,
    session::{remembering, said},
    stage::{LEASE, Stage, session_key, succeeded, tenant_id},
};
use causeway_queue::{
    Accepted, Error, JobId, Lane, LaneName, Lease, NewJob, Outcome, Policy, Queue, RawJson, Shard,
    Status, TenantId,
    backend::ListQuery,
    error::Scope,
    lease::ClaimRequest,
    limits::{LaneLimits, TenantLimits},
    orphan::CallKey,
    policy::LAYOUT_GRACE,
    session::ProfileChange,
};

/// The number of tenants: enough that every shard has some.
pub(super) const TENANTS: usize = 40;

pub(super) fn with_shards(stage: &Stage, shards: u16) -> Queue {
    let lane = Lane { shards, ..Lane::named(stage.shard.lane.clone()) };
    Queue::new(Arc::clone(&stage.backend), vec![lane])
}

pub(super) fn tenants() -> Vec<TenantId> {
    (0..TENANTS).map(|number| tenant_id(&format!("tenant-{number}"))).collect()
}

pub(super) fn one_each(queue: &Queue, stage: &Stage) -> Vec<NewJob> {
    let job = |tenant| queue.draft(tenant, stage.job("any").spec, stage.job("any").body, None);
    tenants().into_iter().map(job).collect()
}

pub(super) async fn submit_one_each(queue: &Queue, stage: &Stage) -> Vec<JobId> {
    let accepted = queue.submit(one_each(queue, stage)).await.unwrap();
    accepted.iter().map(|accepted| accepted.id().clone()).collect()
}

/// Returns the jobs left in former shards of the lane; other stages may share the store.
async fn left(queue: &Queue) -> Vec<u16> {
    let busy = queue.discover().await.expect("the store answers").into_iter();
    busy.filter(|shard| shard.lane == queue.lanes()[0].name).map(|shard| shard.index).collect()
}

pub(super) async fn claim_all(queue: &Queue) -> Vec<Lease> {
    let mut leases = Vec::new();
    let lane = &queue.lanes()[0].name;
    for shard in queue.known_shards().iter().filter(|shard| shard.lane == *lane) {
        let claim = ClaimRequest { max: TENANTS, lease: LEASE };
        leases
            .extend(queue.transitions().step(shard, &mut Vec::new(), claim).await.unwrap().leases);
    }
    leases
}

pub(super) async fn settle(queue: &Queue, lease: Lease, outcome: Outcome) {
    let shard = lease.key.job.shard().clone();
    let claim = ClaimRequest { max: 0, lease: LEASE };
    let mut settlements = vec![lease.settle(outcome, None)];
    queue.transitions().step(&shard, &mut settlements, claim).await.expect("the store answers");
}

/// Tenants are spread over all shards, each on one.
pub async fn a_tenant_has_one_shard(stage: Stage) {
    let queue = with_shards(&stage, 3);
    let first = submit_one_each(&queue, &stage).await;
    let again = submit_one_each(&queue, &stage).await;
    let shards: HashSet<_> = first.iter().map(|id| id.shard().index).collect();
    assert_eq!(shards.len(), 3);
    for (first, again) in first.iter().zip(&again) {
        assert_eq!(first.shard(), again.shard());
    }
}

/// If only one shard was measured, only its tenants see an estimate for a new job.
pub async fn a_tenant_is_told_the_wait_in_its_own_shard(stage: Stage) {
    let queue = with_shards(&stage, 3);
    let ids = submit_one_each(&queue, &stage).await;
    let measured = ids[0].shard();
    for _ in 0..4 {
        let claim = ClaimRequest { max: 1, lease: LEASE };
        let mut begun = queue.transitions().step(measured, &mut Vec::new(), claim).await.unwrap();
        stage.pass(Duration::from_secs(1));
        let mut ended = vec![begun.leases.remove(0).settle(succeeded(), None)];
        let claim = ClaimRequest { max: 0, lease: LEASE };
        queue.transitions().step(measured, &mut ended, claim).await.unwrap();
    }
    stage.start_worker().await;
    for (tenant, id) in tenants().iter().zip(&ids) {
        let numbers = queue.stats(&stage.shard.lane, Some(tenant)).await.unwrap();
        assert_eq!(numbers.estimated_wait_ms.is_some(), id.shard() == measured, "{tenant}");
    }
}

/// With fewer shards, and with more: what was accepted before is found, listed, run and ended.
pub async fn another_number_of_shards_loses_nothing(stage: Stage) {
    let before = with_shards(&stage, 3);
    assert!(left(&before).await.is_empty());
    let old = submit_one_each(&before, &stage).await;
    let after = with_shards(&stage, 2);
    assert_eq!(left(&after).await, [2]);
    let new = submit_one_each(&after, &stage).await;
    assert!(new.iter().all(|id| id.shard().index < 2));
    let everything = ListQuery { limit: 10, ..ListQuery::default() };
    for (tenant, ids) in tenants().iter().zip(old.iter().zip(&new)) {
        let listed = after.list(tenant, &everything).await.unwrap();
        let listed: HashSet<&JobId> = listed.jobs.iter().map(|job| &job.id).collect();
        assert_eq!(listed, HashSet::from([ids.0, ids.1]));
    }
    let leases = claim_all(&after).await;
    assert_eq!(leases.len(), 2 * TENANTS);
    for lease in leases {
        settle(&after, lease, succeeded()).await;
    }
    for (tenant, id) in tenants().iter().zip(&old) {
        let job = after.job(tenant, id).await.unwrap().unwrap();
        assert_eq!(job.status(), Status::Succeeded);
    }
    assert!(left(&after).await.is_empty());
    let more = with_shards(&stage, 5);
    assert!(left(&more).await.is_empty());
    submit_one_each(&more, &stage).await;
    assert_eq!(claim_all(&more).await.len(), TENANTS);
}

/// A former shard is forgotten once it has been empty for one retention, and no sooner.
pub async fn a_former_shard_is_forgotten_after_a_retention(stage: Stage) {
    let (before, after) = (with_shards(&stage, 3), with_shards(&stage, 2));
    before.discover().await.unwrap();
    submit_one_each(&before, &stage).await;
    let is_known = async || {
        after.discover().await.unwrap();
        let lane = &stage.shard.lane;
        after.known_shards().iter().any(|shard| shard.lane == *lane && shard.index == 2)
    };
    let day = Policy::default().retention;
    for _ in 0..3 {
        stage.pass(day);
        assert!(is_known().await, "its jobs wait");
    }
    for lease in claim_all(&after).await {
        settle(&after, lease, succeeded()).await;
    }
    stage.pass(day);
    assert!(is_known().await, "its jobs are retained");
    stage.pass(LAYOUT_GRACE);
    // The first discovery forgets the layout, the second does not find it.
    is_known().await;
    assert!(!is_known().await);
}

/// A pause that ends after its former shard was forgotten does not come back with the shard.
pub async fn a_pause_ends_in_a_forgotten_shard(stage: Stage) {
    let (before, after) = (with_shards(&stage, 3), with_shards(&stage, 1));
    before.discover().await.unwrap();
    before.pause(&stage.shard.lane, None, true).await.unwrap();
    after.discover().await.unwrap();
    stage.pass(2 * Policy::default().retention);
    for _ in 0..2 {
        after.discover().await.unwrap();
    }
    after.pause(&stage.shard.lane, None, false).await.unwrap();
    before.discover().await.unwrap();
    submit_one_each(&before, &stage).await;
    assert_eq!(claim_all(&before).await.len(), TENANTS);
}

/// The layout of fewer shards is kept: jobs of tenants that moved may wait in its shards, which are in use.
pub async fn a_smaller_layout_is_kept(stage: Stage) {
    let before = with_shards(&stage, 1);
    before.discover().await.unwrap();
    let old = submit_one_each(&before, &stage).await;
    let after = with_shards(&stage, 3);
    for _ in 0..2 {
        after.discover().await.unwrap();
        stage.pass(2 * Policy::default().retention);
    }
    after.discover().await.unwrap();
    let everything = ListQuery { limit: 10, ..ListQuery::default() };
    for (tenant, id) in tenants().iter().zip(&old) {
        let listed = after.list(tenant, &everything).await.unwrap().jobs;
        assert!(listed.iter().any(|job| job.id == *id), "{tenant}");
    }
}

/// With more shards: a tenant that moves keeps its list, and its idempotency keys.
pub async fn a_tenant_that_moves_keeps_what_it_has(stage: Stage) {
    let before = with_shards(&stage, 1);
    before.discover().await.unwrap();
    let keyed_each = |queue: &Queue, digest| -> Vec<NewJob> {
        one_each(queue, &stage).into_iter().map(|job| keyed(job, "k", digest)).collect()
    };
    let old = before.submit(keyed_each(&before, 1)).await.unwrap();
    let after = with_shards(&stage, 3);
    after.discover().await.unwrap();
    let moved = one_each(&after, &stage).iter().filter(|job| job.id.shard().index > 0).count();
    assert!(moved > 0);
    let again = after.submit(keyed_each(&after, 1)).await.unwrap();
    let everything = ListQuery { limit: 100, ..ListQuery::default() };
    for ((tenant, old), again) in tenants().iter().zip(&old).zip(&again) {
        assert_eq!(*again, Accepted::Replayed(old.id().clone()));
        let listed = after.list(tenant, &everything).await.unwrap().jobs;
        // Other stages may share the store.
        let listed = listed.iter().map(|job| &job.id).filter(|id| id.shard() == old.id().shard());
        assert_eq!(listed.collect::<Vec<_>>(), [old.id()]);
    }
    let refused = after.submit(keyed_each(&after, 2)).await;
    assert!(matches!(refused, Err(Error::IdempotencyKeyReused { key }) if key == "k"));
}

/// With more shards: the retry of a tenant that moved takes the orphan that was left before.
pub async fn an_orphan_is_taken_from_a_former_shard(stage: Stage) {
    let before = with_shards(&stage, 1);
    before.discover().await.unwrap();
    let left = one_each(&before, &stage);
    let call = |job: &NewJob| CallKey { tenant: job.tenant.clone(), digest: [1; 32] };
    for job in &left {
        stage.store().put_orphan(&call(job), &job.id, LEASE).await.unwrap();
    }
    let after = with_shards(&stage, 3);
    after.discover().await.unwrap();
    for (job, old) in one_each(&after, &stage).iter().zip(left) {
        let home = job.id.shard();
        assert_eq!(after.take_orphan(home, &call(job)).await.unwrap(), Some(old.id));
        assert_eq!(after.take_orphan(home, &call(job)).await.unwrap(), None);
    }
}

/// With more shards: a conversation is found, and goes on where its tenant is now.
pub async fn a_conversation_moves_with_its_tenant(stage: Stage) {
    let before = with_shards(&stage, 1);
    before.discover().await.unwrap();
    let after = with_shards(&stage, 3);
    let session = session_key("s");
    for (queue, heard) in [(&before, 0), (&after, 1), (&after, 2)] {
        queue.discover().await.unwrap();
        for tenant in tenants() {
            let talk = queue.conversation(&tenant, &session).await.unwrap();
            assert_eq!(talk.map_or(0, |talk| talk.turns.len()), heard);
        }
        let messages = one_each(queue, &stage).into_iter();
        let messages = messages.map(|job| remembering(job, "s", 5)).collect();
        queue.submit(messages).await.unwrap();
        for lease in claim_all(queue).await {
            assert_eq!(lease.turns.len(), heard);
            let answer = said(&lease, "hello");
            settle(queue, lease, answer).await;
        }
    }
    for tenant in tenants() {
        assert!(after.forget(&tenant, &session).await.unwrap());
        assert_eq!(after.conversation(&tenant, &session).await.unwrap(), None);
    }
}

/// With more shards: the profile of a conversation is found and changed where its tenant is now.
pub async fn a_profile_moves_with_its_tenant(stage: Stage) {
    let (before, after) = (with_shards(&stage, 1), with_shards(&stage, 3));
    let session = session_key("p");
    let change = |known: Option<&str>, profile: &str| ProfileChange {
        known: known.map(RawJson::string),
        profile: RawJson::string(profile),
        ttl: LEASE,
    };
    before.discover().await.unwrap();
    for tenant in tenants() {
        assert!(before.change_profile(&tenant, &session, &change(None, "one")).await.unwrap());
    }
    after.discover().await.unwrap();
    for tenant in tenants() {
        let found = after.profile(&tenant, &session).await.unwrap();
        assert_eq!(found, Some(RawJson::string("one")));
        let changed = after.change_profile(&tenant, &session, &change(Some("one"), "two")).await;
        assert!(changed.unwrap());
        let found = after.profile(&tenant, &session).await.unwrap();
        assert_eq!(found, Some(RawJson::string("two")));
    }
}

/// A message that waits where its tenant was keeps its conversation when a newer one takes it along.
pub async fn a_message_that_stays_behind_remembers(stage: Stage) {
    let (before, after) = (with_shards(&stage, 1), with_shards(&stage, 3));
    before.discover().await.unwrap();
    let moved = |queue: &Queue| -> Vec<NewJob> {
        let homes = one_each(&after, &stage);
        let jobs = one_each(queue, &stage).into_iter().zip(homes);
        let moved = jobs.filter(|(_, home)| home.id.shard().index > 0);
        moved.map(|(job, _)| remembering(job, "s", 5)).collect()
    };
    let first = before.submit(moved(&before)).await.unwrap();
    for lease in claim_all(&before).await {
        let answer = said(&lease, "hello");
        settle(&before, lease, answer).await;
    }
    before.submit(moved(&before)).await.unwrap();
    after.discover().await.unwrap();
    after.submit(moved(&after)).await.unwrap();
    let leases = claim_all(&after).await;
    assert_eq!(leases.len(), 2 * first.len());
    assert!(leases.iter().all(|lease| lease.turns.len() == 1));
}

/// A pause of a lane or a tenant holds in shards that are added later.
pub async fn a_pause_holds_in_new_shards(stage: Stage) {
    let before = with_shards(&stage, 1);
    before.discover().await.unwrap();
    let lane = &stage.shard.lane;
    let last = tenant_id("tenant-39");
    before.pause(lane, None, true).await.unwrap();
    before.pause(lane, Some(&last), true).await.unwrap();
    let after = with_shards(&stage, 3);
    after.discover().await.unwrap();
    submit_one_each(&after, &stage).await;
    assert_eq!(claim_all(&after).await.len(), 0);
    after.pause(lane, None, false).await.unwrap();
    assert_eq!(claim_all(&after).await.len(), TENANTS - 1);
    after.pause(lane, Some(&last), false).await.unwrap();
    assert_eq!(claim_all(&after).await.len(), 1);
    let more = with_shards(&stage, 5);
    more.discover().await.unwrap();
    submit_one_each(&more, &stage).await;
    assert_eq!(claim_all(&more).await.len(), TENANTS);
}

/// Of jobs for several lanes none is accepted where one lane would refuse its part: it is full for the
/// tenant, or a key was used for something else.
pub async fn jobs_of_two_lanes_go_together(stage: Stage) {
    let other = LaneName::new(&format!("{}-b", stage.shard.lane)).unwrap();
    let lanes = [stage.shard.lane.clone(), other.clone()].map(Lane::named);
    let queue = Queue::new(Arc::clone(&stage.backend), lanes.to_vec());
    let limits = TenantLimits { max_queued: Some(1), ..TenantLimits::default() };
    let home = Shard { lane: other, index: 0 };
    stage
        .store()
        .set_limits(&home, &LaneLimits::default(), &[(tenant_id("ann"), limits)])
        .await
        .unwrap();
    let there = |job: NewJob| NewJob { id: JobId::new(home.clone()), ..job };
    queue.submit(vec![there(keyed(stage.job("ann"), "k", 1))]).await.unwrap();
    for refused in [there(stage.job("ann")), there(keyed(stage.job("ann"), "k", 2))] {
        for jobs in [[stage.job("ann"), refused.clone()], [refused.clone(), stage.job("ann")]] {
            queue.submit(jobs.to_vec()).await.unwrap_err();
            let ids = jobs.map(|job| job.id);
            assert!(queue.jobs(&ids).await.unwrap().iter().all(Option::is_none));
        }
    }
    let replayed = vec![stage.job("ann"), there(keyed(stage.job("ann"), "k", 1))];
    assert_eq!(queue.submit(replayed).await.unwrap().len(), 2);
    assert_eq!(stage.claim(10).await.len(), 1);
    // Nor is there room for anybody's where the lane is full.
    let full = LaneLimits { max_queued: 1, ..LaneLimits::default() };
    stage.store().set_limits(&home, &full, &[]).await.unwrap();
    let jobs = [stage.job("bob"), there(stage.job("bob"))];
    let refused = queue.submit(jobs.to_vec()).await;
    assert!(matches!(refused, Err(Error::Full { scope: Scope::Lane, .. })), "{refused:?}");
    let ids = jobs.map(|job| job.id);
    assert!(queue.jobs(&ids).await.unwrap().iter().all(Option::is_none));
}

/// Jobs that one shard refuses unexpectedly are not started in another, unless they can be sent again.
pub async fn what_is_refused_is_taken_back(stage: Stage) {
    let other = LaneName::new(&format!("{}-b", stage.shard.lane)).unwrap();
    let lanes = [stage.shard.lane.clone(), other.clone()].map(Lane::named);
    let queue = Queue::new(Arc::clone(&stage.backend), lanes.to_vec());
    let home = Shard { lane: other, index: 0 };
    let there = |job: NewJob| NewJob { id: JobId::new(home.clone()), ..job };
    let jobs = vec![
        stage.job("ann"),
        keyed(stage.job("ann"), "sent again", 1),
        // The two say different things under one key: known only where they are accepted.
        there(keyed(stage.job("ann"), "k", 1)),
        there(keyed(stage.job("ann"), "k", 2)),
    ];
    let ids: Vec<JobId> = jobs.iter().map(|job| job.id.clone()).collect();
    let refused = queue.submit(jobs).await;
    assert!(matches!(refused, Err(Error::IdempotencyKeyReused { .. })), "{refused:?}");
    assert_eq!(stage.status(&ids[0]).await, Status::Cancelled);
    assert_eq!(stage.status(&ids[1]).await, Status::Queued);
    assert_eq!(stage.store().stats(&home, None).await.unwrap().queued, 0);
}

/// A cool-down that an upstream demands in one shard holds in all shards of the lane.
pub async fn a_lane_is_stopped_in_all_its_shards(stage: Stage) {
    let queue = with_shards(&stage, 4);
    submit_one_each(&queue, &stage).await;
    let (first, delay) = (Shard { index: 0, ..stage.shard.clone() }, Duration::from_secs(20));
    queue.stop_beside(&first, delay).await.unwrap();
    let leases = claim_all(&queue).await;
    assert!(leases.iter().all(|lease| *lease.key.job.shard() == first), "{leases:?}");
    stage.pass(delay);
    assert_eq!(leases.len() + claim_all(&queue).await.len(), TENANTS);
}

/// A request for a job of a shard that never existed creates no shard.
pub async fn a_made_up_shard_stays_unknown(stage: Stage) {
    let id: JobId = format!("job_{}_77_{}", stage.shard.lane, stage.job("ann").id.key())
        .parse()
        .expect("an id");
    let ann = tenant_id("ann");
    assert_eq!(stage.queue.job(&ann, &id).await.unwrap(), None);
    assert_eq!(stage.queue.cancel(&ann, &id).await.unwrap(), None);
    assert_eq!(stage.queue.retry(&ann, &id).await.unwrap(), None);
    stage.queue.discover().await.unwrap();
    assert!(!stage.queue.known_shards().iter().any(|shard| shard.index == 77));
}
