//! A TCP proxy that tests can cut, silence, restore and redirect, and that can lose an answer.

use std::{
    io,
    net::SocketAddr,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU16, Ordering},
    },
};

use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    sync::watch,
    task::JoinSet,
};

/// The treatment of connections.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Link {
    /// Forwards everything.
    Open,
    /// Closes existing and new connections.
    Cut,
    /// Keeps existing connections and accepts new ones, but forwards nothing, as a lost network
    /// does.
    Silent,
}

/// The requests that shall lose their answers, once each.
type Doomed = Arc<Mutex<Vec<String>>>;

/// A proxy on a free loopback port.
pub(crate) struct Proxy {
    address: SocketAddr,
    to: Arc<AtomicU16>,
    link: watch::Sender<Link>,
    doomed: Doomed,
    _tasks: JoinSet<()>,
}

impl Proxy {
    /// Starts a proxy in front of the loopback port `to`.
    pub(crate) async fn to(port: u16) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let address = listener.local_addr().expect("an address");
        let (link, state) = watch::channel(Link::Open);
        let mut tasks = JoinSet::new();
        let doomed = Doomed::default();
        let to = Arc::new(AtomicU16::new(port));
        tasks.spawn(accept(listener, Arc::clone(&to), state, Arc::clone(&doomed)));
        Self { address, to, link, doomed, _tasks: tasks }
    }

    /// Returns the port of the proxy.
    pub(crate) fn port(&self) -> u16 {
        self.address.port()
    }

    /// Breaks every connection, and every new one until it is restored.
    pub(crate) fn cut(&self) {
        self.link.send_replace(Link::Cut);
    }

    /// Forwards nothing and closes nothing until it is restored.
    pub(crate) fn silence(&self) {
        self.link.send_replace(Link::Silent);
    }

    /// Leads new connections to this loopback port; existing ones stay.
    pub(crate) fn turn_to(&self, port: u16) {
        self.to.store(port, Ordering::SeqCst);
    }

    /// Forwards the next request that contains `words`, and closes its connection in place of
    /// forwarding the answer. Two calls lose two answers.
    pub(crate) fn lose_answer_to(&self, words: impl Into<String>) {
        self.doomed.lock().unwrap_or_else(PoisonError::into_inner).push(words.into());
    }

    /// Returns true if an answer is still to be lost.
    pub(crate) fn has_an_answer_to_lose(&self) -> bool {
        !self.doomed.lock().unwrap_or_else(PoisonError::into_inner).is_empty()
    }

    /// Forwards everything again.
    pub(crate) fn restore(&self) {
        self.link.send_replace(Link::Open);
    }
}

async fn accept(
    listener: TcpListener,
    to: Arc<AtomicU16>,
    state: watch::Receiver<Link>,
    doomed: Doomed,
) {
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            accepted = listener.accept() => {
                let (client, _) = accepted.expect("connections can be accepted");
                let to = SocketAddr::from(([127, 0, 0, 1], to.load(Ordering::SeqCst)));
                connections.spawn(pass(client, to, state.clone(), Arc::clone(&doomed)));
            }
            Some(_) = connections.join_next() => {}
        }
    }
}

/// Carries one connection until either side, or the test, ends it.
async fn pass(client: TcpStream, to: SocketAddr, mut state: watch::Receiver<Link>, doomed: Doomed) {
    let mut carry = std::pin::pin!(carry(client, to, doomed));
    loop {
        let link = *state.borrow_and_update();
        if link == Link::Cut {
            return;
        }
        tokio::select! {
            changed = state.changed() => if changed.is_err() { return },
            _ = &mut carry, if link == Link::Open => return,
        }
    }
}

async fn carry(mut client: TcpStream, to: SocketAddr, doomed: Doomed) -> io::Result<()> {
    let mut server = TcpStream::connect(to).await?;
    let (mut from_client, mut to_client) = client.split();
    let (mut from_server, mut to_server) = server.split();
    tokio::select! {
        done = tokio::io::copy(&mut from_server, &mut to_client) => { done?; }
        doomed = until_doomed(&mut from_client, &mut to_server, &doomed) => if doomed? {
            // The answer shows that the request was executed.
            from_server.read_u8().await?;
        },
    }
    Ok(())
}

/// Forwards the requests of a client; returns true after one that shall lose its answer, and false
/// at their end.
async fn until_doomed(
    mut client: impl AsyncRead + Unpin,
    mut server: impl AsyncWrite + Unpin,
    doomed: &Doomed,
) -> io::Result<bool> {
    let mut said = vec![0; 64 * 1024];
    loop {
        let length = client.read(&mut said).await?;
        if length == 0 {
            return Ok(false);
        }
        let is_doomed = {
            let mut doomed = doomed.lock().unwrap_or_else(PoisonError::into_inner);
            let holds = |words: &String| {
                said[..length].windows(words.len()).any(|piece| piece == words.as_bytes())
            };
            let found = doomed.iter().position(holds);
            found.map(|place| doomed.swap_remove(place)).is_some()
        };
        server.write_all(&said[..length]).await?;
        if is_doomed {
            return Ok(true);
        }
    }
}
