//! Who listens, what our own writers have committed, and how far the stream has been delivered.

use std::{
    collections::{BTreeMap, HashMap, HashSet},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tokio::sync::{Notify, Semaphore, oneshot};

use crate::{
    config::Limits,
    live::{
        cursor::Position,
        event::Published,
        filter::Filter,
        mailbox::{Mailbox, Parcel},
        snapshot::Snapshot,
    },
    sample::{Sample, UserId},
    store::{
        connection::Readers,
        feed::{Commit, Span},
    },
    wire::Cursor,
};

/// The meeting place of writers, the courier and subscribers.
#[derive(Debug)]
pub(crate) struct Hub {
    state: Mutex<State>,
    stream: String,
    capacity: usize,
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
    /// Behind the last commit that was delivered, see [`Snapshot::up_to`].
    durable: u64,
    cursor: Cursor,
    to_all: Vec<Arc<Mailbox>>,
    to_user: HashMap<UserId, Vec<Arc<Mailbox>>>,
    touched: Vec<Arc<Mailbox>>,
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

/// Replays that ask the database at the same time.
const REPLAYS_AT_ONCE: usize = 2;

impl Hub {
    /// A hub that delivers what becomes visible behind a position.
    pub(crate) fn new(position: Position, limits: &Limits, readers: Readers) -> Self {
        let cursor = position.to_cursor();
        let Position { stream, seen } = position;
        let state = State {
            durable: seen.xmax(),
            seen,
            cursor,
            to_all: Vec::new(),
            to_user: HashMap::new(),
            touched: Vec::new(),
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
            news: Notify::new(),
            idle_news: Notify::new(),
            past: Past {
                readers,
                window: limits.replay_window,
                turns: Semaphore::new(REPLAYS_AT_ONCE),
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
        let mailbox = Arc::new(Mailbox::new(self.capacity, state.handovers));
        state.add(filter, &mailbox);
        (mailbox, state.cursor.clone())
    }

    /// Puts a mailbox that was taken out back in, to go on from now.
    pub(crate) fn put_back(&self, filter: &Filter, mailbox: &Arc<Mailbox>) {
        let mut state = self.lock();
        if !mailbox.is_abandoned() {
            state.add(filter, mailbox);
        }
    }

    /// Puts a mailbox in between two looks, and tells which was the first of them: it gets what that one does not see.
    pub(crate) fn join(&self, filter: Filter, mailbox: Arc<Mailbox>) -> oneshot::Receiver<Snapshot> {
        let (joined, answer) = oneshot::channel();
        self.lock().joining.push(Joining {
            filter,
            mailbox,
            joined,
            before_look: false,
        });
        self.news.notify_one();
        answer
    }

    pub(crate) fn remove(&self, filter: &Filter, mailbox: &Arc<Mailbox>) {
        let state = &mut *self.lock();
        let others = |other: &Arc<Mailbox>| !Arc::ptr_eq(other, mailbox);
        state.joining.retain(|joining| others(&joining.mailbox));
        match filter.named() {
            None => state.to_all.retain(others),
            Some(users) => {
                for user in users {
                    if let Some(mailboxes) = state.to_user.get_mut(user) {
                        mailboxes.retain(others);
                        if mailboxes.is_empty() {
                            state.to_user.remove(user);
                        }
                    }
                }
            }
        }
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
        let quiet = !state.others && !state.anyone_listens() && state.joining.is_empty();
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
            state.publish(samples, |mailbox| mailbox.hears(handed.place));
        }
    }

    /// Delivers rows of the table.
    pub(crate) fn publish(&self, samples: Vec<Sample>) {
        if samples.is_empty() {
            return;
        }
        let state = &mut *self.lock();
        state.publish(samples, |_| true);
        for mailbox in state.touched.drain(..) {
            mailbox.settle(None);
        }
    }

    /// Where the stream stands for whoever has got what a snapshot sees.
    pub(crate) fn cursor_of(&self, seen: Snapshot) -> Cursor {
        let position = Position {
            stream: self.stream.clone(),
            seen: seen.up_to(self.lock().durable),
        };
        position.to_cursor()
    }

    /// All that a snapshot sees was delivered, `last` among it.
    pub(crate) fn settle(&self, seen: Snapshot, last: Option<u64>) {
        let state = &mut *self.lock();
        state.durable = last.map_or(state.durable, |last| state.durable.max(last + 1));
        let seen = seen.up_to(state.durable);
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
        let joining = state.joining.drain(..).map(|joining| joining.mailbox);
        for mailbox in state.to_all.iter().chain(state.to_user.values().flatten()) {
            mailbox.close();
        }
        joining.for_each(|mailbox| mailbox.close());
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
    fn anyone_listens(&self) -> bool {
        !(self.to_all.is_empty() && self.to_user.is_empty())
    }

    fn add(&mut self, filter: &Filter, mailbox: &Arc<Mailbox>) {
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

    fn publish(&mut self, samples: Vec<Sample>, hears: impl Fn(&Mailbox) -> bool) {
        if samples.is_empty() || !self.anyone_listens() {
            return;
        }
        let published = samples.into_iter().map(|sample| Arc::new(Published::new(sample)));
        let published: Arc<[_]> = published.collect();
        let parcel = Parcel::Many(Arc::clone(&published));
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
