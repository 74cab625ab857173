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
    inbound: ReceiverStream<Result<Message, Infallible>>,
    outbound: PollSender<Message>,
}

impl Stream for Wire {
    type Item = Result<Message, Infallible>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        Pin::new(&mut self.inbound).poll_next(cx)
    }
}

impl Sink<Message> for Wire {
    type Error = String;

    fn poll_ready(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<(), String>> {
        Pin::new(&mut self.outbound).poll_ready(cx).map_err(|error| error.to_string())
    }

    fn start_send(mut self: Pin<&mut Self>, message: Message) -> Result<(), String> {
        Pin::new(&mut self.outbound).start_send(message).map_err(|error| error.to_string())
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<(), String>> {
        Pin::new(&mut self.outbound).poll_flush(cx).map_err(|error| error.to_string())
    }

    fn poll_close(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<(), String>> {
        Pin::new(&mut self.outbound).poll_close(cx).map_err(|error| error.to_string())
    }
}

/// The client's end.
pub(super) struct Client {
    sender: mpsc::Sender<Result<Message, Infallible>>,
    pub(super) receive: mpsc::Receiver<Message>,
    pub(super) server: JoinSet<()>,
}

impl Client {
    /// Connects as `tenant`; `room` is the number of frames that fit into the channel to the client.
    pub(super) fn connect(api: &Api, tenant: &str, room: usize) -> Self {
        let (sender, inbound) = mpsc::channel(100);
        let (outbound, receive) = mpsc::channel(room);
        let wire =
            Wire { inbound: ReceiverStream::new(inbound), outbound: PollSender::new(outbound) };
        let mut headers = HeaderMap::new();
        headers.insert("x-api-key", format!("key-of-{tenant}").parse().unwrap());
        let caller = api.state.tenants.caller(&headers).unwrap();
        let mut server = JoinSet::new();
        server.spawn(run(Session::new(api.state.clone(), caller, None), wire));
        Self { sender, receive, server }
    }

    pub(super) async fn send(&self, message: Message) {
        self.sender.send(Ok(message)).await.unwrap();
    }

    pub(super) async fn send_frame(&self, frame: &Value) {
        self.send(Message::Text(frame.to_string().into())).await;
    }

    pub(super) async fn receive(&mut self) -> Value {
        match self.receive.recv().await {
            Some(Message::Text(text)) => serde_json::from_str(&text).unwrap(),
            other => panic!("no text: {other:?}"),
        }
    }

    /// Sends a frame; returns the next one.
    pub(super) async fn ask(&mut self, frame: &Value) -> Value {
        self.send_frame(frame).await;
        self.receive().await
    }

    /// Submits and follows a streamed job; returns its id.
    pub(super) async fn submit(&mut self) -> String {
        let job = json!({ "body": { "stream": true } });
        let answer = self.ask(&json!({ "op": "submit", "job": job, "follow": true })).await;
        assert_eq!((&answer["type"], &answer["replayed"]), (&json!("accepted"), &json!(false)));
        answer["job"]["id"].as_str().unwrap_or_else(|| panic!("{answer}")).to_owned()
    }

    pub(super) async fn closed(&mut self) -> Option<CloseFrame> {
        match self.receive.recv().await {
            Some(Message::Close(frame)) => frame,
            None => None,
            other => panic!("no end: {other:?}"),
        }
    }
}
