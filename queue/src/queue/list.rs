//! What is listed of a tenant, over all shards that may hold something of it.
//!
//! A shard lists in the order in which it accepted. A job's id cannot stand for that: whoever submits
//! makes it, so that of jobs of two processes the one accepted later may have the older id.

use std::collections::VecDeque;

use super::Queue;
use crate::{
    backend::{ListQuery, Page},
    error::Error,
    id::TenantId,
    job::Job,
};

impl Queue {
    /// A tenant's deliveries, newest first.
    ///
    /// # Errors
    /// When the store does not answer.
    pub async fn deliveries(&self, tenant: &TenantId, query: &ListQuery) -> Result<Page, Error> {
        self.backend.list(&Self::shard_of_deliveries(tenant), tenant, query).await
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
/// job of the page is where the list goes on. In the others its id is, so by ids they are merged.
fn merge(parts: Vec<Page>, limit: usize) -> Page {
    let mut page = Page { jobs: Vec::new(), has_more: parts.iter().any(|part| part.has_more) };
    let mut parts: Vec<VecDeque<Job>> = parts.into_iter().map(|part| part.jobs.into()).collect();
    let newest = |part: &&mut VecDeque<Job>| part.front().map(|job| job.id.number());
    while let Some(job) = parts.iter_mut().max_by_key(newest).and_then(VecDeque::pop_front) {
        if page.jobs.len() == limit {
            page.has_more = true;
            break;
        }
        page.jobs.push(job);
    }
    page
}
