//! Who makes way where all connections are taken.
//!
//! A connection that waits for its client to ask takes the place of one whose client does ask. There may be good reasons to wait, so
//! nobody is sent away as long as there are places; then it is whoever has been silent for longest.

use std::{
    collections::BTreeMap,
    io,
    pin::Pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::{Context, Poll},
    time::Duration,
};

use bytes::Bytes;
use http_body_util::{BodyExt, combinators::UnsyncBoxBody};
use hyper::body::{Body, Frame, SizeHint};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::http::problem::Reply;

/// The connections that wait for a request, the longest silent first.
#[derive(Debug, Default)]
pub(crate) struct Seats(Mutex<Silent>);

#[derive(Debug, Default)]
struct Silent {
    fell_silent: u64,
    waiting: BTreeMap<u64, (Instant, CancellationToken)>,
}

/// One connection. Silent, until a request says otherwise.
#[derive(Debug)]
pub(crate) struct Seat {
    all: Arc<Seats>,
    leave: CancellationToken,
    /// Where it stands among the silent, if it does.
    place: Mutex<Option<u64>>,
}

/// The body of an answer; the connection falls silent behind it.
struct Last {
    body: UnsyncBoxBody<Bytes, io::Error>,
    seat: Arc<Seat>,
}

impl Seats {
    /// A connection more.
    pub(crate) fn take(self: &Arc<Self>) -> Arc<Seat> {
        let seat = Arc::new(Seat {
            all: Arc::clone(self),
            leave: CancellationToken::new(),
            place: Mutex::new(None),
        });
        seat.falls_silent();
        seat
    }

    /// Asks the connection to leave that was silent for longest, if that was at least `grace`, and says whether there is one.
    pub(crate) fn make_way(&self, grace: Duration) -> bool {
        let mut silent = self.silent();
        let Some(longest) = silent
            .waiting
            .first_entry()
            .filter(|longest| longest.get().0.elapsed() >= grace)
        else {
            return false;
        };
        let (_, leave) = longest.remove();
        leave.cancel();
        true
    }

    fn silent(&self) -> MutexGuard<'_, Silent> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Seat {
    /// A request has come.
    pub(crate) fn is_asked(&self) {
        if let Some(place) = self.place().take() {
            self.all.silent().waiting.remove(&place);
        }
    }

    /// An answer, behind which the connection is silent again.
    pub(crate) fn silent_behind(self: &Arc<Self>, reply: Reply) -> Reply {
        let seat = Arc::clone(self);
        reply.map(|body| Last { body, seat }.boxed_unsync())
    }

    /// Resolves where others need the place.
    pub(crate) async fn asked_to_leave(&self) {
        self.leave.cancelled().await;
    }

    fn falls_silent(&self) {
        let mut silent = self.all.silent();
        silent.fell_silent += 1;
        let place = silent.fell_silent;
        silent.waiting.insert(place, (Instant::now(), self.leave.clone()));
        *self.place() = Some(place);
    }

    fn place(&self) -> MutexGuard<'_, Option<u64>> {
        self.place.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        self.is_asked();
    }
}

impl Body for Last {
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

impl Drop for Last {
    fn drop(&mut self) {
        self.seat.falls_silent();
    }
}

#[cfg(test)]
mod tests {
    use hyper::StatusCode;

    use super::*;
    use crate::http::problem::empty;

    #[test]
    fn the_longest_silent_makes_way_and_whoever_is_asked_does_not() {
        let (seats, at_once) = (Arc::new(Seats::default()), Duration::ZERO);
        let (first, second, third) = (seats.take(), seats.take(), seats.take());
        assert!(!seats.make_way(Duration::MAX));
        first.is_asked();
        let answer = first.silent_behind(empty(StatusCode::OK));
        assert!(seats.make_way(at_once));
        assert!(second.leave.is_cancelled());
        drop(third);
        // One is asked, one has left, and one is gone.
        assert!(!seats.make_way(at_once));
        drop(answer);
        assert!(seats.make_way(at_once));
        assert!(first.leave.is_cancelled());
        drop((first, second));
        assert!(seats.0.lock().unwrap().waiting.is_empty());
    }
}
