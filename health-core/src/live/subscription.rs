//! A subscription, as its reader sees it.

use std::{
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use futures_util::{Stream, StreamExt};
use tokio::{
    task::JoinHandle,
    time::{Instant, Interval, MissedTickBehavior, interval_at},
};

use crate::{
    live::{event::LiveEvent, filter::Filter, hub::Hub, subscriber_queue::SubscriberQueue, replay::Replay},
    wire::Cursor,
};

/// A stream of what is committed, from now on or [from a cursor on](Subscription::resume): each user's samples in the order
/// of their commits, at least once.
///
/// Writers never wait for it: whoever reads too slowly is last_cursor what was skipped, by [`LiveEvent::Lagged`]. It ends when the
/// handle it came from is closed.
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
    queue: Arc<SubscriberQueue>,
    filter: Filter,
    hub: Arc<Hub>,
    /// The last cursor that was given out.
    last_cursor: Cursor,
    replay: Option<JoinHandle<()>>,
    /// The rhythm of one that wants no more than the newest.
    pace: Option<Interval>,
}

impl Subscription {
    pub(crate) fn new(hub: &Arc<Hub>, filter: Filter) -> Self {
        let (queue, last_cursor) = hub.open(&filter);
        Self {
            queue,
            filter,
            hub: Arc::clone(hub),
            last_cursor,
            replay: None,
            pace: None,
        }
    }

    /// The same from a cursor on: first [`LiveEvent::Subscribed`], which says whether that is possible, then what was
    /// committed behind the cursor, then what is committed now, without a gap between the two.
    ///
    /// What is committed while the backlog is replayed waits for no more than its own user's part of it. Where the database
    /// is out of reach, the first event waits until it is back.
    ///
    /// Has to be called within a Tokio runtime.
    #[must_use]
    pub fn resume(mut self, cursor: Cursor) -> Self {
        if let Some(earlier) = self.replay.take() {
            // What that one still puts in goes nowhere.
            earlier.abort();
            self.leave();
            (self.queue, _) = self.hub.open(&self.filter);
            if self.pace.is_some() {
                self.queue.keep_newest();
            }
        }
        self.hub.detach(&self.filter, &self.queue);
        self.queue.begin_replay();
        self.last_cursor = cursor.clone();
        let replay = Replay::new(
            Arc::clone(&self.hub),
            Arc::clone(&self.queue),
            self.filter.clone(),
            cursor,
        );
        self.replay = Some(tokio::spawn(replay.run()));
        self
    }

    /// The same with at most one sample a user in each interval: the newest.
    #[must_use]
    pub fn every(mut self, interval: Duration) -> Self {
        self.queue.keep_newest();
        let interval = interval.max(Duration::from_millis(1));
        let mut clock = interval_at(Instant::now() + interval, interval);
        clock.set_missed_tick_behavior(MissedTickBehavior::Delay);
        self.pace = Some(clock);
        self
    }

    /// The next event; none once the handle it came from was closed. Cancelling it loses nothing.
    pub async fn next(&mut self) -> Option<LiveEvent> {
        StreamExt::next(self).await
    }

    /// The next event if one waits already.
    pub fn try_next(&mut self) -> Option<LiveEvent> {
        let event = if self.pace.is_some() {
            self.queue.try_ready()
        } else if let Poll::Ready(event) = self.queue.try_take() {
            event
        } else {
            None
        };
        event.inspect(|event| remember(&mut self.last_cursor, event))
    }

    /// Where to resume to hear everything behind the last event that was taken: the present, where nothing waits.
    pub fn cursor(&self) -> Cursor {
        let present = self.hub.cursor_if_idle(&self.queue);
        present.unwrap_or_else(|| self.last_cursor.clone())
    }

    fn leave(&self) {
        self.queue.abandon();
        self.hub.remove(&self.filter, &self.queue);
    }

    fn poll_event(&mut self, context: &mut Context<'_>) -> Poll<Option<LiveEvent>> {
        let Some(clock) = &mut self.pace else {
            return self.queue.poll_take(context);
        };
        loop {
            let event = self.queue.poll_ready(context);
            if event.is_ready() {
                return event;
            }
            if clock.poll_tick(context).is_pending() {
                return Poll::Pending;
            }
            self.queue.tick();
        }
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

impl Drop for Subscription {
    fn drop(&mut self) {
        self.leave();
        if let Some(replay) = &self.replay {
            replay.abort();
        }
    }
}

fn remember(last_cursor: &mut Cursor, event: &LiveEvent) {
    match event {
        LiveEvent::Sample { cursor, .. } | LiveEvent::Lagged { cursor, .. } => last_cursor.clone_from(cursor),
        LiveEvent::Subscribed { .. } => {}
    }
}
