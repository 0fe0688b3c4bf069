//! What a [`Health`] answers.

use std::{future::Future, time::Duration};

use chrono::Utc;
use chrono_tz::Tz;
use tokio::time::timeout;

use crate::{
    bucket::Bucket,
    error::Error,
    health::Health,
    range::TimeRange,
    sample::UserId,
    stats::{Percentiles, RangeStats},
    store::{
        erase,
        export::Samples,
        read::{self, Question},
        users,
    },
    wire::{SeriesBucket, UsersResponse},
};

/// How much longer than its statement's time an answer is waited for: it is PostgreSQL's to end the statement, unless it
/// does nothing any more at all.
const GRACE: Duration = Duration::from_secs(1);

impl Health {
    /// What can be said of one user over a range: exact over what is stored at this moment.
    ///
    /// Weights of heart rates end at this machine's present, as does the length their coverage is measured by.
    ///
    /// # Errors
    /// [`Error::Unavailable`] or [`Error::TimedOut`] where the database does not answer.
    ///
    /// ```no_run
    /// # async fn example(health: health_core::Health) -> Result<(), Box<dyn std::error::Error>> {
    /// use chrono::TimeDelta;
    /// use health_core::{TimeRange, UserId};
    ///
    /// let day = health.stats(UserId::new(101)?, TimeRange::last(TimeDelta::hours(24))).await?.overall;
    /// println!("{} steps, {:.0} % worn", day.total_steps, day.heart_rate_coverage * 100.0);
    /// # Ok(()) }
    /// ```
    pub async fn stats(&self, user: UserId, range: TimeRange) -> Result<RangeStats, Error> {
        let now = Utc::now().timestamp_micros();
        self.in_time(read::stats(&self.inner.readers, user, range, now)).await
    }

    /// The statistics of every bucket that touches a range, by the clock of a zone; the outer two are cut at the range.
    ///
    /// A bucket's numbers are those of [`Health::stats`] over its span, but for `total_steps` and `total_calories`: in each
    /// quarter of an hour that source counts which has the most in the whole range, so that the buckets add up to what
    /// `stats` says of it.
    ///
    /// # Errors
    /// [`Error::TooManyBuckets`] above [`Bucket::COUNT_MAX`]; those of [`Health::stats`].
    pub async fn series(
        &self,
        user: UserId,
        range: TimeRange,
        bucket: Bucket,
        zone: Tz,
    ) -> Result<Vec<SeriesBucket>, Error> {
        let buckets = bucket.split(range, zone)?;
        let ends: Vec<_> = buckets.iter().map(|bucket| bucket.end().timestamp_micros()).collect();
        let now = Utc::now().timestamp_micros();
        let question = Question {
            user,
            start: range.start().timestamp_micros(),
            ends: &ends,
            now,
        };
        let stats = self.in_time(read::series(&self.inner.readers, question)).await?;
        let series_bucket = |(bucket, stats): (TimeRange, RangeStats)| SeriesBucket {
            start: bucket.start(),
            end: bucket.end(),
            stats: stats.overall,
        };
        Ok(buckets.into_iter().zip(stats).map(series_bucket).collect())
    }

    /// Percentiles of all heart-rate readings in a range, by nearest rank and to within half a beat; each of `percents` is
    /// 0 to 100.
    ///
    /// # Errors
    /// Those of [`Health::stats`].
    pub async fn percentiles(&self, user: UserId, range: TimeRange, percents: &[f64]) -> Result<Percentiles, Error> {
        let now = Utc::now().timestamp_micros();
        let histogram = self
            .in_time(read::histogram(&self.inner.readers, user, range, now))
            .await?;
        Ok(Percentiles {
            readings: i64::try_from(histogram.readings()).unwrap_or(i64::MAX),
            values: percents
                .iter()
                .map(|percent| histogram.percentile(*percent).map(f64::from))
                .collect(),
        })
    }

    /// Users with samples, by id: those behind `after`, at most `limit`.
    ///
    /// Users are counted by their summaries, so a page of a hundred takes some milliseconds however much they have stored.
    ///
    /// # Errors
    /// Those of [`Health::stats`].
    pub async fn users(&self, limit: usize, after: Option<UserId>) -> Result<UsersResponse, Error> {
        self.in_time(users::users(&self.inner.readers, limit, after)).await
    }

    /// The same of some users alone; those without samples are left out.
    ///
    /// # Errors
    /// Those of [`Health::stats`].
    pub async fn users_among(
        &self,
        among: &[UserId],
        limit: usize,
        after: Option<UserId>,
    ) -> Result<UsersResponse, Error> {
        self.in_time(users::users_among(&self.inner.readers, among, limit, after))
            .await
    }

    /// The stored samples of a user over a range, by time, then source, a page at a time.
    ///
    /// ```no_run
    /// # async fn example(health: health_core::Health, user: health_core::UserId, range: health_core::TimeRange) -> Result<(), Box<dyn std::error::Error>> {
    /// let mut samples = health.samples(user, range);
    /// loop {
    ///     let page = samples.next_page().await?;
    ///     if page.is_empty() {
    ///         break;
    ///     }
    ///     for sample in page {
    ///         println!("{}", serde_json::to_string(&sample)?);
    ///     }
    /// }
    /// # Ok(()) }
    /// ```
    pub fn samples(&self, user: UserId, range: TimeRange) -> Samples {
        Samples::new(self.inner.readers.clone(), user, range, self.patience())
    }

    /// Removes everything there is of a user, and says how many samples that were.
    ///
    /// A sample of the same user that arrives afterwards is simply a new one. Once begun, it goes on to its end, also when
    /// the future is dropped.
    ///
    /// # Errors
    /// [`Error::Unavailable`] where the database does not answer; nothing is erased then.
    pub async fn erase(&self, user: UserId) -> Result<u64, Error> {
        erase::erase(&self.inner.readers, user).await
    }
    /// An answer, unless the database is silent: one that was stopped, or lies behind a line that was cut, says nothing of it.
    async fn in_time<T>(&self, asking: impl Future<Output = Result<T, Error>>) -> Result<T, Error> {
        let patience = self.patience();
        timeout(patience, asking)
            .await
            .unwrap_or(Err(Error::TimedOut(patience)))
    }

    fn patience(&self) -> Duration {
        let limits = self.limits();
        limits.connection_wait + limits.statement_timeout + GRACE
    }
}
