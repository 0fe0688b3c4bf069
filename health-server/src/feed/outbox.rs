//! The outbox of one feed client: the events of its subscription, heartbeats, answers and the last event, until they
//! are sent.
//!
//! This is all of the feed except the transport. `feed/session.rs` takes the bytes for TCP, `http/feed.rs` for HTTP.
//! Both lend the buffer to the connection, and give it back when the system has taken the bytes. Until then no further
//! event leaves the ring, so a client that does not read costs one buffer of about [`WRITE_BYTES`], and the buffer of
//! the system.

use std::{future::Future, mem, ops::ControlFlow, sync::Arc, time::Duration};

use bytes::BytesMut;
use chrono::Utc;
use health_core::{FeedEvent, Filter, LiveEvent, Subscription};
use tokio::time::{Instant, Interval, MissedTickBehavior, interval_at, sleep_until};

use crate::{
    app::App,
    feed::{
        access::{FeedAccess, StreamEnd},
        encoding::Encoding,
        subscribe::SubscribeOptions,
    },
    metrics::GaugeGuard,
};

/// How often a subscriber gets a heartbeat. Fixed by the protocol.
const HEARTBEAT_INTERVAL: Duration = Duration::from_secs(5);

/// A client whose subscription has not begun yet gets no heartbeats. In place of every third one it gets a sign of
/// life; the protocol fixes the time, 15 s.
const HEARTBEATS_PER_SIGN_OF_LIFE: u32 = 3;

/// While more events wait, they are collected up to this size before they are written.
const WRITE_BYTES: usize = 16 << 10;

/// Events that are taken from the subscription at once. At 150 to 210 bytes each, two turns fill a write.
const EVENTS_AT_ONCE: usize = 64;

/// The buffer of a write while many events wait: room for some that are larger than the ones before. A buffer that
/// doubles as it grows would have 32 KiB, for as long as its client does not read.
const FULL_BUFFER_BYTES: usize = WRITE_BYTES + (2 << 10);

/// The largest buffer that a connection keeps while it has nothing to write. Thousands of connections have nothing
/// to write.
const IDLE_BUFFER_BYTES_MAX: usize = 4 << 10;

/// A generous estimate of the CPU time of one write to one subscriber.
///
/// After a write a subscriber pauses for this time multiplied by the number of subscribers, and then gets at once
/// what was committed in the meantime. Few subscribers get every sample immediately, and thousands share the CPU.
const WRITE_COST: Duration = Duration::from_micros(20);

/// Shorter pauses are left out: the timer's resolution is 1 ms.
const PAUSE_MIN: Duration = Duration::from_millis(1);

/// The longest delay of an event, however many subscribers there are.
const PAUSE_MAX: Duration = Duration::from_millis(250);

/// The events for one client that are not written yet, and where further ones come from.
pub(crate) struct Outbox {
    app: Arc<App>,
    encoding: Encoding,
    access: FeedAccess,
    subscription: Option<ActiveSubscription>,
    unwritten: BytesMut,
    /// Whether the buffer that was lent had no room for further events.
    is_lent_full: bool,
}

/// The subscription of a client, with its timers.
struct ActiveSubscription {
    events: Subscription,
    heartbeat: Interval,
    /// Heartbeats that were due while the subscription had not begun.
    heartbeats_left_out: u32,
    /// No further event is taken until this moment. See [`WRITE_COST`].
    paused_until: Option<Instant>,
    /// Whether `subscribed` was sent. A resumed subscription first asks the database whether the cursor is usable.
    is_confirmed: bool,
    _counted: GaugeGuard,
}

/// What comes next for a client.
pub(crate) enum Next<C> {
    /// The client has sent a command.
    Command(C),
    Due(Due),
}

/// What a client has to be sent.
pub(crate) enum Due {
    Event(LiveEvent),
    Heartbeat,
    End(StreamEnd),
}

impl Outbox {
    pub(crate) fn new(app: Arc<App>, encoding: Encoding, access: FeedAccess) -> Self {
        let mut unwritten = BytesMut::new();
        encoding.put_start(&mut unwritten);
        Self {
            app,
            encoding,
            access,
            subscription: None,
            unwritten,
            is_lent_full: false,
        }
    }

    /// Returns the access of the client.
    pub(crate) fn access(&self) -> &FeedAccess {
        &self.access
    }

    /// Takes another access. The subscription ends, because it was permitted by the one before.
    pub(crate) fn set_access(&mut self, access: FeedAccess) {
        self.access = access;
        self.subscription = None;
    }

    pub(crate) fn is_subscribed(&self) -> bool {
        self.subscription.is_some()
    }

    /// Returns whether each SUBSCRIBE was answered.
    pub(crate) fn is_confirmed(&self) -> bool {
        self.subscription.as_ref().is_none_or(|it| it.is_confirmed)
    }

    /// Begins a subscription, in place of the one before. Its users must be those of
    /// [`FeedAccess::users_of_subscription`].
    pub(crate) fn subscribe(&mut self, options: SubscribeOptions) {
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
            self.app.metrics.add_replay();
            events = events.resume(cursor);
        }
        if is_confirmed {
            let subscribed = FeedEvent::Subscribed {
                resumed: true,
                reason: None,
            };
            self.encoding
                .put(&mut self.unwritten, &subscribed, Some(&events.cursor()));
        }
        let mut heartbeat = interval_at(Instant::now() + HEARTBEAT_INTERVAL, HEARTBEAT_INTERVAL);
        heartbeat.set_missed_tick_behavior(MissedTickBehavior::Delay);
        self.subscription = Some(ActiveSubscription {
            events,
            heartbeat,
            heartbeats_left_out: 0,
            paused_until: None,
            is_confirmed,
            _counted: self.app.metrics.feed_subscribers.increment(),
        });
    }

    /// Waits for the end of the stream. Cancelling it loses nothing.
    pub(crate) async fn ended(&mut self) -> StreamEnd {
        self.access.ended().await
    }

    /// Waits for the end of the stream, a command of the client, or something of the subscription. Cancelling it loses
    /// nothing, if that holds for `command`.
    pub(crate) async fn next<C>(&mut self, command: impl Future<Output = C>) -> Next<C> {
        let (access, subscription) = (&mut self.access, self.subscription.as_mut());
        let from_subscription = async {
            match subscription {
                Some(subscription) => subscription.next().await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            biased; // Nothing is sent after the end. Commands are executed although there are always events.
            end = access.ended() => Next::Due(Due::End(end)),
            command = command => Next::Command(command),
            due = from_subscription => Next::Due(due),
        }
    }

    /// Appends what is due. Returns `Break` if it was the last event.
    pub(crate) fn push_due(&mut self, due: Due) -> ControlFlow<()> {
        match due {
            Due::Event(event) => self.push_events(event),
            Due::Heartbeat => self.push_heartbeat(),
            Due::End(end) => return self.push_bye(end.reason()),
        }
        ControlFlow::Continue(())
    }

    /// Appends an event that is not of the subscription.
    pub(crate) fn push(&mut self, event: &FeedEvent) {
        self.encoding.put(&mut self.unwritten, event, None);
    }

    pub(crate) fn push_error(&mut self, reason: String) {
        self.push(&FeedEvent::Error { reason });
    }

    /// Appends the last event.
    pub(crate) fn push_bye(&mut self, reason: &str) -> ControlFlow<()> {
        let reason = reason.to_owned();
        self.push(&FeedEvent::Bye { reason });
        ControlFlow::Break(())
    }

    /// Returns whether there is nothing to write.
    pub(crate) fn is_empty(&self) -> bool {
        self.unwritten.is_empty()
    }

    /// Lends the buffer with all unwritten events to the connection.
    pub(crate) fn lend(&mut self) -> BytesMut {
        self.is_lent_full = self.unwritten.len() >= WRITE_BYTES;
        mem::take(&mut self.unwritten)
    }

    /// Takes the buffer back after the system has taken its bytes.
    pub(crate) fn take_back(&mut self, mut buffer: BytesMut) {
        buffer.clear();
        // A full buffer means that more events wait: those follow without a pause.
        if !self.is_lent_full {
            self.pause();
            if buffer.capacity() > IDLE_BUFFER_BYTES_MAX {
                return;
            }
        }
        self.unwritten = buffer;
    }

    /// Takes back the bytes that the system has not taken, because the stream ends.
    pub(crate) fn take_back_unsent(&mut self, buffer: BytesMut) {
        self.unwritten = buffer;
    }

    /// Appends an event and those that wait after it, until a write is worthwhile.
    fn push_events(&mut self, first: LiveEvent) {
        let mut samples = 0;
        // One of the events that are written together is enough: the first is the oldest.
        let age = match &first {
            LiveEvent::Sample { published, .. } => Some(published.age()),
            _ => None,
        };
        let mut events = vec![first];
        let mut pushed = 0;
        while !events.is_empty() {
            pushed += events.len();
            for event in events.drain(..) {
                samples += self.push_event(event);
            }
            // Nothing that is ready is kept here while the client does not read: it would stay in memory.
            if let Some(subscription) = &mut self.subscription
                && self.unwritten.len() < WRITE_BYTES
            {
                let most = events_that_fit(self.unwritten.len(), pushed);
                subscription.events.take_ready(&mut events, most);
                if events.len() == most {
                    reserve_for_write(&mut self.unwritten);
                }
            }
        }
        self.app.metrics.add_feed_samples(samples);
        if let Some(age) = age {
            self.app.metrics.record_feed_delay(age);
        }
    }

    /// Appends an event. Returns how many samples that are.
    fn push_event(&mut self, event: LiveEvent) -> u64 {
        match event {
            LiveEvent::Sample { cursor, published } => {
                self.encoding.put_sample(&mut self.unwritten, &cursor, &published);
                return 1;
            }
            LiveEvent::Subscribed {
                resumed,
                reason,
                cursor,
            } => {
                if let Some(subscription) = &mut self.subscription {
                    subscription.is_confirmed = true;
                }
                let subscribed = FeedEvent::Subscribed { resumed, reason };
                self.encoding.put(&mut self.unwritten, &subscribed, Some(&cursor));
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

    /// Appends a heartbeat, or now and then a sign of life if `subscribed` was not sent yet.
    ///
    /// Its cursor is the one after the last sample, so that a client that resumes from it misses nothing.
    fn push_heartbeat(&mut self) {
        let Some(subscription) = &mut self.subscription else {
            return;
        };
        if subscription.is_confirmed {
            let (cursor, time) = (subscription.events.cursor(), Utc::now());
            self.push(&FeedEvent::Heartbeat { cursor, time });
            return;
        }
        subscription.heartbeats_left_out += 1;
        if subscription
            .heartbeats_left_out
            .is_multiple_of(HEARTBEATS_PER_SIGN_OF_LIFE)
        {
            self.encoding.put_sign_of_life(&mut self.unwritten);
        }
    }

    /// Leaves the CPU to the other subscribers for a while. See [`WRITE_COST`].
    fn pause(&mut self) {
        let subscribers = u32::try_from(self.app.metrics.feed_subscribers.get()).unwrap_or(u32::MAX);
        let pause = WRITE_COST.saturating_mul(subscribers).min(PAUSE_MAX);
        if let Some(subscription) = self.subscription.as_mut().filter(|_| pause >= PAUSE_MIN) {
            subscription.paused_until = Some(Instant::now() + pause);
        }
    }
}

impl ActiveSubscription {
    /// Waits for the next event or heartbeat. Cancelling it loses nothing.
    async fn next(&mut self) -> Due {
        if let Some(until) = self.paused_until {
            sleep_until(until).await;
            self.paused_until = None;
        }
        tokio::select! {
            event = self.events.next() => event.map_or(Due::End(StreamEnd::SubscriptionEnded), Due::Event),
            _ = self.heartbeat.tick() => Due::Heartbeat,
        }
    }
}

/// Returns how many more events make a write, if they are as large as those that were pushed.
fn events_that_fit(written: usize, pushed: usize) -> usize {
    let room = WRITE_BYTES.saturating_sub(written);
    (room * pushed / written.max(1)).clamp(1, EVENTS_AT_ONCE)
}

fn reserve_for_write(buffer: &mut BytesMut) {
    let missing = FULL_BUFFER_BYTES.saturating_sub(buffer.len());
    buffer.reserve(missing);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_buffer_of_a_client_that_does_not_read_is_hardly_larger_than_a_write() {
        for event_bytes in [100, 150, 212, 250, 400, 1000] {
            let mut buffer = BytesMut::new();
            let (mut events, mut pushed) = (1, 0);
            while events > 0 {
                pushed += events;
                for _ in 0..events {
                    buffer.extend_from_slice(&vec![b'x'; event_bytes]);
                }
                events = 0;
                if buffer.len() < WRITE_BYTES {
                    events = events_that_fit(buffer.len(), pushed);
                    reserve_for_write(&mut buffer);
                }
            }
            assert!(buffer.len() >= WRITE_BYTES, "{event_bytes}: {}", buffer.len());
            assert!(
                buffer.capacity() <= FULL_BUFFER_BYTES,
                "{event_bytes}: {}",
                buffer.capacity()
            );
        }
    }
}
