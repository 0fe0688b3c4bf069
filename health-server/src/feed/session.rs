//! One connection of the feed: reads commands, sends events, in the order in which both happen.

use std::{io, time::Duration};

use bytes::{BufMut, BytesMut};
use chrono::Utc;
use health_core::{Cursor, FEED_PROTOCOL, FeedEvent, Filter, LiveEvent, Published, Subscription};
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, ReadHalf, WriteHalf},
    time::{Instant, Interval, MissedTickBehavior, interval_at, sleep_until, timeout},
};

use crate::{
    app::App,
    feed::command::{self, Command, LONGEST_LINE_BYTES, Subscribe},
    metrics::Counted,
};

/// How often a subscriber hears that all is well although there is no news.
const HEARTBEAT: Duration = Duration::from_secs(5);

/// Bytes of events gathered before they are written, as long as more wait.
const WRITE_BYTES: usize = 16 << 10;

/// Room for lines that a connection keeps while it has none to write.
const KEPT_BYTES: usize = 4 << 10;

/// What the write of one reader costs, generously. A reader that has just been served waits for so long times the number of
/// readers, and gets what was committed meanwhile at once: few readers hear at once, and thousands share the machine.
const WRITE_COST: Duration = Duration::from_micros(20);

/// Waits below this are shorter than the clock of timers ticks.
const SHORTEST_REST: Duration = Duration::from_millis(1);

/// The longest that news waits, however many readers there are.
const LONGEST_REST: Duration = Duration::from_millis(250);

/// How long a client may take to read the last lines.
const FAREWELL: Duration = Duration::from_secs(1);

/// A connection and where it stands.
pub(crate) struct Session<'a, S> {
    app: &'a App,
    input: Input<ReadHalf<S>>,
    output: WriteHalf<S>,
    /// Lines that are not written yet.
    waiting: BytesMut,
    subscription: Option<Live<'a>>,
}

/// A subscription and its clock.
struct Live<'a> {
    events: Subscription,
    heartbeat: Interval,
    /// No event is looked for before then.
    rests_until: Option<Instant>,
    /// `subscribed` was said; where the stream is to resume, the database has a say in it.
    begun: bool,
    _counted: Counted<'a>,
}

/// The client's lines.
struct Input<R> {
    reader: R,
    begun: Vec<u8>,
    ended: bool,
    /// The end was told.
    told: bool,
}

/// What reading brought.
enum Line {
    Whole(Vec<u8>),
    TooLong,
    End,
}

/// What the session has to do next.
enum Next {
    Line(io::Result<Line>),
    Event(Option<LiveEvent>),
    Heartbeat,
    Closing,
}

/// Whether the session goes on.
#[derive(PartialEq, Eq)]
enum After {
    GoOn,
    Leave,
}

impl<'a, S: AsyncRead + AsyncWrite> Session<'a, S> {
    pub(crate) fn new(stream: S, app: &'a App) -> Self {
        let (reader, output) = tokio::io::split(stream);
        let input = Input {
            reader,
            begun: Vec::new(),
            ended: false,
            told: false,
        };
        Self {
            app,
            input,
            output,
            waiting: BytesMut::new(),
            subscription: None,
        }
    }

    /// Serves the connection to its end.
    pub(crate) async fn run(mut self) -> io::Result<()> {
        self.say(&FeedEvent::Hello {
            protocol: FEED_PROTOCOL.into(),
            auth: false,
            cursor: self.app.health.cursor(),
        });
        loop {
            if self.write().await? == After::Leave {
                self.say(&FeedEvent::Bye {
                    reason: "the server is ending".to_owned(),
                });
                return self.leave().await;
            }
            let after = match self.next().await {
                Next::Line(line) => self.obey(line?),
                Next::Event(Some(event)) => {
                    self.pass_on(event);
                    After::GoOn
                }
                Next::Heartbeat => {
                    self.heartbeat();
                    After::GoOn
                }
                Next::Event(None) | Next::Closing => {
                    self.say(&FeedEvent::Bye {
                        reason: "the server is ending".to_owned(),
                    });
                    After::Leave
                }
            };
            if after == After::Leave {
                return self.leave().await;
            }
        }
    }

    async fn next(&mut self) -> Next {
        let (input, subscription) = (&mut self.input, self.subscription.as_mut());
        let news = async {
            match subscription {
                Some(live) => live.next().await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            line = input.next() => Next::Line(line),
            next = news => next,
            () = self.app.closing.cancelled() => Next::Closing,
        }
    }

    fn obey(&mut self, line: Line) -> After {
        match line {
            Line::Whole(line) => match command::parse(&line) {
                Ok(Some(command)) => self.carry_out(command),
                Ok(None) => After::GoOn,
                Err(reason) => self.complain(reason),
            },
            Line::TooLong => {
                self.complain(format!("a line is longer than {LONGEST_LINE_BYTES} bytes"));
                After::Leave
            }
            // Nothing can ever come of a client that wants nothing and cannot ask.
            Line::End if self.subscription.is_none() => {
                self.say(&FeedEvent::Bye {
                    reason: "the input ended without a SUBSCRIBE".to_owned(),
                });
                After::Leave
            }
            Line::End => After::GoOn,
        }
    }

    fn carry_out(&mut self, command: Command) -> After {
        match command {
            Command::Ping => self.say(&FeedEvent::Pong),
            Command::Quit => {
                self.say(&FeedEvent::Bye {
                    reason: "as you wish".to_owned(),
                });
                return After::Leave;
            }
            Command::Auth => return self.complain("no token is needed here".to_owned()),
            Command::Subscribe(subscribe) => self.subscribe(subscribe),
        }
        After::GoOn
    }

    fn subscribe(&mut self, subscribe: Subscribe) {
        let Subscribe { users, after, every } = subscribe;
        let filter = users.map_or_else(Filter::all, Filter::users);
        // The old one ends first: it must not count, nor be counted, beside the new one.
        self.subscription = None;
        let mut heartbeat = interval_at(Instant::now() + HEARTBEAT, HEARTBEAT);
        heartbeat.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut events = self.app.health.subscribe(filter);
        if let Some(every) = every {
            events = events.every(every);
        }
        let begun = after.is_none();
        if let Some(after) = after {
            events = events.resume(after);
        }
        self.subscription = Some(Live {
            events,
            heartbeat,
            rests_until: None,
            begun,
            _counted: self.app.metrics.feed_subscribers.count(),
        });
        if begun {
            self.say(&FeedEvent::Subscribed {
                resumed: true,
                reason: None,
            });
        }
    }

    /// Puts an event and those that wait behind it into the output.
    fn pass_on(&mut self, event: LiveEvent) {
        let (mut event, mut samples) = (Some(event), 0);
        while let Some(next) = event {
            match next {
                LiveEvent::Sample { cursor, published } => {
                    self.sample(&cursor, &published);
                    samples += 1;
                }
                LiveEvent::Subscribed { resumed, reason } => {
                    if let Some(live) = &mut self.subscription {
                        live.begun = true;
                    }
                    self.say(&FeedEvent::Subscribed { resumed, reason });
                }
                LiveEvent::Lagged { missed, cursor } => {
                    self.app.metrics.missed(missed);
                    self.say(&FeedEvent::Lagged { missed, cursor });
                }
                _ => {}
            }
            let full = self.waiting.len() >= WRITE_BYTES;
            event = self
                .subscription
                .as_mut()
                .filter(|_| !full)
                .and_then(|live| live.events.try_next());
        }
        self.app.metrics.fed(samples);
    }

    /// Says where the stream stands behind the last sample: a client that resumes from there must miss nothing.
    fn heartbeat(&mut self) {
        let Some(live) = self.subscription.as_ref().filter(|live| live.begun) else {
            return;
        };
        let cursor = live.events.cursor();
        self.say(&FeedEvent::Heartbeat {
            cursor,
            time: Utc::now(),
        });
    }

    fn complain(&mut self, reason: String) -> After {
        self.say(&FeedEvent::Error { reason });
        After::GoOn
    }

    fn say(&mut self, event: &FeedEvent) {
        // Events are strings and numbers: writing them to memory cannot fail.
        let _ = serde_json::to_writer((&mut self.waiting).writer(), event);
        self.waiting.put_u8(b'\n');
    }

    /// The sample was serialised once for all its readers; only the cursor is put in front here.
    fn sample(&mut self, cursor: &Cursor, published: &Published) {
        self.waiting.put_slice(br#"{"event":"sample","cursor":"#);
        let _ = serde_json::to_writer((&mut self.waiting).writer(), cursor);
        self.waiting.put_u8(b',');
        self.waiting.put_slice(published.json().get(1..).unwrap_or_default());
        self.waiting.put_u8(b'\n');
    }

    /// Writes what waits. A client that does not read holds up nobody but itself, and not the end of the server.
    async fn write(&mut self) -> io::Result<After> {
        if self.waiting.is_empty() {
            return Ok(After::GoOn);
        }
        let more = self.waiting.len() >= WRITE_BYTES;
        tokio::select! {
            biased; // What can be written at once is.
            written = self.output.write_all_buf(&mut self.waiting) => {
                written?;
                if !more {
                    self.rest();
                    if self.waiting.capacity() > KEPT_BYTES {
                        self.waiting = BytesMut::new();
                    }
                }
                Ok(After::GoOn)
            }
            () = self.app.closing.cancelled() => Ok(After::Leave),
        }
    }

    /// Lets the other readers have the machine.
    fn rest(&mut self) {
        let readers = u32::try_from(self.app.metrics.feed_subscribers.get()).unwrap_or(u32::MAX);
        let rest = WRITE_COST.saturating_mul(readers).min(LONGEST_REST);
        if let Some(live) = self.subscription.as_mut().filter(|_| rest >= SHORTEST_REST) {
            live.rests_until = Some(Instant::now() + rest);
        }
    }

    /// Writes the last lines and waits for the client to hang up: closing over unread bytes would take them back.
    async fn leave(mut self) -> io::Result<()> {
        let farewell = async {
            self.output.write_all_buf(&mut self.waiting).await?;
            self.output.shutdown().await?;
            let mut ignored = [0; 512];
            while !self.input.ended && self.input.reader.read(&mut ignored).await? > 0 {}
            Ok(())
        };
        timeout(FAREWELL, farewell).await.unwrap_or(Ok(()))
    }
}

impl Live<'_> {
    /// Cancelling loses nothing.
    async fn next(&mut self) -> Next {
        if let Some(until) = self.rests_until {
            sleep_until(until).await;
            self.rests_until = None;
        }
        tokio::select! {
            event = self.events.next() => Next::Event(event),
            _ = self.heartbeat.tick() => Next::Heartbeat,
        }
    }
}

impl<R: AsyncRead + Unpin> Input<R> {
    /// The next line; the last one may go without its end. Then the end, once, and never anything behind it. Cancelling loses
    /// nothing.
    async fn next(&mut self) -> io::Result<Line> {
        loop {
            if let Some(end) = memchr::memchr(b'\n', &self.begun) {
                let rest = self.begun.split_off(end + 1);
                let mut line = std::mem::replace(&mut self.begun, rest);
                line.truncate(end);
                return Ok(if is_too_long(&line) {
                    Line::TooLong
                } else {
                    Line::Whole(line)
                });
            }
            if is_too_long(&self.begun) {
                return Ok(Line::TooLong);
            }
            if self.told {
                return std::future::pending().await;
            }
            if self.ended && !self.begun.is_empty() {
                return Ok(Line::Whole(std::mem::take(&mut self.begun)));
            }
            if self.ended {
                self.told = true;
                return Ok(Line::End);
            }
            self.ended = self.reader.read_buf(&mut self.begun).await? == 0;
        }
    }
}

fn is_too_long(line: &[u8]) -> bool {
    line.strip_suffix(b"\r").unwrap_or(line).len() > LONGEST_LINE_BYTES
}
