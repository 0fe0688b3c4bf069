//! Keeps track of the HTTP connections that wait for a request, so that the server can close one at its connection limit.
//!
//! Keep-alive saves clients a handshake, so an idle connection stays open as long as the server is below the limit. At the
//! limit, the server closes the connection that has been idle for longest and accepts the new one in its place.

use std::{
    collections::BTreeMap,
    io,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use bytes::Bytes;
use http_body_util::{BodyExt, combinators::UnsyncBoxBody};
use hyper::body::{Body, Frame, SizeHint};
use parking_lot::Mutex;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::http::response::HttpResponse;

/// The idle HTTP connections of a server, ordered by the time since which they are idle.
#[derive(Debug, Default)]
pub(crate) struct IdleConnections(Mutex<IdleQueue>);

#[derive(Debug, Default)]
struct IdleQueue {
    last_ticket: u64,
    /// Tickets only grow, so the first entry has been idle for longest.
    entries: BTreeMap<u64, IdleEntry>,
}

#[derive(Debug)]
struct IdleEntry {
    since: Instant,
    close: CancellationToken,
}

/// One HTTP connection. It is idle from its start, and again after each response.
#[derive(Debug)]
pub(crate) struct TrackedConnection {
    idle_connections: Arc<IdleConnections>,
    close: CancellationToken,
    /// The connection's key in the queue while it is idle.
    ticket: Mutex<Option<u64>>,
}

/// A response body that marks its connection as idle when hyper drops it, which is after the last byte.
struct BodyOfTracked {
    body: UnsyncBoxBody<Bytes, io::Error>,
    connection: Arc<TrackedConnection>,
}

impl IdleConnections {
    /// Adds a connection, which is idle until its first request.
    pub(crate) fn track(self: &Arc<Self>) -> Arc<TrackedConnection> {
        let connection = Arc::new(TrackedConnection {
            idle_connections: Arc::clone(self),
            close: CancellationToken::new(),
            ticket: Mutex::new(None),
        });
        connection.mark_idle();
        connection
    }

    /// Asks the connection that has been idle for longest to close.
    ///
    /// Returns `false` if no connection has been idle for at least `min_idle`.
    pub(crate) fn close_longest_idle(&self, min_idle: Duration) -> bool {
        let mut queue = self.0.lock();
        let Some(longest) = queue.entries.first_entry() else {
            return false;
        };
        if longest.get().since.elapsed() < min_idle {
            return false;
        }
        longest.remove().close.cancel();
        true
    }
}

impl TrackedConnection {
    /// Takes the connection out of the queue: a request has arrived.
    pub(crate) fn mark_busy(&self) {
        let ticket = self.ticket.lock().take();
        if let Some(ticket) = ticket {
            self.idle_connections.0.lock().entries.remove(&ticket);
        }
    }

    /// Returns the response with a body that marks the connection as idle once it is sent.
    pub(crate) fn idle_after(self: &Arc<Self>, response: HttpResponse) -> HttpResponse {
        let connection = Arc::clone(self);
        response.map(|body| BodyOfTracked { body, connection }.boxed_unsync())
    }

    /// Resolves when [`IdleConnections::close_longest_idle`] has chosen this connection.
    pub(crate) async fn close_requested(&self) {
        self.close.cancelled().await;
    }

    fn mark_idle(&self) {
        let entry = IdleEntry {
            since: Instant::now(),
            close: self.close.clone(),
        };
        let ticket = {
            let mut queue = self.idle_connections.0.lock();
            queue.last_ticket += 1;
            let ticket = queue.last_ticket;
            queue.entries.insert(ticket, entry);
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
        Pin::new(&mut self.body).poll_frame(cx)
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

    use super::*;
    use crate::http::response::empty;

    #[test]
    fn the_longest_idle_connection_is_closed_and_a_busy_one_never() {
        let idle_connections = Arc::new(IdleConnections::default());
        let close_one = || idle_connections.close_longest_idle(Duration::ZERO);
        let [first, second, third] = [(); 3].map(|()| idle_connections.track());
        assert!(!idle_connections.close_longest_idle(Duration::MAX));
        first.mark_busy();
        let response = first.idle_after(empty(StatusCode::OK));
        assert!(close_one());
        assert!(second.close.is_cancelled());
        drop(third);
        // The first is busy, the second was chosen already, and the third is gone.
        assert!(!close_one());
        drop(response);
        assert!(close_one());
        assert!(first.close.is_cancelled());
        drop((first, second));
        assert!(idle_connections.0.lock().entries.is_empty());
    }
}
