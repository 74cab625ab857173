//! The queue and its lanes.

use utoipa::openapi::path::HttpMethod::{Get, Post};

use super::{
    operation::{Operation, of, operation},
    paths::Entry,
};
use crate::{
    lanes::{LaneList, LaneView, PauseRequest, QueueView},
    workers::WorkerList,
};

const TAG: &str = "lanes";

fn lane(id: &str, summary: &str) -> Operation {
    operation(TAG, id, summary)
        .path("lane", "The lane's name")
        .may_take(of::<PauseRequest>())
        .answers(200, "The lane as it is then", of::<LaneView>())
        .refuses([403, 404])
        .asks_the_store()
}

pub(super) fn entries() -> Vec<Entry> {
    vec![
        (
            "/v1/queue",
            Get,
            operation(TAG, "showQueue", "The calling tenant's part of the queue, in numbers")
                .answers(200, "Each lane", of::<QueueView>())
                .asks_the_store(),
        ),
        (
            "/v1/lanes",
            Get,
            operation(TAG, "listLanes", "Every lane over all tenants, for administrators")
                .answers(200, "Each lane", of::<LaneList>())
                .refuses([403])
                .asks_the_store(),
        ),
        (
            "/v1/workers",
            Get,
            operation(TAG, "listWorkers", "Every worker process, for administrators")
                .answers(200, "Each worker, in the order of their start", of::<WorkerList>())
                .refuses([403])
                .asks_the_store(),
        ),
        ("/v1/lanes/{lane}/pause", Post, lane("pauseLane", "Begin nothing more in a lane")),
        ("/v1/lanes/{lane}/resume", Post, lane("resumeLane", "Go on in a lane")),
    ]
}
