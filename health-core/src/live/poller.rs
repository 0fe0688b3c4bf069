//! The task that delivers commits, in one order for all subscribers.
//!
//! The poller owns the delivery position. Writers of this server send their commits to it. The poller delivers a commit
//! from memory if the commit follows the position (its number is the next one, and its predecessor is the commit at the
//! position) and its samples were kept. It finds every other commit in the commit log. It reads the log after its
//! position
//!
//! * when another server sends a notification,
//! * when a commit of this server has waited for its predecessor for [`MISSING_AFTER`],
//! * and once every [`TICK`].

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use tokio::{
    sync::{Notify, mpsc, watch},
    time::{Instant, MissedTickBehavior, interval, sleep_until, timeout},
};

use crate::{
    config::Config,
    error::Error,
    live::{
        chunk::Change,
        handover::HandedOver,
        ring::{Delivery, READ_BACK, Ring},
    },
    panics::has_panicked,
    sessions::Need,
    store::{
        commit_log::{CommitRecord, LogPage, LogPosition, erasures::Erasures, fingerprint},
        doorbell::{Doorbell, Notification},
        readers::{Readers, give_back},
    },
};

/// Delivers commits until the handle is closed or dropped.
pub(crate) struct Poller {
    config: Config,
    readers: Readers,
    ring: Arc<Ring>,
    position: LogPosition,
    commits: mpsc::UnboundedReceiver<HandedOver>,
    /// Commits of this server that cannot be delivered yet, by number.
    pending: BTreeMap<i64, HandedOver>,
    /// Since when the first of them waits for its predecessor.
    waiting_since: Option<Instant>,
    /// Notified when another server has sent a notification, and when the connection was lost.
    wake: Arc<Notify>,
    /// Notified when another program says that tokens have changed.
    tokens_changed: Arc<Notify>,
    writers_ended: watch::Receiver<bool>,
    /// Another server has a poller.
    others_listen: bool,
    /// Commits of this server were delivered since the last notification.
    owes_notification: bool,
    notified_at: Instant,
}

/// How often the log is read without a reason. If a notification is lost, a commit of another server waits this long.
const TICK: Duration = Duration::from_secs(1);

/// How long a commit of this server waits for an earlier one before the log is read. The other writers of this server
/// report theirs within this time, unless the machine is busy.
const MISSING_AFTER: Duration = Duration::from_millis(2);

/// The shortest time between two notifications. Each is a transaction that takes a lock of the whole database at its
/// commit.
const NOTIFY_INTERVAL: Duration = Duration::from_millis(5);

/// The pause before the poller opens a lost connection again.
const RECONNECT_PAUSE: Duration = Duration::from_millis(250);

/// Rows of the log that are read at once.
const PAGE_RECORDS: usize = 1_000;

/// Rows of the table that are read at once, unless one commit has more; about 150 bytes each.
const ROWS_AT_ONCE: i64 = 5_000;

/// The reason that subscribers get if the history of the database has changed.
const OTHER_HISTORY: &str = "the database was put back to an earlier state, or another one took its place";

/// The reason that subscribers get if the log was pruned before it was read.
const PRUNED: &str =
    "this server could not reach the database for too long: some commits are no longer in the commit log";

/// The reason that subscribers get if the log has a commit and does not say which rows it wrote.
const UNREADABLE: &str = "the commit log does not say which samples were stored by some commits";

/// The cause of an error after a panic.
#[derive(Debug, thiserror::Error)]
#[error("the task that delivers commits panicked")]
struct PollerPanicked;

impl Poller {
    pub(crate) fn new(
        config: Config,
        readers: Readers,
        ring: Arc<Ring>,
        commits: mpsc::UnboundedReceiver<HandedOver>,
        tokens_changed: Arc<Notify>,
        writers_ended: watch::Receiver<bool>,
    ) -> Self {
        Self {
            config,
            readers,
            position: ring.position(),
            ring,
            commits,
            pending: BTreeMap::new(),
            waiting_since: None,
            wake: Arc::default(),
            tokens_changed,
            writers_ended,
            others_listen: false,
            owes_notification: false,
            notified_at: Instant::now(),
        }
    }

    /// Delivers until the writers have ended, then ends every subscription.
    pub(crate) async fn run(mut self) {
        let mut is_lost = false;
        let mut need = None;
        while let Err(error) = self.serve_or_panic(&mut is_lost, &mut need).await {
            if error.is_too_many_connections() {
                need.get_or_insert_with(|| self.config.sessions.need());
                give_back(&self.readers).await;
            }
            if !is_lost {
                tracing::warn!(
                    error = error.chain(),
                    "the live feed lost its connection to the database; reconnecting"
                );
                is_lost = true;
            }
            if timeout(RECONNECT_PAUSE, self.writers_ended.wait_for(|ended| *ended))
                .await
                .is_ok()
            {
                break;
            }
        }
        self.ring.close();
    }

    /// Delivers over one connection. A panic is like the loss of the connection: what was not delivered is in the log.
    async fn serve_or_panic(&mut self, was_lost: &mut bool, need: &mut Option<Need>) -> Result<(), Error> {
        let mut outcome = Err(Error::Unavailable(Arc::new(PollerPanicked)));
        has_panicked("poller", async { outcome = self.serve(was_lost, need).await }).await;
        outcome
    }

    /// Delivers over one connection.
    async fn serve(&mut self, was_lost: &mut bool, need: &mut Option<Need>) -> Result<(), Error> {
        let (wake, tokens_changed) = (Arc::clone(&self.wake), Arc::clone(&self.tokens_changed));
        let on_notification = move |notification| match notification {
            Notification::NewCommits => wake.notify_one(),
            Notification::TokensChanged => tokens_changed.notify_one(),
        };
        let mut doorbell = Doorbell::open(&self.config, on_notification).await?;
        *need = None;
        // Other servers learn that this one has a poller.
        doorbell.notify().await?;
        let mut writers_ended = self.writers_ended.clone();
        let mut tick = interval(TICK);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            let mut is_last = false;
            let mut reads_log = false;
            let missing_at = self.waiting_since.map(|since| since + MISSING_AFTER);
            tokio::select! {
                // A dropped handle ends the writers as well.
                () = async { drop(writers_ended.wait_for(|ended| *ended).await) } => is_last = true,
                Some(commit) = self.commits.recv() => self.keep(commit),
                () = self.wake.notified() => {
                    self.others_listen = true;
                    reads_log = true;
                }
                () = until(missing_at) => reads_log = true,
                () = sleep_until(self.notified_at + NOTIFY_INTERVAL), if self.owes_notification && self.others_listen => {}
                _ = tick.tick() => {
                    self.others_listen = doorbell.others_listen().await?;
                    reads_log = true;
                }
            }
            self.keep_handed_over();
            if !doorbell.is_closed() {
                self.deliver_pending();
            }
            if reads_log || is_last {
                self.read_log(&mut doorbell).await?;
            }
            if std::mem::take(was_lost) {
                tracing::info!("the live feed is connected to the database again");
            }
            self.notify_others(&mut doorbell, is_last).await?;
            if is_last {
                return Ok(());
            }
        }
    }

    fn keep(&mut self, commit: HandedOver) {
        self.pending.insert(commit.record.number, commit);
    }

    /// Takes the commits that the writers have handed over by now.
    fn keep_handed_over(&mut self) {
        while let Ok(commit) = self.commits.try_recv() {
            self.keep(commit);
        }
    }

    async fn notify_others(&mut self, doorbell: &mut Doorbell, is_last: bool) -> Result<(), Error> {
        let is_due = is_last || self.notified_at.elapsed() >= NOTIFY_INTERVAL;
        if self.owes_notification && self.others_listen && is_due {
            self.owes_notification = false;
            self.notified_at = Instant::now();
            doorbell.notify().await?;
        }
        Ok(())
    }

    /// Delivers the commits of this server that follow the position, from memory.
    fn deliver_pending(&mut self) {
        let before = self.position;
        while let Some(entry) = self.pending.first_entry() {
            let commit = entry.get();
            let number = commit.record.number;
            if number <= self.position.number {
                entry.remove(); // It was read from the log.
                continue;
            }
            let follows = number == self.position.number + 1
                && fingerprint(commit.previous_writer_id) == self.position.fingerprint;
            let record = commit.record;
            if !(follows && self.deliver_kept(&record)) {
                break;
            }
        }
        if self.pending.is_empty() {
            self.waiting_since = None;
        } else if self.waiting_since.is_none() || self.position != before {
            self.waiting_since = Some(Instant::now());
        }
    }

    /// Delivers a commit of this server from memory. Returns false if its samples have to be read back.
    fn deliver_kept(&mut self, record: &CommitRecord) -> bool {
        let change = self.take_kept(record);
        self.deliver(record, change)
    }

    /// Takes what a commit did from memory, if this server made the commit and its samples were kept.
    fn take_kept(&mut self, record: &CommitRecord) -> Option<Change> {
        let commit = self.pending.get_mut(&record.number)?;
        if commit.record == *record {
            commit.take_change()
        } else {
            None
        }
    }

    /// Delivers a commit and moves the position to it. Does nothing and returns false if there is a subscription and
    /// `change` is not given.
    fn deliver(&mut self, record: &CommitRecord, change: Option<Change>) -> bool {
        let Self {
            ring, pending, commits, ..
        } = self;
        let delivery = Delivery {
            change,
            batch_number: record.batch_number,
            position: record.position(),
        };
        // The log may show a commit before its writer has handed it over. So the ring calls the closure while it is
        // locked, and the closure first takes what writers have handed over. A subscriber that subscribes after the
        // acknowledgement does not get the commit in that case either.
        let is_delivered = ring.deliver(delivery, || {
            while let Ok(commit) = commits.try_recv() {
                pending.insert(commit.record.number, commit);
            }
            let commit = pending.get(&record.number).filter(|commit| commit.record == *record);
            commit.map_or(READ_BACK, |commit| commit.order)
        });
        if is_delivered {
            self.position = record.position();
            self.owes_notification |= self.pending.remove(&record.number).is_some();
        }
        is_delivered
    }

    /// Reads the log after the position, and delivers its commits.
    async fn read_log(&mut self, doorbell: &mut Doorbell) -> Result<(), Error> {
        let mut unreadable = None;
        loop {
            let window = self.config.limits.replay_window;
            match doorbell.page(self.position, PAGE_RECORDS, window).await? {
                LogPage::Records { records, .. } if records.is_empty() => break,
                LogPage::Records { records, erasures, .. } => {
                    let all_delivered = self.deliver_records(doorbell, &records, &erasures).await?;
                    // At the first failure, the reason may be that the log has changed since the page was read.
                    if !all_delivered && unreadable.replace(self.position) == Some(self.position) {
                        self.continue_after_gap(doorbell, UNREADABLE).await?;
                    }
                }
                LogPage::Pruned => self.continue_after_gap(doorbell, PRUNED).await?,
                LogPage::OtherHistory => self.continue_after_gap(doorbell, OTHER_HISTORY).await?,
            }
        }
        // Commits are visible before their writers hand them over. So the log has delivered every pending commit, or
        // this history of the database does not have it.
        self.pending.clear();
        self.waiting_since = None;
        Ok(())
    }

    async fn continue_after_gap(&mut self, doorbell: &mut Doorbell, reason: &str) -> Result<(), Error> {
        tracing::warn!("the live feed may have missed samples: {reason}");
        self.position = doorbell.newest().await?;
        self.pending.clear();
        self.ring.continue_after_gap(reason, self.position);
        Ok(())
    }

    /// Delivers records of the log in their order. Returns false if the log does not say which rows one of them wrote.
    /// If the log does not hold the record any more, the next page says so.
    async fn deliver_records(
        &mut self,
        doorbell: &mut Doorbell,
        records: &[CommitRecord],
        erasures: &Erasures,
    ) -> Result<bool, Error> {
        let mut rest = records;
        while let Some((first, later)) = rest.split_first() {
            if self.deliver_kept(first) {
                rest = later;
                continue;
            }
            let Some(delivered) = self.deliver_from_table(doorbell, rest, erasures).await? else {
                return Ok(false);
            };
            rest = &rest[delivered..];
        }
        Ok(true)
    }

    /// Delivers some records, at least the first, whose rows have to be read from the table. Returns their number,
    /// which is 0 if a subscription began meanwhile; `None` if the log does not say which rows the records wrote.
    ///
    /// If two servers write, commits of the other server stand between kept commits of this one. Each statement takes a
    /// round trip, so one statement reads the rows of many commits of the other server.
    async fn deliver_from_table(
        &mut self,
        doorbell: &mut Doorbell,
        records: &[CommitRecord],
        erasures: &Erasures,
    ) -> Result<Option<usize>, Error> {
        let not_kept = records.iter().filter(|record| !self.is_kept(record));
        let not_kept: Vec<CommitRecord> = not_kept.copied().collect();
        let group = &not_kept[..group_len(&not_kept)];
        let has_listeners = self.ring.has_listeners();
        let rows = if has_listeners {
            let Some(rows) = doorbell.rows(group).await? else {
                return Ok(None);
            };
            rows
        } else {
            Vec::new()
        };
        let (mut group, mut rows) = (group.iter().peekable(), rows.into_iter().peekable());
        let mut delivered = 0;
        for record in records {
            let was_read = group.next_if(|read| *read == record).is_some();
            let erasure = erasures.get(&record.number).map(Arc::clone).map(Change::Erasure);
            let read = erasure.or_else(|| {
                let rows = std::iter::from_fn(|| rows.next_if(|row| row.batch_number() == record.batch_number));
                (was_read && has_listeners).then(|| Change::Samples(rows.map(|row| row.sample).collect()))
            });
            // If a row is missing because a client has changed it after the acknowledgement of this commit, the writer
            // handed the samples over before that.
            self.keep_handed_over();
            let change = self.take_kept(record).or(read);
            // Stop at a record whose rows are not in this group, or if a subscription began meanwhile. The caller goes
            // on there.
            if !was_read && change.is_none() || !self.deliver(record, change) {
                break;
            }
            delivered += 1;
        }
        Ok(Some(delivered))
    }

    /// Returns whether this server made a commit and has kept what it did.
    fn is_kept(&self, record: &CommitRecord) -> bool {
        let commit = self.pending.get(&record.number);
        commit.is_some_and(|commit| commit.record == *record && commit.change.is_some())
    }
}

/// How many records have at most [`ROWS_AT_ONCE`] rows together; at least one.
pub(super) fn group_len(records: &[CommitRecord]) -> usize {
    let mut rows = 0;
    let fit = records.iter().take_while(|record| {
        rows += i64::from(record.rows);
        rows <= ROWS_AT_ONCE
    });
    fit.count().max(1)
}

async fn until(moment: Option<Instant>) {
    match moment {
        Some(moment) => sleep_until(moment).await,
        None => std::future::pending().await,
    }
}
