//! `GET /feed`: the feed as server-sent events.

use std::{convert::Infallible, future::pending, io, mem, sync::Arc};

use bytes::{Bytes, BytesMut};
use futures_util::stream;
use health_core::Cursor;
use http_body_util::{BodyExt, StreamBody};
use hyper::{
    HeaderMap, StatusCode,
    body::Frame,
    header::{self, HeaderName, HeaderValue},
};
use tokio::{sync::oneshot, time::timeout};

use crate::{
    app::App,
    connection_slots::ConnectionLimit,
    feed::{
        BYE_TIMEOUT,
        access::FeedAccess,
        encoding::Encoding,
        outbox::{Due, Next, Outbox},
        subscribe::{self, SubscribeOptions},
    },
    http::{
        auth::Caller,
        error::HttpError,
        open_connection::OpenConnection,
        query::Query,
        response::{HttpResponse, empty},
    },
};

/// The cursor of a browser that resumes (HTML standard, 9.2.3).
const LAST_EVENT_ID: HeaderName = HeaderName::from_static("last-event-id");

/// Asks nginx to pass each event on at once.
const X_ACCEL_BUFFERING: HeaderName = HeaderName::from_static("x-accel-buffering");

/// The events of a stream, as the frames of a response body.
struct EventFrames {
    outbox: Outbox,
    /// Resolves to the buffer of the last frame, when the system has taken its bytes.
    lent: Option<oneshot::Receiver<BytesMut>>,
    /// The last event was sent.
    is_over: bool,
}

/// A buffer that was lent to the connection, which drops it when the system has taken its bytes.
struct Lent {
    buffer: BytesMut,
    give_back: Option<oneshot::Sender<BytesMut>>,
}

/// Begins a stream. The connection is a feed connection from then on, and serves no further request.
pub(crate) fn feed(
    app: &Arc<App>,
    caller: &Caller,
    connection: &OpenConnection,
    query: Option<&str>,
    headers: &HeaderMap,
) -> Result<HttpResponse, HttpError> {
    let options = options(query, headers)?;
    let access = FeedAccess::new(app, Arc::clone(&caller.access));
    let users = access
        .users_of_subscription(options.users)
        .map_err(|denied| caller.refuse(denied))?;
    connection.become_stream(app).map_err(|limit| {
        app.metrics.add_refused_connection();
        refusal(limit)
    })?;
    let mut outbox = Outbox::new(Arc::clone(app), Encoding::ServerSentEvents, access);
    outbox.subscribe(SubscribeOptions { users, ..options });
    let frames = EventFrames {
        outbox,
        lent: None,
        is_over: false,
    };
    let mut response = empty(StatusCode::OK);
    *response.body_mut() = StreamBody::new(stream::unfold(frames, EventFrames::next)).boxed_unsync();
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("text/event-stream"));
    headers.insert(X_ACCEL_BUFFERING, HeaderValue::from_static("no"));
    headers.insert(header::CONNECTION, HeaderValue::from_static("close"));
    Ok(response)
}

/// Reads the parameters. A cursor may be any text: one that cannot be used is answered by `"resumed": false`, because
/// a browser gives up for good after any other status than 200.
fn options(query: Option<&str>, headers: &HeaderMap) -> Result<SubscribeOptions, HttpError> {
    let mut query = Query::parse(query, &["users", "every", "after"]);
    let users = query.optional_or("users", None, |text| subscribe::users(text).map(Some));
    let every = query.optional_or("every", None, |text| subscribe::every(text).map(Some));
    let after = query.optional_or("after", None, |text| Ok(Some(Cursor::new(text))));
    let ((users, every), after) = query.finish(users.zip(every).zip(after))?;
    Ok(SubscribeOptions {
        users,
        every,
        after: last_event_id(headers).or(after),
    })
}

fn last_event_id(headers: &HeaderMap) -> Option<Cursor> {
    let ids = headers.get_all(LAST_EVENT_ID).iter();
    let ids: Vec<_> = ids.map(|id| String::from_utf8_lossy(id.as_bytes())).collect();
    // Several make no cursor that the server has given. An empty one means that the client has none yet.
    let id = ids.join(", ");
    (!id.is_empty()).then(|| Cursor::new(id))
}

/// Returns the response to a stream over a limit of feed connections.
fn refusal(limit: ConnectionLimit) -> HttpError {
    let detail = match limit {
        ConnectionLimit::Total => "Too many feed connections are open. Send the request again later.",
        ConnectionLimit::OfAddress => {
            "Too many feed connections from your network are open. Close some, or send the request again later."
        }
    };
    HttpError::new(StatusCode::SERVICE_UNAVAILABLE, detail)
}

impl EventFrames {
    /// Returns the next frame, or `None` after the last one.
    async fn next(mut self) -> Option<(io::Result<Frame<Bytes>>, Self)> {
        if self.is_over {
            return match timeout(BYE_TIMEOUT, self.lent.take()?).await {
                Ok(_) => None,
                // Cuts the connection off: its client does not read.
                Err(_) => Some((Err(io::ErrorKind::TimedOut.into()), self)),
            };
        }
        loop {
            let due = match &mut self.lent {
                // No event leaves the ring before the last frame is taken, so that a slow client costs one buffer.
                Some(lent) => tokio::select! {
                    biased; // A taken frame is noted even if the stream ends.
                    buffer = lent => {
                        self.lent = None;
                        self.outbox.take_back(buffer.unwrap_or_default());
                        continue;
                    }
                    end = self.outbox.ended() => Due::End(end),
                },
                None if self.outbox.is_empty() => match self.outbox.next(pending::<Infallible>()).await {
                    Next::Due(due) => due,
                    Next::Command(never) => match never {},
                },
                None => return Some((Ok(self.lend()), self)),
            };
            if self.outbox.push_due(due).is_break() {
                self.is_over = true;
                return Some((Ok(self.lend()), self));
            }
        }
    }

    /// Makes a frame of all unwritten events.
    fn lend(&mut self) -> Frame<Bytes> {
        let (give_back, lent) = oneshot::channel();
        self.lent = Some(lent);
        Frame::data(Bytes::from_owner(Lent {
            buffer: self.outbox.lend(),
            give_back: Some(give_back),
        }))
    }
}

impl AsRef<[u8]> for Lent {
    fn as_ref(&self) -> &[u8] {
        &self.buffer
    }
}

impl Drop for Lent {
    fn drop(&mut self) {
        if let Some(give_back) = self.give_back.take() {
            // Otherwise the stream is gone.
            let _ = give_back.send(mem::take(&mut self.buffer));
        }
    }
}
