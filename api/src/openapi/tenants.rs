//! Tenants at run time.

use utoipa::openapi::{
    ResponseBuilder,
    path::HttpMethod::{Delete, Get, Patch, Post},
};

use super::{
    operation::{Operation, of, operation},
    paths::Entry,
};
use crate::tenants::{KeyRequest, LimitsRequest, TenantList, TenantRequest, TenantView};

const TAG: &str = "tenants";

fn change(id: &str, summary: &str) -> Operation {
    let operation = operation(TAG, id, summary).refuses([400, 403, 404]).asks_the_store();
    operation.path("id", "The tenant's id")
}

fn nothing(about: &str) -> ResponseBuilder {
    ResponseBuilder::new().description(about)
}

pub(super) fn entries() -> Vec<Entry> {
    vec![
        (
            "/v1/tenants",
            Get,
            operation(TAG, "listTenants", "Every tenant, for administrators")
                .answers(200, "Each tenant", of::<TenantList>())
                .refuses([403])
                .asks_the_store(),
        ),
        (
            "/v1/tenants",
            Post,
            operation(TAG, "addTenant", "Add a tenant with a new key")
                .about("It may call within two seconds. The first tenant closes an open server, and must be an administrator.")
                .takes(of::<TenantRequest>())
                .answers(201, "The tenant, and its key, which is shown this once", of::<TenantView>())
                .refuses([403])
                .asks_the_store(),
        ),
        (
            "/v1/tenants/{id}",
            Patch,
            change("limitTenant", "Change the limits of a tenant")
                .takes(of::<LimitsRequest>())
                .answers(200, "The tenant as it is then", of::<TenantView>()),
        ),
        (
            "/v1/tenants/{id}",
            Delete,
            change("revokeTenant", "Revoke a tenant with all its keys; its jobs run on")
                .responds(204, nothing("It may not call any more")),
        ),
        (
            "/v1/tenants/{id}/keys",
            Post,
            change("rotateKey", "Make another key; the tenant's other keys end")
                .may_take(of::<KeyRequest>())
                .answers(201, "The tenant, and its key, which is shown this once", of::<TenantView>()),
        ),
        (
            "/v1/tenants/{id}/keys/{key}",
            Delete,
            change("revokeKey", "Revoke one key of a tenant")
                .path("key", "The key's id")
                .responds(204, nothing("It opens nothing any more")),
        ),
    ]
}
