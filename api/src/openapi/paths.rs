//! Every route that is served, as the document describes it.

use utoipa::openapi::{
    Paths, PathsBuilder,
    path::{HttpMethod, PathItem},
};

use super::{
    bridge, direct, doors, jobs, lanes, operation::Operation, process, responses, tenants, webhooks,
};
use crate::settings::Settings;

/// One operation: where, how, and what about it.
pub(super) type Entry = (&'static str, HttpMethod, Operation);

/// All of them.
pub(super) fn all(settings: &Settings) -> Paths {
    let entries = jobs::entries(settings).into_iter().chain(doors::entries());
    let entries = entries.chain(direct::entries());
    let entries = entries.chain(responses::entries()).chain(responses::conversations());
    let entries = entries.chain(webhooks::entries()).chain(tenants::entries());
    let entries =
        entries.chain(lanes::entries()).chain(bridge::entries()).chain(process::entries());
    let paths = entries.fold(PathsBuilder::new(), |paths, (path, method, operation)| {
        paths.path(path, PathItem::new(method, operation.build()))
    });
    paths.build()
}
