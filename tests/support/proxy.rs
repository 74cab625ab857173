//! A TCP proxy that tests cut, silence and restore.

use std::{io, net::SocketAddr};

use tokio::{
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

/// A proxy on a free loopback port.
pub(crate) struct Proxy {
    address: SocketAddr,
    link: watch::Sender<Link>,
    _tasks: JoinSet<()>,
}

impl Proxy {
    /// A proxy in front of the loopback port `to`.
    pub(crate) async fn to(port: u16) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let address = listener.local_addr().expect("an address");
        let (link, state) = watch::channel(Link::Open);
        let mut tasks = JoinSet::new();
        tasks.spawn(accept(listener, SocketAddr::from(([127, 0, 0, 1], port)), state));
        Self { address, link, _tasks: tasks }
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

    /// Passes everything on again.
    pub(crate) fn restore(&self) {
        self.link.send_replace(Link::Open);
    }
}

async fn accept(listener: TcpListener, to: SocketAddr, state: watch::Receiver<Link>) {
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            accepted = listener.accept() => {
                let (client, _) = accepted.expect("connections can be accepted");
                connections.spawn(pass(client, to, state.clone()));
            }
            Some(_) = connections.join_next() => {}
        }
    }
}

/// Carries one connection; it ends when either side, or the test, ends it.
async fn pass(mut client: TcpStream, to: SocketAddr, mut state: watch::Receiver<Link>) {
    let carry = async {
        let mut server = TcpStream::connect(to).await?;
        tokio::io::copy_bidirectional(&mut client, &mut server).await?;
        io::Result::Ok(())
    };
    let mut carry = std::pin::pin!(carry);
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
