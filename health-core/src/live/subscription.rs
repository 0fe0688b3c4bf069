//! A subscription, as the subscriber uses it.

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
    live::{event::LiveEvent, filter::Filter, hub::Hub, replay::Replay, subscriber_queue::SubscriberQueue},
    wire::Cursor,
};

/// A stream of committed samples, from now on or [from a cursor](Subscription::resume).
///
/// Each user's samples come in the order of their commits, at least once. Writers never wait for a subscriber.
/// If it reads too slowly, samples are skipped and [`LiveEvent::Lagged`] says how many. The stream ends when the
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
    queue: Arc<SubscriberQueue>,
    filter: Filter,
    hub: Arc<Hub>,
    /// The last cursor that was returned.
    last_cursor: Cursor,
    replay: Option<JoinHandle<()>>,
    /// The timer of a subscription that wants only the newest sample of each user.
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

    /// Starts from a cursor instead of from now.
    ///
    /// The first event is [`LiveEvent::Subscribed`], which says whether that is possible. Then come the samples
    /// committed after the cursor, then the live ones, without a gap between the two. A live sample waits only
    /// for the backlog of its own user. If the database is out of reach, the first event comes when it is back.
    ///
    /// Must be called on a Tokio runtime.
    #[must_use]
    pub fn resume(mut self, cursor: Cursor) -> Self {
        if let Some(earlier) = self.replay.take() {
            // The events of the earlier replay go to a queue that is dropped.
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

    /// Limits the stream to one sample a user in each interval: the newest.
    #[must_use]
    pub fn every(mut self, interval: Duration) -> Self {
        self.queue.keep_newest();
        let interval = interval.max(Duration::from_millis(1));
        let mut clock = interval_at(Instant::now() + interval, interval);
        clock.set_missed_tick_behavior(MissedTickBehavior::Delay);
        self.pace = Some(clock);
        self
    }

    /// Returns the next event, or `None` after the handle was closed. This method is cancel safe.
    pub async fn next(&mut self) -> Option<LiveEvent> {
        StreamExt::next(self).await
    }

    /// Returns the next event if there is one, without waiting.
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

    /// Returns the cursor to resume after the last event that was taken. If no event waits, this is the present.
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
