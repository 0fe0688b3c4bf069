//! Listening, and how many connections there may be.

use std::{fmt, future::Future, io, net::SocketAddr, sync::Arc, time::Duration};

use socket2::{SockRef, TcpKeepalive};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpSocket, TcpStream, lookup_host},
    sync::{OwnedSemaphorePermit, Semaphore},
    time::{sleep, timeout},
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

/// The two ports of a server, bound.
#[derive(Debug)]
pub struct Listeners {
    pub(crate) http: TcpListener,
    pub(crate) feed: TcpListener,
    http_address: SocketAddr,
    feed_address: SocketAddr,
}

/// A port that cannot be listened on.
#[derive(Debug)]
pub struct BindError {
    what: &'static str,
    address: String,
    cause: io::Error,
}

/// How the connections of one port are taken.
pub(crate) struct Door {
    pub(crate) listener: TcpListener,
    pub(crate) connections: Arc<Semaphore>,
    /// What a connection is told that is one too many.
    pub(crate) refusal: &'static [u8],
    pub(crate) closing: CancellationToken,
    pub(crate) tasks: TaskTracker,
}

/// After how much silence the system asks a peer whether it is still there, and how often.
const KEEPALIVE: TcpKeepalive = TcpKeepalive::new()
    .with_time(Duration::from_mins(1))
    .with_interval(Duration::from_secs(15))
    .with_retries(4);

/// Connections that wait to be accepted; the system may allow fewer. Thousands of readers come back at once when a server is
/// started again, and whoever finds no place here tries again only after a second, then after three.
const BACKLOG: u32 = 4096;

/// How long to leave the door shut when the system has no more sockets to give.
const PAUSE_AFTER_FAILURE: Duration = Duration::from_millis(100);

/// How long a connection may take to leave that was asked to make way: it waits for nothing but that.
const LEAVING_TIME: Duration = Duration::from_millis(100);

/// How long a connection that is one too many may take to read why.
const REFUSAL_TIME: Duration = Duration::from_secs(1);

impl Listeners {
    /// Binds both ports; port 0 takes any that is free.
    ///
    /// # Errors
    /// [`BindError`], a sentence that names the address.
    pub async fn bind(http: &str, feed: &str) -> Result<Self, BindError> {
        let (http, http_address) = bind("HTTP", http).await?;
        let (feed, feed_address) = bind("feed", feed).await?;
        Ok(Self {
            http,
            feed,
            http_address,
            feed_address,
        })
    }

    /// Where HTTP is served.
    pub fn http_address(&self) -> SocketAddr {
        self.http_address
    }

    /// Where the feed is served.
    pub fn feed_address(&self) -> SocketAddr {
        self.feed_address
    }
}

/// The line that tells whoever started the server where it serves.
impl fmt::Display for Listeners {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "listening http=http://{} feed={}",
            self.http_address, self.feed_address
        )
    }
}

impl fmt::Display for BindError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { what, address, cause } = self;
        match cause.kind() {
            io::ErrorKind::AddrInUse => {
                let flag = what.to_lowercase();
                write!(
                    f,
                    "the {what} address {address} is taken by another program: end that, or choose another with --{flag}"
                )
            }
            _ => write!(f, "the {what} address {address} cannot be listened on: {cause}"),
        }
    }
}

impl std::error::Error for BindError {}

impl Door {
    /// Takes connections until the server closes, and serves each in a task of its own.
    ///
    /// Where all places are taken, `make_way` may free one, and says whether it did.
    pub(crate) async fn open<F>(self, make_way: impl Fn() -> bool, refused: impl Fn(), serve: impl Fn(TcpStream) -> F)
    where
        F: Future<Output = ()> + Send + 'static,
    {
        loop {
            let accepted = tokio::select! {
                biased; // A closing server takes nobody more.
                () = self.closing.cancelled() => return,
                accepted = self.listener.accept() => accepted,
            };
            let stream = match accepted {
                Ok((stream, _)) => stream,
                Err(error) => {
                    tracing::warn!(%error, "a connection could not be accepted");
                    sleep(PAUSE_AFTER_FAILURE).await;
                    continue;
                }
            };
            if let Err(error) = configure(&stream) {
                tracing::debug!(%error, "a connection was gone before it could be served");
                continue;
            }
            if let Some(place) = self.place(&make_way).await {
                self.tasks.spawn(holding(place, serve(stream)));
            } else {
                refused();
                self.tasks.spawn(refuse(stream, self.refusal));
            }
        }
    }
}

impl Door {
    async fn place(&self, make_way: impl Fn() -> bool) -> Option<OwnedSemaphorePermit> {
        let connections = Arc::clone(&self.connections);
        match connections.try_acquire_owned() {
            Ok(place) => Some(place),
            Err(_) if make_way() => {
                let freed = Arc::clone(&self.connections).acquire_owned();
                timeout(LEAVING_TIME, freed).await.ok()?.ok()
            }
            Err(_) => None,
        }
    }
}

async fn bind(what: &'static str, address: &str) -> Result<(TcpListener, SocketAddr), BindError> {
    let bound = async {
        let listener = listen(address).await?;
        let address = listener.local_addr()?;
        Ok((listener, address))
    };
    bound.await.map_err(|cause| BindError {
        what,
        address: address.to_owned(),
        cause,
    })
}

/// Listens on the first that can be of what an address stands for.
async fn listen(address: &str) -> io::Result<TcpListener> {
    let mut outcome = Err(io::Error::new(io::ErrorKind::InvalidInput, "it stands for no address"));
    for address in lookup_host(address).await? {
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
    // A server that comes back does not wait for the connections of the one before to be forgotten.
    socket.set_reuseaddr(true)?;
    socket.bind(address)?;
    socket.listen(BACKLOG)
}

fn configure(stream: &TcpStream) -> io::Result<()> {
    stream.set_nodelay(true)?;
    SockRef::from(stream).set_tcp_keepalive(&KEEPALIVE)
}

async fn holding(_place: OwnedSemaphorePermit, serve: impl Future<Output = ()>) {
    serve.await;
}

/// Says why, then waits for the client to hang up: closing over unread bytes would take the reason back.
async fn refuse(mut stream: TcpStream, refusal: &'static [u8]) {
    let telling = async {
        stream.write_all(refusal).await?;
        stream.shutdown().await?;
        let mut ignored = [0; 1024];
        while stream.read(&mut ignored).await? > 0 {}
        Ok::<_, io::Error>(())
    };
    // Whether the client listened is its own affair.
    let _ = timeout(REFUSAL_TIME, telling).await;
}
