//! Lists of a tenant's jobs, over all shards that may hold some.
//!
//! A shard lists jobs in the order of acceptance. The order of ids is different: the submitting process creates the
//! id, so of two jobs of different processes the one accepted later may have the older id.

use std::collections::VecDeque;

use super::Queue;
use crate::{
    backend::{ListQuery, Page},
    error::Error,
    id::{JobId, TenantId},
    job::Job,
    webhook::shard_of_deliveries,
};

impl Queue {
    /// Returns a tenant's deliveries, newest first.
    ///
    /// # Errors
    /// If the store does not answer.
    pub async fn deliveries(&self, tenant: &TenantId, query: &ListQuery) -> Result<Page, Error> {
        self.backend.list(&shard_of_deliveries(), tenant, query).await
    }

    /// Returns a tenant's jobs over all lanes, newest first, without its deliveries. Jobs of one shard are in the
    /// order of acceptance.
    ///
    /// # Errors
    /// If the store does not answer.
    pub async fn list(&self, tenant: &TenantId, query: &ListQuery) -> Result<Page, Error> {
        let mut parts = Vec::new();
        for shard in self.shards_of(tenant) {
            parts.push(self.backend.list(&shard, tenant, query).await?);
        }
        let mut page = merge(parts, query.limit);
        self.add_workers(page.jobs.iter_mut()).await;
        Ok(page)
    }
}

/// Merges the pages of several shards into one, by the ids of their first jobs, and keeps the order of each shard.
/// The last job of the merged page is the cursor: its own shard continues after that job, the others continue after
/// its id. The page ends where a shard stopped reading, because newer jobs of that shard may follow.
fn merge(parts: Vec<Page>, limit: usize) -> Page {
    let mut page = Page::default();
    let mut parts: Vec<VecDeque<Front>> = parts.into_iter().map(fronts).collect();
    let newest = |part: &&mut VecDeque<Front>| part.front().map(|(id, _)| id.number());
    while let Some((id, job)) = parts.iter_mut().max_by_key(newest).and_then(VecDeque::pop_front) {
        match job {
            Some(job) if page.jobs.len() < limit => page.jobs.push(job),
            // The page is full, and this shard has more.
            Some(_) => {
                page.next = page.jobs.last().map(|job| job.id.clone());
                break;
            }
            // This shard stopped reading here.
            None => {
                page.next = Some(id);
                break;
            }
        }
    }
    page
}

/// A job of a shard's page; `None` marks the point at which the shard stopped reading.
type Front = (JobId, Option<Job>);

fn fronts(part: Page) -> VecDeque<Front> {
    let jobs = part.jobs.into_iter().map(|job| (job.id.clone(), Some(job)));
    jobs.chain(part.next.map(|id| (id, None))).collect()
}
