//! Resuming: what was committed behind a cursor, then the present.
//!
//! # Completeness
//!
//! A replay works with snapshots as the courier does. It takes one, the *goal*, and sends the rows that the goal sees and the
//! cursor does not have, by `id`, which is each user's order of commits. What is committed meanwhile is not in the goal. At
//! the end the queue joins the hub between two looks of the courier's: the courier names the snapshot of the first of
//! them, the replay sends what lies between its own last snapshot and that one, and the hub goes on behind it. So every
//! commit is in exactly one of the snapshots' differences; a row changed since is found under its new `id` in a later one,
//! and one that was erased is found in none.
//!
//! # Fresh samples while a backlog is replayed
//!
//! Every [`FRESH_EVERY`] the replay looks what was committed since. A user who has fresh samples is *pulled ahead*: all that
//! the table has of that user's backlog is sent at once, out of the others' turn but in that user's own order, and then the
//! fresh samples. From then on the user's fresh samples pass at each look, and the rest of the replay leaves that user out. So a
//! fresh sample waits for its own user's backlog, not for everybody's.
//!
//! Pulling ahead takes at most half of the time, and the users ahead are limited. Fresh samples of users beyond that are left
//! to a next_range pass, row_filter goal is the last look; a pass covers what came during the one before, so they shrink.
//!
//! # Memory
//!
//! Rows are fetched a few thousand at a time once the reader has taken those before, and no connection is held while it
//! reads. All replays share room for what they have fetched; a reader that stops reading gives up its part after a moment,
//! and what it did not take is fetched again when it goes on. Replayed samples carry the cursor the client came with, up to
//! the last: what it has not seen yet lies behind that one.

use std::{
    collections::{BTreeSet, HashSet},
    sync::Arc,
    time::Duration,
};

use tokio::time::{Instant, sleep, timeout};

use crate::{
    error::Error,
    live::{
        cursor::Position,
        event::LiveEvent,
        filter::Filter,
        hub::Hub,
        queue::{SubscriberQueue, REPLAY_AHEAD},
        transaction_snapshot::TransactionSnapshot,
    },
    sample::UserId,
    store::feed::{self, ReplayRange, IDS_PER_READ, IdRange, FeedRow, ranges},
    wire::Cursor,
};

/// Fills one queue from the table, then hands it to the hub.
pub(crate) struct Replay {
    hub: Arc<Hub>,
    queue: Arc<SubscriberQueue>,
    filter: Filter,
    /// The filter as the database takes it.
    users: Option<Vec<i64>>,
    cursor: Cursor,
}

/// How far a replay has come.
struct Progress {
    /// Everybody was sent what this sees.
    sent: TransactionSnapshot,
    /// What the pass under way brings everybody to.
    goal: TransactionSnapshot,
    /// In that pass, rows up to this `id` were sent.
    sent_up_to: i64,
    /// Where everything lies that anybody may be missing.
    scope: IdRange,
    /// Users ahead were sent what this sees.
    fresh: TransactionSnapshot,
    ahead: HashSet<UserId>,
    /// Somebody who is not ahead has fresh samples.
    more_fresh: bool,
}

const TOO_OLD: &str = "the cursor is too old: not all that came behind it is kept for the feed any more";

/// How often fresh samples are polled_at for; and never more of the time than half.
const FRESH_EVERY: Duration = Duration::from_millis(20);

/// Users pulled ahead in one look, so that none of them takes long.
const PULLED_AT_ONCE: usize = 16;

/// Users ahead in one replay: it remembers each, 16 bytes or so.
const AHEAD_MAX: usize = 16_384;

/// Rows fetched at once, at most: those of a whole range, or as many of a user who is pulled ahead.
const FETCHED_ROWS: u32 = 5_000;

/// A reader that has taken nothing for so long has stopped for now.
const STOPPED_AFTER: Duration = Duration::from_millis(500);

/// A pass as short as that is done before anybody could get impatient.
const SHORT_IDS: i64 = 4 * IDS_PER_READ;

/// The pause before a database that is out of scope is asked again.
const RETRY: Duration = Duration::from_millis(250);

impl Replay {
    pub(crate) fn new(hub: Arc<Hub>, queue: Arc<SubscriberQueue>, filter: Filter, cursor: Cursor) -> Self {
        let users = filter
            .named()
            .map(|users| users.iter().map(|user| user.get()).collect());
        Self {
            hub,
            queue,
            filter,
            users,
            cursor,
        }
    }

    /// Replays, and resolves once the queue is the hub's.
    pub(crate) async fn run(mut self) {
        let from = Position::from_cursor(&self.cursor).filter(|position| position.stream == self.hub.stream());
        let Some(from) = from else {
            return self.refuse("the cursor is none of this database's feed");
        };
        let backlog = self.replay_range(&from.seen).await;
        if backlog.ahead {
            return self.refuse("the cursor is ahead of this database: it was restored from a backup");
        }
        if backlog.too_old || backlog.pruned {
            return self.refuse(TOO_OLD);
        }
        self.queue.announce(LiveEvent::Subscribed {
            resumed: true,
            reason: None,
        });
        let reached = self.catch_up(from.seen, backlog).await;
        self.has_replayed(&reached);
        let joining = self.hub.join(self.filter.clone(), Arc::clone(&self.queue));
        let Ok(joined) = joining.await else {
            return; // The hub is closed, and the queue with it.
        };
        let gap = self.next_range(&reached).await;
        for range in gap.ids.into_iter().flat_map(split_range) {
            self.send(range, |row| row.is_between(&reached, &joined)).await;
        }
        self.has_replayed(&joined);
        self.queue.end_replay();
    }

    /// What is sent from now on lies behind a snapshot.
    fn has_replayed(&mut self, up_to: &TransactionSnapshot) {
        self.cursor = self.hub.cursor_of(up_to.clone());
        self.queue.set_replayed_up_to(&self.cursor);
    }

    /// Goes on from now instead.
    fn refuse(&self, reason: &str) {
        self.hub.attach(&self.filter, &self.queue);
        self.queue.announce(LiveEvent::Subscribed {
            resumed: false,
            reason: Some(reason.to_owned()),
        });
        self.queue.end_replay();
    }

    /// Sends everything behind a snapshot until little is missing, and returns what was reached.
    async fn catch_up(&self, sent: TransactionSnapshot, first: ReplayRange) -> TransactionSnapshot {
        let mut span = first.ids;
        let mut progress = Progress {
            sent,
            goal: first.snapshot.clone(),
            sent_up_to: 0,
            scope: IdRange { after: 0, last: 0 },
            fresh: first.snapshot,
            ahead: HashSet::new(),
            more_fresh: false,
        };
        while let Some(pass) = span {
            let short = pass.last - pass.after <= SHORT_IDS;
            self.pass(&mut progress, pass, short).await;
            if short || !progress.more_fresh {
                break;
            }
            progress.more_fresh = false;
            progress.sent = std::mem::replace(&mut progress.goal, progress.fresh.clone());
            span = self.next_range(&progress.sent).await.ids;
        }
        progress.fresh
    }

    /// Brings everybody to the goal, and those ahead as far as can be.
    async fn pass(&self, progress: &mut Progress, ids: IdRange, short: bool) {
        let mut next_check = Instant::now() + FRESH_EVERY;
        progress.sent_up_to = span.after;
        progress.scope = span;
        for range in split_range(span) {
            let Progress { sent, goal, ahead, .. } = &*progress;
            let wanted = |row: &RowVersion| row.is_between(sent, goal) && !ahead.contains(&row.user);
            self.send(range, wanted).await;
            progress.sent_up_to = range.last;
            if !short && Instant::now() >= next_check {
                let began = Instant::now();
                self.serve_fresh_users(progress).await;
                next_check = Instant::now() + began.elapsed().max(FRESH_EVERY);
            }
        }
    }

    /// Sends what is fresh of users ahead, and pulls others ahead who have something fresh.
    async fn serve_fresh_users(&self, progress: &mut Progress) {
        let ReplayRange {
            snapshot: now, span, ..
        } = self.next_range(&progress.fresh).await;
        let Some(span) = span else {
            progress.fresh = now;
            return;
        };
        // Behind what was polled_at at before as well: some of it may have been left over then.
        progress.scope.after = progress.scope.after.min(span.after);
        progress.scope.last = progress.scope.last.max(span.last);
        let mut pulled = BTreeSet::new();
        for range in split_range(span) {
            let (fresh, ahead) = (&progress.fresh, &progress.ahead);
            let mut more_fresh = false;
            let wanted = |row: &RowVersion| {
                if !row.is_between(fresh, &now) || ahead.contains(&row.user) {
                    return row.is_between(fresh, &now);
                }
                let room = pulled.len() < PULLED_AT_ONCE && ahead.len() + pulled.len() < AHEAD_MAX;
                if room {
                    pulled.insert(row.user);
                }
                more_fresh |= !pulled.contains(&row.user);
                false
            };
            self.send(range, wanted).await;
            progress.more_fresh |= more_fresh;
        }
        for user in pulled {
            let (sent, goal, sent_up_to) = (&progress.sent, &progress.goal, progress.sent_up_to);
            let missing = |row: &RowVersion| row.is_between(sent, &now) && !(row.id <= sent_up_to && row.is_between(sent, goal));
            let scope = IdRange {
                after: sent_up_to.min(progress.scope.after),
                ..progress.scope
            };
            self.send_of(RowFilter::User(user), scope, missing).await;
            progress.ahead.insert(user);
        }
        progress.fresh = now;
    }

    /// Sends the wanted rows of a range, once the reader has room for them.
    async fn send(&self, range: IdRange, wanted: impl FnMut(&RowVersion) -> bool) {
        self.send_of(RowFilter::Subscription, range, wanted).await;
    }

    /// `wanted` may be asked about a row more than once.
    async fn send_of(&self, row_filter: RowFilter, mut rest: IdRange, mut wanted: impl FnMut(&RowVersion) -> bool) {
        while rest.after < rest.last {
            self.queue.replay_space().await;
            // It is never closed.
            let _permits = self.hub.replay_source.row_permits.acquire_many(FETCHED_ROWS).await;
            let rows = self.rows(rest, row_filter).await;
            let full = matches!(row_filter, RowFilter::User(_)) && rows.len() == FETCHED_ROWS as usize;
            let end = rows.last().filter(|_| full).map_or(rest.last, |row| row.id);
            let snapshot = self.hub.seen();
            let wanted = rows.into_iter().filter(|row| {
                wanted(&RowVersion {
                    id: row.id,
                    xid: snapshot.full_xid(row.xid_low),
                    user: row.sample.user_id(),
                })
            });
            rest.after = self.push_rows(wanted.collect()).await.err().unwrap_or(end);
        }
    }

    /// Puts rows into the queue as the reader takes them. Where it stops for too long, tells after which they have to be
    /// fetched again.
    async fn push_rows(&self, rows: Vec<FeedRow>) -> Result<(), i64> {
        let mut rows = rows.into_iter().peekable();
        while let Some(next) = rows.peek() {
            if timeout(STOPPED_AFTER, self.queue.replay_space()).await.is_err() {
                return Err(next.id - 1);
            }
            let some = rows.by_ref().take(REPLAY_AHEAD).map(|row| row.sample);
            self.queue.push_replayed(&self.cursor, some);
        }
        Ok(())
    }

    /// What has come behind a place in a replay that is under way. It may take longer than the window.
    async fn next_range(&self, sent: &TransactionSnapshot) -> ReplayRange {
        let backlog = self.replay_range(sent).await;
        if backlog.pruned {
            self.queue.announce(LiveEvent::Subscribed {
                resumed: false,
                reason: Some(TOO_OLD.to_owned()),
            });
        }
        backlog
    }

    async fn replay_range(&self, seen: &TransactionSnapshot) -> ReplayRange {
        let source = &self.hub.replay_source;
        let mut retry = Retry::default();
        loop {
            let turn = source.query_permits.acquire().await;
            match feed::replay_range(&source.readers, seen, source.window).await {
                Ok(backlog) => return backlog,
                Err(error) => {
                    drop(turn);
                    retry.wait(&error).await;
                }
            }
        }
    }

    async fn rows(&self, range: IdRange, row_filter: RowFilter) -> Vec<FeedRow> {
        let source = &self.hub.replay_source;
        let mut retry = Retry::default();
        loop {
            let turn = source.query_permits.acquire().await;
            let rows = match row_filter {
                RowFilter::Subscription => feed::rows_in_range(&source.readers, range, self.users.as_deref()).await,
                RowFilter::User(user) => feed::rows_of_user(&source.readers, range, user, i64::from(FETCHED_ROWS)).await,
            };
            match rows {
                Ok(rows) => return rows,
                Err(error) => {
                    drop(turn);
                    retry.wait(&error).await;
                }
            }
        }
    }
}

/// RowFilter rows are asked for.
#[derive(Debug, Clone, Copy)]
enum RowFilter {
    Subscription,
    One(UserId),
}

/// Waits for a database that is out of scope; whoever does not want to wait drops the subscription.
#[derive(Default)]
struct Retry {
    logged: bool,
}

impl Retry {
    async fn wait(&mut self, error: &Error) {
        if !self.logged {
            tracing::warn!(error = error.chain(), "a subscriber cannot resume yet, trying again");
            self.logged = true;
        }
        sleep(RETRY).await;
    }
}

/// What decides whether a row is sent.
struct RowVersion {
    id: i64,
    xid: u64,
    user: UserId,
}

impl RowVersion {
    /// Became visible behind one snapshot and by the other.
    fn is_between(&self, before: &TransactionSnapshot, by: &TransactionSnapshot) -> bool {
        by.sees(self.xid) && !before.sees(self.xid)
    }
}
