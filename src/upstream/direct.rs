//! Forwards direct calls, which bypass the queue, to the upstreams of their lanes.

use std::{collections::HashMap, sync::Arc};

use causeway_api::{DirectAnswer, DirectCall, DirectFailure, DirectResult, DirectSource};
use causeway_queue::{LaneName, TenantId};
use causeway_worker::{Call, ForwardFailure, ForwardedAnswer, OpenAi, Share};
use futures_util::FutureExt as _;
use uuid::Uuid;

use super::Clients;
use crate::config::Config;

/// Makes the source of direct answers, for the lanes with an upstream.
pub(crate) fn source(config: &Config, clients: &Clients) -> DirectSource {
    let upstream = |lane| {
        let client = clients.find(config, lane)?;
        Some(Arc::new(OpenAi::new(client.clone(), &config.timeouts())))
    };
    let mut upstreams: HashMap<LaneName, Arc<OpenAi>> = HashMap::new();
    for lane in &config.lanes {
        upstreams.extend(upstream(Some(lane)).map(|upstream| (lane.name.clone(), upstream)));
    }
    if config.lanes.is_empty() {
        let lanes = config.queue_lanes().into_iter().map(|lane| lane.name);
        upstreams.extend(lanes.filter_map(|name| Some((name, upstream(None)?))));
    }
    DirectSource::new(move |lane, call| {
        let upstream = Arc::clone(upstreams.get(lane)?);
        Some(send(upstream, call).boxed())
    })
}

async fn send(upstream: Arc<OpenAi>, call: DirectCall) -> DirectResult {
    let mut headers = call.headers;
    let content_type = call.content_type.to_str().unwrap_or_default().to_owned();
    headers.insert("content-type".to_owned(), content_type.into());
    let call = Call {
        id: format!("direct-{}", Uuid::now_v7()),
        tenant: TenantId::default_tenant(),
        url: call.path,
        body: call.body,
        headers,
        stream: false,
        // The answer is forwarded piece by piece, and never held in memory.
        max_bytes: usize::MAX,
        memory: Share::default(),
    };
    match upstream.forward(call).await {
        Ok(ForwardedAnswer { status_code, content_type, body }) => {
            Ok(DirectAnswer { status_code, content_type, body })
        }
        Err(ForwardFailure::Refused(refusal)) => Err(DirectFailure::Refused {
            status_code: refusal.status_code,
            retry_after: refusal.retry_after,
            body: refusal.body,
        }),
        Err(ForwardFailure::NoAnswer { message, is_timeout }) => {
            Err(DirectFailure::NoAnswer { message, is_timeout })
        }
    }
}
