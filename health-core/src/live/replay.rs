//! Replays: the commits after a cursor, read from the table, for a subscription that resumes.
//!
//! A replay takes a [mark](super::ring::Mark): a position up to which the ring has delivered everything, and the index in the
//! ring from which the rest can be read. It sends the commits after the cursor up to that position, by the commit log. Then
//! the subscription joins the ring at that index. If the ring does not hold the index any more, the replay goes on in another
//! pass, up to a later mark.
//!
//! # Live samples during a replay
//!
//! A live sample waits only for the backlog of its own user. After each group of commits the replay looks at what the ring
//! has delivered since the mark. A user with live samples is *pulled ahead*: the replay sends the rest of that user's backlog
//! at once, then the live samples, and leaves the user out of the rest of the pass. This takes at most half of the time.
//!
//! # Memory
//!
//! Rows are read in groups. All replays share a number of permits for the rows that they hold. A subscriber that stops
//! reading keeps a few samples; its replay gives the other rows up, and reads them again when the subscriber goes on.

use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
    time::Duration,
};

use tokio::{
    sync::{Semaphore, mpsc},
    time::{Instant, sleep, timeout},
};

use crate::{
    error::Error,
    live::{
        chunk::Chunk,
        cursor::{from_cursor, to_cursor},
        event::{LiveEvent, Published},
        filter::Filter,
        poller::group_len,
        ring::{Listener, Mark, Membership, READ_BACK, Ring},
    },
    sample::{Sample, UserId},
    store::{
        commit_log::{self, CommitRecord, LogPage, LogPosition},
        connection::{Readers, checkout},
        feed_rows::{self, FeedRow, first_id},
    },
    wire::Cursor,
};

/// What all replays of a handle share.
#[derive(Debug)]
pub(crate) struct ReplaySource {
    pub(crate) readers: Readers,
    pub(crate) window: Duration,
    /// Permits to ask the database, so that a thousand subscribers that resume at once leave connections to others.
    queries: Semaphore,
    /// Permits for rows in memory.
    rows: Semaphore,
}

/// What a replay sends to its subscription.
#[derive(Debug)]
pub(crate) enum Replayed {
    Event(LiveEvent),
    /// The end: the subscription reads the ring from here on.
    Joined(Membership),
}

/// One replay.
pub(crate) struct Replay {
    ring: Arc<Ring>,
    source: Arc<ReplaySource>,
    filter: Filter,
    /// The filter as a parameter of the statements.
    users: Option<Vec<i64>>,
    /// The interval of a subscription that wants the newest sample of each user only.
    every: Option<Duration>,
    out: mpsc::Sender<Replayed>,
    /// Keeps what the ring delivers after a mark.
    _listener: Listener,
}

/// How far a pass has come.
struct Pass {
    mark: Mark,
    /// All commits up to this one were sent, except to users ahead, who have more.
    sent: LogPosition,
    /// The index in the ring up to which live samples were sent; `None` if the ring does not hold them any more.
    live: Option<u64>,
    /// Users who were pulled ahead.
    ahead: HashSet<UserId>,
    /// The number of the last commit whose live samples were sent to the users ahead.
    live_until: i64,
    /// The users ahead of the pass before this one: they have everything up to `earlier_until`.
    earlier: HashSet<UserId>,
    earlier_until: i64,
    /// Batches of which rows of the present page were sent, and batches that the ring delivers.
    sent_batches: HashSet<i64>,
}

/// The subscription is gone, or the handle was closed.
struct Gone;

/// Events that wait for a subscriber: few, because each subscriber that stops reading keeps them.
pub(crate) const EVENTS_AHEAD: usize = 32;

/// Replays that ask the database at the same time.
const QUERIES_MAX: usize = 2;

/// Rows that all replays together hold, 150 to 350 bytes each.
const ROWS_MAX: usize = 100_000;

/// Rows that one replay reads at once at most, unless one commit has more.
const GROUP_ROWS: u32 = 5_000;

/// Users of whom one replay gathers the newest sample before it sends them. [`QUERIES_MAX`] times as many have to fit into
/// [`ROWS_MAX`].
const NEWEST_USERS: u32 = 40_000;

/// Records of the commit log that are read at once, 32 bytes each. A subscriber that has stopped keeps them.
const PAGE_RECORDS: usize = 250;

/// A subscriber that has taken nothing for this long has stopped for now.
///
/// Its replay holds permits for rows until then, and other replays wait for these permits. A longer time would delay them
/// more if hundreds of subscribers stop at once. The time is above the pauses that a server with up to 5000 subscribers makes
/// between two writes; with more of them, some rows are read twice.
const STOPPED_AFTER: Duration = Duration::from_millis(100);

/// The pause before a database that is out of reach is asked again.
const RETRY_PAUSE: Duration = Duration::from_millis(250);

/// Chunks of the ring that are read between two groups.
const CHUNKS_AT_ONCE: usize = 64;

/// Users that are pulled ahead between two groups, so that none of them takes long.
const PULLED_AT_ONCE: usize = 16;

/// How many of the newest batch numbers are remembered as sent. If others take more numbers between a writer's batch number
/// and its commit, a user who is pulled ahead gets some samples twice.
const RECENT_BATCHES: i64 = 1_000;

/// If at most this many commits are left, a user is pulled ahead in the order of commits, which takes 16 bytes for each.
/// If more are left, in the order of ids: it differs only among commits that were made at nearly the same time.
const PULLED_IN_ORDER: i64 = 5_000;

/// Users ahead in one pass, 16 bytes each.
const AHEAD_MAX: usize = 16_384;

const TOO_OLD: &str = "the cursor is too old: some commits after it are older than the replay window";

const OTHER_HISTORY: &str = "the cursor does not belong to this database, or to a state of it that was lost: \
     it was restored from a backup, or another server took its place";

/// Asks the database, again while it is out of reach, and gives the answer. At most [`QUERIES_MAX`] replays ask at a time.
///
/// A macro, because an async closure that is `Send` for every lifetime cannot be expressed as a bound.
macro_rules! ask {
    ($replay:ident, |$session:ident| $query:expr) => {{
        let mut failures = 0;
        loop {
            let answer = async {
                let _permit = $replay.source.queries.acquire().await;
                let $session = &mut *checkout(&$replay.source.readers).await?;
                Ok::<_, Error>($query.await?)
            };
            match answer.await {
                Ok(answer) => break answer,
                Err(error) => $replay.wait_after(&error, &mut failures).await?,
            }
        }
    }};
}

impl ReplaySource {
    pub(crate) fn new(readers: Readers, window: Duration) -> Self {
        Self {
            readers,
            window,
            queries: Semaphore::new(QUERIES_MAX),
            rows: Semaphore::new(ROWS_MAX),
        }
    }
}

impl Replay {
    pub(crate) fn new(
        ring: Arc<Ring>,
        source: Arc<ReplaySource>,
        filter: Filter,
        every: Option<Duration>,
    ) -> (Self, mpsc::Receiver<Replayed>) {
        let (out, replayed) = mpsc::channel(EVENTS_AHEAD);
        let users = filter
            .named()
            .map(|users| users.iter().map(|user| user.get()).collect());
        let replay = Self {
            _listener: ring.listen(every.is_some()),
            ring,
            source,
            filter,
            users,
            every,
            out,
        };
        (replay, replayed)
    }

    /// Replays what was committed after a cursor, then hands the subscription a membership of the ring.
    pub(crate) async fn run(self, cursor: Cursor) {
        // On an error the subscription is gone.
        let _ = self.replay(cursor).await;
    }

    async fn replay(&self, cursor: Cursor) -> Result<(), Gone> {
        let from = match from_cursor(&cursor) {
            Ok(position) => position,
            Err(error) => return self.refuse(&error.to_string()).await,
        };
        let mark = self.ring.mark();
        let page = self.page(from).await?;
        let mut records = match page {
            LogPage::Records { is_too_old: true, .. } | LogPage::Pruned => return self.refuse(TOO_OLD).await,
            LogPage::OtherHistory => return self.refuse(OTHER_HISTORY).await,
            LogPage::Records { records, .. } => records,
        };
        self.send(subscribed(None)).await?;
        let mut pass = Pass::new(mark, from);
        loop {
            match self.every {
                None => self.pass(&mut pass, records).await?,
                Some(every) => self.pass_of_newest(&mut pass, records, every).await?,
            }
            let mut mark = pass.mark;
            mark.index = pass.live.unwrap_or(mark.index);
            if let Some(membership) = self.ring.join(&self.filter, mark, self.every.is_some()) {
                return self.send_membership(membership).await;
            }
            pass = pass.next(self.ring.mark());
            records = self.further(&mut pass).await?;
        }
    }

    /// Continues from now instead.
    async fn refuse(&self, reason: &str) -> Result<(), Gone> {
        let membership = loop {
            let joined = self.ring.join(&self.filter, self.ring.mark(), self.every.is_some());
            if let Some(membership) = joined {
                break membership;
            }
        };
        self.send(subscribed(Some(reason))).await?;
        self.send_membership(membership).await
    }

    async fn send_membership(&self, membership: Membership) -> Result<(), Gone> {
        let joined = self.out.send(Replayed::Joined(membership)).await;
        joined.map_err(|_| Gone)
    }

    /// Sends the commits after [`Pass::sent`] up to the mark; `records` are the first of them.
    async fn pass(&self, pass: &mut Pass, mut records: Vec<CommitRecord>) -> Result<(), Gone> {
        loop {
            records.retain(|record| record.number <= pass.mark.position.number);
            if records.is_empty() {
                break;
            }
            let mut rest = records.as_slice();
            while !rest.is_empty() {
                let (group, later) = rest.split_at(group_len(rest));
                let began = Instant::now();
                self.send_group(pass, group).await?;
                self.send_live(pass, Instant::now() + began.elapsed()).await?;
                rest = later;
            }
            if pass.sent.number >= pass.mark.position.number {
                break;
            }
            records = self.further(pass).await?;
        }
        Ok(())
    }

    /// Sends the rows of some commits that follow each other.
    async fn send_group(&self, pass: &mut Pass, group: &[CommitRecord]) -> Result<(), Gone> {
        let mut unsent = group;
        while !unsent.is_empty() {
            self.capacity().await?;
            // The semaphore is never closed.
            let _permits = self.source.rows.acquire_many(permits(unsent)).await;
            let rows = ask!(self, |session| feed_rows::rows(session, unsent, self.users.as_deref()));
            let mut rows = rows.into_iter().peekable();
            while let Some((record, later)) = unsent.split_first() {
                let samples: Vec<_> =
                    std::iter::from_fn(|| rows.next_if(|row| row.batch_number() == record.batch_number))
                        .map(|row| row.sample)
                        .filter(|sample| !pass.has_sent(record.number, sample.user_id()))
                        .collect();
                if !self
                    .send_samples(samples, &to_cursor(pass.sent), &to_cursor(record.position()))
                    .await?
                {
                    break; // The rows are read again from this record on.
                }
                pass.sent = record.position();
                pass.sent_batches.insert(record.batch_number);
                unsent = later;
            }
        }
        Ok(())
    }

    /// Sends samples, the last one with a cursor of its own. Returns false if the subscriber has stopped before the end.
    async fn send_samples(&self, samples: Vec<Sample>, cursor: &Cursor, last: &Cursor) -> Result<bool, Gone> {
        let count = samples.len();
        for (index, sample) in samples.into_iter().enumerate() {
            let cursor = if index + 1 == count { last } else { cursor };
            let event = sample_event(sample, cursor);
            match timeout(STOPPED_AFTER, self.out.reserve()).await {
                Ok(Ok(permit)) => permit.send(Replayed::Event(event)),
                Ok(Err(_)) => return Err(Gone),
                Err(_) => return Ok(false),
            }
        }
        Ok(true)
    }

    /// Sends live samples until `until`. Pulls the users of these samples ahead.
    async fn send_live(&self, pass: &mut Pass, until: Instant) -> Result<(), Gone> {
        let mut pulled = 0;
        let mut numbers = None;
        let users: Option<Vec<UserId>> = self.filter.named().map(|users| users.iter().copied().collect());
        while let Some(index) = pass.live {
            let Some(chunks) = self.ring.chunks_from(index, CHUNKS_AT_ONCE) else {
                // Another pass has to read them from the table.
                pass.live = None;
                return Ok(());
            };
            if chunks.is_empty() {
                return Ok(());
            }
            pass.sent_batches.extend(chunks.iter().map(|chunk| chunk.batch_number));
            for chunk in chunks {
                let mut from = usize::try_from(index.saturating_sub(chunk.first_index)).unwrap_or_default();
                while let Some(at) = chunk.next_match(users.as_deref(), from) {
                    let sample = &chunk.samples()[at];
                    let user = sample.user_id();
                    if !pass.ahead.contains(&user) {
                        let is_full = pulled == PULLED_AT_ONCE || pass.ahead.len() == AHEAD_MAX;
                        // A user who was ahead in an earlier pass waits for the end of this one.
                        if is_full || pass.earlier.contains(&user) || Instant::now() > until {
                            pass.live = Some(chunk.first_index + at as u64);
                            return Ok(());
                        }
                        pulled += 1;
                        self.pull_ahead(pass, &mut numbers, user).await?;
                    }
                    // A copy: a subscriber that stops must not keep chunks in memory.
                    let event = sample_event(sample.clone(), &to_cursor(pass.sent));
                    self.send(event).await?;
                    from = at + 1;
                    pass.live = Some(chunk.first_index + from as u64);
                }
                pass.live = Some(chunk.end_index());
                if let Some(Ok(end_of_commit)) = chunk.after.as_ref().map(from_cursor) {
                    pass.live_until = end_of_commit.number;
                }
            }
        }
        Ok(())
    }

    /// Sends the rest of a user's backlog. `numbers` keeps the numbers of its commits for the next user.
    async fn pull_ahead(
        &self,
        pass: &mut Pass,
        numbers: &mut Option<HashMap<i64, i64>>,
        user: UserId,
    ) -> Result<(), Gone> {
        if pass.mark.position.number - pass.sent.number > PULLED_IN_ORDER {
            self.pull_by_id(pass, user).await?;
        } else {
            let numbers = match numbers {
                Some(numbers) => numbers,
                none => none.insert(self.numbers_of_batches(pass).await?),
            };
            if !self.pull_few(pass, numbers, user).await? {
                self.pull_in_order(pass, user).await?;
            }
        }
        pass.ahead.insert(user);
        Ok(())
    }

    /// Returns the commit numbers after [`Pass::sent`] up to the mark, by batch number.
    async fn numbers_of_batches(&self, pass: &Pass) -> Result<HashMap<i64, i64>, Gone> {
        let mut numbers = HashMap::new();
        let mut from = pass.sent;
        while from.number < pass.mark.position.number {
            let LogPage::Records { mut records, .. } = self.page(from).await? else {
                break; // The history has changed. The pass, or the poller, finds that out as well.
            };
            records.retain(|record| record.number <= pass.mark.position.number);
            let Some(last) = records.last() else { break };
            from = last.position();
            numbers.extend(records.iter().map(|record| (record.batch_number, record.number)));
        }
        Ok(numbers)
    }

    /// Sends a user's backlog in the order of commits, if its rows can be read at once. Returns false if they cannot.
    async fn pull_few(&self, pass: &Pass, numbers: &HashMap<i64, i64>, user: UserId) -> Result<bool, Gone> {
        let (Some(lowest), Some(highest)) = (numbers.keys().min(), numbers.keys().max()) else {
            return Ok(true);
        };
        let (first, end) = (first_id(*lowest), first_id(highest + 1));
        let cursor = to_cursor(pass.sent);
        let mut sent = (0, 0);
        loop {
            self.capacity().await?;
            let _permits = self.source.rows.acquire_many(GROUP_ROWS).await;
            let limit = i64::from(GROUP_ROWS);
            let rows = ask!(self, |session| feed_rows::rows_of_user(
                session, user, first, end, limit
            ));
            if rows.len() >= GROUP_ROWS as usize {
                return Ok(false);
            }
            // Rows without a number were sent before, or follow live.
            let in_order = |row: FeedRow| Some(((*numbers.get(&row.batch_number())?, row.id), row.sample));
            let mut unsent: Vec<_> = rows.into_iter().filter_map(in_order).collect();
            unsent.retain(|(order, _)| *order > sent);
            unsent.sort_unstable_by_key(|(order, _)| *order);
            let mut is_end = true;
            for (order, sample) in unsent {
                if !self.send_samples(vec![sample], &cursor, &cursor).await? {
                    is_end = false; // The rows are read again.
                    break;
                }
                sent = order;
            }
            if is_end {
                return Ok(true);
            }
        }
    }

    /// Sends a user's backlog in the order of commits.
    async fn pull_in_order(&self, pass: &Pass, user: UserId) -> Result<(), Gone> {
        let cursor = to_cursor(pass.sent);
        let mut from = pass.sent;
        while from.number < pass.mark.position.number {
            let LogPage::Records { mut records, .. } = self.page(from).await? else {
                return Ok(()); // The history has changed. The pass, or the poller, finds that out as well.
            };
            records.retain(|record| record.number <= pass.mark.position.number);
            let Some(last) = records.last() else { return Ok(()) };
            from = last.position();
            let mut unsent = records.as_slice();
            while !unsent.is_empty() {
                let (group, _) = unsent.split_at(group_len(unsent));
                self.capacity().await?;
                let _permits = self.source.rows.acquire_many(permits(group)).await;
                let rows = ask!(self, |session| feed_rows::rows(session, group, Some(&[user.get()])));
                let mut sent = group.len();
                for row in rows {
                    let batch_number = row.batch_number();
                    if !self.send_samples(vec![row.sample], &cursor, &cursor).await? {
                        // The rows are read again from this record on.
                        sent = group
                            .iter()
                            .position(|record| record.batch_number == batch_number)
                            .unwrap_or_default();
                        break;
                    }
                }
                unsent = &unsent[sent..];
            }
        }
        Ok(())
    }

    /// Sends a user's backlog in the order of ids.
    async fn pull_by_id(&self, pass: &Pass, user: UserId) -> Result<(), Gone> {
        let (sent, goal) = (pass.sent.number, pass.mark.position.number);
        let range = ask!(self, |session| commit_log::batch_range(session, sent, goal));
        let Some((lowest, highest)) = range else { return Ok(()) };
        let (mut first, end) = (first_id(lowest), first_id(highest + 1));
        loop {
            self.capacity().await?;
            let _permits = self.source.rows.acquire_many(GROUP_ROWS).await;
            let rows: Vec<FeedRow> = ask!(self, |session| feed_rows::rows_of_user(
                session,
                user,
                first,
                end,
                i64::from(GROUP_ROWS)
            ));
            let is_end = rows.len() < GROUP_ROWS as usize;
            let last = rows.last().map_or(end, |row| row.id + 1);
            let unsent = rows
                .into_iter()
                .filter(|row| !pass.sent_batches.contains(&row.batch_number()));
            let (ids, samples): (Vec<_>, Vec<_>) = unsent.map(|row| (row.id, row.sample)).unzip();
            first = last;
            let cursor = to_cursor(pass.sent);
            for (id, sample) in ids.into_iter().zip(samples) {
                if !self.send_samples(vec![sample], &cursor, &cursor).await? {
                    first = id;
                    break;
                }
            }
            if is_end && first == last {
                return Ok(());
            }
        }
    }

    /// Sends the newest sample of each user among the commits up to the mark.
    async fn pass_of_newest(
        &self,
        pass: &mut Pass,
        mut records: Vec<CommitRecord>,
        every: Duration,
    ) -> Result<(), Gone> {
        while pass.sent.number < pass.mark.position.number {
            self.capacity().await?;
            let _permits = self.source.rows.acquire_many(NEWEST_USERS + GROUP_ROWS).await;
            let (newest, reached) = self.gather_newest(pass, std::mem::take(&mut records)).await?;
            let mut samples: Vec<Sample> = newest.into_values().collect();
            samples.sort_unstable_by_key(Sample::user_id);
            if self
                .send_samples(samples, &to_cursor(pass.sent), &to_cursor(reached))
                .await?
            {
                pass.sent = reached;
                if reached.number < pass.mark.position.number {
                    sleep(every).await;
                }
            }
        }
        Ok(())
    }

    /// Reads commits until the mark, or until there are too many users; returns the newest sample of each, and how far it came.
    async fn gather_newest(
        &self,
        pass: &mut Pass,
        mut records: Vec<CommitRecord>,
    ) -> Result<(HashMap<UserId, Sample>, LogPosition), Gone> {
        let mut newest = HashMap::new();
        let mut reached = pass.sent;
        loop {
            if records.is_empty() {
                let mut from_here = Pass::new(pass.mark, reached);
                records = self.further(&mut from_here).await?;
                reached = from_here.sent;
            }
            records.retain(|record| record.number <= pass.mark.position.number);
            if records.is_empty() {
                return Ok((newest, pass.mark.position));
            }
            let mut rest = records.as_slice();
            while let Some(last) = rest.get(group_len(rest) - 1) {
                let (group, later) = rest.split_at(group_len(rest));
                let rows = ask!(self, |session| feed_rows::rows(session, group, self.users.as_deref()));
                newest.extend(rows.into_iter().map(|row| (row.sample.user_id(), row.sample)));
                reached = last.position();
                if newest.len() >= NEWEST_USERS as usize {
                    return Ok((newest, reached));
                }
                rest = later;
                if rest.is_empty() {
                    break;
                }
            }
            records = Vec::new();
        }
    }

    /// The records after [`Pass::sent`]. If the log does not hold the position any more, the subscriber gets
    /// `resumed: false`, and the pass goes on at its mark.
    async fn further(&self, pass: &mut Pass) -> Result<Vec<CommitRecord>, Gone> {
        // Only rows of the last commits can be read twice, because batch numbers and commit numbers are in nearly the same order.
        let newest = pass.sent_batches.iter().max().copied().unwrap_or_default();
        pass.sent_batches.retain(|batch| *batch > newest - RECENT_BATCHES);
        let reason = match self.page(pass.sent).await? {
            LogPage::Records { records, .. } => return Ok(records),
            LogPage::Pruned => TOO_OLD,
            LogPage::OtherHistory => OTHER_HISTORY,
        };
        self.send(subscribed(Some(reason))).await?;
        pass.earlier.clear();
        pass.mark = self.ring.mark();
        pass.sent = pass.mark.position;
        pass.live = Some(pass.mark.index);
        Ok(Vec::new())
    }

    async fn page(&self, from: LogPosition) -> Result<LogPage, Gone> {
        let window = self.source.window;
        Ok(ask!(self, |session| commit_log::page(
            session,
            from,
            PAGE_RECORDS,
            window
        )))
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

    async fn send(&self, event: LiveEvent) -> Result<(), Gone> {
        self.out.send(Replayed::Event(event)).await.map_err(|_| Gone)
    }

    /// Waits until the subscriber takes events, without any rows in memory.
    async fn capacity(&self) -> Result<(), Gone> {
        let permit = self.out.reserve().await;
        if self.ring.is_closed() {
            Err(Gone)
        } else {
            permit.map(drop).map_err(|_| Gone)
        }
    }
}

impl Pass {
    fn new(mark: Mark, sent: LogPosition) -> Self {
        Self {
            mark,
            sent,
            live: Some(mark.index),
            ahead: HashSet::new(),
            live_until: mark.position.number,
            earlier: HashSet::new(),
            earlier_until: 0,
            sent_batches: HashSet::new(),
        }
    }

    /// The pass after this one, up to a later mark.
    fn next(self, mark: Mark) -> Self {
        let mut next = Self::new(mark, self.sent);
        next.earlier = self.ahead;
        next.earlier_until = self.live_until;
        next
    }

    /// Whether a user's samples of a commit were sent when the user was pulled ahead.
    fn has_sent(&self, number: i64, user: UserId) -> bool {
        self.ahead.contains(&user) || (number <= self.earlier_until && self.earlier.contains(&user))
    }
}

/// How many permits the rows of some commits take.
fn permits(records: &[CommitRecord]) -> u32 {
    let rows = records
        .iter()
        .map(|record| usize::try_from(record.rows).unwrap_or_default());
    u32::try_from(rows.sum::<usize>().min(ROWS_MAX)).unwrap_or(GROUP_ROWS)
}

fn subscribed(refusal: Option<&str>) -> LiveEvent {
    LiveEvent::Subscribed {
        resumed: refusal.is_none(),
        reason: refusal.map(str::to_owned),
    }
}

/// The event of a sample that was read back.
fn sample_event(sample: Sample, cursor: &Cursor) -> LiveEvent {
    let chunk = Chunk::new(vec![sample], 0, READ_BACK, cursor.clone());
    LiveEvent::Sample {
        cursor: cursor.clone(),
        published: Published::new(Arc::new(chunk), 0),
    }
}
