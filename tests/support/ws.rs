//! A WebSocket client.

use futures_util::{SinkExt as _, StreamExt as _};
use serde_json::{Value, json};
use tokio::net::TcpStream;
use tokio_tungstenite::{
    MaybeTlsStream, WebSocketStream, connect_async,
    tungstenite::{
        Error, Message,
        client::IntoClientRequest as _,
        http::{HeaderName, HeaderValue, Response},
        protocol::CloseFrame,
    },
};

use super::{http::Client, soon};

/// A connection to `/v1/ws`.
pub(crate) struct Socket {
    socket: WebSocketStream<MaybeTlsStream<TcpStream>>,
    /// The server's answer to the upgrade.
    pub(crate) answer: Response<Option<Vec<u8>>>,
}

impl Socket {
    /// Connects to the server of `client`, with one more header.
    pub(crate) async fn connect(client: &Client, name: &'static str, value: &str) -> Self {
        Self::try_connect(client, name, value).await.expect("a connection")
    }

    /// Connects, or returns the refusal.
    pub(crate) async fn try_connect(
        client: &Client,
        name: &'static str,
        value: &str,
    ) -> Result<Self, Error> {
        let url = format!("{}/v1/ws", client.base().replacen("http", "ws", 1));
        let mut request = url.into_client_request()?;
        let value = HeaderValue::from_str(value).expect("a header");
        request.headers_mut().insert(HeaderName::from_static(name), value);
        let (socket, answer) = soon("a connection", connect_async(request)).await?;
        Ok(Self { socket, answer })
    }

    /// Sends a frame.
    pub(crate) async fn say(&mut self, frame: &Value) {
        let sent = self.socket.send(Message::Text(frame.to_string().into()));
        soon("room for a frame", sent).await.expect("an open connection");
    }

    /// Returns the next frame.
    pub(crate) async fn next_frame(&mut self) -> Value {
        match self.next().await {
            Some(Ok(Message::Text(text))) => serde_json::from_str(&text).expect("JSON"),
            other => panic!("no text: {other:?}"),
        }
    }

    /// Returns the next frame of this type about `job`.
    pub(crate) async fn next_of(&mut self, job: &str, kind: &str) -> Value {
        loop {
            let frame = self.next_frame().await;
            if frame["job"] == job && frame["type"] == kind {
                return frame;
            }
        }
    }

    /// Submits and follows a chat call with a streamed answer; returns the job's id.
    pub(crate) async fn submit_stream(&mut self, prompt: &str) -> String {
        let mut body = super::http::chat(prompt);
        body["stream"] = json!(true);
        let submit = json!({
            "op": "submit", "ref": prompt, "job": { "body": body }, "follow": true
        });
        self.say(&submit).await;
        loop {
            let frame = self.next_frame().await;
            if frame["ref"] == prompt {
                assert_eq!(frame["type"], "accepted", "{frame:#}");
                return frame["job"]["id"].as_str().expect("an id").to_owned();
            }
        }
    }

    /// Waits until the server closes the connection; returns the close frame.
    pub(crate) async fn closed(&mut self) -> Option<CloseFrame> {
        match self.next().await {
            Some(Ok(Message::Close(frame))) => frame,
            other => panic!("no end: {other:?}"),
        }
    }

    async fn next(&mut self) -> Option<Result<Message, Error>> {
        soon("a frame", self.socket.next()).await
    }
}
