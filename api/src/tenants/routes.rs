//! Handlers of `/v1/tenants`, for administrators. Each change writes one audit line.

use axum::{
    Json,
    extract::{Path, State},
    http::{HeaderValue, StatusCode, header},
    response::{IntoResponse as _, Response},
};
use causeway_queue::{
    TenantId,
    clock::{Clock as _, Millis, SystemClock},
    limits::TenantLimits,
};
use serde::Serialize;
use utoipa::ToSchema;

use super::{
    KeyRequest, LimitsRequest, TenantRequest,
    document::{StoredKey, StoredTenant, TenantError},
    key::{Key, hexadecimal, new_key},
    registry::Listed,
    requests::tenant_id,
};
use crate::{
    audit,
    caller::{Admin, Caller},
    error::ApiError,
    extract::{JsonBytes, MaybeJson, Segment, parse},
    moment::moment,
    state::AppState,
    webhook::check_url,
};

/// The answer that has a new key.
const NEW_KEY: &str = "The tenant, and its key, which is shown this once";

/// Every tenant.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = TenantList)]
pub(crate) struct TenantList {
    data: Vec<TenantView>,
    /// Always `list`.
    object: &'static str,
}

/// A tenant.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Tenant)]
pub(crate) struct TenantView {
    #[schema(value_type = String)]
    id: TenantId,
    /// Always `tenant`.
    object: &'static str,
    /// `configuration` for a tenant of the configuration file, which can be changed only there; else `store`.
    source: &'static str,
    /// True for an administrator, who may see and change the jobs and settings of all tenants.
    admin: bool,
    weight: u32,
    max_running: Option<u32>,
    max_queued: Option<u64>,
    requests_per_minute: Option<u32>,
    tokens_per_minute: Option<u64>,
    webhook_url: Option<String>,
    keys: Vec<KeyView>,
    /// The new key, only in the answer to its creation; else null.
    key: Option<String>,
}

/// A key; only its hash is stored.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = TenantKey)]
struct KeyView {
    /// The first characters of its SHA-256.
    id: String,
    /// Null for keys of the configuration file.
    #[schema(format = DateTime)]
    created_at: Option<String>,
    /// Null for a key that does not expire.
    #[schema(format = DateTime)]
    expires_at: Option<String>,
}

impl From<Listed> for TenantView {
    fn from(listed: Listed) -> Self {
        let (source, id, admin, webhook_url, keys, limits) = match listed {
            Listed::Configured(tenant, limits) => {
                let name = |hash: &[u8; 32]| hexadecimal(&hash[..6]);
                let key = |hash| KeyView { id: name(hash), created_at: None, expires_at: None };
                let keys = tenant.key_sha256.iter().map(key).collect();
                let url = tenant.webhooks.url.as_deref().map(str::to_owned);
                ("configuration", tenant.id, tenant.admin, url, keys, limits)
            }
            Listed::Stored(tenant) => {
                let keys = tenant.keys.iter().map(KeyView::from).collect();
                ("store", tenant.id, tenant.admin, tenant.webhook_url, keys, tenant.limits)
            }
        };
        let TenantLimits {
            weight,
            max_running,
            max_queued,
            requests_per_minute,
            tokens_per_minute,
        } = limits;
        Self {
            id,
            object: "tenant",
            source,
            admin,
            weight,
            max_running,
            max_queued,
            requests_per_minute,
            tokens_per_minute,
            webhook_url,
            keys,
            key: None,
        }
    }
}

impl From<&StoredKey> for KeyView {
    fn from(key: &StoredKey) -> Self {
        let expires_at = key.expires_at.map(moment);
        Self { id: key.name(), created_at: Some(moment(key.created_at)), expires_at }
    }
}

impl From<TenantError> for ApiError {
    fn from(refused: TenantError) -> Self {
        let message = refused.to_string();
        match refused {
            TenantError::Exists(_) => Self::invalid("tenant_exists", message),
            TenantError::Unknown(_) => Self::not_found("tenant_not_found", message),
            TenantError::UnknownKey(..) => Self::not_found("key_not_found", message),
            TenantError::FirstIsNoAdmin => Self::invalid("first_tenant_not_admin", message),
            TenantError::LastAdmin => Self::invalid("last_admin", message),
            TenantError::TooManyTenants => Self::invalid("too_many_tenants", message),
            TenantError::TooManyKeys(_) => Self::invalid("too_many_keys", message),
        }
    }
}

/// Lists all tenants, for administrators.
#[utoipa::path(get, path = "/v1/tenants", tag = "tenants", operation_id = "listTenants",
    responses((status = 200, description = "Each tenant", body = TenantList), (status = 403)))]
pub(crate) async fn list(
    State(state): State<AppState>,
    _admin: Admin,
) -> Result<Response, ApiError> {
    state.registry.refresh().await?;
    let data = state.registry.list().into_iter().map(TenantView::from).collect();
    Ok(Json(TenantList { data, object: "list" }).into_response())
}

/// Adds a tenant with a new key.
///
/// The key is valid within two seconds. The first tenant closes an open server, and must be an administrator.
#[utoipa::path(post, path = "/v1/tenants", tag = "tenants", operation_id = "addTenant",
    request_body(content = TenantRequest, example = json!({"id": "ann", "max_running": 10, "expires_in": 7776000})),
    responses((status = 201, description = NEW_KEY, body = TenantView), (status = 403)))]
pub(crate) async fn add(
    State(state): State<AppState>,
    _admin: Admin,
    caller: Caller,
    JsonBytes(bytes): JsonBytes,
) -> Result<Response, ApiError> {
    let request: TenantRequest = parse(&bytes)?;
    let (admin, webhook_url) = (request.admin, request.webhook_url.clone());
    if let Some(url) = &webhook_url {
        check_receiver(&state, url)?;
    }
    let now = now();
    let checked = request.checked(now)?;
    state.registry.check_is_not_configured(&checked.id)?;
    let key = generate_key()?;
    let keys = vec![StoredKey::new(&key.sha256, now, checked.expires_at)];
    let new = StoredTenant { id: checked.id, admin, limits: checked.limits, webhook_url, keys };
    state.registry.update(|document| document.add(new.clone())).await?;
    let object = format!("tenant {}, key {}", new.id, new.keys[0].name());
    audit::act(&caller, "add_tenant", &object);
    tenant_answer(&state, &new.id, StatusCode::CREATED, Some(key))
}

/// Changes the limits of a tenant.
#[utoipa::path(patch, path = "/v1/tenants/{id}", tag = "tenants", operation_id = "limitTenant",
    params(("id" = String, Path, description = "The tenant's id")),
    request_body(content = LimitsRequest, example = json!({"max_running": null, "tokens_per_minute": 100000})),
    responses((status = 200, description = "The tenant as it is then", body = TenantView), (status = 403)))]
pub(crate) async fn limit(
    State(state): State<AppState>,
    _admin: Admin,
    caller: Caller,
    Segment(id): Segment,
    JsonBytes(bytes): JsonBytes,
) -> Result<Response, ApiError> {
    let request: LimitsRequest = parse(&bytes)?;
    // A trial on defaults reports errors before the store is read; the change itself cannot fail then.
    request.change(&mut TenantLimits::default())?;
    let id = changeable(&state, &id)?;
    let change = |tenant: &mut StoredTenant| drop(request.change(&mut tenant.limits));
    state.registry.update(|document| document.tenant(&id).map(change)).await?;
    audit::act(&caller, "limit_tenant", &format!("tenant {id}"));
    tenant_answer(&state, &id, StatusCode::OK, None)
}

/// Makes another key; the tenant's other keys end.
#[utoipa::path(post, path = "/v1/tenants/{id}/keys", tag = "tenants", operation_id = "rotateKey",
    params(("id" = String, Path, description = "The tenant's id")),
    request_body(content = Option<KeyRequest>, example = json!({"keep_old": 3600})),
    responses((status = 201, description = NEW_KEY, body = TenantView), (status = 403)))]
pub(crate) async fn rotate(
    State(state): State<AppState>,
    _admin: Admin,
    caller: Caller,
    Segment(id): Segment,
    MaybeJson(bytes): MaybeJson,
) -> Result<Response, ApiError> {
    let request: KeyRequest = if bytes.is_empty() { KeyRequest::default() } else { parse(&bytes)? };
    let now = now();
    let (expires_at, until) = request.checked(now)?;
    let id = changeable(&state, &id)?;
    let key = generate_key()?;
    let stored = StoredKey::new(&key.sha256, now, expires_at);
    state.registry.update(|document| document.rotate(&id, stored.clone(), until)).await?;
    audit::act(&caller, "rotate_key", &format!("tenant {id}, key {}", stored.name()));
    tenant_answer(&state, &id, StatusCode::CREATED, Some(key))
}

/// Revokes a tenant with all its keys; its jobs run on.
#[utoipa::path(delete, path = "/v1/tenants/{id}", tag = "tenants", operation_id = "revokeTenant",
    params(("id" = String, Path, description = "The tenant's id")),
    responses((status = 204, description = "The tenant is revoked"), (status = 400), (status = 403)))]
pub(crate) async fn revoke(
    State(state): State<AppState>,
    _admin: Admin,
    caller: Caller,
    Segment(id): Segment,
) -> Result<Response, ApiError> {
    let id = changeable(&state, &id)?;
    state.registry.update(|document| document.revoke(&id)).await?;
    audit::act(&caller, "revoke_tenant", &format!("tenant {id}"));
    Ok(StatusCode::NO_CONTENT.into_response())
}

/// Revokes one key of a tenant.
#[utoipa::path(delete, path = "/v1/tenants/{id}/keys/{key}", tag = "tenants", operation_id = "revokeKey",
    params(("id" = String, Path, description = "The tenant's id"), ("key" = String, Path, description = "The key's id")),
    responses((status = 204, description = "The key is revoked"), (status = 400), (status = 403)))]
pub(crate) async fn revoke_key(
    State(state): State<AppState>,
    _admin: Admin,
    caller: Caller,
    Path((id, key)): Path<(String, String)>,
) -> Result<Response, ApiError> {
    let id = changeable(&state, &id)?;
    state.registry.update(|document| document.revoke_key(&id, &key)).await?;
    audit::act(&caller, "revoke_key", &format!("tenant {id}, key {key}"));
    Ok(StatusCode::NO_CONTENT.into_response())
}

/// Refuses a receiver that could not receive events.
fn check_receiver(state: &AppState, url: &str) -> Result<(), ApiError> {
    let webhooks = &state.settings.webhooks;
    check_url(&webhooks.allowed, url)
        .map_err(|why| ApiError::invalid_param("webhook_url", why.to_string()))?;
    if webhooks.signs {
        return Ok(());
    }
    let message = "there is no secret to sign events with: name one in webhooks.secret_env of the configuration";
    Err(ApiError::invalid_param("webhook_url", message).with_code("no_webhook_secret"))
}

fn now() -> Millis {
    SystemClock::default().now()
}

fn generate_key() -> Result<Key, ApiError> {
    new_key().map_err(|error| {
        tracing::error!(%error, "cannot generate a key");
        ApiError::unavailable()
    })
}

/// Parses the id of a tenant that may be changed here.
fn changeable(state: &AppState, id: &str) -> Result<TenantId, ApiError> {
    let id = tenant_id(id)?;
    state.registry.check_is_not_configured(&id)?;
    Ok(id)
}

/// Answers with the current tenant. A new key in it must not be cached.
fn tenant_answer(
    state: &AppState,
    id: &TenantId,
    status: StatusCode,
    key: Option<Key>,
) -> Result<Response, ApiError> {
    let mut views = state.registry.list().into_iter().map(TenantView::from);
    let view = views.find(|view| view.id == *id);
    let view = view.ok_or_else(|| ApiError::from(TenantError::Unknown(id.clone())))?;
    let mut response =
        (status, Json(TenantView { key: key.map(|key| key.text), ..view })).into_response();
    let no_store = HeaderValue::from_static("no-store");
    response.headers_mut().insert(header::CACHE_CONTROL, no_store);
    Ok(response)
}
