//! One connection to the feed: lines in, commands out, and the time since the last event.

use std::{fmt, io, time::Duration};

use bytes::BytesMut;
use futures_util::{FutureExt, StreamExt};
use tokio::{
    io::{AsyncWriteExt, ReadHalf, WriteHalf},
    time::{Instant, sleep_until},
};
use tokio_util::codec::{FramedRead, LinesCodec, LinesCodecError};

use super::FeedError;
use crate::{
    client::transport::BoxedStream,
    sample::Sample,
    wire::{Cursor, FeedEvent},
};

/// The longest line of the feed. A sample with a source of 64 bytes is below 400 bytes.
pub(super) const LINE_BYTES_MAX: usize = 64 * 1024;

/// The initial size of the read buffer: about 200 samples in one read.
const READ_BYTES: usize = 64 * 1024;

/// The timeout for the greeting.
pub(super) const HELLO_TIMEOUT: Duration = Duration::from_secs(5);

/// If there is no greeting after this time, the client speaks first. A server with TLS waits for the first byte of a
/// client, and then tells one without TLS what is wrong.
const HELLO_NUDGE: Duration = Duration::from_secs(1);

/// A silent feed is reported after this time. Heartbeats come every 5 s, so one is late by then.
pub(super) const SILENCE_WARNING: Duration = Duration::from_secs(7);

/// A connection without an event for this time is lost: three heartbeats are missing.
pub(super) const SILENCE_TIMEOUT: Duration = Duration::from_secs(15);

pub(super) struct Connection {
    lines: FramedRead<ReadHalf<BoxedStream>, LinesCodec>,
    write: WriteHalf<BoxedStream>,
    /// Commands that are not sent yet.
    outgoing: BytesMut,
    /// An event that was read while samples were collected.
    next: Option<Result<FeedEvent, FeedError>>,
    last_event_at: Instant,
    waiting_for: WaitingFor,
    /// The position of the feed at the beginning of the connection, until it is needed.
    pub(super) hello_cursor: Option<Cursor>,
    /// Whether the client had no resume point before this connection.
    pub(super) is_first: bool,
    /// A SUBSCRIBE was sent that the server has not confirmed yet.
    pub(super) is_subscribing: bool,
    /// Whether the server has confirmed a SUBSCRIBE.
    pub(super) was_subscribed: bool,
}

/// What the server has to send, and until when.
#[derive(Clone, Copy, PartialEq, Eq)]
enum WaitingFor {
    Hello,
    /// The greeting, after the client has spoken first.
    LateHello,
    Event,
    /// An event is late, and that is reported.
    LateEvent,
}

impl WaitingFor {
    fn limit(self) -> Duration {
        match self {
            Self::Hello => HELLO_NUDGE,
            Self::LateHello => HELLO_TIMEOUT,
            Self::Event => SILENCE_WARNING,
            Self::LateEvent => SILENCE_TIMEOUT,
        }
    }
}

/// What a connection reports.
pub(super) enum Received {
    Event(FeedEvent),
    Silent { elapsed: Duration },
    Recovered,
}

impl fmt::Debug for Connection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Connection").finish_non_exhaustive()
    }
}

impl Connection {
    pub(super) fn new(stream: BoxedStream) -> Self {
        let (read, write) = tokio::io::split(stream);
        let codec = LinesCodec::new_with_max_length(LINE_BYTES_MAX);
        Self {
            lines: FramedRead::with_capacity(read, codec, READ_BYTES),
            write,
            outgoing: BytesMut::new(),
            next: None,
            last_event_at: Instant::now(),
            waiting_for: WaitingFor::Hello,
            hello_cursor: None,
            is_first: false,
            is_subscribing: false,
            was_subscribed: false,
        }
    }

    /// Sends a command, together with the next [`Connection::receive`].
    pub(super) fn send(&mut self, command: &str) {
        self.outgoing.extend_from_slice(command.as_bytes());
        self.outgoing.extend_from_slice(b"\n");
    }

    /// Waits for the next event, and for silence. Sends commands meanwhile. Dropping the future loses nothing.
    pub(super) async fn receive(&mut self) -> Result<Received, FeedError> {
        loop {
            if let Some(event) = self.next.take() {
                return event.map(Received::Event);
            }
            let deadline = self.last_event_at + self.waiting_for.limit();
            // `biased`: a command must not wait for a flood of samples.
            tokio::select! {
                biased;
                written = self.write.write_buf(&mut self.outgoing), if !self.outgoing.is_empty() => {
                    if !matches!(written, Ok(1..)) {
                        // The server has closed the connection. What it sent before, such as the reason, is still read.
                        self.outgoing.clear();
                    }
                }
                line = self.lines.next() => {
                    self.last_event_at = Instant::now();
                    let was_late = self.waiting_for == WaitingFor::LateEvent;
                    self.next = self.parse(line).transpose();
                    if was_late {
                        return Ok(Received::Recovered);
                    }
                }
                () = sleep_until(deadline) => {
                    match self.waiting_for {
                        WaitingFor::Hello => {
                            self.waiting_for = WaitingFor::LateHello;
                            self.send("PING");
                            continue;
                        }
                        WaitingFor::Event => {}
                        WaitingFor::LateHello | WaitingFor::LateEvent => return Err(FeedError::Silent),
                    }
                    self.waiting_for = WaitingFor::LateEvent;
                    return Ok(Received::Silent { elapsed: self.last_event_at.elapsed() });
                }
            }
        }
    }

    /// Returns a sample that has already arrived. Any other event waits for the next [`Connection::receive`].
    pub(super) fn waiting_sample(&mut self) -> Option<(Cursor, Sample)> {
        while self.next.is_none() {
            let line = self.lines.next().now_or_never()?;
            match self.parse(line).transpose() {
                Some(Ok(FeedEvent::Sample { cursor, sample })) => return Some((cursor, sample)),
                other => self.next = other,
            }
        }
        None
    }

    /// Parses a line. A line with an event that this version does not know is `None`.
    fn parse(&mut self, line: Option<Result<String, LinesCodecError>>) -> Result<Option<FeedEvent>, FeedError> {
        let was_greeted = !matches!(self.waiting_for, WaitingFor::Hello | WaitingFor::LateHello);
        if was_greeted {
            self.waiting_for = WaitingFor::Event;
        }
        let line = line.ok_or(FeedError::Closed)??;
        let event = match serde_json::from_str(&line) {
            Ok(event) => event,
            Err(_) if line.starts_with('{') && was_greeted => return Ok(None),
            Err(_) => return Err(FeedError::NotAFeed),
        };
        let is_greeting = matches!(
            event,
            FeedEvent::Hello { .. } | FeedEvent::Error { .. } | FeedEvent::Bye { .. }
        );
        // A server of the feed greets first.
        if !was_greeted && !is_greeting {
            return Err(FeedError::NotAFeed);
        }
        self.waiting_for = WaitingFor::Event;
        Ok(Some(event))
    }
}

impl From<LinesCodecError> for FeedError {
    fn from(error: LinesCodecError) -> Self {
        match error {
            LinesCodecError::MaxLineLengthExceeded => Self::LineTooLong,
            // The codec reports invalid UTF-8 in this way. The feed is UTF-8.
            LinesCodecError::Io(error) if error.kind() == io::ErrorKind::InvalidData => Self::NotAFeed,
            LinesCodecError::Io(error) => Self::Io(error),
        }
    }
}
