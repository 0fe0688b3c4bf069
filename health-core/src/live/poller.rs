//! The task that polls the commit log and delivers new commits, in one order for all subscribers.

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

/// A task that polls the commit log whenever there may be new commits.
pub(crate) struct Poller {
    config: Config,
    hub: Arc<Hub>,
    /// Becomes true when the writers have ended.
    ending: watch::Receiver<bool>,
    /// The start of the last poll that was delivered.
    polled_at: Instant,
    /// A poll that failed before it was delivered completely.
    unfinished: Option<Poll>,
    notified_at: Instant,
}

/// The commits that became visible between two snapshots, and how far they were delivered.
struct Poll {
    started_at: Instant,
    previous: TransactionSnapshot,
    snapshot: TransactionSnapshot,
    /// Commits of this server that are not delivered yet. Their samples are in memory.
    own: VecDeque<CommitRow>,
    /// Ranges of the table that are not read yet, some thousand rows each.
    ranges: VecDeque<IdRange>,
    /// Commits that wait for the next poll: one that its writer has not handed over yet, and all after it.
    postponed: Vec<u64>,
    /// Commits whose rows in the table must not be delivered by this poll.
    not_from_table: HashSet<u64>,
}

/// The longest interval between two polls. It bounds the delay if a notification of another server is lost.
const POLL_INTERVAL: Duration = Duration::from_secs(1);

/// The interval between polls without subscribers, which only keep the cursor fresh.
const IDLE_POLL_INTERVAL: Duration = Duration::from_millis(50);

/// The shortest interval between two notifications. `NOTIFY` takes a lock of the whole database at commit.
const NOTIFY_INTERVAL: Duration = Duration::from_millis(5);

/// The age of the last poll from which on merged records are read as well. The
/// [`compactor`](crate::live::compactor) merges records only after twice this time.
pub(crate) const POLL_AGE_MAX: Duration = Duration::from_secs(30);

/// The timeout for an answer of PostgreSQL, after which the connection counts as lost.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(15);

/// The pause before a lost connection is opened again.
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

    /// Delivers until the handle is closed or dropped, then ends every subscription.
    pub(crate) async fn run(mut self) {
        let mut logged = false;
        while let Err(error) = self.serve(&mut logged).await {
            if !logged {
                tracing::warn!(
                    error = error.chain(),
                    "the live feed lost its database connection, reconnecting"
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
        // Tells other servers that this one listens.
        with_timeout(connection.notify()).await?;
        let mut ending = self.ending.clone();
        let mut tick = interval(POLL_INTERVAL);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            let mut last = false;
            tokio::select! {
                // The channel is closed if the handle was dropped.
                () = async { drop(ending.wait_for(|ending| *ending).await) } => last = true,
                () = self.hub.news.notified() => {}
                () = async {
                    self.hub.idle_news.notified().await;
                    sleep_until(self.polled_at + IDLE_POLL_INTERVAL).await;
                } => {}
                () = sleep_until(self.notified_at + NOTIFY_INTERVAL), if self.hub.must_notify_others() => {}
                _ = tick.tick() => self.hub.others_listen(with_timeout(connection.others_listen()).await?),
            }
            self.deliver(&mut connection).await?;
            if std::mem::take(logged) {
                tracing::info!("the live feed has its database connection again");
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

    /// Polls, and delivers each new commit once. If this fails, the next call continues where it stopped.
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

    /// Polls the commit log. Returns `None` if the poll must be repeated after a writer has handed over its
    /// commit.
    async fn poll(&self, connection: &mut FeedConnection) -> Result<Option<Poll>, Error> {
        let started_at = Instant::now();
        let previous = self.hub.begin_poll();
        let age = self.polled_at.elapsed();
        // Polls that are a moment apart never miss pruned commits, even if the replay window is very short.
        let out_of_window = age >= self.hub.replay_source.window.max(5 * POLL_INTERVAL);
        let polling = connection.poll(&previous, age > POLL_AGE_MAX, out_of_window);
        let PollResult { snapshot, commits, gap } = with_timeout(polling).await?;
        if let Some(why) = gap {
            tracing::warn!("samples may be missing in the live feed: {why}");
            self.hub.announce_gap(why);
        }
        let DeliveryPlan { own, table, postponed } = self.hub.plan_delivery(&commits);
        // A merged record stands for many commits, so it cannot be postponed by its transaction id.
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

    async fn publish(&self, connection: &mut FeedConnection, poll: &mut Poll) -> Result<(), Error> {
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
    /// Returns whether this poll delivers a row of the table.
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
