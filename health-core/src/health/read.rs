//! What a [`Health`] answers.

use chrono::Utc;

use crate::{error::Error, health::Health, range::TimeRange, sample::UserId, stats::Stats, store::read};

impl Health {
    /// What can be said of one user over a range: exact over what is stored at this moment.
    ///
    /// Weights of heart rates end at this machine's present, as does the length their coverage is measured by.
    ///
    /// # Errors
    /// [`Error::Unavailable`] or [`Error::TimedOut`] where the database does not answer.
    pub async fn stats(&self, user: UserId, range: TimeRange) -> Result<Stats, Error> {
        read::stats(&self.inner.readers, user, range, Utc::now()).await
    }
}
