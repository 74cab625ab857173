//! Delivery of webhook events: signed, to permitted addresses only, within a time-out.
//!
//! Only the status of the receiver's answer is kept. The body is discarded: otherwise tenants could use a webhook to
//! read from addresses that only the worker can reach.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use async_trait::async_trait;
use bytes::Bytes;
use causeway_queue::{address::Allowed, headers::HeaderValues};
use reqwest::{
    Client, Response, Url,
    dns::{Addrs, Name, Resolve, Resolving},
    header,
};
use tokio::{net::lookup_host, time::timeout};

use super::{
    receivers::{Reaction, Receivers},
    secret::Signing,
};
use crate::{
    failure::{ErrorResponse, Failure},
    upstream::{
        body::unsent,
        call::{Answer, Call, Sink, Upstream},
        client::{InvalidUpstream, bounded},
        retry_after::retry_after,
        tls::{self, TlsFiles},
    },
};

/// The header, and the field of the delivery's job, with the id of the event; equal for all attempts.
pub(crate) const EVENT_ID: &str = "webhook-id";

/// Time-out of a connection.
const CONNECT: Duration = Duration::from_secs(5);

/// Time-out of an idle connection to a receiver, and most idle connections to one host.
const IDLE: (Duration, usize) = (Duration::from_secs(30), 2);

/// Limits of reading an answer's body, which is only done so that its connection can be reused.
const MAX_ANSWER_BYTES: usize = 4 << 10;
const DISCARD: Duration = Duration::from_secs(1);

/// The sender of webhook events.
#[derive(Debug)]
pub struct Deliverer {
    client: Client,
    allowed: Arc<Allowed>,
    signing: Signing,
    timeout: Duration,
    receivers: Receivers,
}

impl Deliverer {
    /// Creates a deliverer that signs by `signing` and sends to public and `allowed` addresses; `timeout` bounds an
    /// attempt.
    ///
    /// # Errors
    /// If the HTTP client cannot be created.
    pub fn new(
        signing: Signing,
        allowed: Allowed,
        timeout: Duration,
    ) -> Result<Self, InvalidUpstream> {
        let allowed = Arc::new(allowed);
        // No proxy, not even one from the environment: the proxy would resolve the receiver's name, and the resolver
        // below could not check the address.
        let client = bounded(Client::builder())
            .dns_resolver(Guarded(Arc::clone(&allowed)))
            .tls_backend_preconfigured(tls::configuration(&TlsFiles::default())?)
            .connect_timeout(CONNECT)
            .pool_idle_timeout(IDLE.0)
            .pool_max_idle_per_host(IDLE.1)
            .build()?;
        Ok(Self { client, allowed, signing, timeout, receivers: Receivers::default() })
    }

    /// Parses the receiver's URL. Fails if its host is written as a forbidden address.
    fn receiver(&self, url: &str) -> Result<Url, Failure> {
        let url: Url =
            url.parse().map_err(|_| Failure::Unsendable(format!("{url:?} is not a URL")))?;
        let host = url.host_str().unwrap_or_default();
        if self.allowed.permits_spelling(host) {
            return Ok(url);
        }
        Err(Failure::Unsendable(format!("{host} {FORBIDDEN}")))
    }

    /// Signs and sends an event. Each attempt has its own timestamp and signature.
    async fn send(&self, url: Url, call: &Call) -> Result<Response, Failure> {
        let id = call.headers.get(EVENT_ID).and_then(HeaderValues::first).unwrap_or_default();
        let timestamp = jiff::Timestamp::now().as_second();
        let signature = self.signing.signature(&call.tenant, id, timestamp, &call.body);
        let signature = signature.ok_or_else(|| {
            let tenant = &call.tenant;
            Failure::Unsendable(format!("this worker has no webhook secret for tenant {tenant}"))
        })?;
        let request = self
            .client
            .post(url)
            .header(header::CONTENT_TYPE, "application/json")
            .header(EVENT_ID, id)
            .header("webhook-timestamp", timestamp)
            .header("webhook-signature", signature)
            .body(call.body.clone());
        request.send().await.map_err(|error| unsent(&error))
    }

    async fn deliver(&self, url: Url, call: &Call) -> Result<Answer, Failure> {
        let mut response = self.send(url, call).await?;
        let status_code = response.status().as_u16();
        if response.status().is_success() {
            discard(&mut response).await;
            return Ok(Answer { status_code, body: Bytes::new() });
        }
        let retry_after = retry_after(response.headers());
        discard(&mut response).await;
        let refusal = ErrorResponse { status_code, retry_after, ..ErrorResponse::default() };
        Err(Failure::Refused(Box::new(refusal)))
    }
}

/// Reads a short body to its end, so that its connection can be reused. The status is the result: a body that is
/// long or breaks off changes nothing.
async fn discard(response: &mut Response) {
    let read = async {
        let mut left = MAX_ANSWER_BYTES;
        while let Ok(Some(piece)) = response.chunk().await {
            let Some(rest) = left.checked_sub(piece.len()) else { return };
            left = rest;
        }
    };
    // A time-out is an expected end.
    drop(timeout(DISCARD, read).await);
}

#[async_trait]
impl Upstream for Deliverer {
    async fn call(&self, call: Call, _: &mut dyn Sink) -> Result<Answer, Failure> {
        let url = self.receiver(&call.url)?;
        let admitted = self.receivers.admit(&call.tenant, &url).await;
        // A deferred delivery spends no attempt; its receiver is the bottleneck, not the event.
        let pass = admitted.map_err(|delay| {
            metrics::counter!("causeway_deliveries_deferred_total").increment(1);
            Failure::Deferred(delay)
        })?;
        let delivered = timeout(self.timeout, self.deliver(url, &call)).await;
        let delivered = delivered.unwrap_or(Err(Failure::TotalTimeout(self.timeout)));
        pass.record(reaction(&delivered));
        delivered
    }
}

/// Classifies the result of a delivery as a reaction of the receiver.
fn reaction(delivered: &Result<Answer, Failure>) -> Reaction {
    match delivered {
        Ok(_)
        | Err(
            Failure::Refused(_)
            | Failure::NoAnswer { .. }
            | Failure::InStream(_)
            | Failure::TooLarge(_)
            | Failure::TooMany(_),
        ) => Reaction::Answer,
        Err(
            Failure::Connect(_)
            | Failure::ConnectTimeout
            | Failure::FirstByteTimeout(_)
            | Failure::Stalled(_)
            | Failure::TotalTimeout(_)
            | Failure::Cut(_),
        ) => Reaction::Silence,
        Err(Failure::Unsendable(_) | Failure::Deferred(_) | Failure::Exhausted(_)) => {
            Reaction::Nothing
        }
    }
}

/// The message about a forbidden address.
const FORBIDDEN: &str =
    "is no public address; webhooks.allow in the configuration can allow others";

/// A resolver that returns only the permitted addresses of a name. Addresses in a URL are not resolved:
/// [`Deliverer::receiver`] checks them.
#[derive(Debug)]
struct Guarded(Arc<Allowed>);

/// A name without a permitted address. The message is the same for a name that does not exist: otherwise tenants
/// could learn internal names and their addresses.
#[derive(Debug, thiserror::Error)]
#[error("the name has no public address; webhooks.allow in the configuration can allow others")]
struct Forbidden;

impl Resolve for Guarded {
    fn resolve(&self, name: Name) -> Resolving {
        let allowed = Arc::clone(&self.0);
        Box::pin(async move {
            let found = match lookup_host((name.as_str(), 0)).await {
                Ok(found) => found,
                // The system lacks a resource, which reveals nothing about the name.
                Err(error) if error.raw_os_error().is_some() => return Err(error.into()),
                Err(error) => {
                    let name = name.as_str();
                    tracing::debug!(name, %error, "cannot resolve the name of a receiver");
                    return Err(Forbidden.into());
                }
            };
            let is_named = allowed.names(name.as_str());
            let permitted = |address: &SocketAddr| is_named || allowed.permits(address.ip());
            let good: Vec<SocketAddr> = found.filter(permitted).collect();
            if good.is_empty() {
                Err(Forbidden.into())
            } else {
                Ok(Box::new(good.into_iter()) as Addrs)
            }
        })
    }
}

#[cfg(test)]
mod tests;
