//! The socket of one connection. It reports transferred bytes, and fails if the client does not read.

use std::{
    io,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
    time::Duration,
};

use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::TcpStream,
    time::{Instant, Sleep, sleep},
};

use super::connection::{Connection, NoPlace, Registered};
use crate::error::ApiError;

/// Longest time in which a client may read nothing of an available answer.
const WRITE_TIMEOUT: Duration = Duration::from_secs(30);

/// The time for which a connection is read after its answer is complete. Closing it with unread bytes sends a
/// reset, and a client that is still sending a refused body would never read the error.
const LINGER: Duration = Duration::from_secs(2);

/// Sends a refusal to a client without a place, as far as its socket accepts it without waiting.
pub(super) fn refuse(stream: &TcpStream) {
    // Closing a socket with unread bytes sends a reset, so the client might not read the answer.
    let mut request = [0; 8 << 10];
    drop(stream.try_read(&mut request));
    let body = ApiError::too_many_connections(NoPlace::Evicted).body();
    let answer = format!(
        "HTTP/1.1 503 Service Unavailable\r\ncontent-type: application/json\r\nretry-after: 1\r\n\
         connection: close\r\n\r\n{body}"
    );
    // Without waiting: a client without a place must not occupy the process.
    drop(stream.try_write(answer.as_bytes()));
}

/// A socket and its registered place.
#[derive(Debug)]
pub(super) struct Wire {
    stream: TcpStream,
    registered: Registered,
    /// The timer of a stalled write.
    stalled: Option<Pin<Box<Sleep>>>,
    lingers: Option<Pin<Box<Sleep>>>,
}

impl Wire {
    pub(super) fn new(stream: TcpStream, registered: Registered) -> Self {
        Self { stream, registered, stalled: None, lingers: None }
    }

    pub(super) fn connection(&self) -> Arc<Connection> {
        Arc::clone(&self.registered.0)
    }

    /// Records the progress of a write; fails if the client has read nothing for too long.
    fn progress<T>(
        &mut self,
        cx: &mut Context<'_>,
        written: Poll<io::Result<T>>,
    ) -> Poll<io::Result<T>> {
        if written.is_ready() {
            self.stalled = None;
            self.registered.0.bytes_sent();
            return written;
        }
        let stalled = self.stalled.get_or_insert_with(|| Box::pin(sleep(WRITE_TIMEOUT)));
        ready!(stalled.as_mut().poll(cx));
        Poll::Ready(Err(io::Error::new(io::ErrorKind::TimedOut, "the client does not read")))
    }
}

impl Drop for Wire {
    fn drop(&mut self) {
        if self.registered.0.is_unserved() {
            refuse(&self.stream);
        }
    }
}

impl AsyncRead for Wire {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        let read = Pin::new(&mut self.stream).poll_read(cx, buf);
        let bytes = buf.filled().len() - before;
        if bytes > 0 {
            let connection = &self.registered.0;
            connection.bytes_received();
            if connection.charge_message(bytes).is_err() {
                let why = "the memory for messages is taken";
                return Poll::Ready(Err(io::Error::new(io::ErrorKind::OutOfMemory, why)));
            }
        }
        read
    }
}

impl AsyncWrite for Wire {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write(cx, buf);
        self.progress(cx, written)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write_vectored(cx, bufs);
        self.progress(cx, written)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = &mut *self;
        if this.lingers.is_none() {
            ready!(Pin::new(&mut this.stream).poll_shutdown(cx))?;
            if !this.registered.0.lingers() {
                return Poll::Ready(Ok(()));
            }
        }
        let lingers = this.lingers.get_or_insert_with(|| Box::pin(sleep(LINGER)));
        if lingers.deadline() <= Instant::now() || lingers.as_mut().poll(cx).is_ready() {
            return Poll::Ready(Ok(()));
        }
        discard(&mut this.stream, cx)
    }
}

/// Reads and discards; ready at the end of the client's data.
fn discard(stream: &mut TcpStream, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
    /// Most reads before other tasks of the runtime get their turn.
    const AT_ONCE: usize = 16;
    let mut piece = [0; 8 << 10];
    for _ in 0..AT_ONCE {
        let mut buf = ReadBuf::new(&mut piece);
        let is_over = ready!(Pin::new(&mut *stream).poll_read(cx, &mut buf)).is_err();
        if is_over || buf.filled().is_empty() {
            return Poll::Ready(Ok(()));
        }
    }
    cx.waker().wake_by_ref();
    Poll::Pending
}
