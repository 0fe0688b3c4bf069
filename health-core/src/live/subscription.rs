//! A subscription, as the subscriber uses it.

use std::{
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use futures_util::{Stream, StreamExt};
use tokio::{
    sync::mpsc,
    task::JoinHandle,
    time::{Instant, Interval, MissedTickBehavior, interval_at},
};

use crate::{
    live::{
        event::LiveEvent,
        filter::Filter,
        replay::{Replay, link::Replayed, source::ReplaySource},
        ring::{Membership, Ring},
    },
    wire::Cursor,
};

/// A stream of committed samples, from now on or [from a cursor](Subscription::resume).
///
/// Each user's samples come in the order of their commits, at least once. Writers never wait for a subscriber.
/// If it reads too slowly, it misses samples, and [`LiveEvent::Lagged`] says how many. The stream ends when the
/// handle is closed.
///
/// ```no_run
/// use health_core::{Config, Filter, Health, LiveEvent, UserId};
///
/// # async fn example(last: health_core::Cursor) -> Result<(), Box<dyn std::error::Error>> {
/// let health = Health::open(Config::from_url("postgres://localhost/health_db")?).await?;
/// let mut live = health.subscribe(Filter::users([UserId::new(101)?])).resume(last);
/// while let Some(event) = live.next().await {
///     if let LiveEvent::Sample { cursor, published } = event {
///         println!("{cursor}: {:?}", published.sample());
///     }
/// }
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
pub struct Subscription {
    ring: Arc<Ring>,
    source: Arc<ReplaySource>,
    filter: Filter,
    reading: Reading,
    /// The last cursor that was returned.
    last_cursor: Cursor,
    /// Set if the subscription wants only the newest sample of each user.
    every: Option<Every>,
}

/// When the newest samples are read.
#[derive(Debug)]
struct Every {
    interval: Duration,
    timer: Interval,
    /// The interval since the last turn has ended: the next sample begins a turn at once.
    is_due: bool,
}

/// Where the events come from.
#[derive(Debug)]
enum Reading {
    Ring(Membership),
    /// The replay begins when the first event is asked for.
    Resuming(Cursor),
    Replay(RunningReplay),
    Ended,
}

#[derive(Debug)]
struct RunningReplay {
    replayed: mpsc::Receiver<Replayed>,
    task: JoinHandle<()>,
}

impl Subscription {
    pub(crate) fn new(ring: &Arc<Ring>, source: &Arc<ReplaySource>, filter: Filter) -> Self {
        // Read first: a commit that is delivered in between is sent again to a client that resumes, and not left out.
        let last_cursor = ring.cursor();
        Self {
            ring: Arc::clone(ring),
            source: Arc::clone(source),
            reading: Reading::Ring(ring.subscribe(&filter)),
            filter,
            last_cursor,
            every: None,
        }
    }

    /// Starts from a cursor instead of from now.
    ///
    /// The first event is [`LiveEvent::Subscribed`], which says whether that is possible. The samples committed after
    /// the cursor follow, then the live samples, without a gap between the two. A live sample waits only for the
    /// backlog of its own user. If the database is out of reach, the first event comes when it is back.
    #[must_use]
    pub fn resume(mut self, cursor: Cursor) -> Self {
        self.last_cursor = cursor.clone();
        self.reading = Reading::Resuming(cursor);
        self
    }

    /// Limits the stream to one sample a user in each interval: the newest.
    ///
    /// If no sample came for an interval, the next one comes at once, and the next interval begins with it. All
    /// erasures are delivered. An erased sample that was not delivered yet is left out, and nothing takes its place.
    ///
    /// Must be called on a Tokio runtime.
    #[must_use]
    pub fn every(mut self, interval: Duration) -> Self {
        let interval = interval.max(Duration::from_millis(1));
        let mut timer = interval_at(Instant::now() + interval, interval);
        timer.set_missed_tick_behavior(MissedTickBehavior::Delay);
        if let Reading::Ring(membership) = &self.reading
            && self.every.is_none()
        {
            membership.read_newest();
        }
        self.every = Some(Every {
            interval,
            timer,
            is_due: true,
        });
        self
    }

    /// Returns the next event, or `None` after the handle was closed. This method is cancel safe.
    ///
    /// Must be called on a Tokio runtime.
    pub async fn next(&mut self) -> Option<LiveEvent> {
        StreamExt::next(self).await
    }

    /// Returns the next event if there is one, without waiting.
    pub fn try_next(&mut self) -> Option<LiveEvent> {
        let event = match &mut self.reading {
            Reading::Ring(membership) => match membership.take() {
                Poll::Ready(event) => event,
                Poll::Pending => None,
            },
            Reading::Replay(replay) => match replay.replayed.try_recv() {
                Ok(Replayed::Event(event)) => Some(event),
                Ok(Replayed::Joined(membership)) => {
                    self.join(membership);
                    return self.try_next();
                }
                Err(_) => None,
            },
            Reading::Resuming(_) | Reading::Ended => None,
        };
        event.inspect(|event| remember(&mut self.last_cursor, event))
    }

    /// Moves up to `limit` events that are ready into `events`, without waiting. Cheaper than as many calls of
    /// [`Self::try_next`].
    pub fn take_ready(&mut self, events: &mut Vec<LiveEvent>, limit: usize) {
        let before = events.len();
        if let Reading::Ring(membership) = &self.reading {
            membership.take_into(events, limit);
            for event in &events[before..] {
                remember(&mut self.last_cursor, event);
            }
        } else {
            events.extend(std::iter::from_fn(|| self.try_next()).take(limit));
        }
    }

    /// Returns the cursor to resume after the last event that was taken. If no event waits, this is the present.
    pub fn cursor(&self) -> Cursor {
        let present = match &self.reading {
            Reading::Ring(membership) => membership.cursor_if_idle(),
            _ => None,
        };
        present.unwrap_or_else(|| self.last_cursor.clone())
    }

    fn join(&mut self, membership: Membership) {
        self.reading = Reading::Ring(membership);
        // The replay may just have sent a sample of each user.
        if let Some(every) = &mut self.every {
            every.begin_interval();
        }
    }

    fn poll_event(&mut self, context: &mut Context<'_>) -> Poll<Option<LiveEvent>> {
        loop {
            match &mut self.reading {
                Reading::Ring(membership) => {
                    let event = membership.poll_take(context);
                    if event.is_ready() {
                        return event;
                    }
                    let Some(every) = &mut self.every else {
                        return Poll::Pending;
                    };
                    if !every.is_due && every.timer.poll_tick(context).is_pending() {
                        return Poll::Pending;
                    }
                    every.is_due = true;
                    let event = membership.poll_turn(context);
                    if event.is_ready() {
                        every.begin_interval();
                    }
                    return event;
                }
                Reading::Resuming(cursor) => {
                    let cursor = cursor.clone();
                    let every = self.every.as_ref().map(|every| every.interval);
                    let (replay, replayed) = Replay::new(
                        Arc::clone(&self.ring),
                        Arc::clone(&self.source),
                        self.filter.clone(),
                        every,
                    );
                    // After a panic the channel is closed, which ends the subscription. The subscriber can resume.
                    let task = tokio::spawn(replay.run(cursor));
                    self.reading = Reading::Replay(RunningReplay { replayed, task });
                }
                Reading::Replay(replay) => match replay.replayed.poll_recv(context) {
                    Poll::Ready(Some(Replayed::Event(event))) => return Poll::Ready(Some(event)),
                    Poll::Ready(Some(Replayed::Joined(membership))) => self.join(membership),
                    Poll::Ready(None) => self.reading = Reading::Ended,
                    Poll::Pending => return Poll::Pending,
                },
                Reading::Ended => return Poll::Ready(None),
            }
        }
    }
}

impl Every {
    fn begin_interval(&mut self) {
        self.is_due = false;
        self.timer.reset();
    }
}

impl Stream for Subscription {
    type Item = LiveEvent;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<LiveEvent>> {
        let this = &mut *self;
        let polled = this.poll_event(context);
        if let Poll::Ready(Some(event)) = &polled {
            remember(&mut this.last_cursor, event);
        }
        polled
    }
}

impl Drop for RunningReplay {
    fn drop(&mut self) {
        self.task.abort();
    }
}

fn remember(last_cursor: &mut Cursor, event: &LiveEvent) {
    match event {
        LiveEvent::Subscribed { cursor, .. }
        | LiveEvent::Sample { cursor, .. }
        | LiveEvent::Erased { cursor, .. }
        | LiveEvent::Lagged { cursor, .. } => last_cursor.clone_from(cursor),
    }
}
