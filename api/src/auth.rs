//! Who is calling: API keys and the tenants they belong to.
//!
//! Keys are known by their SHA-256 only, compared in constant time, and never logged. What a key has opened ends when
//! the key is valid no more.

use std::{
    pin::Pin,
    sync::{Arc, PoisonError, RwLock, RwLockReadGuard},
    task::{Context, Poll},
};

use axum::{
    body::Body,
    extract::{FromRequestParts, Request, State},
    http::{HeaderMap, request::Parts},
    middleware::Next,
    response::{IntoResponse, Response},
};
use bytes::Bytes;
use causeway_queue::{JobId, TenantId};
use http_body::{Body as _, Frame};
use sha2::{Digest, Sha256};
use tokio::sync::watch;

use crate::{
    access::{self, JobOfRequest},
    audit,
    error::ApiError,
    origin,
    serve::connection::Connection,
    state::AppState,
};

/// A configured tenant.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tenant {
    /// Its id.
    pub id: TenantId,
    /// SHA-256 of each of its keys.
    pub key_sha256: Vec<[u8; 32]>,
    /// Whether it may see what concerns all tenants.
    pub admin: bool,
    /// Whether it is bounded by a rate, of which its answers then tell.
    pub is_rated: bool,
    /// How the ends of its jobs are told.
    pub webhooks: Webhooks,
}

/// How the ends of a tenant's jobs are told.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Webhooks {
    /// To whom, unless a job says.
    pub url: Option<Arc<str>>,
    /// Whether the tenant has secrets of its own to sign events with.
    pub signs: bool,
}

/// The tenants that may call. Cheap to clone; all clones see a replacement.
#[derive(Debug, Clone, Default)]
pub struct Tenants(Arc<Known>);

#[derive(Debug, Default)]
struct Known {
    tenants: RwLock<Vec<Tenant>>,
    /// Notified of each replacement.
    replaced: watch::Sender<()>,
}

/// Who is calling.
#[derive(Debug, Clone)]
pub(crate) struct Caller {
    pub(crate) tenant: TenantId,
    admin: bool,
    pub(crate) is_rated: bool,
    /// SHA-256 of the key, where one was needed.
    pub(crate) key_sha256: Option<[u8; 32]>,
    pub(crate) webhooks: Webhooks,
}

/// A caller who may see and do what concerns all tenants.
#[derive(Debug, Clone)]
pub(crate) struct Admin(pub(crate) Caller);

impl Tenants {
    /// Nobody is configured: every call is the tenant `default`.
    #[must_use]
    pub fn open() -> Self {
        Self::default()
    }

    /// Only these may call.
    #[must_use]
    pub fn new(tenants: Vec<Tenant>) -> Self {
        Self(Arc::new(Known { tenants: RwLock::new(tenants), replaced: watch::Sender::default() }))
    }

    /// From now on these may call.
    pub fn replace(&self, tenants: Vec<Tenant>) {
        let known = &mut *self.0.tenants.write().unwrap_or_else(PoisonError::into_inner);
        if *known != tenants {
            *known = tenants;
            self.0.replaced.send_replace(());
        }
    }

    /// Those who may call.
    pub(crate) fn all(&self) -> Vec<Tenant> {
        self.read().clone()
    }

    /// Whether everybody is let in.
    pub(crate) fn are_open(&self) -> bool {
        self.read().is_empty()
    }

    /// The ids of those who may call: where nobody is configured, the one of everybody.
    pub(crate) fn ids(&self) -> Vec<TenantId> {
        let tenants = self.read();
        if tenants.is_empty() {
            return vec![TenantId::default_tenant()];
        }
        tenants.iter().map(|tenant| tenant.id.clone()).collect()
    }

    /// Who calls with these headers.
    ///
    /// # Errors
    /// When a key is needed and nobody has that one.
    pub(crate) fn caller(&self, headers: &HeaderMap) -> Result<Caller, ApiError> {
        let tenants = self.read();
        if tenants.is_empty() {
            return Ok(Caller::anybody());
        }
        let Some(key) = presented(headers) else {
            let message = "this server needs an API key: send `Authorization: Bearer <key>`";
            return Err(ApiError::unauthorized(message));
        };
        let digest: [u8; 32] = Sha256::digest(key.as_bytes()).into();
        holder(&tenants, digest).ok_or_else(|| ApiError::unauthorized("this API key is unknown"))
    }

    fn read(&self) -> RwLockReadGuard<'_, Vec<Tenant>> {
        self.0.tenants.read().unwrap_or_else(PoisonError::into_inner)
    }

    /// Completes when `caller` would be let in no more.
    pub(crate) async fn revoked(self, caller: Caller) {
        // Subscribes before it looks, so that no replacement is missed.
        let mut replaced = self.0.replaced.subscribe();
        while self.again(&caller).is_some() {
            if replaced.changed().await.is_err() {
                std::future::pending::<()>().await;
            }
        }
    }

    /// `caller`, who was let in before, as it is by now; `None` when it would be let in no more.
    pub(crate) fn again(&self, caller: &Caller) -> Option<Caller> {
        let tenants = self.read();
        let now = match caller.key_sha256 {
            None => tenants.is_empty().then(Caller::anybody),
            Some(digest) => holder(&tenants, digest),
        };
        now.filter(|now| now.tenant == caller.tenant)
    }
}

/// Who has the key with this digest.
fn holder(tenants: &[Tenant], digest: [u8; 32]) -> Option<Caller> {
    let mut found = None;
    for tenant in tenants {
        for known in &tenant.key_sha256 {
            // Every key is compared to its end, so that time tells nothing about any.
            if same(known, &digest) {
                found = Some(tenant);
            }
        }
    }
    found.map(|tenant| Caller {
        tenant: tenant.id.clone(),
        admin: tenant.admin,
        is_rated: tenant.is_rated,
        key_sha256: Some(digest),
        webhooks: tenant.webhooks.clone(),
    })
}

/// Whether two digests are the same, in a time that does not depend on where they differ.
fn same(a: &[u8; 32], b: &[u8; 32]) -> bool {
    let difference = a.iter().zip(b).fold(0, |difference, (a, b)| difference | (a ^ b));
    std::hint::black_box(difference) == 0
}

/// What stands before a key where it is sent as the name of a WebSocket's protocol.
const KEY_PROTOCOL: &str = "causeway.key.";

/// Returns the key of `Authorization: Bearer`, of `x-api-key` (Anthropic's SDKs) or of `api-key` (Azure's); or
/// the one among the protocols that a browser, which sets no headers, offers for a WebSocket.
fn presented(headers: &HeaderMap) -> Option<&str> {
    let bearer = || {
        let (scheme, key) = headers.get("authorization")?.to_str().ok()?.split_once(' ')?;
        scheme.eq_ignore_ascii_case("bearer").then_some(key.trim())
    };
    let offered = || {
        let offers = headers.get_all("sec-websocket-protocol").iter();
        let names = offers.filter_map(|offer| offer.to_str().ok()).flat_map(|o| o.split(','));
        names.map(str::trim).find_map(|name| name.strip_prefix(KEY_PROTOCOL))
    };
    let named = || {
        let names = ["x-api-key", "api-key"];
        names.into_iter().find_map(|name| headers.get(name)?.to_str().ok())
    };
    bearer().or_else(named).or_else(offered).filter(|key| !key.is_empty())
}

/// Authenticates the caller of a request, and ends the answer when its key is revoked.
pub(crate) async fn authenticate(
    State(state): State<AppState>,
    request: Request,
    next: Next,
) -> Response {
    let allowed = origin::refuse_foreign(&state, &request).and_then(|()| let_in(&state, &request));
    let response = match allowed {
        Ok(caller) => while_valid(&state, caller, request, next).await,
        Err(error) => error.in_shape_of(request.uri().path()).into_response(),
    };
    state.outage.watch(&response);
    response
}

/// Answers a request of `caller` for as long as its key is valid.
async fn while_valid(
    state: &AppState,
    caller: Caller,
    mut request: Request,
    next: Next,
) -> Response {
    access::of_tenant(&caller.tenant);
    request.extensions_mut().insert(caller.clone());
    // A change of tenants may revoke the key that asks for it, and is answered all the same.
    if caller.key_sha256.is_none() || request.uri().path().starts_with("/v1/tenants") {
        return next.run(request).await;
    }
    let path = request.uri().path().to_owned();
    let mut revoked = Box::pin(state.tenants.clone().revoked(caller));
    let job = JobOfRequest::default();
    let response = tokio::select! {
        biased;
        response = job.within(next.run(request)) => response,
        () = &mut revoked => return no_longer_valid(job.id(), &path),
    };
    let is_stream = response.body().size_hint().exact().is_none();
    if is_stream { response.map(|body| Body::new(Revocable { body, revoked })) } else { response }
}

/// The answer to a request whose key was revoked while it was handled. It names the job that was accepted.
fn no_longer_valid(job: Option<&JobId>, path: &str) -> Response {
    let error = ApiError::unauthorized("this API key is not valid any more");
    let error = match job {
        Some(job) => error.about(job),
        None => error,
    };
    error.in_shape_of(path).into_response()
}

/// The caller of `request`, if there is room for its connection.
fn let_in(state: &AppState, request: &Request) -> Result<Caller, ApiError> {
    let connection = request.extensions().get::<Arc<Connection>>();
    let caller = state.tenants.caller(request.headers()).inspect_err(|_| {
        if presented(request.headers()).is_some() {
            audit::reject(state, connection.map(|connection| connection.peer));
        }
    })?;
    if let Some(connection) = connection {
        let placed = connection.let_in(&caller.tenant, caller.key_sha256.is_some());
        placed.map_err(ApiError::too_many_connections)?;
    }
    Ok(caller)
}

/// A stream that breaks off when the key that opened it is valid no more. An orderly end would look complete.
struct Revocable<F> {
    body: Body,
    revoked: Pin<Box<F>>,
}

impl<F: Future<Output = ()>> http_body::Body for Revocable<F> {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        if self.revoked.as_mut().poll(cx).is_ready() {
            return Poll::Ready(Some(Err(axum::Error::new("the key is not valid any more"))));
        }
        Pin::new(&mut self.body).poll_frame(cx)
    }
}

impl Caller {
    /// True if the caller may see and do what concerns the jobs of all tenants. Without tenants there is one only.
    pub(crate) fn acts_for_all(&self) -> bool {
        self.admin && self.key_sha256.is_some()
    }

    /// Whoever calls where nobody is configured.
    fn anybody() -> Self {
        let tenant = TenantId::default_tenant();
        let (is_rated, key_sha256, webhooks) = Default::default();
        Self { tenant, admin: true, is_rated, key_sha256, webhooks }
    }
}

impl FromRequestParts<AppState> for Caller {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, _: &AppState) -> Result<Self, ApiError> {
        let caller = parts.extensions.get::<Self>().cloned();
        caller.ok_or_else(|| ApiError::unauthorized("this route knows no callers"))
    }
}

impl FromRequestParts<AppState> for Admin {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, state: &AppState) -> Result<Self, ApiError> {
        let caller = Caller::from_request_parts(parts, state).await?;
        if caller.admin { Ok(Self(caller)) } else { Err(ApiError::forbidden(&caller.tenant)) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PROTOCOL: &str = "sec-websocket-protocol";

    fn tenants() -> Tenants {
        let key_sha256 = vec![Sha256::digest(b"old").into(), Sha256::digest(b"new").into()];
        let id = TenantId::new("ann").unwrap();
        let (admin, is_rated, webhooks) = Default::default();
        Tenants::new(vec![Tenant { id, key_sha256, admin, is_rated, webhooks }])
    }

    fn call(tenants: &Tenants, name: &'static str, value: &str) -> Option<String> {
        let mut headers = HeaderMap::new();
        headers.insert(name, value.parse().unwrap());
        tenants.caller(&headers).ok().map(|caller| caller.tenant.to_string())
    }

    #[test]
    fn every_key_of_a_tenant_opens_the_door() {
        let tenants = tenants();
        assert_eq!(call(&tenants, "authorization", "Bearer old").as_deref(), Some("ann"));
        assert_eq!(call(&tenants, "authorization", "bearer new").as_deref(), Some("ann"));
        assert_eq!(call(&tenants, "authorization", "BEARER  new").as_deref(), Some("ann"));
        assert_eq!(call(&tenants, "x-api-key", "new").as_deref(), Some("ann"));
        assert_eq!(call(&tenants, "api-key", "new").as_deref(), Some("ann"));
        let offers = |key: &str| format!("causeway.v1, causeway.key.{key}");
        assert_eq!(call(&tenants, PROTOCOL, &offers("new")).as_deref(), Some("ann"));
        assert_eq!(call(&tenants, PROTOCOL, &offers("other")), None);
        assert_eq!(call(&tenants, "authorization", "Bearer other"), None);
        assert_eq!(call(&tenants, "authorization", "Basic old"), None);
        assert!(tenants.caller(&HeaderMap::new()).is_err());
    }

    #[test]
    fn an_empty_key_opens_nothing() {
        let mut empty = tenants().read().clone();
        empty[0].key_sha256 = vec![Sha256::digest(b"").into()];
        let tenants = Tenants::new(empty);
        for name in ["x-api-key", "api-key"] {
            assert_eq!(call(&tenants, name, ""), None, "{name}");
        }
        assert_eq!(call(&tenants, "authorization", "Bearer "), None);
        assert_eq!(call(&tenants, PROTOCOL, "causeway.key."), None);
    }

    #[test]
    fn without_tenants_everybody_is_the_default() {
        let caller = Tenants::open().caller(&HeaderMap::new()).unwrap();
        assert_eq!(caller.tenant, TenantId::default_tenant());
    }
}
