//! A port that is ours before Envoy listens on it.

use anyhow::Result;
use std::net::{Ipv4Addr, SocketAddr};
use tokio::net::TcpSocket;

/// A loopback port, held by a bound socket that never listens. The control plane must be told the gateway's port before
/// Envoy binds it; since both sockets set `SO_REUSEPORT` (Envoy does by default), Envoy may bind it too, while nobody is
/// given it for port 0, and connections go to the one socket that listens.
#[derive(Debug)]
pub(crate) struct ReservedPort {
    _socket: TcpSocket,
    address: SocketAddr,
}

impl ReservedPort {
    pub(crate) fn take() -> Result<Self> {
        let socket = TcpSocket::new_v4()?;
        socket.set_reuseport(true)?;
        socket.bind((Ipv4Addr::LOCALHOST, 0).into())?;
        let address = socket.local_addr()?;
        Ok(Self {
            _socket: socket,
            address,
        })
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }
}
