//! The bounds of a submission.

pub(crate) const EMBEDDINGS: &str = "/v1/embeddings";

/// The upstream endpoints that a job may call.
pub(crate) const URLS: [&str; 5] =
    ["/v1/chat/completions", "/v1/completions", EMBEDDINGS, "/v1/responses", "/v1/messages"];

/// Most labels of a job, and the longest names and values in characters.
pub(crate) const MAX_METADATA: (usize, usize, usize) = (16, 64, 512);
