//! Tenants that are added, changed and revoked at run time, beside those of the configuration file.
//!
//! The store keeps them as one [document](document); every API process reads it each second, so that a
//! change holds everywhere within two. A tenant of the file is changed in the file only.

mod document;
mod key;
mod registry;
mod requests;
pub(crate) mod routes;

pub use self::{
    key::{Key, new_key},
    registry::{Registry, has_tenants},
};
pub(crate) use self::{
    requests::{KeyRequest, LimitsRequest, TenantRequest},
    routes::{TenantList, TenantView},
};
