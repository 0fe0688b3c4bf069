//! Reading samples back, a page at a time.

use std::time::Duration;

use chrono::{DateTime, Utc};
use tokio::time::timeout;
use tokio_postgres::Row;

use crate::{
    error::Error,
    range::TimeRange,
    sample::{Readings, Sample, Source, UserId},
    store::{
        connection::{Readers, checkout},
        failure::Failure,
    },
};

/// A page of the key's leaves, from a place in them on.
const PAGE: &str = "SELECT timestamp, source, heart_rate, steps, calories FROM health_metrics \
     WHERE user_id = $1 AND (timestamp, source) >= ($2, $3) AND timestamp < $4 ORDER BY timestamp, source LIMIT $5";

/// Samples in a page: half a megabyte or so in memory.
const PAGE_ROWS: i64 = 4_096;

/// The stored samples of one user over a range, by time, then source; see [`Health::samples`](crate::Health::samples).
///
/// Between pages nothing is held of the database, neither a connection nor a snapshot, so that whoever reads slowly is in
/// nobody's way. A sample that is written meanwhile is in it where it lies ahead of what was read.
#[derive(Debug, Clone)]
pub struct Samples {
    readers: Readers,
    user: UserId,
    /// Where the next page begins; none behind the last.
    next: Option<(DateTime<Utc>, String)>,
    end: DateTime<Utc>,
    /// How long a page is waited for.
    patience: Duration,
}

impl Samples {
    pub(crate) fn new(readers: Readers, user: UserId, range: TimeRange, patience: Duration) -> Self {
        Self {
            readers,
            user,
            next: Some((range.start(), String::new())),
            end: range.end(),
            patience,
        }
    }

    /// The next samples, some thousand at a time; none after the last.
    ///
    /// # Errors
    /// [`Error::Unavailable`] or [`Error::TimedOut`] where the database does not answer. The same page can be asked for again.
    pub async fn next_page(&mut self) -> Result<Vec<Sample>, Error> {
        let patience = self.patience;
        timeout(patience, self.page())
            .await
            .unwrap_or(Err(Error::TimedOut(patience)))
    }

    async fn page(&mut self) -> Result<Vec<Sample>, Error> {
        let Some((time, source)) = &self.next else {
            return Ok(Vec::new());
        };
        let mut session = checkout(&self.readers).await?;
        let statement = session.prepare(PAGE).await.map_err(Failure::from)?;
        let rows = session
            .client()
            .query(&statement, &[&self.user.get(), time, source, &self.end, &PAGE_ROWS])
            .await
            .map_err(Failure::from)?;
        let samples = rows
            .iter()
            .map(|row| sample(self.user, row))
            .collect::<Result<Vec<_>, _>>()?;
        let full = i64::try_from(samples.len()) == Ok(PAGE_ROWS);
        self.next = samples.last().filter(|_| full).map(|last| {
            // No source holds a control character, so nothing lies between a name and the same with U+0001 behind it.
            (last.timestamp(), format!("{}\u{1}", last.source()))
        });
        Ok(samples)
    }
}

fn sample(user: UserId, row: &Row) -> Result<Sample, Failure> {
    let source = Source::new(row.get::<_, &str>(1)).map_err(|_| Failure::IllegalSample)?;
    let readings = Readings::from_row(row.get(2), row.get(3), row.get(4));
    Sample::new(user, row.get(0), source, readings).map_err(|_| Failure::IllegalSample)
}
