//! The wire formats of SDK calls.

use crate::error::ApiError;

/// The wire format of an endpoint.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Dialect {
    OpenAi,
    Responses,
    Anthropic,
}

impl Dialect {
    /// Puts an error into the envelope that the SDKs of this format parse.
    pub(super) fn shape(self, error: ApiError) -> ApiError {
        match self {
            Self::OpenAi | Self::Responses => error,
            Self::Anthropic => error.in_anthropic_shape(),
        }
    }
}
