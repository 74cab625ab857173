//! A connection without a socket: a pair of channels replaces it.

use std::{
    convert::Infallible,
    pin::Pin,
    task::{Context, Poll},
};

use axum::{
    extract::ws::{CloseFrame, Message},
    http::HeaderMap,
};
use futures_util::{Sink, Stream};
use serde_json::{Value, json};
use tokio::{sync::mpsc, task::JoinSet};
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::PollSender;

use crate::{
    tests::Api,
    ws::{Session, run},
};

/// The server's end of a connection.
struct Wire {
    heard: ReceiverStream<Result<Message, Infallible>>,
    said: PollSender<Message>,
}

impl Stream for Wire {
    type Item = Result<Message, Infallible>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        Pin::new(&mut self.heard).poll_next(cx)
    }
}

impl Sink<Message> for Wire {
    type Error = String;

    fn poll_ready(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<(), String>> {
        Pin::new(&mut self.said).poll_ready(cx).map_err(|error| error.to_string())
    }

    fn start_send(mut self: Pin<&mut Self>, message: Message) -> Result<(), String> {
        Pin::new(&mut self.said).start_send(message).map_err(|error| error.to_string())
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<(), String>> {
        Pin::new(&mut self.said).poll_flush(cx).map_err(|error| error.to_string())
    }

    fn poll_close(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<(), String>> {
        Pin::new(&mut self.said).poll_close(cx).map_err(|error| error.to_string())
    }
}

/// The client's end.
pub(super) struct Client {
    say: mpsc::Sender<Result<Message, Infallible>>,
    pub(super) hear: mpsc::Receiver<Message>,
    pub(super) server: JoinSet<()>,
}

impl Client {
    /// Connects as `tenant`; `room` is the number of frames that fit into the channel to the client.
    pub(super) fn connect(api: &Api, tenant: &str, room: usize) -> Self {
        let (say, heard) = mpsc::channel(100);
        let (said, hear) = mpsc::channel(room);
        let wire = Wire { heard: ReceiverStream::new(heard), said: PollSender::new(said) };
        let mut headers = HeaderMap::new();
        headers.insert("x-api-key", format!("key-of-{tenant}").parse().unwrap());
        let caller = api.state.tenants.caller(&headers).unwrap();
        let mut server = JoinSet::new();
        server.spawn(run(Session::new(api.state.clone(), caller, None), wire));
        Self { say, hear, server }
    }

    pub(super) async fn send(&self, message: Message) {
        self.say.send(Ok(message)).await.unwrap();
    }

    pub(super) async fn say(&self, frame: &Value) {
        self.send(Message::Text(frame.to_string().into())).await;
    }

    pub(super) async fn hear(&mut self) -> Value {
        match self.hear.recv().await {
            Some(Message::Text(text)) => serde_json::from_str(&text).unwrap(),
            other => panic!("no text: {other:?}"),
        }
    }

    /// Sends a frame; returns the next one.
    pub(super) async fn ask(&mut self, frame: &Value) -> Value {
        self.say(frame).await;
        self.hear().await
    }

    /// Submits and follows a streamed job; returns its id.
    pub(super) async fn submit(&mut self) -> String {
        let job = json!({ "body": { "stream": true } });
        let told = self.ask(&json!({ "op": "submit", "job": job, "follow": true })).await;
        assert_eq!((&told["type"], &told["replayed"]), (&json!("accepted"), &json!(false)));
        told["job"]["id"].as_str().unwrap_or_else(|| panic!("{told}")).to_owned()
    }

    pub(super) async fn closed(&mut self) -> Option<CloseFrame> {
        match self.hear.recv().await {
            Some(Message::Close(frame)) => frame,
            None => None,
            other => panic!("no end: {other:?}"),
        }
    }
}
