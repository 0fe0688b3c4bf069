//! One feed connection: executes commands and sends events, in the order in which they happen.

use std::{future::pending, io, net::IpAddr, ops::ControlFlow, sync::Arc, time::Duration};

use bytes::{BufMut, Bytes, BytesMut};
use chrono::Utc;
use futures_util::StreamExt;
use health_core::{Cursor, FEED_PROTOCOL, FeedEvent, Filter, LiveEvent, Published, Subscription};
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, ReadHalf, WriteHalf},
    time::{Instant, Interval, MissedTickBehavior, interval_at, sleep_until, timeout},
};
use tokio_util::codec::FramedRead;

use crate::{
    app::App,
    feed::{
        access::SessionAccess,
        command::{self, Command, SubscribeOptions},
        lines::{LineDecoder, LineError},
    },
    metrics::GaugeGuard,
};

/// How often a subscriber gets a heartbeat. Fixed by the protocol.
const HEARTBEAT_INTERVAL: Duration = Duration::from_secs(5);

/// While more events wait, they are collected up to this size before they are written.
const WRITE_BYTES: usize = 16 << 10;

/// Events that are taken from the subscription at once. At about 150 bytes each, two turns fill a write.
const EVENTS_AT_ONCE: usize = 64;

/// The largest buffer that a connection keeps while it has nothing to write. Thousands of connections have nothing
/// to write.
const IDLE_BUFFER_BYTES_MAX: usize = 4 << 10;

/// The first size of the input buffer. Most clients send one short line.
const INPUT_BUFFER_BYTES: usize = 64;

/// A generous estimate of the CPU time of one write to one subscriber.
///
/// After a write a subscriber pauses for this time multiplied by the number of subscribers, and then gets at once
/// what was committed in the meantime. Few subscribers get every sample immediately, and thousands share the CPU.
const WRITE_COST: Duration = Duration::from_micros(20);

/// Shorter pauses are left out: the timer's resolution is 1 ms.
const PAUSE_MIN: Duration = Duration::from_millis(1);

/// The longest delay of an event, however many subscribers there are.
const PAUSE_MAX: Duration = Duration::from_millis(250);

/// How long a client may take to read its last lines.
const BYE_TIMEOUT: Duration = Duration::from_secs(1);

/// One feed connection.
pub(crate) struct Session<'a, S> {
    app: &'a App,
    input: FramedRead<ReadHalf<S>, LineDecoder>,
    input_ended: bool,
    output: WriteHalf<S>,
    /// Events that are not written yet, as JSON lines.
    unwritten: BytesMut,
    access: SessionAccess<'a>,
    subscription: Option<ActiveSubscription<'a>>,
}

/// The subscription of a session, with its timers.
struct ActiveSubscription<'a> {
    events: Subscription,
    heartbeat: Interval,
    /// No further event is taken until this moment. See [`WRITE_COST`].
    paused_until: Option<Instant>,
    /// Whether `subscribed` was sent. A resumed subscription first asks the database whether the cursor is usable.
    is_confirmed: bool,
    _counted: GaugeGuard<'a>,
}

/// The next thing that a session handles.
enum SessionInput {
    Line(Result<Bytes, LineError>),
    Eof,
    Event(LiveEvent),
    HeartbeatDue,
    /// The access has ended, or the client has not sent AUTH in time. The reason is for the client.
    AccessEnded(String),
    Closing,
}

impl<'a, S: AsyncRead + AsyncWrite> Session<'a, S> {
    pub(crate) fn new(stream: S, peer: IpAddr, app: &'a App) -> Self {
        let (input, output) = tokio::io::split(stream);
        Self {
            app,
            input: FramedRead::with_capacity(input, LineDecoder, INPUT_BUFFER_BYTES),
            input_ended: false,
            output,
            unwritten: BytesMut::new(),
            access: SessionAccess::new(app, peer),
            subscription: None,
        }
    }

    /// Serves the connection until it ends.
    pub(crate) async fn run(mut self) -> io::Result<()> {
        self.push(&FeedEvent::Hello {
            protocol: FEED_PROTOCOL.into(),
            auth: self.app.authenticator.is_token_needed(),
            cursor: self.app.health.cursor(),
        });
        loop {
            let next = match self.write().await? {
                Some(interruption) => interruption,
                None => self.next().await,
            };
            if self.handle(next).await?.is_break() {
                return self.finish().await;
            }
        }
    }

    /// Waits for the next thing to handle. Cancelling it loses nothing.
    ///
    /// A line is read only after the SUBSCRIBE before it was answered. So each command gets its answer, in the order of
    /// the commands, also if a client sends many at once.
    async fn next(&mut self) -> SessionInput {
        let is_answered = self.subscription.as_ref().is_none_or(|it| it.is_confirmed);
        let reads_lines = is_answered && !self.input_ended;
        let (input, subscription, access) = (&mut self.input, self.subscription.as_mut(), &mut self.access);
        let from_subscription = async {
            match subscription {
                Some(subscription) => subscription.next().await,
                None => pending().await,
            }
        };
        tokio::select! {
            biased; // Nothing is sent after the access has ended or the shutdown has begun.
            reason = access.ended() => SessionInput::AccessEnded(reason),
            () = self.app.closing.cancelled() => SessionInput::Closing,
            line = input.next(), if reads_lines => line.map_or(SessionInput::Eof, SessionInput::Line),
            input = from_subscription => input,
        }
    }

    /// Handles one input. Returns `Break` if the session is over.
    async fn handle(&mut self, input: SessionInput) -> io::Result<ControlFlow<()>> {
        match input {
            SessionInput::Line(Ok(line)) => return Ok(self.execute_line(&line).await),
            SessionInput::Line(Err(LineError::Io(error))) => return Err(error),
            SessionInput::Line(Err(error @ LineError::TooLong)) => {
                self.push_error(error.to_string());
                return Ok(ControlFlow::Break(()));
            }
            SessionInput::Eof => {
                self.input_ended = true;
                // Without a subscription, no event can follow any more.
                if self.subscription.is_none() {
                    return Ok(self.push_bye("the input ended without a SUBSCRIBE command"));
                }
            }
            SessionInput::Event(event) => self.push_events(event),
            SessionInput::HeartbeatDue => self.push_heartbeat(),
            SessionInput::AccessEnded(reason) => return Ok(self.push_bye(&reason)),
            SessionInput::Closing => return Ok(self.push_bye("the server is shutting down")),
        }
        Ok(ControlFlow::Continue(()))
    }

    async fn execute_line(&mut self, line: &[u8]) -> ControlFlow<()> {
        match command::parse(line) {
            Ok(None) => {}
            Ok(Some(Command::Subscribe(options))) => match self.access.users_to_hear_of(options.users.as_ref()) {
                Ok(users) => self.subscribe(SubscribeOptions { users, ..options }),
                Err(reason) => self.push_error(reason),
            },
            Ok(Some(Command::Ping)) => self.push(&FeedEvent::Pong),
            Ok(Some(Command::Auth(secret))) => return self.authenticate(&secret).await,
            Ok(Some(Command::Quit)) => return self.push_bye("the client sent QUIT"),
            Err(reason) => self.push_error(reason),
        }
        ControlFlow::Continue(())
    }

    /// Checks a token. A refused one ends the session.
    async fn authenticate(&mut self, secret: &str) -> ControlFlow<()> {
        if !self.app.authenticator.is_token_needed() {
            self.push_error("this server needs no token".to_owned());
            return ControlFlow::Continue(());
        }
        match self.access.authenticate(secret).await {
            Ok(()) => {
                // It was allowed by another token.
                self.subscription = None;
                ControlFlow::Continue(())
            }
            Err(reason) => {
                self.push_error(reason);
                ControlFlow::Break(())
            }
        }
    }

    fn subscribe(&mut self, options: SubscribeOptions) {
        let SubscribeOptions { users, after, every } = options;
        // Ends the previous subscription first: its samples must not arrive beside those of the new one, and the
        // gauge must not count both.
        self.subscription = None;
        let is_confirmed = after.is_none();
        let mut events = self.app.health.subscribe(users.map_or_else(Filter::all, Filter::users));
        if let Some(every) = every {
            events = events.every(every);
        }
        if let Some(cursor) = after {
            events = events.resume(cursor);
        }
        let mut heartbeat = interval_at(Instant::now() + HEARTBEAT_INTERVAL, HEARTBEAT_INTERVAL);
        heartbeat.set_missed_tick_behavior(MissedTickBehavior::Delay);
        self.subscription = Some(ActiveSubscription {
            events,
            heartbeat,
            paused_until: None,
            is_confirmed,
            _counted: self.app.metrics.feed_subscribers.increment(),
        });
        if is_confirmed {
            self.push(&FeedEvent::Subscribed {
                resumed: true,
                reason: None,
            });
        }
    }

    /// Appends an event and those that wait after it, until a write is worthwhile.
    fn push_events(&mut self, first: LiveEvent) {
        let mut samples = 0;
        let mut events = vec![first];
        while !events.is_empty() {
            for event in events.drain(..) {
                samples += self.push_event(event);
            }
            // Nothing that is ready is kept here while the client does not read: it would stay in memory.
            if let Some(subscription) = &mut self.subscription
                && self.unwritten.len() < WRITE_BYTES
            {
                subscription.events.take_ready(&mut events, EVENTS_AT_ONCE);
            }
        }
        self.app.metrics.add_feed_samples(samples);
    }

    /// Appends an event. Returns how many samples that are.
    fn push_event(&mut self, event: LiveEvent) -> u64 {
        match event {
            LiveEvent::Sample { cursor, published } => {
                self.push_sample(&cursor, &published);
                return 1;
            }
            LiveEvent::Subscribed { resumed, reason } => {
                if let Some(subscription) = &mut self.subscription {
                    subscription.is_confirmed = true;
                }
                self.push(&FeedEvent::Subscribed { resumed, reason });
            }
            LiveEvent::Erased { cursor, erasure } => self.push(&FeedEvent::Erased {
                cursor,
                erasure: Arc::unwrap_or_clone(erasure),
            }),
            LiveEvent::Lagged { missed, cursor } => self.push(&FeedEvent::Lagged { missed, cursor }),
            _ => {}
        }
        0
    }

    /// Appends a heartbeat, unless `subscribed` was not sent yet.
    ///
    /// Its cursor is the one after the last sample, so that a client that resumes from it misses nothing.
    fn push_heartbeat(&mut self) {
        if let Some(subscription) = self.subscription.as_ref().filter(|it| it.is_confirmed) {
            let cursor = subscription.events.cursor();
            self.push(&FeedEvent::Heartbeat {
                cursor,
                time: Utc::now(),
            });
        }
    }

    /// Appends a sample. It was serialised once for all subscribers; only the cursor is added here.
    fn push_sample(&mut self, cursor: &Cursor, published: &Published) {
        self.unwritten.put_slice(br#"{"event":"sample","cursor":"#);
        let _ = serde_json::to_writer((&mut self.unwritten).writer(), cursor);
        self.unwritten.put_u8(b',');
        self.unwritten.put_slice(published.json().get(1..).unwrap_or_default());
        self.unwritten.put_u8(b'\n');
    }

    fn push_error(&mut self, reason: String) {
        self.push(&FeedEvent::Error { reason });
    }

    fn push_bye(&mut self, reason: &str) -> ControlFlow<()> {
        self.push(&FeedEvent::Bye {
            reason: reason.to_owned(),
        });
        ControlFlow::Break(())
    }

    fn push(&mut self, event: &FeedEvent) {
        // Cannot fail: events consist of strings and numbers, and memory takes every write.
        let _ = serde_json::to_writer((&mut self.unwritten).writer(), event);
        self.unwritten.put_u8(b'\n');
    }

    /// Writes the unwritten events. Returns what ended the session before the client read them, if something did.
    async fn write(&mut self) -> io::Result<Option<SessionInput>> {
        if self.unwritten.is_empty() {
            return Ok(None);
        }
        let is_full = self.unwritten.len() >= WRITE_BYTES;
        tokio::select! {
            biased; // Events that the system accepts at once are written even if the server is closing.
            written = self.output.write_all_buf(&mut self.unwritten) => written?,
            reason = self.access.ended() => {
                self.drop_unsent_lines();
                return Ok(Some(SessionInput::AccessEnded(reason)));
            }
            () = self.app.closing.cancelled() => return Ok(Some(SessionInput::Closing)),
        }
        // A full write means that more events wait: those follow without a pause.
        if !is_full {
            self.pause();
            if self.unwritten.capacity() > IDLE_BUFFER_BYTES_MAX {
                self.unwritten = BytesMut::new();
            }
        }
        Ok(None)
    }

    /// Keeps only the rest of a line whose beginning may be written already.
    fn drop_unsent_lines(&mut self) {
        let line_end = self.unwritten.iter().position(|byte| *byte == b'\n');
        self.unwritten.truncate(line_end.map_or(0, |end| end + 1));
    }

    /// Leaves the CPU to the other subscribers for a while. See [`WRITE_COST`].
    fn pause(&mut self) {
        let subscribers = u32::try_from(self.app.metrics.feed_subscribers.get()).unwrap_or(u32::MAX);
        let pause = WRITE_COST.saturating_mul(subscribers).min(PAUSE_MAX);
        if let Some(subscription) = self.subscription.as_mut().filter(|_| pause >= PAUSE_MIN) {
            subscription.paused_until = Some(Instant::now() + pause);
        }
    }

    /// Writes the last events, then waits until the client closes the connection.
    ///
    /// If the server closed a connection with unread bytes, the system would reset it, and the client could lose
    /// the last events.
    async fn finish(mut self) -> io::Result<()> {
        let exchange = async {
            self.output.write_all_buf(&mut self.unwritten).await?;
            self.output.shutdown().await?;
            let mut ignored = [0; 512];
            while !self.input_ended && self.input.get_mut().read(&mut ignored).await? > 0 {}
            Ok(())
        };
        timeout(BYE_TIMEOUT, exchange).await.unwrap_or(Ok(()))
    }
}

impl ActiveSubscription<'_> {
    /// Waits for the next event or heartbeat. Cancelling it loses nothing.
    async fn next(&mut self) -> SessionInput {
        if let Some(until) = self.paused_until {
            sleep_until(until).await;
            self.paused_until = None;
        }
        tokio::select! {
            event = self.events.next() => event.map_or(SessionInput::Closing, SessionInput::Event),
            _ = self.heartbeat.tick() => SessionInput::HeartbeatDue,
        }
    }
}
