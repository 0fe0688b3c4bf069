//! Resuming: what was committed behind a cursor, then the present.
//!
//! # Completeness
//!
//! A replay works with snapshots as the courier does. It takes one, the *goal*, and sends the rows that the goal sees and the
//! cursor does not have, by `id`, which is each user's order of commits. What is committed meanwhile is not in the goal. At
//! the end the mailbox joins the hub between two looks of the courier's: the courier names the snapshot of the first of
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
//! to a further pass, whose goal is the last look; a pass covers what came during the one before, so they shrink.
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
        mailbox::{Mailbox, REPLAY_AHEAD},
        snapshot::Snapshot,
    },
    sample::UserId,
    store::feed::{self, Backlog, STRETCH_IDS, Span, StoredRow, stretches},
    wire::Cursor,
};

/// Fills one mailbox from the table, then hands it to the hub.
pub(crate) struct Replay {
    hub: Arc<Hub>,
    mailbox: Arc<Mailbox>,
    filter: Filter,
    /// The filter as the database takes it.
    users: Option<Vec<i64>>,
    cursor: Cursor,
}

/// How far a replay has come.
struct Progress {
    /// Everybody was sent what this sees.
    sent: Snapshot,
    /// What the pass under way brings everybody to.
    goal: Snapshot,
    /// In that pass, rows up to this `id` were sent.
    at: i64,
    /// Where everything lies that anybody may be missing.
    reach: Span,
    /// Users ahead were sent what this sees.
    fresh: Snapshot,
    ahead: HashSet<UserId>,
    /// Somebody who is not ahead has fresh samples.
    left_over: bool,
}

const TOO_OLD: &str = "the cursor is too old: not all that came behind it is kept for the feed any more";

/// How often fresh samples are looked for; and never more of the time than half.
const FRESH_EVERY: Duration = Duration::from_millis(20);

/// Users pulled ahead in one look, so that none of them takes long.
const PULLED_AT_ONCE: usize = 16;

/// Users ahead in one replay: it remembers each, 16 bytes or so.
const AHEAD_MAX: usize = 16_384;

/// Rows fetched at once, at most: those of a whole stretch, or as many of a user who is pulled ahead.
const FETCHED_ROWS: u32 = 5_000;

/// A reader that has taken nothing for so long has stopped for now.
const STOPPED_AFTER: Duration = Duration::from_millis(500);

/// A pass as short as that is done before anybody could get impatient.
const SHORT_IDS: i64 = 4 * STRETCH_IDS;

/// The pause before a database that is out of reach is asked again.
const RETRY: Duration = Duration::from_millis(250);

impl Replay {
    pub(crate) fn new(hub: Arc<Hub>, mailbox: Arc<Mailbox>, filter: Filter, cursor: Cursor) -> Self {
        let users = filter
            .named()
            .map(|users| users.iter().map(|user| user.get()).collect());
        Self {
            hub,
            mailbox,
            filter,
            users,
            cursor,
        }
    }

    /// Replays, and resolves once the mailbox is the hub's.
    pub(crate) async fn run(mut self) {
        let from = Position::from_cursor(&self.cursor).filter(|position| position.stream == self.hub.stream());
        let Some(from) = from else {
            return self.refuse("the cursor is none of this database's feed");
        };
        let backlog = self.backlog(&from.seen).await;
        if backlog.ahead {
            return self.refuse("the cursor is ahead of this database: it was restored from a backup");
        }
        if backlog.too_old || backlog.pruned {
            return self.refuse(TOO_OLD);
        }
        self.mailbox.announce(LiveEvent::Subscribed {
            resumed: true,
            reason: None,
        });
        let reached = self.catch_up(from.seen, backlog).await;
        self.has_replayed(&reached);
        let joining = self.hub.join(self.filter.clone(), Arc::clone(&self.mailbox));
        let Ok(joined) = joining.await else {
            return; // The hub is closed, and the mailbox with it.
        };
        let gap = self.further(&reached).await;
        for stretch in gap.span.into_iter().flat_map(stretches) {
            self.send(stretch, |row| row.is_between(&reached, &joined)).await;
        }
        self.has_replayed(&joined);
        self.mailbox.end_replay();
    }

    /// What is sent from now on lies behind a snapshot.
    fn has_replayed(&mut self, up_to: &Snapshot) {
        self.cursor = self.hub.cursor_of(up_to.clone());
        self.mailbox.has_replayed(&self.cursor);
    }

    /// Goes on from now instead.
    fn refuse(&self, reason: &str) {
        self.hub.put_back(&self.filter, &self.mailbox);
        self.mailbox.announce(LiveEvent::Subscribed {
            resumed: false,
            reason: Some(reason.to_owned()),
        });
        self.mailbox.end_replay();
    }

    /// Sends everything behind a snapshot until little is missing, and returns what was reached.
    async fn catch_up(&self, sent: Snapshot, first: Backlog) -> Snapshot {
        let mut span = first.span;
        let mut progress = Progress {
            sent,
            goal: first.snapshot.clone(),
            at: 0,
            reach: Span { after: 0, last: 0 },
            fresh: first.snapshot,
            ahead: HashSet::new(),
            left_over: false,
        };
        while let Some(pass) = span {
            let short = pass.last - pass.after <= SHORT_IDS;
            self.pass(&mut progress, pass, short).await;
            if short || !progress.left_over {
                break;
            }
            progress.left_over = false;
            progress.sent = std::mem::replace(&mut progress.goal, progress.fresh.clone());
            span = self.further(&progress.sent).await.span;
        }
        progress.fresh
    }

    /// Brings everybody to the goal, and those ahead as far as can be.
    async fn pass(&self, progress: &mut Progress, span: Span, short: bool) {
        let mut look_at = Instant::now() + FRESH_EVERY;
        progress.at = span.after;
        progress.reach = span;
        for stretch in stretches(span) {
            let Progress { sent, goal, ahead, .. } = &*progress;
            let wanted = |row: &Seen| row.is_between(sent, goal) && !ahead.contains(&row.user);
            self.send(stretch, wanted).await;
            progress.at = stretch.last;
            if !short && Instant::now() >= look_at {
                let began = Instant::now();
                self.look_ahead(progress).await;
                look_at = Instant::now() + began.elapsed().max(FRESH_EVERY);
            }
        }
    }

    /// Sends what is fresh of users ahead, and pulls others ahead who have something fresh.
    async fn look_ahead(&self, progress: &mut Progress) {
        let Backlog {
            snapshot: now, span, ..
        } = self.further(&progress.fresh).await;
        let Some(span) = span else {
            progress.fresh = now;
            return;
        };
        // Behind what was looked at before as well: some of it may have been left over then.
        progress.reach.after = progress.reach.after.min(span.after);
        progress.reach.last = progress.reach.last.max(span.last);
        let mut pulled = BTreeSet::new();
        for stretch in stretches(span) {
            let (fresh, ahead) = (&progress.fresh, &progress.ahead);
            let mut left_over = false;
            let wanted = |row: &Seen| {
                if !row.is_between(fresh, &now) || ahead.contains(&row.user) {
                    return row.is_between(fresh, &now);
                }
                let room = pulled.len() < PULLED_AT_ONCE && ahead.len() + pulled.len() < AHEAD_MAX;
                if room {
                    pulled.insert(row.user);
                }
                left_over |= !pulled.contains(&row.user);
                false
            };
            self.send(stretch, wanted).await;
            progress.left_over |= left_over;
        }
        for user in pulled {
            let (sent, goal, at) = (&progress.sent, &progress.goal, progress.at);
            let missing = |row: &Seen| row.is_between(sent, &now) && !(row.id <= at && row.is_between(sent, goal));
            let reach = Span {
                after: at.min(progress.reach.after),
                ..progress.reach
            };
            self.send_of(Whose::One(user), reach, missing).await;
            progress.ahead.insert(user);
        }
        progress.fresh = now;
    }

    /// Sends the wanted rows of a stretch, once the reader has room for them.
    async fn send(&self, stretch: Span, wanted: impl FnMut(&Seen) -> bool) {
        self.send_of(Whose::TheFilters, stretch, wanted).await;
    }

    /// `wanted` may be asked about a row more than once.
    async fn send_of(&self, whose: Whose, mut rest: Span, mut wanted: impl FnMut(&Seen) -> bool) {
        while rest.after < rest.last {
            self.mailbox.room().await;
            // It is never closed.
            let _part = self.hub.past.rows.acquire_many(FETCHED_ROWS).await;
            let rows = self.rows(rest, whose).await;
            let full = matches!(whose, Whose::One(_)) && rows.len() == FETCHED_ROWS as usize;
            let end = rows.last().filter(|_| full).map_or(rest.last, |row| row.id);
            let about = self.hub.seen();
            let wanted = rows.into_iter().filter(|row| {
                wanted(&Seen {
                    id: row.id,
                    xid: about.widen(row.xid_low),
                    user: row.sample.user_id(),
                })
            });
            rest.after = self.pass_on(wanted.collect()).await.err().unwrap_or(end);
        }
    }

    /// Puts rows into the mailbox as the reader takes them. Where it stops for too long, tells after which they have to be
    /// fetched again.
    async fn pass_on(&self, rows: Vec<StoredRow>) -> Result<(), i64> {
        let mut rows = rows.into_iter().peekable();
        while let Some(next) = rows.peek() {
            if timeout(STOPPED_AFTER, self.mailbox.room()).await.is_err() {
                return Err(next.id - 1);
            }
            let some = rows.by_ref().take(REPLAY_AHEAD).map(|row| row.sample);
            self.mailbox.replay(&self.cursor, some);
        }
        Ok(())
    }

    /// What has come behind a place in a replay that is under way. It may take longer than the window.
    async fn further(&self, sent: &Snapshot) -> Backlog {
        let backlog = self.backlog(sent).await;
        if backlog.pruned {
            self.mailbox.announce(LiveEvent::Subscribed {
                resumed: false,
                reason: Some(TOO_OLD.to_owned()),
            });
        }
        backlog
    }

    async fn backlog(&self, seen: &Snapshot) -> Backlog {
        let past = &self.hub.past;
        let mut patience = Patience::default();
        loop {
            let turn = past.turns.acquire().await;
            match feed::backlog(&past.readers, seen, past.window).await {
                Ok(backlog) => return backlog,
                Err(error) => {
                    drop(turn);
                    patience.wait(&error).await;
                }
            }
        }
    }

    async fn rows(&self, stretch: Span, whose: Whose) -> Vec<StoredRow> {
        let past = &self.hub.past;
        let mut patience = Patience::default();
        loop {
            let turn = past.turns.acquire().await;
            let rows = match whose {
                Whose::TheFilters => feed::stretch(&past.readers, stretch, self.users.as_deref()).await,
                Whose::One(user) => feed::stretch_of(&past.readers, stretch, user, i64::from(FETCHED_ROWS)).await,
            };
            match rows {
                Ok(rows) => return rows,
                Err(error) => {
                    drop(turn);
                    patience.wait(&error).await;
                }
            }
        }
    }
}

/// Whose rows are asked for.
#[derive(Debug, Clone, Copy)]
enum Whose {
    TheFilters,
    One(UserId),
}

/// Waits for a database that is out of reach; whoever does not want to wait drops the subscription.
#[derive(Default)]
struct Patience {
    told: bool,
}

impl Patience {
    async fn wait(&mut self, error: &Error) {
        if !self.told {
            tracing::warn!(error = error.chain(), "a subscriber cannot resume yet, trying again");
            self.told = true;
        }
        sleep(RETRY).await;
    }
}

/// What decides whether a row is sent.
struct Seen {
    id: i64,
    xid: u64,
    user: UserId,
}

impl Seen {
    /// Became visible behind one snapshot and by the other.
    fn is_between(&self, behind: &Snapshot, by: &Snapshot) -> bool {
        by.sees(self.xid) && !behind.sees(self.xid)
    }
}
