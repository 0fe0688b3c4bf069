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
        self.begin(bytes, event.name());
        put_json(bytes, event);
        self.end(bytes, event.cursor().or(resume_point));
    }

    /// Appends a sample. It was serialised once for all subscribers; only the cursor is added here.
    pub(crate) fn put_sample(self, bytes: &mut BytesMut, cursor: &Cursor, published: &Published) {
        self.begin(bytes, "sample");
        bytes.put_slice(br#"{"event":"sample","cursor":"#);
        put_json(bytes, cursor);
        bytes.put_u8(b',');
        bytes.put_slice(published.json().get(1..).unwrap_or_default());
        self.end(bytes, Some(cursor));
    }

    /// Appends something that clients ignore, so that proxies see that the stream is alive. JSON lines have nothing of
    /// this kind.
    pub(crate) fn put_sign_of_life(self, bytes: &mut BytesMut) {
        match self {
            Self::JsonLines => {}
            Self::ServerSentEvents => bytes.put_slice(b": alive\n\n"),
        }
    }

    fn begin(self, bytes: &mut BytesMut, name: &str) {
        match self {
            Self::JsonLines => {}
            Self::ServerSentEvents => {
                bytes.put_slice(b"event: ");
                bytes.put_slice(name.as_bytes());
                // JSON escapes line ends, so one line of data is enough.
                bytes.put_slice(b"\ndata: ");
            }
        }
    }

    /// Ends an event. The id comes last, so that a client that handles one line after the other never keeps the cursor
    /// of an event that it has not seen.
    fn end(self, bytes: &mut BytesMut, id: Option<&Cursor>) {
        bytes.put_u8(b'\n');
        match self {
            Self::JsonLines => {}
            Self::ServerSentEvents => {
                if let Some(id) = id {
                    // The server has made each cursor that it sends, so none has a line end.
                    bytes.put_slice(b"id: ");
                    bytes.put_slice(id.as_str().as_bytes());
                    bytes.put_u8(b'\n');
                }
                bytes.put_u8(b'\n');
            }
        }
    }
}

fn put_json(bytes: &mut BytesMut, value: &impl serde::Serialize) {
    // Cannot fail: events consist of strings and numbers, and memory takes every write.
    let _ = serde_json::to_writer(bytes.writer(), value);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_encodings_have_the_same_json() {
        let (cursor, resume_point) = (Cursor::new("7.0000000a"), Cursor::new("6.0000000b"));
        let lagged = FeedEvent::Lagged { missed: 2, cursor };
        let subscribed = FeedEvent::Subscribed {
            resumed: true,
            reason: None,
        };
        let bye = FeedEvent::Bye {
            reason: "a\r\nb".to_owned(),
        };
        let encode = |encoding: Encoding| {
            let mut bytes = BytesMut::new();
            encoding.put_start(&mut bytes);
            encoding.put(&mut bytes, &subscribed, Some(&resume_point));
            encoding.put_sign_of_life(&mut bytes);
            encoding.put(&mut bytes, &lagged, None);
            encoding.put(&mut bytes, &bye, None);
            String::from_utf8(bytes.to_vec()).unwrap()
        };
        let [json_subscribed, json_lagged, json_bye] = [
            r#"{"event":"subscribed","resumed":true}"#,
            r#"{"event":"lagged","missed":2,"cursor":"7.0000000a"}"#,
            r#"{"event":"bye","reason":"a\r\nb"}"#,
        ];
        let lines = format!("{json_subscribed}\n{json_lagged}\n{json_bye}\n");
        assert_eq!(encode(Encoding::JsonLines), lines);
        let events = format!(
            "retry: 2000\n\nevent: subscribed\ndata: {json_subscribed}\nid: 6.0000000b\n\n: alive\n\n\
             event: lagged\ndata: {json_lagged}\nid: 7.0000000a\n\nevent: bye\ndata: {json_bye}\n\n"
        );
        assert_eq!(encode(Encoding::ServerSentEvents), events);
    }
}
