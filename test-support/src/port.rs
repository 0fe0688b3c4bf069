//! A port that a test keeps while its server is down.

use std::net::SocketAddr;

use tokio::net::TcpSocket;

/// A port of 127.0.0.1 that no other program gets as long as this value lives.
///
/// A server can listen on it, end, and start again, because servers set `SO_REUSEADDR`. While none listens, connections
/// are refused. A port that a test had used before, without this value, may be that of another test when its server
/// starts again.
///
/// ```
/// use std::net::{TcpListener, TcpStream};
/// use test_support::ReservedPort;
///
/// # fn main() -> std::io::Result<()> {
/// let port = ReservedPort::new();
/// assert!(TcpStream::connect(port.address()).is_err());
/// for _ in 0..2 {
///     let server = TcpListener::bind(port.address())?;
///     TcpStream::connect(port.address())?;
/// }
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
pub struct ReservedPort(TcpSocket);

impl ReservedPort {
    /// Reserves a port.
    ///
    /// # Panics
    ///
    /// If there is none. This holds for [`address`](Self::address), too.
    pub fn new() -> Self {
        let socket = TcpSocket::new_v4().expect("a socket");
        socket.set_reuseaddr(true).expect("a socket that others can share");
        socket.bind(SocketAddr::from(([127, 0, 0, 1], 0))).expect("a free port");
        Self(socket)
    }

    /// Returns the address with the port.
    pub fn address(&self) -> SocketAddr {
        self.0.local_addr().expect("an address")
    }
}

impl Default for ReservedPort {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(test)]
mod tests {
    use std::{
        collections::HashSet,
        net::{TcpListener, TcpStream},
    };

    use super::*;

    #[test]
    fn nobody_else_gets_the_port_and_its_server_can_start_again_while_connections_are_open() {
        let reserved: Vec<_> = (0..200).map(|_| ReservedPort::new()).collect();
        let ports: HashSet<_> = reserved.iter().map(ReservedPort::address).collect();
        assert_eq!(ports.len(), reserved.len());
        let others: Vec<_> = (0..200).map(|_| TcpListener::bind("127.0.0.1:0").unwrap()).collect();
        for other in &others {
            let client = TcpStream::connect(other.local_addr().unwrap()).unwrap();
            assert!(!ports.contains(&other.local_addr().unwrap()));
            assert!(!ports.contains(&client.local_addr().unwrap()));
        }
        let address = reserved[0].address();
        let mut open = Vec::new();
        for _ in 0..3 {
            assert!(TcpStream::connect(address).is_err());
            let server = TcpListener::bind(address).unwrap();
            open.push((TcpStream::connect(address).unwrap(), server.accept().unwrap()));
            assert!(TcpListener::bind(address).is_err(), "two servers have one port");
        }
    }
}
