//! Keeps track of the HTTP connections that wait for a request, so that the server can close one at its connection
//! limit.
//!
//! Keep-alive saves clients a handshake, so an idle connection stays open as long as the server is below the limit. At
//! the limit, the server closes a connection and accepts the new one in its place: the oldest one that has not sent a
//! byte, or else the one that has been idle for longest. A connection whose request arrives in the same moment
//! declines.

use std::{
    collections::BTreeMap,
    io,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    task::{Context, Poll},
    time::Duration,
};

use bytes::Bytes;
use http_body_util::{BodyExt, combinators::UnsyncBoxBody};
use hyper::body::{Body, Frame, SizeHint};
use parking_lot::Mutex;
use tokio::{sync::Notify, time::Instant};

use crate::{
    http::{
        cut_off::{AccessWatch, GrantedBy},
        response::HttpResponse,
    },
    request_id::RequestId,
};

/// The idle HTTP connections of a server, ordered by the time since which they are idle.
#[derive(Debug, Default)]
pub(crate) struct IdleConnections {
    queue: Mutex<IdleQueue>,
    /// Notified when a connection that was asked to close goes on.
    declined: Notify,
}

#[derive(Debug, Default)]
struct IdleQueue {
    last_ticket: u64,
    /// The connections that have not sent a byte. Tickets only grow, so the first entry is the oldest.
    silent: BTreeMap<u64, IdleEntry>,
    /// The other idle connections. The first entry has been idle for longest.
    idle: BTreeMap<u64, IdleEntry>,
}

#[derive(Debug)]
struct IdleEntry {
    since: Instant,
    close: Arc<Notify>,
}

/// One HTTP connection. It is idle from its start, and again after each response.
#[derive(Debug)]
pub(crate) struct TrackedConnection {
    idle_connections: Arc<IdleConnections>,
    close: Arc<Notify>,
    /// The connection's key in the queue while it is idle.
    ticket: Mutex<Option<u64>>,
    /// Whether the connection has to close at once, although it is not idle.
    is_cut_off: AtomicBool,
}

/// A response body that marks its connection as idle when hyper drops it, which is after the last byte.
struct BodyOfTracked {
    body: UnsyncBoxBody<Bytes, io::Error>,
    /// For what is logged while the body is made.
    request: RequestId,
    connection: Arc<TrackedConnection>,
    /// Present if the response is streamed for as long as an access is in force.
    _access_watch: Option<AccessWatch>,
}

impl IdleConnections {
    /// Adds a connection, which is silent until its first byte.
    pub(crate) fn track(self: &Arc<Self>) -> Arc<TrackedConnection> {
        let connection = Arc::new(TrackedConnection {
            idle_connections: Arc::clone(self),
            close: Arc::default(),
            ticket: Mutex::default(),
            is_cut_off: AtomicBool::default(),
        });
        connection.enter(|queue| &mut queue.silent);
        connection
    }

    /// Asks the oldest silent connection to close, or else the one that has been idle for longest.
    ///
    /// Returns `false` if there is none that is silent or has been idle for at least `min_idle`.
    pub(crate) fn close_longest_idle(&self, min_idle: Duration) -> bool {
        let mut queue = self.queue.lock();
        let chosen = queue.silent.pop_first().or_else(|| {
            let longest = queue.idle.first_entry()?;
            (longest.get().since.elapsed() >= min_idle).then(|| longest.remove_entry())
        });
        let is_chosen = chosen.is_some();
        if let Some((_, entry)) = chosen {
            entry.close.notify_one();
        }
        is_chosen
    }

    /// Resolves when a connection that was asked to close goes on.
    pub(crate) async fn declined(&self) {
        self.declined.notified().await;
    }
}

impl TrackedConnection {
    /// Notes that the connection has sent its first byte.
    pub(crate) fn mark_started(&self) {
        self.mark_busy();
        self.mark_idle();
    }

    /// Takes the connection out of the queue: a request has arrived.
    pub(crate) fn mark_busy(&self) {
        let ticket = self.ticket.lock().take();
        if let Some(ticket) = ticket {
            let mut queue = self.idle_connections.queue.lock();
            if queue.idle.remove(&ticket).is_none() {
                queue.silent.remove(&ticket);
            }
        }
    }

    /// Returns the response with a body that marks the connection as idle once it is sent.
    ///
    /// If the response was [granted by](GrantedBy) an access, the connection is cut off when that access ends.
    pub(crate) fn idle_after(self: &Arc<Self>, mut response: HttpResponse, request: RequestId) -> HttpResponse {
        let connection = Arc::clone(self);
        let granted_by: Option<GrantedBy> = response.extensions_mut().remove();
        let access_watch = granted_by.map(|granted_by| {
            let connection = Arc::clone(self);
            granted_by.watch(request.clone(), move || connection.cut_off())
        });
        response.map(|body| {
            BodyOfTracked {
                body,
                request,
                connection,
                _access_watch: access_watch,
            }
            .boxed_unsync()
        })
    }

    /// Closes the connection at once, in the middle of a response.
    fn cut_off(&self) {
        self.is_cut_off.store(true, Relaxed);
        self.close.notify_one();
    }

    /// Resolves when [`IdleConnections::close_longest_idle`] has chosen this connection and it is still idle, or when
    /// it was cut off.
    pub(crate) async fn close_requested(&self) {
        loop {
            self.close.notified().await;
            if self.is_cut_off.load(Relaxed) || self.is_chosen() {
                return;
            }
            self.idle_connections.declined.notify_one();
        }
    }

    /// Returns whether the connection is idle and no longer in the queue, because it was chosen.
    fn is_chosen(&self) -> bool {
        let ticket = *self.ticket.lock();
        ticket.is_some_and(|ticket| {
            let queue = self.idle_connections.queue.lock();
            !queue.idle.contains_key(&ticket) && !queue.silent.contains_key(&ticket)
        })
    }

    fn mark_idle(&self) {
        self.enter(|queue| &mut queue.idle);
    }

    fn enter(&self, part: impl FnOnce(&mut IdleQueue) -> &mut BTreeMap<u64, IdleEntry>) {
        let entry = IdleEntry {
            since: Instant::now(),
            close: Arc::clone(&self.close),
        };
        let ticket = {
            let mut queue = self.idle_connections.queue.lock();
            queue.last_ticket += 1;
            let ticket = queue.last_ticket;
            part(&mut queue).insert(ticket, entry);
            ticket
        };
        *self.ticket.lock() = Some(ticket);
    }
}

impl Drop for TrackedConnection {
    fn drop(&mut self) {
        self.mark_busy();
    }
}

impl Body for BodyOfTracked {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<io::Result<Frame<Bytes>>>> {
        let Self { body, request, .. } = &mut *self;
        request.scope_sync(|| Pin::new(body).poll_frame(cx))
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

impl Drop for BodyOfTracked {
    fn drop(&mut self) {
        self.connection.mark_idle();
    }
}

#[cfg(test)]
mod tests {
    use hyper::StatusCode;
    use tokio::time::timeout;

    use super::*;
    use crate::http::response::empty;

    /// Returns whether a connection was asked to close and agrees.
    async fn closes(connection: &TrackedConnection) -> bool {
        timeout(Duration::ZERO, connection.close_requested()).await.is_ok()
    }

    #[tokio::test]
    async fn the_longest_idle_connection_is_closed_and_a_busy_one_never() {
        let idle_connections = Arc::new(IdleConnections::default());
        let close_one = || idle_connections.close_longest_idle(Duration::ZERO);
        let [first, second, third] = [(); 3].map(|()| idle_connections.track());
        for connection in [&first, &second, &third] {
            connection.mark_started();
        }
        assert!(!idle_connections.close_longest_idle(Duration::MAX));
        first.mark_busy();
        let response = first.idle_after(empty(StatusCode::OK), RequestId::random());
        assert!(close_one());
        assert!(closes(&second).await);
        drop(third);
        // The first is busy, the second was chosen already, and the third is gone.
        assert!(!close_one());
        drop(response);
        assert!(close_one());
        assert!(closes(&first).await);
        drop((first, second));
        let queue = idle_connections.queue.lock();
        assert!(queue.idle.is_empty() && queue.silent.is_empty());
    }

    #[tokio::test]
    async fn the_oldest_silent_connection_is_closed_before_all_others_and_needs_no_grace() {
        let idle_connections = Arc::new(IdleConnections::default());
        let close_one = || idle_connections.close_longest_idle(Duration::MAX);
        let [started, older, newer] = [(); 3].map(|()| idle_connections.track());
        started.mark_started();
        assert!(close_one());
        assert!(closes(&older).await && !closes(&newer).await);
        assert!(close_one());
        assert!(closes(&newer).await);
        assert!(!close_one());
        assert!(!closes(&started).await);
    }

    #[tokio::test]
    async fn a_connection_declines_if_it_has_sent_something_meanwhile() {
        let idle_connections = Arc::new(IdleConnections::default());
        let connection = idle_connections.track();
        assert!(idle_connections.close_longest_idle(Duration::MAX));
        connection.mark_started();
        assert!(!closes(&connection).await);
        idle_connections.declined().await;
        assert!(idle_connections.close_longest_idle(Duration::ZERO));
        connection.mark_busy();
        assert!(!closes(&connection).await);
        idle_connections.declined().await;
    }
}
