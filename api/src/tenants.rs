//! Tenants that are added, changed and revoked at run time, in addition to those of the configuration file.
//!
//! The store keeps them in one [`document`]. Every API process reads it each second, so a change is
//! effective everywhere within two seconds. Tenants of the file can be changed only there.

mod document;
mod key;
pub(crate) mod registry;
mod requests;
pub(crate) mod routes;

pub(crate) use self::requests::{KeyRequest, LimitsRequest, TenantRequest};
pub use self::{
    key::{Key, new_key},
    registry::{TenantRegistry, has_tenants},
};
