//! Accepting connections, up to a limit.

use std::{
    future::Future,
    io,
    net::{IpAddr, Ipv4Addr},
    panic::AssertUnwindSafe,
    sync::Arc,
    time::Duration,
};

use futures_util::FutureExt;
use socket2::{SockRef, TcpKeepalive};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    sync::{OwnedSemaphorePermit, Semaphore},
    time::{sleep, timeout},
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use crate::{
    connection_slots::{ConnectionLimit, ConnectionSlot, ConnectionSlots},
    http::idle_connections::IdleConnections,
};

/// Accepts the connections of one listener, up to a limit, and serves each in a task of its own.
pub(crate) struct Acceptor {
    pub(crate) listener: TcpListener,
    pub(crate) slots: ConnectionSlots,
    /// Holds a permit for each further refusal that may be under way.
    pub(crate) refusals: Arc<Semaphore>,
    /// Returns the bytes that a connection over a limit receives before it is closed.
    pub(crate) refusal: fn(ConnectionLimit) -> Vec<u8>,
    /// The connections of which one makes room for a new one at the limit, and how long it must have been idle.
    pub(crate) idle: Option<(Arc<IdleConnections>, Duration)>,
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
    /// Accepts connections until the server closes. Calls `on_refused` for each connection that is refused.
    ///
    /// The future of a connection holds its slot, so the slot is free when the connection ends, also by a panic.
    pub(crate) async fn run<F>(self, on_refused: impl Fn(), serve: impl Fn(TcpStream, ConnectionSlot) -> F)
    where
        F: Future<Output = ()> + Send + 'static,
    {
        let mut is_failing = false;
        loop {
            let accepted = tokio::select! {
                biased; // A closing server accepts no connection, even if one waits.
                () = self.closing.cancelled() => return,
                accepted = self.listener.accept() => accepted,
            };
            let stream = match accepted {
                Ok((stream, _)) => stream,
                Err(error) => {
                    self.after_failure(&error, is_failing).await;
                    is_failing = true;
                    continue;
                }
            };
            is_failing = false;
            if let Err(error) = configure(&stream) {
                tracing::debug!(%error, "a connection was closed before it could be served");
                continue;
            }
            match self.admit(peer_ip(&stream)).await {
                Ok(slot) => {
                    let connection = serve(stream, slot);
                    self.tasks.spawn(async move {
                        if AssertUnwindSafe(connection).catch_unwind().await.is_err() {
                            tracing::error!("a connection was closed because its task panicked");
                        }
                    });
                }
                Err(limit) => {
                    on_refused();
                    self.refuse(stream, limit);
                }
            }
        }
    }

    /// Makes room if the system lacks file descriptors, and waits. Logs the first of several failures only.
    async fn after_failure(&self, error: &io::Error, is_logged: bool) {
        if is_logged {
            tracing::debug!(%error, "cannot accept a connection");
        } else {
            tracing::warn!(%error, "cannot accept connections: trying again");
        }
        if let Some((connections, min_idle)) = &self.idle {
            connections.close_longest_idle(*min_idle);
        }
        sleep(PAUSE_AFTER_FAILURE).await;
    }

    /// Returns the slot of one more connection of an address, or the limit that is reached.
    async fn admit(&self, peer: IpAddr) -> Result<ConnectionSlot, ConnectionLimit> {
        let of_address = self.slots.of_address(peer)?;
        let of_all = self.permit().await.ok_or(ConnectionLimit::Total)?;
        Ok(ConnectionSlot::new(of_address, of_all))
    }

    /// Returns the permit for one more connection, or `None` if the limit is reached and no connection makes room.
    async fn permit(&self) -> Option<OwnedSemaphorePermit> {
        loop {
            if let Some(permit) = self.slots.of_all() {
                return Some(permit);
            }
            let (connections, min_idle) = self.idle.as_ref()?;
            if !connections.close_longest_idle(*min_idle) {
                return None;
            }
            let released = timeout(MAKE_ROOM_TIMEOUT, self.slots.wait_for_all());
            tokio::select! {
                permit = released => if let Ok(permit) = permit {
                    return permit;
                },
                // A request has arrived meanwhile: another connection has to make room.
                () = connections.declined() => {}
            }
        }
    }

    /// Tells a client the reason, if not too many others are being told, and closes the connection.
    fn refuse(&self, stream: TcpStream, limit: ConnectionLimit) {
        let refusal = (self.refusal)(limit);
        if let Ok(permit) = Arc::clone(&self.refusals).try_acquire_owned() {
            let refused = refuse(stream, refusal);
            self.tasks.spawn(async move {
                refused.await;
                drop(permit);
            });
        } else {
            // The buffer of a new connection has room. If it is closed already, the reason is not read.
            let _ = SockRef::from(&stream).send(&refusal);
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
pub(crate) async fn refuse(mut stream: TcpStream, refusal: Vec<u8>) {
    let exchange = async {
        stream.write_all(&refusal).await?;
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
