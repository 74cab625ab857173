//! Binds the address of the API.

use std::{io, net::SocketAddr};

use anyhow::{anyhow, bail};
use tokio::net::{TcpListener, TcpSocket};

use crate::config::Config;

/// The number of connections that may wait to be accepted: enough for ten thousand users at the
/// same moment. The kernel limits it to `net.core.somaxconn`.
const BACKLOG: u32 = 16_384;

/// Listens on `address`.
///
/// # Errors
/// If the port is in use or not permitted; the message says what to do.
pub(crate) fn listen(address: SocketAddr) -> anyhow::Result<TcpListener> {
    bind(address).map_err(|error| match error.kind() {
        io::ErrorKind::AddrInUse => anyhow!(
            "{address} is in use by another process: stop it, or choose another port with --bind"
        ),
        io::ErrorKind::AddrNotAvailable => {
            anyhow!("{address} is no address of this machine: choose another with --bind")
        }
        io::ErrorKind::PermissionDenied => anyhow!(
            "{address} may not be bound by this user: choose a port from 1024 on with --bind"
        ),
        _ => anyhow!("cannot listen on {address}: {error}"),
    })
}

fn bind(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = if address.is_ipv4() { TcpSocket::new_v4() } else { TcpSocket::new_v6() }?;
    // A restarted process gets the port while old connections are in TIME-WAIT.
    socket.set_reuseaddr(true)?;
    socket.bind(address)?;
    socket.listen(BACKLOG)
}

/// Refuses to serve other machines without keys, unless a flag permits it.
///
/// # Errors
/// If `bind` is not loopback, `allow_open_bind` is not set, no tenant is configured and the store
/// has none.
pub(crate) fn refuse_open_bind(config: &Config, stores_tenants: bool) -> anyhow::Result<()> {
    let address = config.bind;
    let is_closed = stores_tenants || !config.tenants.is_empty();
    if address.ip().is_loopback() || config.allow_open_bind || is_closed {
        return Ok(());
    }
    bail!(
        "{address} can be reached from other machines, and there is no tenant, so every client \
         would be served: configure a [[tenant]], bind 127.0.0.1, or permit it with --allow-open-bind"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_taken_port_is_named() {
        let taken = listen(SocketAddr::from(([127, 0, 0, 1], 0))).unwrap();
        let address = taken.local_addr().unwrap();
        let error = listen(address).unwrap_err().to_string();
        assert!(error.contains(&address.to_string()) && error.contains("--bind"), "{error}");
    }

    #[test]
    fn only_loopback_is_open_by_default() {
        let refused = |text: &str, allow_open_bind| {
            let bind = text.parse().unwrap();
            let config = Config { bind, allow_open_bind, ..Config::default() };
            assert!(refuse_open_bind(&config, true).is_ok(), "the store has tenants");
            refuse_open_bind(&config, false).is_err()
        };
        assert!(refused("0.0.0.0:4004", false));
        assert!(refused("[::]:4004", false));
        assert!(refused("192.168.1.5:4004", false));
        assert!(!refused("0.0.0.0:4004", true));
        assert!(!refused("127.0.0.1:4004", false));
        assert!(!refused("[::1]:4004", false));
    }
}
