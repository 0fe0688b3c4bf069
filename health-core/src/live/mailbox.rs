//! What waits for one subscriber. Bounded: what does not fit is counted, and told where it is missing.

use std::{
    collections::VecDeque,
    sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError},
    task::Poll,
};

use bytes::Bytes;
use tokio::sync::Notify;

use crate::{sample::Sample, wire::Cursor};

/// A committed sample, shared by all who hear of it.
#[derive(Debug)]
pub struct Published {
    sample: Sample,
    json: OnceLock<Bytes>,
}

/// What a subscriber hears.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub enum LiveEvent {
    /// A sample was committed: new, or changed and now as a whole.
    Sample {
        /// Where to resume to hear everything behind it.
        cursor: Cursor,
        /// The sample as stored.
        published: Arc<Published>,
    },
    /// This subscriber read too slowly.
    Lagged {
        /// How many samples were skipped.
        missed: u64,
        /// Where to resume to hear them.
        cursor: Cursor,
    },
}

/// The place where events wait.
#[derive(Debug)]
pub(crate) struct Mailbox {
    state: Mutex<State>,
    news: Notify,
    capacity: usize,
}

#[derive(Debug, Default)]
struct State {
    waiting: VecDeque<LiveEvent>,
    /// What was skipped since the last event that waits, and where that began.
    skipped: Option<(u64, Cursor)>,
    closed: bool,
}

impl Published {
    pub(crate) fn new(sample: Sample) -> Self {
        Self {
            sample,
            json: OnceLock::new(),
        }
    }

    /// The sample as stored.
    pub fn sample(&self) -> &Sample {
        &self.sample
    }

    /// The sample as JSON, serialised once however many ask.
    pub fn json(&self) -> &Bytes {
        // A sample is numbers and strings, serialising it cannot fail.
        self.json
            .get_or_init(|| serde_json::to_vec(&self.sample).unwrap_or_default().into())
    }
}

impl Mailbox {
    /// Room for `capacity` events.
    pub(crate) fn new(capacity: usize) -> Self {
        Self {
            state: Mutex::default(),
            news: Notify::new(),
            capacity,
        }
    }

    /// Puts samples in, as far as there is room. Never waits.
    pub(crate) fn put<'a>(&self, cursor: &Cursor, samples: impl ExactSizeIterator<Item = &'a Arc<Published>>) {
        let mut state = self.lock();
        // Once something was skipped, nothing may overtake the notice of it.
        let room = if state.skipped.is_some() {
            0
        } else {
            self.capacity.saturating_sub(state.waiting.len())
        };
        let mut skipped = u64::try_from(samples.len().saturating_sub(room)).unwrap_or(u64::MAX);
        for published in samples.take(room) {
            state.waiting.push_back(LiveEvent::Sample {
                cursor: cursor.clone(),
                published: Arc::clone(published),
            });
        }
        if skipped > 0 {
            let (before, since) = state.skipped.take().unwrap_or_else(|| (0, cursor.clone()));
            skipped += before;
            state.skipped = Some((skipped, since));
        }
        drop(state);
        self.news.notify_one();
    }

    /// The next event, once there is one; none after the end.
    pub(crate) async fn take(&self) -> Option<LiveEvent> {
        loop {
            if let Poll::Ready(event) = self.poll_take() {
                return event;
            }
            self.news.notified().await;
        }
    }

    /// The next event if one waits; `Ready(None)` after the end.
    pub(crate) fn poll_take(&self) -> Poll<Option<LiveEvent>> {
        let mut state = self.lock();
        if let Some(event) = state.waiting.pop_front() {
            return Poll::Ready(Some(event));
        }
        if let Some((missed, cursor)) = state.skipped.take() {
            return Poll::Ready(Some(LiveEvent::Lagged { missed, cursor }));
        }
        if state.closed { Poll::Ready(None) } else { Poll::Pending }
    }

    /// Ends it, behind what waits.
    pub(crate) fn close(&self) {
        self.lock().closed = true;
        self.news.notify_one();
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // Every change under the lock is complete when it is released, also by a panic.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sample::{HeartRate, Readings, Source, UserId};

    fn published(count: usize) -> Vec<Arc<Published>> {
        let readings = Readings {
            heart_rate: HeartRate::new(60.0).ok(),
            ..Readings::default()
        };
        let sample = Sample::new(UserId::new(1).unwrap(), Sample::EARLIEST, Source::default(), readings).unwrap();
        let published = Arc::new(Published::new(sample));
        vec![published; count]
    }

    fn drain(mailbox: &Mailbox) -> Vec<String> {
        let mut told = Vec::new();
        while let Poll::Ready(Some(event)) = mailbox.poll_take() {
            told.push(match event {
                LiveEvent::Sample { cursor, .. } => cursor.to_string(),
                LiveEvent::Lagged { missed, cursor } => format!("lagged {missed} from {cursor}"),
            });
        }
        told
    }

    #[test]
    fn what_does_not_fit_is_counted_and_marked_where_it_is_missing() {
        let mailbox = Mailbox::new(3);
        mailbox.put(&Cursor::new("a"), published(2).iter());
        mailbox.put(&Cursor::new("b"), published(4).iter());
        mailbox.put(&Cursor::new("c"), published(1).iter());
        assert_eq!(drain(&mailbox), ["a", "a", "b", "lagged 4 from b"]);
        mailbox.put(&Cursor::new("d"), published(1).iter());
        mailbox.close();
        assert_eq!(drain(&mailbox), ["d"]);
        assert!(matches!(mailbox.poll_take(), Poll::Ready(None)));
    }
}
