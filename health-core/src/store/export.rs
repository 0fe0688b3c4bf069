//! Reads samples back, a page at a time.

use std::time::Duration;

use chrono::{DateTime, Utc};
use tokio::time::timeout;

use crate::{
    error::Error,
    range::TimeRange,
    sample::{Sample, UserId},
    store::{
        error::StoreError,
        readers::{Readers, checkout},
        rows,
    },
};

/// Reads a page of the primary key. The row comparison continues after the last sample of the page
/// before, so that a page costs the same wherever it is; an `OFFSET` would read all earlier rows again.
const PAGE: &str = "SELECT timestamp, source, heart_rate, steps, calories FROM health_metrics \
     WHERE user_id = $1 AND (timestamp, source) >= ($2, $3) AND timestamp < $4 ORDER BY timestamp, source LIMIT $5";

/// Samples in a page: about half a megabyte of memory.
const PAGE_ROWS: i64 = 4_096;

/// The stored samples of one user over a range, by time, then source; see [`Health::samples`](crate::Health::samples).
///
/// Between two pages it holds neither a connection nor a transaction, so a slow reader blocks nothing. Each page
/// reads the state of its own moment: a sample written meanwhile appears if it lies after the last page.
#[derive(Debug, Clone)]
pub struct Samples {
    readers: Readers,
    user: UserId,
    /// Where the next page begins; `None` after the last page.
    next: Option<(DateTime<Utc>, String)>,
    end: DateTime<Utc>,
    /// The longest wait for one page.
    timeout: Duration,
}

impl Samples {
    pub(crate) fn new(readers: Readers, user: UserId, range: TimeRange, timeout: Duration) -> Self {
        Self {
            readers,
            user,
            next: Some((range.start(), String::new())),
            end: range.end(),
            timeout,
        }
    }

    /// Returns the next samples, some thousand at a time; an empty vector after the last.
    ///
    /// # Errors
    /// [`Error::Unavailable`] or [`Error::TimedOut`] if the database does not answer. Call again for the same page.
    pub async fn next_page(&mut self) -> Result<Vec<Sample>, Error> {
        let limit = self.timeout;
        timeout(limit, self.page()).await.unwrap_or(Err(Error::TimedOut(limit)))
    }

    async fn page(&mut self) -> Result<Vec<Sample>, Error> {
        let Some((time, source)) = &self.next else {
            return Ok(Vec::new());
        };
        let mut session = checkout(&self.readers).await?;
        let statement = session.prepare(PAGE).await.map_err(StoreError::from)?;
        let rows = session
            .client()
            .query(&statement, &[&self.user.get(), time, source, &self.end, &PAGE_ROWS])
            .await
            .map_err(StoreError::from)?;
        let samples = rows
            .iter()
            .map(|row| rows::sample(self.user, row, 0))
            .collect::<Result<Vec<_>, _>>()?;
        let is_full = i64::try_from(samples.len()) == Ok(PAGE_ROWS);
        self.next = samples.last().filter(|_| is_full).map(|last| {
            // The smallest source after this one: a source has no control characters, so none lies between the two.
            (last.timestamp(), format!("{}\u{1}", last.source()))
        });
        Ok(samples)
    }
}
