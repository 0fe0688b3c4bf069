//! Accepting connections, up to a limit.

use std::{
    future::Future,
    io,
    net::{IpAddr, Ipv4Addr},
    sync::Arc,
    time::Duration,
};

use socket2::{SockRef, TcpKeepalive};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    sync::{OwnedSemaphorePermit, Semaphore},
    time::{sleep, timeout},
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

/// Accepts the connections of one listener, up to a limit, and serves each in a task of its own.
pub(crate) struct Acceptor {
    pub(crate) listener: TcpListener,
    /// Holds a permit for each further connection that may be open.
    pub(crate) permits: Arc<Semaphore>,
    /// The bytes that a connection over the limit receives before it is closed.
    pub(crate) refusal: &'static [u8],
    /// Ends the acceptor.
    pub(crate) closing: CancellationToken,
    /// Tracks the tasks of the connections.
    pub(crate) tasks: TaskTracker,
}

/// TCP keep-alive: after 1 min of silence the system probes the peer, and after 2 min it reports the connection as
/// lost.
const KEEPALIVE: TcpKeepalive = TcpKeepalive::new()
    .with_time(Duration::from_mins(1))
    .with_interval(Duration::from_secs(15))
    .with_retries(4);

/// How long to wait after the system failed to accept a connection. It usually lacks file descriptors, which come
/// back when other connections close.
const PAUSE_AFTER_FAILURE: Duration = Duration::from_millis(100);

/// How long an idle connection may take to close after it was asked to make room. It has nothing else to do.
const MAKE_ROOM_TIMEOUT: Duration = Duration::from_millis(100);

/// How long a refused connection is kept open so that its client can read the reason.
const REFUSAL_TIMEOUT: Duration = Duration::from_secs(1);

impl Acceptor {
    /// Accepts connections until the server closes.
    ///
    /// If the limit is reached, calls `make_room`, which may ask an idle connection to close and returns whether it
    /// did. Calls `on_refused` for each connection that is refused.
    pub(crate) async fn run<F>(
        self,
        make_room: impl Fn() -> bool,
        on_refused: impl Fn(),
        serve: impl Fn(TcpStream) -> F,
    ) where
        F: Future<Output = ()> + Send + 'static,
    {
        loop {
            let accepted = tokio::select! {
                biased; // A closing server accepts no connection, even if one waits.
                () = self.closing.cancelled() => return,
                accepted = self.listener.accept() => accepted,
            };
            let stream = match accepted {
                Ok((stream, _)) => stream,
                Err(error) => {
                    tracing::warn!(%error, "cannot accept a connection");
                    sleep(PAUSE_AFTER_FAILURE).await;
                    continue;
                }
            };
            if let Err(error) = configure(&stream) {
                tracing::debug!(%error, "a connection was closed before it could be served");
                continue;
            }
            if let Some(permit) = self.permit(&make_room).await {
                let connection = serve(stream);
                self.tasks.spawn(async move {
                    connection.await;
                    drop(permit);
                });
            } else {
                on_refused();
                self.tasks.spawn(refuse(stream, self.refusal));
            }
        }
    }

    /// Returns the permit for one more connection, or `None` if the limit is reached.
    async fn permit(&self, make_room: impl Fn() -> bool) -> Option<OwnedSemaphorePermit> {
        match Arc::clone(&self.permits).try_acquire_owned() {
            Ok(permit) => Some(permit),
            Err(_) if make_room() => {
                let released = Arc::clone(&self.permits).acquire_owned();
                timeout(MAKE_ROOM_TIMEOUT, released).await.ok()?.ok()
            }
            Err(_) => None,
        }
    }
}

fn configure(stream: &TcpStream) -> io::Result<()> {
    stream.set_nodelay(true)?;
    SockRef::from(stream).set_tcp_keepalive(&KEEPALIVE)
}

/// Sends the reason, then waits until the client closes the connection.
///
/// If the server closed a connection with unread bytes, the system would reset it, and the client could lose the
/// reason.
async fn refuse(mut stream: TcpStream, refusal: &'static [u8]) {
    let exchange = async {
        stream.write_all(refusal).await?;
        stream.shutdown().await?;
        let mut ignored = [0; 1024];
        while stream.read(&mut ignored).await? > 0 {}
        Ok::<_, io::Error>(())
    };
    // A client that breaks the connection or does not read needs no further treatment.
    let _ = timeout(REFUSAL_TIMEOUT, exchange).await;
}

/// Returns the address of the client. A connection that has ended already has none.
pub(crate) fn peer_ip(stream: &TcpStream) -> IpAddr {
    stream
        .peer_addr()
        .map_or(IpAddr::V4(Ipv4Addr::UNSPECIFIED), |address| address.ip())
}
