//! Deliveries to webhooks.

use causeway_queue::backend::MAX_PAGE;
use utoipa::openapi::path::HttpMethod::{Get, Post};

use super::{
    operation::{of, operation},
    paths::Entry,
    schema,
};
use crate::deliveries::{DeliveryPage, DeliveryView};

const TAG: &str = "webhooks";

pub(super) fn entries() -> Vec<Entry> {
    vec![
        (
            "/v1/webhooks/deliveries",
            Get,
            operation(TAG, "listDeliveries", "List deliveries to webhooks, newest first")
                .query("job", "Those that tell the end of this job", schema::any_text())
                .query("status", "Deliveries of this status", schema::status())
                .query("limit", "How many; 20 unless you say", schema::number(1, MAX_PAGE))
                .query("after", "The id after which to go on", schema::any_text())
                .answers(200, "A page of deliveries", of::<DeliveryPage<'_>>())
                .refuses([400, 404])
                .asks_the_store(),
        ),
        (
            "/v1/webhooks/deliveries/{id}/retry",
            Post,
            operation(TAG, "retryDelivery", "Deliver again what failed")
                .path("id", "The delivery's id")
                .answers(202, "The delivery, which waits again", of::<DeliveryView<'_>>())
                .refuses([400, 404, 429])
                .asks_the_store(),
        ),
    ]
}
