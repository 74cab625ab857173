//! An upstream that writes arbitrary bytes.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
    task::JoinSet,
};

/// Answers the n-th call with the n-th of its answers, all later calls with the last, and closes
/// the connection.
pub(super) struct RawUpstream {
    port: u16,
    calls: Arc<AtomicUsize>,
    _server: JoinSet<()>,
}

impl RawUpstream {
    /// Starts a server on a free port.
    pub(super) async fn start(answers: Vec<Vec<u8>>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let port = listener.local_addr().expect("an address").port();
        let calls = Arc::new(AtomicUsize::new(0));
        let mut server = JoinSet::new();
        server.spawn(serve(listener, answers, Arc::clone(&calls)));
        Self { port, calls, _server: server }
    }

    /// Returns the base URL of its API.
    pub(super) fn url(&self) -> String {
        format!("http://127.0.0.1:{}/v1", self.port)
    }

    /// Returns the number of its POST requests.
    pub(super) fn calls(&self) -> usize {
        self.calls.load(Ordering::Relaxed)
    }
}

async fn serve(listener: TcpListener, answers: Vec<Vec<u8>>, calls: Arc<AtomicUsize>) {
    let mut connections = JoinSet::new();
    while let Ok((connection, _)) = listener.accept().await {
        let (answers, calls) = (answers.clone(), Arc::clone(&calls));
        connections.spawn(async move {
            // Early closing callers are a part of the tests.
            drop(answer(connection, &answers, &calls).await);
        });
    }
}

async fn answer(
    mut connection: TcpStream,
    answers: &[Vec<u8>],
    calls: &AtomicUsize,
) -> std::io::Result<()> {
    let request = read_request(&mut connection).await?;
    if !request.starts_with(b"POST") {
        return connection.write_all(b"HTTP/1.1 404 Not Found\r\ncontent-length: 0\r\n\r\n").await;
    }
    let place = calls.fetch_add(1, Ordering::Relaxed).min(answers.len() - 1);
    connection.write_all(&answers[place]).await?;
    connection.shutdown().await
}

/// Reads a request to its end, by its `content-length`.
async fn read_request(connection: &mut TcpStream) -> std::io::Result<Vec<u8>> {
    let mut request = Vec::new();
    loop {
        if connection.read_buf(&mut request).await? == 0 {
            return Ok(request);
        }
        let Some(end) = request.windows(4).position(|four| four == b"\r\n\r\n") else { continue };
        let head = String::from_utf8_lossy(&request[..end]).to_ascii_lowercase();
        let length = head.lines().find_map(|line| line.strip_prefix("content-length:"));
        let length: usize = length.map_or(0, |length| length.trim().parse().expect("a length"));
        if request.len() >= end + 4 + length {
            return Ok(request);
        }
    }
}
