//! Who listens, what our own writers have committed, and how far the stream has been delivered.

use std::{
    cmp::Reverse,
    collections::{BTreeMap, HashMap, HashSet},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tokio::sync::{Notify, Semaphore, oneshot};

use crate::{
    config::Limits,
    live::{
        budget::Budget,
        cursor::Position,
        event::{LiveEvent, Published},
        filter::Filter,
        held::Parcel,
        mailbox::Mailbox,
        snapshot::Snapshot,
    },
    sample::{Sample, UserId},
    store::{
        connection::Readers,
        feed::{Commit, MERGED, Span},
    },
    wire::Cursor,
};

/// The meeting place of writers, the courier and subscribers.
#[derive(Debug)]
pub(crate) struct Hub {
    state: Mutex<State>,
    stream: String,
    capacity: usize,
    /// For all that waits for readers.
    budget: Arc<Budget>,
    /// There is something for the courier to do.
    pub(crate) news: Notify,
    /// There is, and nobody waits for it.
    pub(crate) idle_news: Notify,
    pub(crate) past: Past,
}

/// Where those who resume read from.
#[derive(Debug)]
pub(crate) struct Past {
    pub(crate) readers: Readers,
    pub(crate) window: Duration,
    /// Resuming takes its turn, so that a thousand who reconnect at once leave connections to those who ask for statistics.
    pub(crate) turns: Semaphore,
    /// Rows that were read and are on their way to a reader take theirs.
    pub(crate) rows: Semaphore,
}

/// The name one connection of a writer commits under, for as long as it lives.
#[derive(Debug)]
pub(crate) struct Author {
    name: i64,
    hub: Arc<Hub>,
}

/// What a look of the courier's has to deliver, in order.
#[derive(Debug, Default)]
pub(crate) struct Work {
    /// Our own, by [`Commit::span`]'s end: they are in memory.
    pub(crate) ours: Vec<Commit>,
    /// Stretches of the table, ascending and apart from each other.
    pub(crate) table: Vec<Span>,
    /// Committed by a writer of ours that has not handed it over yet, and what came behind it: not now.
    pub(crate) later: Vec<u64>,
}

#[derive(Debug)]
struct State {
    /// What has been delivered.
    seen: Snapshot,
    cursor: Cursor,
    to_all: Vec<Arc<Mailbox>>,
    to_user: HashMap<UserId, Vec<Arc<Mailbox>>>,
    touched: Vec<Arc<Mailbox>>,
    /// They are filled from the table, and not to be reached by what is published.
    replaying: Vec<Arc<Mailbox>>,
    joining: Vec<Joining>,
    authors: HashSet<i64>,
    handed: BTreeMap<u64, Handed>,
    /// Samples in `handed`.
    handed_samples: usize,
    handovers: u64,
    /// Of those in the work under way, what has been delivered from memory.
    delivered: HashSet<u64>,
    /// Another server listens for rings.
    others: bool,
    /// Something was handed over since the last ring.
    unrung: bool,
    closed: bool,
}

/// A commit of ours that waits for its turn.
#[derive(Debug)]
struct Handed {
    /// How many had been handed over with it.
    place: u64,
    samples: Kept,
}

#[derive(Debug)]
enum Kept {
    Samples(Vec<Sample>),
    /// Nobody listened then.
    Nobody,
    /// Too many wait: it is read from the table.
    Dropped,
}

#[derive(Debug)]
struct Joining {
    filter: Filter,
    mailbox: Arc<Mailbox>,
    joined: oneshot::Sender<Snapshot>,
    /// It was there when the look under way began.
    before_look: bool,
}

/// Samples of our own that wait for their turn, which takes a moment where the database answers. About 150 bytes each.
const HANDED_SAMPLES_MAX: usize = 100_000;

/// Samples that are handed out at once, and so kept as long as anybody waits for one of them.
const PARCEL_MAX: usize = 1_000;

/// Replays that ask the database at the same time.
const REPLAYS_AT_ONCE: usize = 2;

/// Rows that all replays together may have read ahead, about 150 bytes each.
const REPLAYED_ROWS_MAX: usize = 100_000;

impl Hub {
    /// A hub that delivers what becomes visible behind a position.
    pub(crate) fn new(position: Position, limits: &Limits, readers: Readers) -> Self {
        let cursor = position.to_cursor();
        let Position { stream, seen } = position;
        let state = State {
            seen,
            cursor,
            to_all: Vec::new(),
            to_user: HashMap::new(),
            touched: Vec::new(),
            replaying: Vec::new(),
            joining: Vec::new(),
            authors: HashSet::new(),
            handed: BTreeMap::new(),
            handed_samples: 0,
            handovers: 0,
            delivered: HashSet::new(),
            others: false,
            unrung: false,
            closed: false,
        };
        Self {
            state: Mutex::new(state),
            stream,
            capacity: limits.subscriber_queue,
            budget: Budget::new(limits.subscriber_memory),
            news: Notify::new(),
            idle_news: Notify::new(),
            past: Past {
                readers,
                window: limits.replay_window,
                turns: Semaphore::new(REPLAYS_AT_ONCE),
                rows: Semaphore::new(REPLAYED_ROWS_MAX),
            },
        }
    }

    /// Which database's stream it is.
    pub(crate) fn stream(&self) -> &str {
        &self.stream
    }

    /// Where the stream stands.
    pub(crate) fn cursor(&self) -> Cursor {
        self.lock().cursor.clone()
    }

    /// Where the stream stands, if all that was delivered up to there has left the mailbox.
    pub(crate) fn cursor_if_idle(&self, mailbox: &Mailbox) -> Option<Cursor> {
        let state = self.lock();
        mailbox.is_idle().then(|| state.cursor.clone())
    }

    /// A mailbox that hears of what is handed over from now on, and of what others commit.
    pub(crate) fn open(&self, filter: &Filter) -> (Arc<Mailbox>, Cursor) {
        let mut state = self.lock();
        let mailbox = Arc::new(Mailbox::new(self.capacity, state.handovers, &self.budget));
        state.add(filter, &mailbox);
        (mailbox, state.cursor.clone())
    }

    /// Takes a mailbox out, to be filled from the table at first.
    pub(crate) fn set_aside(&self, filter: &Filter, mailbox: &Arc<Mailbox>) {
        let mut state = self.lock();
        state.remove(filter, mailbox);
        if state.closed {
            return mailbox.close();
        }
        state.replaying.push(Arc::clone(mailbox));
    }

    /// Puts a mailbox that was set aside back in, to go on from now.
    pub(crate) fn put_back(&self, filter: &Filter, mailbox: &Arc<Mailbox>) {
        let mut state = self.lock();
        if !mailbox.is_abandoned() {
            state.add(filter, mailbox);
        }
    }

    /// Puts a mailbox in between two looks, and tells which was the first of them: it gets what that one does not see.
    pub(crate) fn join(&self, filter: Filter, mailbox: Arc<Mailbox>) -> oneshot::Receiver<Snapshot> {
        let (joined, answer) = oneshot::channel();
        let mut state = self.lock();
        if state.closed {
            return answer; // It never comes, and the mailbox is closed already.
        }
        state.joining.push(Joining {
            filter,
            mailbox,
            joined,
            before_look: false,
        });
        drop(state);
        self.news.notify_one();
        answer
    }

    pub(crate) fn remove(&self, filter: &Filter, mailbox: &Arc<Mailbox>) {
        self.lock().remove(filter, mailbox);
    }

    /// A name for a writer's connection.
    pub(crate) fn author(self: &Arc<Self>) -> Author {
        // 0 is taken, see `feed::MERGED`.
        let name = fastrand::i64(1..);
        self.lock().authors.insert(name);
        Author {
            name,
            hub: Arc::clone(self),
        }
    }

    /// What a writer of ours has committed. Never waits, and keeps nothing where nobody listens.
    pub(crate) fn hand_over(&self, xid: u64, samples: impl Iterator<Item = Sample>) {
        let mut state = self.lock();
        if state.seen.sees(xid) {
            return; // Its author's name was given up, so it was read from the table.
        }
        state.handovers += 1;
        state.unrung = true;
        let kept = if !state.anyone_listens() && state.joining.is_empty() {
            Kept::Nobody
        } else if state.handed_samples >= HANDED_SAMPLES_MAX {
            Kept::Dropped
        } else {
            let samples: Vec<_> = samples.collect();
            state.handed_samples += samples.len();
            Kept::Samples(samples)
        };
        let place = state.handovers;
        state.handed.insert(xid, Handed { place, samples: kept });
        let quiet = !state.others && !state.anyone_is_awake() && state.joining.is_empty();
        drop(state);
        if quiet {
            self.idle_news.notify_one();
        } else {
            self.news.notify_one();
        }
    }

    pub(crate) fn anyone_listens(&self) -> bool {
        let state = self.lock();
        state.anyone_listens() || !state.joining.is_empty()
    }

    /// Whether other servers are to be told of something.
    pub(crate) fn owes_ring(&self) -> bool {
        let state = self.lock();
        state.others && state.unrung
    }

    /// They are being told.
    pub(crate) fn rings(&self) {
        self.lock().unrung = false;
    }

    /// Whether a ring is heard by anyone.
    pub(crate) fn others_listen(&self, others: bool) {
        self.lock().others = others;
    }

    /// Another server rang, or the connection was lost.
    pub(crate) fn heard_ring(&self) {
        self.lock().others = true;
        self.news.notify_one();
    }

    pub(crate) fn seen(&self) -> Snapshot {
        self.lock().seen.clone()
    }

    /// What has been delivered, as a look begins. Whoever waits to be let in by now may be at its end.
    pub(crate) fn begin_look(&self) -> Snapshot {
        let state = &mut *self.lock();
        for joining in &mut state.joining {
            joining.before_look = true;
        }
        state.seen.clone()
    }

    /// What there is to do about commits that became visible, given by the ends of their spans.
    pub(crate) fn sort(&self, commits: &[Commit]) -> Work {
        let state = self.lock();
        let mut work = Work::default();
        for (place, commit) in commits.iter().enumerate() {
            let handed = state.handed.get(&commit.xid).map(|handed| &handed.samples);
            match handed {
                // It stands for others' commits as well, whoever's the last of them was.
                _ if commit.author == MERGED => work.table.push(commit.span),
                _ if state.delivered.contains(&commit.xid) => work.ours.push(*commit),
                Some(Kept::Samples(_) | Kept::Nobody) => work.ours.push(*commit),
                None if state.authors.contains(&commit.author) => {
                    work.later = commits[place..].iter().map(|commit| commit.xid).collect();
                    break;
                }
                Some(Kept::Dropped) | None => work.table.push(commit.span),
            }
        }
        work.table = joined(work.table);
        work
    }

    /// Delivers a commit of ours, once.
    pub(crate) fn publish_ours(&self, xid: u64) {
        let state = &mut *self.lock();
        state.delivered.insert(xid);
        let Some(handed) = state.handed.remove(&xid) else {
            return;
        };
        if let Kept::Samples(samples) = handed.samples {
            state.handed_samples -= samples.len();
            state.publish(samples, &self.budget, |mailbox| mailbox.hears(handed.place));
            self.relieve(state);
        }
    }

    /// Where too much waits, those who are furthest behind lose it.
    fn relieve(&self, state: &State) {
        if !self.budget.is_spent() {
            return;
        }
        let mailboxes = state.to_all.iter().chain(state.to_user.values().flatten());
        let mut by_need: Vec<_> = mailboxes.map(|mailbox| (mailbox.behind(), mailbox)).collect();
        by_need.sort_unstable_by_key(|(behind, _)| Reverse(*behind));
        for (_, mailbox) in by_need.into_iter().take_while(|(behind, _)| *behind > 0) {
            if self.budget.is_relieved() {
                return;
            }
            mailbox.shed();
        }
    }

    /// Delivers rows of the table.
    pub(crate) fn publish(&self, samples: Vec<Sample>) {
        if samples.is_empty() {
            return;
        }
        let state = &mut *self.lock();
        state.publish(samples, &self.budget, |_| true);
        self.relieve(state);
        for mailbox in state.touched.drain(..) {
            mailbox.settle(None);
        }
    }

    /// Where the stream stands for whoever has got what a snapshot sees.
    pub(crate) fn cursor_of(&self, seen: Snapshot) -> Cursor {
        let position = Position {
            stream: self.stream.clone(),
            seen,
        };
        position.to_cursor()
    }

    /// Tells everyone who listens that not all may have been delivered, and why.
    pub(crate) fn tell_of_hole(&self, why: &str) {
        let state = self.lock();
        for mailbox in state.to_all.iter().chain(state.to_user.values().flatten()) {
            mailbox.announce(LiveEvent::Subscribed {
                resumed: false,
                reason: Some(why.to_owned()),
            });
        }
    }

    /// All that a snapshot sees was delivered.
    pub(crate) fn settle(&self, seen: Snapshot) {
        let state = &mut *self.lock();
        let position = Position {
            stream: self.stream.clone(),
            seen,
        };
        state.cursor = position.to_cursor();
        state.seen = position.seen;
        state.delivered.clear();
        let State { handed, seen, .. } = state;
        handed.retain(|xid, _| !seen.sees(*xid));
        let kept = |handed: &Handed| match &handed.samples {
            Kept::Samples(samples) => samples.len(),
            Kept::Nobody | Kept::Dropped => 0,
        };
        state.handed_samples = state.handed.values().map(kept).sum();
        for mailbox in state.touched.drain(..) {
            mailbox.settle(Some(&state.cursor));
        }
    }

    /// Lets those in who wait between two looks. Only where everything was delivered that was handed over before `seen`.
    ///
    /// Those who came during the look wait for the next: a replay may have read more than this look's snapshot sees, and
    /// would hear of it again behind what is newer.
    pub(crate) fn admit(&self) {
        let state = &mut *self.lock();
        let (ready, early): (Vec<_>, _) = state.joining.drain(..).partition(|joining| joining.before_look);
        state.joining = early;
        for joining in ready {
            // Whoever is gone takes nothing any more.
            if !joining.mailbox.is_abandoned() && joining.joined.send(state.seen.clone()).is_ok() {
                state.add(&joining.filter, &joining.mailbox);
            }
        }
    }

    /// Ends every subscription behind what waits for it.
    pub(crate) fn close(&self) {
        let state = &mut *self.lock();
        state.closed = true;
        state.joining.clear();
        let live = state.to_all.iter().chain(state.to_user.values().flatten());
        for mailbox in live.chain(&state.replaying) {
            mailbox.close();
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // Every change under the lock is complete when it is released, also by a panic.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Author {
    pub(crate) fn name(&self) -> i64 {
        self.name
    }
}

impl Drop for Author {
    fn drop(&mut self) {
        self.hub.lock().authors.remove(&self.name);
        self.hub.news.notify_one();
    }
}

impl State {
    /// Whether anyone reads what there is. For those who have not yet heard that they were too slow it need not be looked at
    /// at once.
    fn anyone_is_awake(&self) -> bool {
        !self.to_user.is_empty() || self.to_all.iter().any(|mailbox| !mailbox.has_skipped())
    }

    fn anyone_listens(&self) -> bool {
        !(self.to_all.is_empty() && self.to_user.is_empty())
    }

    fn remove(&mut self, filter: &Filter, mailbox: &Arc<Mailbox>) {
        let others = |other: &Arc<Mailbox>| !Arc::ptr_eq(other, mailbox);
        self.joining.retain(|joining| others(&joining.mailbox));
        self.replaying.retain(others);
        match filter.named() {
            None => self.to_all.retain(others),
            Some(users) => {
                for user in users {
                    if let Some(mailboxes) = self.to_user.get_mut(user) {
                        mailboxes.retain(others);
                        if mailboxes.is_empty() {
                            self.to_user.remove(user);
                        }
                    }
                }
            }
        }
    }

    fn add(&mut self, filter: &Filter, mailbox: &Arc<Mailbox>) {
        self.replaying.retain(|other| !Arc::ptr_eq(other, mailbox));
        if self.closed {
            return mailbox.close();
        }
        match filter.named() {
            None => self.to_all.push(Arc::clone(mailbox)),
            Some(users) => {
                for user in users {
                    self.to_user.entry(*user).or_default().push(Arc::clone(mailbox));
                }
            }
        }
    }

    fn publish(&mut self, samples: Vec<Sample>, budget: &Arc<Budget>, hears: impl Fn(&Mailbox) -> bool) {
        let (count, cursor) = (samples.len(), &self.cursor);
        let mut hearing = self.to_all.iter().filter(|mailbox| hears(mailbox));
        // Where everyone sleeps nothing is made for anyone. The first who does not is found first, as a rule.
        if self.to_user.is_empty() && hearing.all(|mailbox| mailbox.has_skipped()) {
            let hearing = self.to_all.iter().filter(|mailbox| hears(mailbox));
            hearing.for_each(|mailbox| mailbox.pass_over(count, cursor));
            return;
        }
        let mut published = samples
            .into_iter()
            .map(|sample| Arc::new(Published::new(sample, budget)));
        loop {
            // What no reader has room for is gone before the next are made.
            let parcel: Arc<[_]> = published.by_ref().take(PARCEL_MAX).collect();
            if parcel.is_empty() {
                return;
            }
            self.hand_out(&parcel, &hears);
        }
    }

    fn hand_out(&mut self, published: &Arc<[Arc<Published>]>, hears: impl Fn(&Mailbox) -> bool) {
        let parcel = Parcel::Many(Arc::clone(published));
        for mailbox in self.to_all.iter().filter(|mailbox| hears(mailbox)) {
            if mailbox.put(&self.cursor, &parcel) {
                self.touched.push(Arc::clone(mailbox));
            }
        }
        if self.to_user.is_empty() {
            return;
        }
        for sample in published.iter() {
            let mailboxes = self.to_user.get(&sample.sample().user_id()).into_iter().flatten();
            for mailbox in mailboxes.filter(|mailbox| hears(mailbox)) {
                if mailbox.put(&self.cursor, &Parcel::One(Arc::clone(sample))) {
                    self.touched.push(Arc::clone(mailbox));
                }
            }
        }
    }
}

/// The same stretches, ascending, those that meet as one.
fn joined(mut spans: Vec<Span>) -> Vec<Span> {
    spans.sort_unstable_by_key(|span| span.after);
    let mut joined: Vec<Span> = Vec::new();
    for span in spans {
        match joined.last_mut() {
            Some(last) if span.after <= last.last => last.last = last.last.max(span.last),
            _ => joined.push(span),
        }
    }
    joined
}
