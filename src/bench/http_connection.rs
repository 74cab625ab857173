//! A kept-alive connection that its caller drives while it waits for the answer. It needs neither a
//! task nor a channel, because the load generator shares the cores with the server that it
//! measures.

use std::pin::Pin;

use anyhow::ensure;
use http_body_util::{BodyExt as _, Full};
use hyper::{
    Request, StatusCode,
    body::Bytes,
    client::conn::http1::{self, Connection, SendRequest},
    header,
};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;

use crate::target::Target;

/// A connection to a server.
pub(super) struct HttpConnection {
    sender: SendRequest<Full<Bytes>>,
    connection: Pin<Box<Connection<TokioIo<TcpStream>, Full<Bytes>>>>,
}

/// Returns a POST of `body` to `target`.
pub(super) fn post(target: &Target, body: Bytes) -> anyhow::Result<Request<Full<Bytes>>> {
    let request = Request::post(&target.path)
        .header(header::HOST, &target.host)
        .header(header::CONTENT_TYPE, "application/json")
        .body(Full::new(body))?;
    Ok(request)
}

impl HttpConnection {
    /// Connects.
    pub(super) async fn open(target: &Target) -> anyhow::Result<Self> {
        let stream = TcpStream::connect(target.address).await?;
        stream.set_nodelay(true)?;
        let (sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
        Ok(Self { sender, connection: Box::pin(connection) })
    }

    /// Sends a request and passes each piece of the answer to `piece` as it arrives. After an error
    /// the connection is unusable.
    pub(super) async fn call(
        &mut self,
        request: Request<Full<Bytes>>,
        mut piece: impl FnMut(&[u8]),
    ) -> anyhow::Result<()> {
        let Self { sender, connection } = self;
        let answer = async {
            sender.ready().await?;
            let response = sender.send_request(request).await?;
            let status = response.status();
            let mut body = response.into_body();
            while let Some(frame) = body.frame().await {
                if let Ok(data) = frame?.into_data() {
                    piece(&data);
                }
            }
            ensure!(status == StatusCode::OK, "HTTP {status}");
            Ok(())
        };
        let mut answer = std::pin::pin!(answer);
        tokio::select! {
            biased;
            answer = &mut answer => answer,
            // The connection may end before the answer was read to its end.
            closed = connection => {
                closed?;
                answer.await
            }
        }
    }
}
