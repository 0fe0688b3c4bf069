//! Who listens, and the distribution of what was committed.

use std::{
    collections::{BTreeSet, HashMap},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::Poll,
};

use crate::{
    live::{
        cursor::Position,
        mailbox::{LiveEvent, Mailbox, Published},
    },
    sample::{Sample, UserId},
    wire::Cursor,
};

/// Whose samples a subscriber hears.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Filter {
    users: Option<BTreeSet<UserId>>,
}

/// A stream of what is committed from now on.
///
/// Writers never wait for it: whoever reads too slowly is told what was skipped, by [`LiveEvent::Lagged`].
#[derive(Debug)]
pub struct Subscription {
    mailbox: Arc<Mailbox>,
    filter: Filter,
    hub: Arc<Hub>,
}

/// The meeting place of writers and subscribers.
#[derive(Debug)]
pub(crate) struct Hub {
    state: Mutex<State>,
    capacity: usize,
}

#[derive(Debug)]
struct State {
    position: Position,
    to_all: Vec<Arc<Mailbox>>,
    to_user: HashMap<UserId, Vec<Arc<Mailbox>>>,
    closed: bool,
}

impl Filter {
    /// Everybody's.
    pub fn all() -> Self {
        Self::default()
    }

    /// Only these users'.
    pub fn users(users: impl IntoIterator<Item = UserId>) -> Self {
        Self {
            users: Some(users.into_iter().collect()),
        }
    }
}

impl Subscription {
    /// The next event; none once the handle it came from was closed.
    pub async fn next(&mut self) -> Option<LiveEvent> {
        self.mailbox.take().await
    }

    /// The next event if one waits already.
    pub fn try_next(&mut self) -> Option<LiveEvent> {
        match self.mailbox.poll_take() {
            Poll::Ready(event) => event,
            Poll::Pending => None,
        }
    }
}

impl Drop for Subscription {
    fn drop(&mut self) {
        self.hub.remove(&self.filter, &self.mailbox);
    }
}

impl Hub {
    /// A hub at a position; `capacity` is how many samples may wait for each subscriber.
    pub(crate) fn new(position: Position, capacity: usize) -> Self {
        let state = State {
            position,
            to_all: Vec::new(),
            to_user: HashMap::new(),
            closed: false,
        };
        Self {
            state: Mutex::new(state),
            capacity,
        }
    }

    /// Where the stream stands.
    pub(crate) fn cursor(&self) -> Cursor {
        self.lock().position.to_cursor()
    }

    pub(crate) fn subscribe(self: &Arc<Self>, filter: Filter) -> Subscription {
        let mailbox = Arc::new(Mailbox::new(self.capacity));
        let mut state = self.lock();
        match &filter.users {
            None => state.to_all.push(Arc::clone(&mailbox)),
            Some(users) => {
                for user in users {
                    state.to_user.entry(*user).or_default().push(Arc::clone(&mailbox));
                }
            }
        }
        if state.closed {
            mailbox.close();
        }
        drop(state);
        Subscription {
            mailbox,
            filter,
            hub: Arc::clone(self),
        }
    }

    /// Hands committed samples to those who listen. Costs nothing where nobody does, and never waits.
    pub(crate) fn publish(&self, samples: Vec<Sample>) {
        let state = self.lock();
        if state.to_all.is_empty() && state.to_user.is_empty() {
            return;
        }
        let cursor = state.position.to_cursor();
        let published: Vec<_> = samples
            .into_iter()
            .map(|sample| Arc::new(Published::new(sample)))
            .collect();
        for mailbox in &state.to_all {
            mailbox.put(&cursor, published.iter());
        }
        if !state.to_user.is_empty() {
            for sample in &published {
                for mailbox in state.to_user.get(&sample.sample().user_id()).into_iter().flatten() {
                    mailbox.put(&cursor, std::iter::once(sample));
                }
            }
        }
    }

    /// Ends every subscription behind what waits for it.
    pub(crate) fn close(&self) {
        let mut state = self.lock();
        state.closed = true;
        for mailbox in state.to_all.iter().chain(state.to_user.values().flatten()) {
            mailbox.close();
        }
    }

    fn remove(&self, filter: &Filter, mailbox: &Arc<Mailbox>) {
        let mut state = self.lock();
        match &filter.users {
            None => state.to_all.retain(|other| !Arc::ptr_eq(other, mailbox)),
            Some(users) => {
                for user in users {
                    if let Some(mailboxes) = state.to_user.get_mut(user) {
                        mailboxes.retain(|other| !Arc::ptr_eq(other, mailbox));
                        if mailboxes.is_empty() {
                            state.to_user.remove(user);
                        }
                    }
                }
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // Every change under the lock is complete when it is released, also by a panic.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
