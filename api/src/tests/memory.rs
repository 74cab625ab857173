//! The memory of requests with waiting callers.

use std::time::Duration;

use serde_json::json;
use tokio::time::timeout;

use super::{Api, post};
use crate::{Settings, Tenants};

#[tokio::test(start_paused = true)]
async fn a_pending_call_occupies_no_body_memory() {
    let text = "x".repeat(600);
    for (path, body) in [
        ("/v1/chat/completions", json!({ "messages": [], "user": text })),
        ("/v1/jobs", json!({ "body": { "user": text } })),
        ("/bridge/chat", json!({ "user_id": "u", "message": text })),
    ] {
        let settings =
            Settings { max_body_bytes: 1000, max_body_memory: 1000, ..Settings::default() };
        let api = Api::with(settings, Tenants::open());
        let ask = || {
            let mut request = post(path, &body.to_string());
            request.headers_mut().insert("prefer", "wait=60".parse().unwrap());
            api.send(request)
        };
        let mut both = Box::pin(futures_util::future::join(ask(), ask()));
        assert!(timeout(Duration::from_secs(10), &mut both).await.is_err());
        assert_eq!(api.unfinished().await, 2, "{path}");
    }
}
