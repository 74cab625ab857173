//! Promises about the deletion of jobs, and about attached bytes.

use bytes::Bytes;

use super::stage::{Stage, failed, tenant_id};
use causeway_queue::{NewJob, Status, backend::ListQuery};

/// A deleted job cannot be read, and other jobs of its tenant are not affected.
pub async fn a_deleted_job_is_gone(stage: Stage) {
    let body = Bytes::from(vec![b'x'; 5000]);
    let id = stage.accept(NewJob { body, keeps_events: true, ..stage.job("ann") }).await;
    let other = stage.accept(stage.job("ann")).await;
    stage.store().attach(&id, Bytes::from_static(b"more")).await.unwrap();
    let lease = stage.claim_one().await;
    stage.settle(lease, failed(1)).await;
    let ann = tenant_id("ann");
    assert!(stage.queue.delete(&ann, &id).await.unwrap());
    assert_eq!(stage.queue.job(&ann, &id).await.unwrap(), None);
    assert_eq!(stage.store().attached(&id).await.unwrap(), None);
    assert_eq!(stage.store().events(&id, 0).await.unwrap(), []);
    assert_eq!(stage.store().stats(&stage.shard, None).await.unwrap().dead, Some(0));
    let query = ListQuery { limit: 10, ..ListQuery::default() };
    let page = stage.queue.list(&ann, &query).await.unwrap();
    let ids: Vec<_> = page.jobs.iter().map(|job| &job.id).collect();
    assert_eq!(ids, [&other]);
    assert!(!stage.queue.delete(&ann, &id).await.unwrap());
    let lease = stage.claim_one().await;
    stage.succeed(lease).await;
    assert!(stage.queue.delete(&ann, &other).await.unwrap());
    stage.assert_sound().await;
}

/// A waiting or running job is not deleted, nor one of another tenant.
pub async fn only_an_ended_job_is_deleted(stage: Stage) {
    let id = stage.accept(stage.job("ann")).await;
    let ann = tenant_id("ann");
    assert!(!stage.queue.delete(&ann, &id).await.unwrap());
    let lease = stage.claim_one().await;
    assert!(!stage.queue.delete(&ann, &id).await.unwrap());
    stage.succeed(lease).await;
    assert!(!stage.queue.delete(&tenant_id("bob"), &id).await.unwrap());
    assert_eq!(stage.status(&id).await, Status::Succeeded);
    stage.assert_sound().await;
}

/// Attached bytes are kept after the success of the job, unlike its body.
pub async fn attached_bytes_can_be_read(stage: Stage) {
    let id = stage.accept(stage.job("ann")).await;
    assert_eq!(stage.store().attached(&id).await.unwrap(), None);
    let bytes = Bytes::from_static(b"\x00bytes");
    stage.store().attach(&id, bytes.clone()).await.unwrap();
    let lease = stage.claim_one().await;
    stage.succeed(lease).await;
    assert_eq!(stage.store().attached(&id).await.unwrap(), Some(bytes));
    stage.assert_sound().await;
}
