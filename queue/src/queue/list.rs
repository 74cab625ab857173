//! What is listed of a tenant, over all shards that may hold something of it.
//!
//! A shard lists in the order in which it accepted. A job's id cannot stand for that: whoever submits
//! makes it, so that of jobs of two processes the one accepted later may have the older id.

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
    /// A tenant's deliveries, newest first.
    ///
    /// # Errors
    /// When the store does not answer.
    pub async fn deliveries(&self, tenant: &TenantId, query: &ListQuery) -> Result<Page, Error> {
        self.backend.list(&shard_of_deliveries(), tenant, query).await
    }

    /// A tenant's jobs over all lanes, newest first, without its deliveries. Those of one shard are in
    /// the order in which they were accepted.
    ///
    /// # Errors
    /// When the store does not answer.
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

/// One page of the parts of several shards, none of which changes its order: in its own shard the last
/// job of the page is where the list goes on. In the others its id is, so by ids they are merged. The page
/// ends where one of the shards was not looked at any further, as newer jobs may follow there.
fn merge(parts: Vec<Page>, limit: usize) -> Page {
    let mut page = Page::default();
    let mut parts: Vec<VecDeque<Front>> = parts.into_iter().map(fronts).collect();
    let newest = |part: &&mut VecDeque<Front>| part.front().map(|(id, _)| id.number());
    while let Some((id, job)) = parts.iter_mut().max_by_key(newest).and_then(VecDeque::pop_front) {
        match job {
            Some(job) if page.jobs.len() < limit => page.jobs.push(job),
            Some(_) => {
                page.next = page.jobs.last().map(|job| job.id.clone());
                break;
            }
            None => {
                page.next = Some(id);
                break;
            }
        }
    }
    page
}

/// A job of a shard's part; `None` stands for the end of a part whose shard was looked at no further.
type Front = (JobId, Option<Job>);

fn fronts(part: Page) -> VecDeque<Front> {
    let jobs = part.jobs.into_iter().map(|job| (job.id.clone(), Some(job)));
    jobs.chain(part.next.map(|id| (id, None))).collect()
}
