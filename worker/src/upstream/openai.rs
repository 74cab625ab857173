//! A server with the OpenAI wire format, over HTTP.

use async_trait::async_trait;
use reqwest::Response;
use tokio::time::timeout;

use super::{
    answer,
    body::unsent,
    call::{Answer, Call, SIMULATED, Sink, Upstream},
    client::UpstreamClient,
    mask::masked,
    target::CallTarget,
};
use crate::{failure::Failure, settings::CallTimeouts};

/// An OpenAI-compatible server.
#[derive(Debug)]
pub struct OpenAi {
    pub(super) client: UpstreamClient,
    pub(super) timeouts: CallTimeouts,
}

impl OpenAi {
    /// Returns the upstream behind `client`.
    #[must_use]
    pub fn new(client: UpstreamClient, timeouts: &CallTimeouts) -> Self {
        Self { client, timeouts: *timeouts }
    }

    pub(super) async fn send(&self, call: &Call) -> Result<Response, Failure> {
        match timeout(self.timeouts.first_byte, self.client.send(call)).await {
            Err(_) => Err(Failure::FirstByteTimeout(self.timeouts.first_byte)),
            Ok(sent) => sent.map_err(|error| self.client.with_proxy(unsent(&error))),
        }
    }
}

#[async_trait]
impl Upstream for OpenAi {
    async fn call(&self, call: Call, sink: &mut dyn Sink) -> Result<Answer, Failure> {
        let secrets = &self.client.secrets;
        let answered = async {
            let response = self.send(&call).await?;
            if response.headers().get(SIMULATED).is_some_and(|value| value == "true") {
                sink.simulated();
            }
            answer::read(response, &call, sink, self.timeouts.between_bytes, secrets).await
        };
        answered.await.map_err(|failure| masked(failure, secrets))
    }

    fn target(&self, url: &str) -> Option<CallTarget> {
        Some(CallTarget::from(&self.client.address().join(url)))
    }
}
