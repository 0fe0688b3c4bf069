//! The task that delivers what became visible, in one order for all.

use std::{
    collections::{HashSet, VecDeque},
    sync::Arc,
    time::Duration,
};

use tokio::{
    sync::watch,
    time::{Instant, MissedTickBehavior, interval, sleep_until, timeout},
};

use crate::{
    config::Config,
    error::Error,
    live::{
        hub::{DeliveryPlan, Hub},
        transaction_snapshot::TransactionSnapshot,
    },
    store::feed::{CommitRow, FeedConnection, IdRange, MERGED, PollResult, split_range},
};

/// Looks at the table whenever there may be something new.
pub(crate) struct Poller {
    config: Config,
    hub: Arc<Hub>,
    /// The writers have ended.
    ending: watch::Receiver<bool>,
    /// When the last look was that was delivered.
    polled_at: Instant,
    /// A look that was not delivered to its end.
    unfinished: Option<Poll>,
    notified_at: Instant,
}

/// What became visible between two snapshots, and how far it was delivered.
struct Poll {
    started_at: Instant,
    previous: TransactionSnapshot,
    snapshot: TransactionSnapshot,
    /// Our own that are not delivered yet; they are in memory.
    own: VecDeque<CommitRow>,
    /// Of the table, what is not read yet, at most some thousand rows each.
    ranges: VecDeque<IdRange>,
    /// Committed by a writer of ours that has not handed it over yet, and what came behind it: not now.
    postponed: Vec<u64>,
    /// Rows of these are not for the table to tell.
    not_from_table: HashSet<u64>,
}

/// How long a ring that was lost holds up what another server committed, and what a newcomer is rung for.
const POLL_INTERVAL: Duration = Duration::from_secs(1);

/// Where nobody listens, looking only keeps the cursor fresh.
const IDLE_POLL_INTERVAL: Duration = Duration::from_millis(50);

/// Rings for other servers are no closer together: a ring takes a lock of the whole database for a moment.
const NOTIFY_INTERVAL: Duration = Duration::from_millis(5);

/// Commits are merged only once they have been visible for twice as long, see [`upkeep`](crate::live::upkeep).
pub(crate) const POLL_AGE_MAX: Duration = Duration::from_secs(30);

/// How long PostgreSQL may take for an answer before the connection is taken for dead.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(15);

/// The pause before a lost connection is made again.
const RECONNECT_PAUSE: Duration = Duration::from_millis(250);

impl Poller {
    pub(crate) fn new(config: Config, hub: Arc<Hub>, ending: watch::Receiver<bool>) -> Self {
        let now = Instant::now();
        Self {
            config,
            hub,
            ending,
            polled_at: now,
            unfinished: None,
            notified_at: now,
        }
    }

    /// Delivers until the handle is closed or gone, then ends every subscription.
    pub(crate) async fn run(mut self) {
        let mut logged = false;
        while let Err(error) = self.serve(&mut logged).await {
            if !logged {
                tracing::warn!(
                    error = error.chain(),
                    "the live feed has lost the database, trying again"
                );
                logged = true;
            }
            if timeout(RECONNECT_PAUSE, self.ending.wait_for(|ending| *ending))
                .await
                .is_ok()
            {
                break;
            }
        }
        self.hub.close();
    }

    /// Delivers over one connection.
    async fn serve(&mut self, logged: &mut bool) -> Result<(), Error> {
        let hub = Arc::clone(&self.hub);
        let mut connection =
            with_timeout(FeedConnection::open(&self.config, move || hub.received_notification())).await?;
        // Whoever else is there learns that we listen.
        with_timeout(connection.notify()).await?;
        let mut ending = self.ending.clone();
        let mut tick = interval(POLL_INTERVAL);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            let mut last = false;
            tokio::select! {
                // A handle that is gone is one that ends.
                () = async { drop(ending.wait_for(|ending| *ending).await) } => last = true,
                () = self.hub.news.notified() => {}
                () = async { self.hub.idle_news.notified().await; sleep_until(self.polled_at + IDLE_POLL_INTERVAL).await } => {}
                () = sleep_until(self.notified_at + NOTIFY_INTERVAL), if self.hub.must_notify_others() => {}
                _ = tick.tick() => self.hub.others_listen(with_timeout(connection.others_listen()).await?),
            }
            self.deliver(&mut connection).await?;
            if std::mem::take(logged) {
                tracing::info!("the live feed has the database again");
            }
            if self.hub.must_notify_others() && (last || self.notified_at.elapsed() >= NOTIFY_INTERVAL) {
                self.hub.notification_sent();
                self.notified_at = Instant::now();
                with_timeout(connection.notify()).await?;
            }
            if last {
                return Ok(());
            }
        }
    }

    /// Delivers what became visible since the last time, each once: should it fail on the way, the next time takes it up
    /// where it was.
    async fn deliver(&mut self, connection: &mut FeedConnection) -> Result<(), Error> {
        let mut poll = match self.unfinished.take() {
            Some(poll) => poll,
            None => match self.poll(connection).await? {
                Some(poll) => poll,
                None => return Ok(()),
            },
        };
        if let Err(error) = self.publish(connection, &mut poll).await {
            self.unfinished = Some(poll);
            return Err(error);
        }
        let complete = poll.postponed.is_empty();
        self.hub.advance(poll.snapshot.without(poll.postponed));
        self.polled_at = poll.started_at;
        if complete {
            self.hub.admit_joining();
        }
        Ok(())
    }

    /// Looks; none where it has to be done again in a moment, when a writer of ours has handed over what it committed.
    async fn poll(&self, connection: &mut FeedConnection) -> Result<Option<Poll>, Error> {
        let started_at = Instant::now();
        let previous = self.hub.begin_poll();
        let age = self.polled_at.elapsed();
        // Looks a moment apart see each other's transactions end, however short the window.
        let out_of_window = age >= self.hub.replay_source.window.max(5 * POLL_INTERVAL);
        let polling = connection.poll(&previous, age > POLL_AGE_MAX, out_of_window);
        let PollResult { snapshot, commits, gap } = with_timeout(polling).await?;
        if let Some(why) = gap {
            tracing::warn!("samples may be missing in the live feed: {why}");
            self.hub.announce_gap(why);
        }
        let DeliveryPlan { own, table, postponed } = self.hub.plan_delivery(&commits);
        // What stands for many commits cannot be put off by its name.
        let merged = commits.iter().filter(|commit| commit.writer == MERGED);
        if merged.map(|commit| commit.xid).any(|xid| postponed.contains(&xid)) {
            return Ok(None);
        }
        let own_xids = own.iter().map(|commit| commit.xid);
        Ok(Some(Poll {
            started_at,
            previous,
            snapshot,
            not_from_table: own_xids.chain(postponed.iter().copied()).collect(),
            own: own.into(),
            ranges: table.into_iter().flat_map(split_range).collect(),
            postponed,
        }))
    }

    async fn publish(&self, connection: &mut FeedConnection, look: &mut Poll) -> Result<(), Error> {
        while let Some(range) = poll.ranges.front().copied().filter(|_| self.hub.has_subscribers()) {
            let mut rows = with_timeout(connection.rows(range)).await?;
            rows.retain(|row| poll.is_new_row(row.xid_low));
            let mut samples = Vec::new();
            for row in rows {
                while poll.own.front().is_some_and(|commit| commit.ids.last < row.id) {
                    self.hub.publish(std::mem::take(&mut samples));
                    poll.own.pop_front().inspect(|commit| self.hub.publish_own(commit.xid));
                }
                samples.push(row.sample);
            }
            self.hub.publish(samples);
            poll.ranges.pop_front();
        }
        for commit in poll.own.drain(..) {
            self.hub.publish_own(commit.xid);
        }
        Ok(())
    }
}

impl Poll {
    /// Whether a row became visible with it, and is not delivered from memory.
    fn is_new_row(&self, xid_low: u32) -> bool {
        let xid = self.snapshot.full_xid(xid_low);
        self.snapshot.sees(xid) && !self.previous.sees(xid) && !self.not_from_table.contains(&xid)
    }
}

async fn with_timeout<T>(answer: impl Future<Output = Result<T, Error>>) -> Result<T, Error> {
    timeout(ANSWER_TIMEOUT, answer)
        .await
        .unwrap_or(Err(Error::TimedOut(ANSWER_TIMEOUT)))
}
