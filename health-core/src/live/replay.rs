//! Resuming: the samples committed after a cursor, then the live stream.
//!
//! # Completeness
//!
//! A replay works with transaction snapshots, as the poller does. It takes one snapshot, the *goal*. It sends
//! the rows that the goal sees and the cursor's snapshot does not see, ordered by `id`, which is each user's
//! order of commits. Later commits are not in the goal.
//!
//! At the end the queue joins the hub between two polls. The poller names the snapshot of that moment. The
//! replay sends the rows between its own last snapshot and that one, and the hub delivers everything after it.
//! So every commit is in exactly one of these differences. A row that changed meanwhile has a new `id` and
//! appears in a later difference. An erased row appears in none.
//!
//! # Fresh samples during a replay
//!
//! Every [`FRESH_EVERY`] the replay looks for new commits. A user with fresh samples is *pulled ahead*: the
//! replay sends the rest of that user's backlog at once, and then the fresh samples. From then on the replay
//! sends the user's fresh samples at each check and skips the user's rows in the rest of the backlog. So a fresh
//! sample waits for the backlog of its own user only.
//!
//! Pulling ahead takes at most half of the time, and the number of users ahead is limited. Fresh samples of
//! other users are sent in another pass, whose goal is the snapshot of the last check. Each pass covers what was
//! committed during the pass before, so the passes get shorter.
//!
//! # Memory
//!
//! The replay fetches a few thousand rows at a time, after the subscriber has taken the previous ones. It holds
//! no connection while the subscriber reads. All replays share a limit on fetched rows. If a subscriber stops
//! reading, its rows are dropped after a moment and fetched again later. Replayed samples carry the cursor that
//! the client sent, because the samples that the client has not seen come after that cursor.

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
        subscriber_queue::{REPLAY_AHEAD, SubscriberQueue},
        transaction_snapshot::TransactionSnapshot,
    },
    sample::UserId,
    store::feed::{self, FeedRow, IDS_PER_READ, IdRange, ReplayRange, split_range},
    wire::Cursor,
};

/// A task that fills one subscriber queue from the table, then hands it to the hub.
pub(crate) struct Replay {
    hub: Arc<Hub>,
    queue: Arc<SubscriberQueue>,
    filter: Filter,
    /// The user ids of the filter, as a query parameter.
    users: Option<Vec<i64>>,
    cursor: Cursor,
}

/// The progress of a replay.
struct Progress {
    /// Everything that this snapshot sees was sent for all users.
    sent: TransactionSnapshot,
    /// The current pass sends everything that this snapshot sees.
    goal: TransactionSnapshot,
    /// The current pass has sent the rows up to this `id`.
    sent_up_to: i64,
    /// The range that holds all rows that may still be missing.
    scope: IdRange,
    /// Everything that this snapshot sees was sent for the users who are ahead.
    fresh: TransactionSnapshot,
    ahead: HashSet<UserId>,
    /// A user who is not ahead has fresh samples.
    more_fresh: bool,
}

const TOO_OLD: &str = "the cursor is too old: some commits after it are no longer in the commit log";

/// The interval of looking for fresh samples. The checks never take more than half of the time.
const FRESH_EVERY: Duration = Duration::from_millis(20);

/// The largest number of users pulled ahead in one check, so that a check stays short.
const PULLED_AT_ONCE: usize = 16;

/// The largest number of users ahead in one replay. Each takes about 16 bytes.
const AHEAD_MAX: usize = 16_384;

/// The largest number of rows fetched at once.
const FETCHED_ROWS: u32 = 5_000;

/// The time after which a subscriber that takes nothing gives up its fetched rows.
const STOPPED_AFTER: Duration = Duration::from_millis(500);

/// A pass with at most this many ids is sent without looking for fresh samples.
const SHORT_IDS: i64 = 4 * IDS_PER_READ;

/// The pause before a failed query is retried.
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

    /// Replays, and returns when the queue belongs to the hub.
    pub(crate) async fn run(mut self) {
        let from = Position::from_cursor(&self.cursor).filter(|position| position.stream == self.hub.stream());
        let Some(from) = from else {
            return self.refuse("the cursor is not one of this database's feed");
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

    /// Records that everything up to a snapshot was sent.
    fn has_replayed(&mut self, up_to: &TransactionSnapshot) {
        self.cursor = self.hub.cursor_of(up_to.clone());
        self.queue.set_replayed_up_to(&self.cursor);
    }

    /// Continues from now, and tells the subscriber why.
    fn refuse(&self, reason: &str) {
        self.hub.attach(&self.filter, &self.queue);
        self.queue.announce(LiveEvent::Subscribed {
            resumed: false,
            reason: Some(reason.to_owned()),
        });
        self.queue.end_replay();
    }

    /// Sends everything after a snapshot until little is missing. Returns the snapshot that was reached.
    async fn catch_up(&self, sent: TransactionSnapshot, first: ReplayRange) -> TransactionSnapshot {
        let mut ids = first.ids;
        let mut progress = Progress {
            sent,
            goal: first.snapshot.clone(),
            sent_up_to: 0,
            scope: IdRange { after: 0, last: 0 },
            fresh: first.snapshot,
            ahead: HashSet::new(),
            more_fresh: false,
        };
        while let Some(pass) = ids {
            let short = pass.last - pass.after <= SHORT_IDS;
            self.pass(&mut progress, pass, short).await;
            if short || !progress.more_fresh {
                break;
            }
            progress.more_fresh = false;
            progress.sent = std::mem::replace(&mut progress.goal, progress.fresh.clone());
            ids = self.next_range(&progress.sent).await.ids;
        }
        progress.fresh
    }

    /// Sends one pass, and meanwhile serves the users with fresh samples.
    async fn pass(&self, progress: &mut Progress, ids: IdRange, short: bool) {
        let mut next_check = Instant::now() + FRESH_EVERY;
        progress.sent_up_to = ids.after;
        progress.scope = ids;
        for range in split_range(ids) {
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

    /// Sends the fresh samples of users who are ahead, and pulls other users with fresh samples ahead.
    async fn serve_fresh_users(&self, progress: &mut Progress) {
        let ReplayRange { snapshot: now, ids, .. } = self.next_range(&progress.fresh).await;
        let Some(ids) = ids else {
            progress.fresh = now;
            return;
        };
        // Includes the range of earlier checks, because they may have left fresh samples out.
        progress.scope.after = progress.scope.after.min(ids.after);
        progress.scope.last = progress.scope.last.max(ids.last);
        let mut pulled = BTreeSet::new();
        for range in split_range(ids) {
            let (fresh, ahead) = (&progress.fresh, &progress.ahead);
            let mut more_fresh = false;
            let wanted = |row: &RowVersion| {
                if !row.is_between(fresh, &now) || ahead.contains(&row.user) {
                    return row.is_between(fresh, &now);
                }
                let may_pull = pulled.len() < PULLED_AT_ONCE && ahead.len() + pulled.len() < AHEAD_MAX;
                if may_pull {
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
            let missing =
                |row: &RowVersion| row.is_between(sent, &now) && !(row.id <= sent_up_to && row.is_between(sent, goal));
            let scope = IdRange {
                after: sent_up_to.min(progress.scope.after),
                ..progress.scope
            };
            self.send_of(RowFilter::User(user), scope, missing).await;
            progress.ahead.insert(user);
        }
        progress.fresh = now;
    }

    /// Sends the wanted rows of a range when the queue has space.
    async fn send(&self, range: IdRange, wanted: impl FnMut(&RowVersion) -> bool) {
        self.send_of(RowFilter::Subscription, range, wanted).await;
    }

    /// `wanted` may be called more than once for a row.
    async fn send_of(&self, row_filter: RowFilter, mut rest: IdRange, mut wanted: impl FnMut(&RowVersion) -> bool) {
        while rest.after < rest.last {
            self.queue.replay_space().await;
            // The semaphore is never closed.
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

    /// Puts rows into the queue as the subscriber takes them.
    ///
    /// If the subscriber stops for too long, returns the `id` after which the rows must be fetched again.
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

    /// Returns the range committed after a snapshot. Warns the subscriber if the replay window has passed it
    /// meanwhile.
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
                RowFilter::User(user) => {
                    feed::rows_of_user(&source.readers, range, user, i64::from(FETCHED_ROWS)).await
                }
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

/// The rows that a query returns: those of the subscription's filter, or those of one user.
#[derive(Debug, Clone, Copy)]
enum RowFilter {
    Subscription,
    User(UserId),
}

/// Waits before a query is retried, and logs the first failure. To stop waiting, drop the subscription.
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

/// The properties of a row that decide whether it is sent.
struct RowVersion {
    id: i64,
    xid: u64,
    user: UserId,
}

impl RowVersion {
    /// Returns whether the row became visible after snapshot `before` and not later than snapshot `by`.
    fn is_between(&self, before: &TransactionSnapshot, by: &TransactionSnapshot) -> bool {
        by.sees(self.xid) && !before.sees(self.xid)
    }
}
