//! The choice of users for a subscription.

use std::collections::BTreeSet;

use crate::sample::UserId;

/// The users whose samples a subscriber receives.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Filter {
    users: Option<BTreeSet<UserId>>,
}

impl Filter {
    /// Selects all users.
    pub fn all() -> Self {
        Self::default()
    }

    /// Selects these users only.
    pub fn users(users: impl IntoIterator<Item = UserId>) -> Self {
        Self {
            users: Some(users.into_iter().collect()),
        }
    }

    /// Returns the selected users, or `None` for all.
    pub(crate) fn named(&self) -> Option<&BTreeSet<UserId>> {
        self.users.as_ref()
    }
}
