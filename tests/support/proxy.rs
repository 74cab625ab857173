//! A TCP proxy that tests cut, silence, restore and turn elsewhere, and that loses an answer.

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

/// What the proxy does with its connections.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Link {
    /// Passes everything on.
    Open,
    /// Closes what stands and what comes.
    Cut,
    /// Keeps what stands and takes what comes, but passes nothing on, as a lost network does.
    Silent,
}

/// The questions whose answers are to be lost, once each.
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
    /// A proxy in front of the loopback port `to`.
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

    /// Where it listens.
    pub(crate) fn port(&self) -> u16 {
        self.address.port()
    }

    /// Breaks every connection, and every new one until it is restored.
    pub(crate) fn cut(&self) {
        self.link.send_replace(Link::Cut);
    }

    /// Passes nothing on and closes nothing until it is restored.
    pub(crate) fn silence(&self) {
        self.link.send_replace(Link::Silent);
    }

    /// New connections lead to this loopback port; those that stand stay as they are.
    pub(crate) fn turn_to(&self, port: u16) {
        self.to.store(port, Ordering::SeqCst);
    }

    /// Passes on what holds these words and is said next, and when its answer comes closes that connection
    /// instead of passing it on. Said twice, it loses two answers.
    pub(crate) fn lose_answer_to(&self, words: impl Into<String>) {
        self.doomed.lock().unwrap_or_else(PoisonError::into_inner).push(words.into());
    }

    /// Whether an answer is still to be lost.
    pub(crate) fn has_an_answer_to_lose(&self) -> bool {
        !self.doomed.lock().unwrap_or_else(PoisonError::into_inner).is_empty()
    }

    /// Passes everything on again.
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

/// Carries one connection; it ends when either side, or the test, ends it.
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
        asked = until_doomed(&mut from_client, &mut to_server, &doomed) => if asked? {
            // Its answer says that it was executed.
            from_server.read_u8().await?;
        },
    }
    Ok(())
}

/// Passes on what a client says, until its end or until its answer is to be lost: whether that is so.
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
