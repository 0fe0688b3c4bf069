//! What a replay is connected to: the database on one side, its subscriber on the other.

use std::{sync::Arc, time::Duration};

use tokio::{
    sync::mpsc::{self, error::TrySendError},
    time::{timeout, timeout_at},
};

use crate::{
    erasure::Erasure,
    error::Error,
    live::{
        chunk::Chunk,
        event::{LiveEvent, Published},
        filter::Filter,
        replay::{
            budget::{Hold, Window},
            portion::Portion,
            source::ReplaySource,
        },
        ring::{Membership, READ_BACK, Ring},
    },
    sample::{Sample, UserId},
    store::{
        commit_log::{self, LogPage, LogPosition},
        feed_rows::{self, FeedRow},
        prepared::{self, Rows},
        readers::checkout,
    },
    wire::Cursor,
};

/// What a replay sends to its subscription.
#[derive(Debug)]
pub(crate) enum Replayed {
    Event(LiveEvent),
    /// The end: the subscription reads the ring from here on.
    Joined(Membership),
}

/// The connections of a replay.
pub(super) struct Link {
    pub(super) ring: Arc<Ring>,
    pub(super) source: Arc<ReplaySource>,
    /// The users of the filter, ordered; `None` for all.
    pub(super) users: Option<Vec<UserId>>,
    pub(super) window: Window,
    out: mpsc::Sender<Replayed>,
}

/// The subscription is gone, or the handle was closed.
pub(super) struct Gone;

/// Events that wait for a subscriber: few, because each subscriber that stops reading keeps them.
const EVENTS_AHEAD: usize = 32;

/// Records of the commit log that are read at once, 32 bytes each. A subscriber that has stopped keeps them.
const PAGE_RECORDS: usize = 250;

/// The pause before a database that is out of reach is asked again.
const RETRY_PAUSE: Duration = Duration::from_millis(250);

/// Asks the database, again while it is out of reach, and gives the answer. As many replays ask at a time as there are
/// permits.
///
/// A macro, because an async closure that is `Send` for every lifetime cannot be expressed as a bound.
macro_rules! ask {
    ($link:ident, |$session:ident| $query:expr) => {{
        let mut failures = 0;
        loop {
            let answer = async {
                let _permit = $link.source.queries.acquire().await;
                let $session = &mut *checkout(&$link.source.readers).await?;
                Ok::<_, Error>($query.await?)
            };
            match answer.await {
                Ok(answer) => break Ok(answer),
                Err(error) => $link.wait_after(&error, &mut failures).await?,
            }
        }
    }};
}

impl Link {
    pub(super) fn new(ring: Arc<Ring>, source: Arc<ReplaySource>, filter: &Filter) -> (Self, mpsc::Receiver<Replayed>) {
        let (out, replayed) = mpsc::channel(EVENTS_AHEAD);
        let users: Option<Vec<UserId>> = filter.named().map(|users| users.iter().copied().collect());
        let link = Self {
            ring,
            source,
            users,
            window: Window::new(),
            out,
        };
        (link, replayed)
    }

    /// Reads the commit records after a position. The rows of all of them can be read afterwards: on a cluster, a
    /// commit may be visible before it is complete, and a replay that misses its rows would keep them from the
    /// subscriber for good.
    pub(super) async fn page(&self, from: LogPosition) -> Result<LogPage, Gone> {
        let window = self.source.window;
        let page: Result<_, Gone> = ask!(self, |session| commit_log::page(session, from, PAGE_RECORDS, window));
        let page = page?;
        let complete: Result<(), Gone> = ask!(self, |session| prepared::recover(session, Rows::OfAllUsers));
        complete.map(|()| page)
    }

    /// Reads the rows of a portion: those of `users`, which must be sorted, or by default those of the filter.
    ///
    /// Returns `None` if the log does not hold the commits any more, or does not say which rows they wrote.
    pub(super) async fn rows(
        &self,
        portion: &Portion<'_>,
        users: Option<&[UserId]>,
    ) -> Result<Option<Vec<FeedRow>>, Gone> {
        let users = users.or(self.users.as_deref());
        let part = portion.part.as_ref();
        ask!(self, |session| feed_rows::rows(session, portion.records, part, users))
    }

    /// Returns whether the subscription includes a user.
    pub(super) fn is_wanted(&self, user: UserId) -> bool {
        let users = self.users.as_ref();
        users.is_none_or(|users| users.binary_search(&user).is_ok())
    }

    /// Waits until the subscriber has taken everything that it was sent. Meanwhile the replay must not hold rows or
    /// chunks.
    pub(super) async fn all_taken(&self) -> Result<(), Gone> {
        let all_slots = self.out.reserve_many(EVENTS_AHEAD).await;
        if self.ring.is_closed() {
            Err(Gone)
        } else {
            all_slots.map(drop).map_err(|_| Gone)
        }
    }

    /// Sends an event; waits as long as the subscriber has no room for it.
    pub(super) async fn send(&self, event: LiveEvent) -> Result<(), Gone> {
        self.out.send(Replayed::Event(event)).await.map_err(|_| Gone)
    }

    /// Sends what a chunk has at an index, unless [`EVENTS_AHEAD`] events wait. Returns whether it was sent.
    pub(super) fn try_send(&self, chunk: &Chunk, index: usize, cursor: &Cursor) -> Result<bool, Gone> {
        match self.out.try_reserve() {
            Ok(slot) => slot.send(match chunk.erasure() {
                Some(erasure) => erasure_event(erasure, cursor),
                None => sample_event(chunk.samples()[index].clone(), cursor),
            }),
            Err(TrySendError::Full(())) => return Ok(false),
            Err(TrySendError::Closed(())) => return Err(Gone),
        }
        Ok(true)
    }

    /// Sends a row that was read. Returns false if the replay must give up this row and those after it.
    pub(super) async fn send_row(&self, hold: &mut Hold<'_>, sample: Sample, cursor: &Cursor) -> Result<bool, Gone> {
        self.send_held(hold, || sample_event(sample, cursor)).await
    }

    /// Sends an erasure. Returns false if the replay must give up this erasure and what comes after it.
    pub(super) async fn send_erasure(
        &self,
        hold: &mut Hold<'_>,
        erasure: &Arc<Erasure>,
        cursor: &Cursor,
    ) -> Result<bool, Gone> {
        self.send_held(hold, || erasure_event(erasure, cursor)).await
    }

    async fn send_held(&self, hold: &mut Hold<'_>, event: impl FnOnce() -> Replayed) -> Result<bool, Gone> {
        let slot = match self.out.try_reserve() {
            Ok(slot) => slot,
            Err(TrySendError::Closed(())) => return Err(Gone),
            Err(TrySendError::Full(())) => loop {
                let slot = timeout_at(hold.check_at(), self.out.reserve()).await;
                if hold.is_over() {
                    return Ok(false);
                }
                if let Ok(slot) = slot {
                    break slot.map_err(|_| Gone)?;
                }
            },
        };
        slot.send(event());
        hold.taken();
        Ok(true)
    }

    /// Hands the subscription a membership of the ring.
    pub(super) async fn send_membership(&self, membership: Membership) -> Result<(), Gone> {
        let joined = self.out.send(Replayed::Joined(membership)).await;
        joined.map_err(|_| Gone)
    }

    /// Waits before the database is asked again; logs the first failure of a query.
    async fn wait_after(&self, error: &Error, failures: &mut u32) -> Result<(), Gone> {
        if *failures == 0 {
            tracing::warn!(error = error.chain(), "a subscriber cannot resume yet; trying again");
        }
        *failures += 1;
        if self.ring.is_closed() || timeout(RETRY_PAUSE, self.out.closed()).await.is_ok() {
            return Err(Gone);
        }
        Ok(())
    }
}

/// The event of an erasure that is sent from a replay.
fn erasure_event(erasure: &Arc<Erasure>, cursor: &Cursor) -> Replayed {
    Replayed::Event(LiveEvent::Erased {
        cursor: cursor.clone(),
        erasure: Arc::clone(erasure),
    })
}

/// The event of a sample that is sent from a replay. A copy: a subscriber that stops must not keep chunks in memory.
fn sample_event(sample: Sample, cursor: &Cursor) -> Replayed {
    let chunk = Chunk::new(vec![sample], 0, READ_BACK, cursor.clone());
    Replayed::Event(LiveEvent::Sample {
        cursor: cursor.clone(),
        published: Published::new(Arc::new(chunk), 0),
    })
}
