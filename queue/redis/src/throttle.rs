//! Rate limits of callers: the arguments and the reply of `lua/calls/throttle.lua`.

use std::sync::Arc;

use super::{gather, reply::Reply, server::Server};
use causeway_queue::{
    clock::{Millis, millis},
    error::Error,
    id::Shard,
    limits::{Rate, Throttle},
};

/// Returns the function that takes one token from each of several buckets in one call.
pub(super) fn throttler(
    server: &Arc<Server>,
    shard: &Shard,
) -> gather::Send<(String, Rate), Throttle> {
    let (server, shard) = (Arc::clone(server), shard.clone());
    Arc::new(move |takes| {
        let (server, shard) = (Arc::clone(&server), shard.clone());
        Box::pin(async move { throttle(&server, &shard, takes).await })
    })
}

async fn throttle(
    server: &Server,
    shard: &Shard,
    takes: Vec<(String, Rate)>,
) -> Result<Vec<Throttle>, Error> {
    let mut args = Vec::with_capacity(takes.len() * 3);
    for (bucket, rate) in &takes {
        args.push(bucket.clone());
        args.push(rate.limit.max(1).to_string());
        args.push(millis(rate.window).to_string());
    }
    let mut reply = Reply::new(server.call(shard, &server.scripts.throttle, &args).await?)?;
    let now = reply.text()?.parse().map_err(|_| Error::Corrupt("a time".to_owned()))?;
    // The script returns each TAT before the call, from which the same arithmetic gives the decision.
    takes.iter().map(|(_, rate)| Ok(rate.take(reply.float()?, Millis(now)).1)).collect()
}
