//! The queries of a [`Health`].

use std::{future::Future, sync::Arc, time::Duration};

use chrono::Utc;
use chrono_tz::Tz;
use tokio::time::timeout;

use crate::{
    bucket::Bucket,
    erasure::Erasure,
    error::Error,
    health::Health,
    range::TimeRange,
    sample::{Source, UserId},
    stats::{Percentiles, RangeStats},
    store::{
        commit_log::erasures::ErasureCommit,
        erase,
        export::Samples,
        read::{self, StatsQuery},
        users,
    },
    wire::{SeriesBucket, UsersResponse},
};

/// The time that a query waits in addition to the limits of its connection and its statement.
///
/// Normally PostgreSQL ends a statement at its timeout and says so. This timeout is for a server that says nothing
/// any more, so it must be the later one. A second is more than an answer needs to arrive.
const TIMEOUT_MARGIN: Duration = Duration::from_secs(1);

impl Health {
    /// Returns the statistics of one user over a range: exact over what is stored at this moment.
    ///
    /// A heart rate counts for no time after the present, by this machine's clock. Coverage is measured over the
    /// range up to the present.
    ///
    /// # Errors
    /// [`Error::Unavailable`] or [`Error::TimedOut`] if the database does not answer.
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
        self.with_timeout(read::stats(&self.inner.readers, user, range, now))
            .await
    }

    /// Returns the statistics of every bucket that touches a range, by the local time of a zone.
    ///
    /// The first and the last bucket are cut at the range. The numbers of a bucket are those of [`Health::stats`]
    /// over its range, except `total_steps` and `total_calories`: in each slice that source counts which has the
    /// most in the slice within the whole range. So the buckets add up to what `stats` returns for the whole range.
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
        let query = StatsQuery {
            user,
            start: range.start().timestamp_micros(),
            ends: &ends,
            now,
        };
        let stats = self.with_timeout(read::series(&self.inner.readers, query)).await?;
        let series_bucket = |(bucket, stats): (TimeRange, RangeStats)| SeriesBucket {
            start: bucket.start(),
            end: bucket.end(),
            stats: stats.overall,
        };
        Ok(buckets.into_iter().zip(stats).map(series_bucket).collect())
    }

    /// Returns percentiles of all heart rates in a range; each of `percents` is from 0 to 100.
    ///
    /// A percentile is found by nearest rank, to within half a beat per minute.
    ///
    /// # Errors
    /// Those of [`Health::stats`].
    pub async fn percentiles(&self, user: UserId, range: TimeRange, percents: &[f64]) -> Result<Percentiles, Error> {
        let now = Utc::now().timestamp_micros();
        let histogram = self
            .with_timeout(read::histogram(&self.inner.readers, user, range, now))
            .await?;
        Ok(Percentiles {
            readings: i64::try_from(histogram.readings()).unwrap_or(i64::MAX),
            values: percents
                .iter()
                .map(|percent| histogram.percentile(*percent).map(f64::from))
                .collect(),
        })
    }

    /// Returns users with samples and an id greater than `after`, by id, at most `limit`.
    ///
    /// Samples are counted with the help of summaries. So a page of 100 users takes some milliseconds, whatever
    /// they have stored.
    ///
    /// # Errors
    /// Those of [`Health::stats`].
    pub async fn users(&self, limit: usize, after: Option<UserId>) -> Result<UsersResponse, Error> {
        self.with_timeout(users::users(&self.inner.readers, limit, after)).await
    }

    /// Returns the same for some users only. Users without samples are left out.
    ///
    /// # Errors
    /// Those of [`Health::stats`].
    pub async fn users_among(
        &self,
        among: &[UserId],
        limit: usize,
        after: Option<UserId>,
    ) -> Result<UsersResponse, Error> {
        self.with_timeout(users::users_among(&self.inner.readers, among, limit, after))
            .await
    }

    /// Returns the stored samples of a user over a range, by time, then source, a page at a time.
    ///
    /// ```no_run
    /// # use health_core::{Health, TimeRange, UserId};
    /// # async fn example(health: Health, user: UserId, range: TimeRange) -> Result<(), Box<dyn std::error::Error>> {
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
        Samples::new(self.inner.readers.clone(), user, range, self.query_timeout())
    }

    /// Removes everything that is stored of a user, and returns the number of samples. Subscribers get
    /// [`LiveEvent::Erased`](crate::LiveEvent::Erased).
    ///
    /// A sample of the same user that arrives later is a new one. Many samples take several transactions, so another
    /// caller may see that only some of them are erased. A started erasure runs to its end, even if the caller drops
    /// the future.
    ///
    /// # Errors
    /// [`Error::Unavailable`] if the database does not answer. Some of the samples may be erased then; call again.
    pub async fn erase(&self, user: UserId) -> Result<u64, Error> {
        self.run_erasure(Erasure::of_user(user)).await
    }

    /// Removes a user's samples in a range, of one source if it is named (the empty one is the unnamed source), and
    /// returns their number. Every later answer is as if they had never been stored. The rest is as for
    /// [`Health::erase`].
    ///
    /// # Errors
    /// Those of [`Health::erase`].
    ///
    /// ```no_run
    /// # async fn example(health: health_core::Health) -> Result<(), Box<dyn std::error::Error>> {
    /// use chrono::TimeDelta;
    /// use health_core::{Source, TimeRange, UserId};
    ///
    /// let last_hour = TimeRange::last(TimeDelta::hours(1));
    /// let erased = health.erase_range(UserId::new(101)?, last_hour, Some(Source::new("watch")?)).await?;
    /// println!("{erased} samples of the watch are gone");
    /// # Ok(()) }
    /// ```
    pub async fn erase_range(&self, user: UserId, range: TimeRange, source: Option<Source>) -> Result<u64, Error> {
        self.run_erasure(Erasure::of_range(user, range, source)).await
    }

    async fn run_erasure(&self, erasure: Erasure) -> Result<u64, Error> {
        self.check_not_stopped()?;
        let (handover, counters) = (self.inner.handover.clone(), Arc::clone(&self.inner.counters));
        let on_commit = move |commit: ErasureCommit| {
            counters.count_erasure(commit.samples);
            handover.hand_over_erasure(commit);
        };
        erase::erase(&self.inner.readers, erasure, on_commit).await
    }

    /// Waits for a query, but not for ever: a stopped server, or a broken network, never answers.
    async fn with_timeout<T>(&self, query: impl Future<Output = Result<T, Error>>) -> Result<T, Error> {
        self.check_not_stopped()?;
        let limit = self.query_timeout();
        timeout(limit, query).await.unwrap_or(Err(Error::TimedOut(limit)))
    }

    fn query_timeout(&self) -> Duration {
        let limits = self.limits();
        limits.connection_wait + limits.statement_timeout + TIMEOUT_MARGIN
    }
}
