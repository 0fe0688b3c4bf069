//! The two listening sockets of a server.

use std::{fmt, io, net::SocketAddr, sync::Arc};

use tokio::net::{TcpListener, TcpSocket, lookup_host};

use crate::tls::ServerTls;

/// The two listening sockets of a server: HTTP and the live feed.
#[derive(Debug)]
pub struct Listeners {
    pub(crate) http: TcpListener,
    pub(crate) feed: TcpListener,
    pub(crate) tls: Option<Arc<ServerTls>>,
    http_address: SocketAddr,
    feed_address: SocketAddr,
}

/// The reason why the server cannot listen on an address.
#[derive(Debug, thiserror::Error)]
#[error("cannot bind {address} for {service}: {}", explain(cause, service))]
pub struct BindError {
    /// `HTTP` or `feed`; the flag is the same word in small letters.
    service: &'static str,
    address: String,
    cause: io::Error,
}

/// Connections that may wait to be accepted; the system may allow fewer.
///
/// After a restart thousands of feed subscribers reconnect at once. A client that finds the queue full tries again
/// only after 1 s, then after 3 s.
const BACKLOG: u32 = 4096;

impl Listeners {
    /// Binds both addresses, such as `127.0.0.1:8000`. Port 0 takes any free port.
    ///
    /// # Errors
    /// [`BindError`], a sentence that names the address and the remedy.
    pub async fn bind(http: &str, feed: &str) -> Result<Self, BindError> {
        let (http, http_address) = bind("HTTP", http).await?;
        let (feed, feed_address) = bind("feed", feed).await?;
        Ok(Self {
            http,
            feed,
            tls: None,
            http_address,
            feed_address,
        })
    }

    /// Makes both ports speak TLS, and only TLS.
    #[must_use]
    pub fn with_tls(self, tls: Arc<ServerTls>) -> Self {
        Self { tls: Some(tls), ..self }
    }

    /// Returns the address of HTTP, with the port that the system chose if port 0 was asked for.
    pub fn http_address(&self) -> SocketAddr {
        self.http_address
    }

    /// Returns the address of the feed, with the port that the system chose if port 0 was asked for.
    pub fn feed_address(&self) -> SocketAddr {
        self.feed_address
    }
}

/// Returns the first address that other machines can reach, with its flag.
pub(crate) async fn exposed_address<'a>(addresses: [(&'static str, &'a str); 2]) -> Option<(&'static str, &'a str)> {
    for (flag, address) in addresses {
        // An address that cannot be resolved passes here; binding it fails with a message of its own.
        let mut resolved = lookup_host(address).await.into_iter().flatten();
        if resolved.any(|address: SocketAddr| !address.ip().is_loopback()) {
            return Some((flag, address));
        }
    }
    None
}

/// The line that the program prints as soon as it serves. Scripts read the addresses from it.
impl fmt::Display for Listeners {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            http_address,
            feed_address,
            tls,
            ..
        } = self;
        let scheme = if tls.is_some() { "https" } else { "http" };
        write!(f, "listening http={scheme}://{http_address} feed={feed_address}")
    }
}

fn explain(error: &io::Error, service: &str) -> String {
    let flag = service.to_lowercase();
    match error.kind() {
        io::ErrorKind::AddrInUse => {
            format!("the address is in use. Stop the other program or choose another address with --{flag}.")
        }
        io::ErrorKind::PermissionDenied => {
            format!("permission denied. Ports below 1024 often need special rights: choose a higher one with --{flag}.")
        }
        io::ErrorKind::InvalidInput => {
            let port = if flag == "feed" { 8001 } else { 8000 };
            format!("{error}. Write a host and a port to --{flag}, such as 127.0.0.1:{port}.")
        }
        _ => format!("{error}. Check the address that --{flag} names."),
    }
}

async fn bind(service: &'static str, address: &str) -> Result<(TcpListener, SocketAddr), BindError> {
    let bound = async {
        let listener = listen(address).await?;
        let address = listener.local_addr()?;
        Ok((listener, address))
    };
    bound.await.map_err(|cause| BindError {
        service,
        address: address.to_owned(),
        cause,
    })
}

/// Listens on the first usable one of the addresses that a name resolves to.
async fn listen(name: &str) -> io::Result<TcpListener> {
    let mut outcome = Err(io::Error::new(io::ErrorKind::NotFound, "the name has no address"));
    for address in lookup_host(name).await? {
        outcome = listen_at(address);
        if outcome.is_ok() {
            break;
        }
    }
    outcome
}

fn listen_at(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = match address {
        SocketAddr::V4(_) => TcpSocket::new_v4()?,
        SocketAddr::V6(_) => TcpSocket::new_v6()?,
    };
    // Lets a restarted server bind at once, although the system still remembers connections of its predecessor.
    socket.set_reuseaddr(true)?;
    socket.bind(address)?;
    socket.listen(BACKLOG)
}
