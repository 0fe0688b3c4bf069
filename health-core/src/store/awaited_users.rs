//! The users whose queries found many dirty slices. The roller summarises the slices of these users first.

use std::collections::VecDeque;

use parking_lot::Mutex;

use crate::sample::UserId;

/// A bounded queue of users, each once.
#[derive(Debug, Default)]
pub(crate) struct AwaitedUsers(Mutex<VecDeque<UserId>>);

/// From this number of dirty slices on, a query takes milliseconds longer than with summaries.
const MANY_SLICES: usize = 100;

/// The most users in the queue. Further users are left out: the roller reaches them in the order of their ids.
const USERS_MAX: usize = 100;

impl AwaitedUsers {
    /// Notes how many dirty slices a query of a user has found.
    pub(crate) fn note(&self, user: UserId, dirty_slices: usize) {
        if dirty_slices < MANY_SLICES {
            return;
        }
        let users = &mut *self.0.lock();
        if users.len() < USERS_MAX && !users.contains(&user) {
            users.push_back(user);
        }
    }

    /// Returns the user who has waited for the longest time.
    pub(crate) fn first(&self) -> Option<UserId> {
        self.0.lock().front().copied()
    }

    /// Removes a user whose slices have been summarised.
    pub(crate) fn remove(&self, user: UserId) {
        self.0.lock().retain(|other| *other != user);
    }
}
