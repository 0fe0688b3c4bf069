//! RowFilter samples are heard.

use std::collections::BTreeSet;

use crate::sample::UserId;

/// RowFilter samples a subscriber hears.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Filter {
    users: Option<BTreeSet<UserId>>,
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

    /// RowFilter, if not everybody's.
    pub(crate) fn named(&self) -> Option<&BTreeSet<UserId>> {
        self.users.as_ref()
    }
}
