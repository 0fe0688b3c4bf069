//! The two forms of the feed: JSON lines over TCP, and server-sent events over HTTP.

use bytes::{BufMut, BytesMut};
use health_core::{Cursor, FeedEvent, Published};

/// How a client gets its events.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Encoding {
    /// One JSON object a line.
    JsonLines,
    /// Server-sent events: `event:` has the name, `id:` the cursor, `data:` the same JSON object.
    /// See the HTML standard, 9.2.6.
    ServerSentEvents,
}

impl Encoding {
    /// Appends what a stream begins with.
    ///
    /// A browser that has lost its connection waits for 2 s, about as long as PostgreSQL takes to restart.
    pub(crate) fn put_start(self, bytes: &mut BytesMut) {
        match self {
            Self::JsonLines => {}
            Self::ServerSentEvents => bytes.put_slice(b"retry: 2000\n\n"),
        }
    }

    /// Appends an event. `resume_point` is the cursor to resume after it, if the event itself has none.
    pub(crate) fn put(self, bytes: &mut BytesMut, event: &FeedEvent, resume_point: Option<&Cursor>) {
        self.begin(bytes, event.name(), event.cursor().or(resume_point));
        put_json(bytes, event);
        self.end(bytes);
    }

    /// Appends a sample. It was serialised once for all subscribers; only the cursor is added here.
    pub(crate) fn put_sample(self, bytes: &mut BytesMut, cursor: &Cursor, published: &Published) {
        self.begin(bytes, "sample", Some(cursor));
        bytes.put_slice(br#"{"event":"sample","cursor":"#);
        put_json(bytes, cursor);
        bytes.put_u8(b',');
        bytes.put_slice(published.json().get(1..).unwrap_or_default());
        self.end(bytes);
    }

    /// Appends something that clients ignore, so that proxies see that the stream is alive. JSON lines have nothing of this kind.
    pub(crate) fn put_sign_of_life(self, bytes: &mut BytesMut) {
        match self {
            Self::JsonLines => {}
            Self::ServerSentEvents => bytes.put_slice(b": alive\n\n"),
        }
    }

    fn begin(self, bytes: &mut BytesMut, name: &str, id: Option<&Cursor>) {
        match self {
            Self::JsonLines => {}
            Self::ServerSentEvents => {
                bytes.put_slice(b"event: ");
                bytes.put_slice(name.as_bytes());
                if let Some(id) = id {
                    // The server makes all cursors that are sent, so they have no line ends.
                    bytes.put_slice(b"\nid: ");
                    bytes.put_slice(id.as_str().as_bytes());
                }
                // JSON has no line ends inside its strings, so one line of data is enough.
                bytes.put_slice(b"\ndata: ");
            }
        }
    }

    fn end(self, bytes: &mut BytesMut) {
        match self {
            Self::JsonLines => bytes.put_u8(b'\n'),
            Self::ServerSentEvents => bytes.put_slice(b"\n\n"),
        }
    }
}

fn put_json(bytes: &mut BytesMut, value: &impl serde::Serialize) {
    // Cannot fail: events consist of strings and numbers, and memory takes every write.
    let _ = serde_json::to_writer(bytes.writer(), value);
}
