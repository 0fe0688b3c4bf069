//! Queries to the server over HTTP, and their responses.

use chrono::{DateTime, TimeDelta, Utc};
use chrono_tz::Tz;
use health_core::{Bucket, PercentilesResponse, Sample, SeriesBucket, StatsResponse};

/// A query to the server.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Query {
    /// The newest sample of every user.
    Users,
    /// The samples of each user up to the newest known one, as many as a sparkline shows.
    History { users: Vec<(i64, DateTime<Utc>)> },
    /// The chart and the statistics of one user.
    Window {
        user: i64,
        /// The range of the chart: the visible window and a margin.
        start: DateTime<Utc>,
        end: DateTime<Utc>,
        /// The width of the chart's buckets. `None` asks for single samples.
        bucket: Option<Bucket>,
        /// The visible window. The statistics cover exactly this range.
        visible: (DateTime<Utc>, DateTime<Utc>),
    },
    /// The range statistics form.
    Range {
        users: Vec<i64>,
        start: DateTime<Utc>,
        end: DateTime<Utc>,
        bucket: Bucket,
        tz: Tz,
    },
}

/// The server's response to a [`Query`].
#[derive(Debug)]
pub(crate) enum QueryResponse {
    /// Stored samples, for [`Query::Users`] and [`Query::History`]. More responses follow unless `last` is set.
    Samples {
        samples: Vec<Sample>,
        last: bool,
    },
    Window(Box<WindowResponse>),
    Range(Vec<UserRangeStats>),
}

/// The response to [`Query::Window`].
#[derive(Debug)]
pub(crate) struct WindowResponse {
    pub(crate) chart: ChartData,
    /// The answer of `GET /metrics` for the visible window.
    pub(crate) stats: StatsResponse,
    /// The percentiles 1 to 100 of the heart rates in the visible window.
    pub(crate) percentiles: PercentilesResponse,
}

/// What the chart of a window shows.
#[derive(Debug)]
pub(crate) enum ChartData {
    /// Every sample, by time and then by source.
    Samples(Vec<Sample>),
    Buckets(Vec<SeriesBucket>),
}

/// The statistics of one user in the response to [`Query::Range`].
#[derive(Clone, Debug)]
pub(crate) struct UserRangeStats {
    pub(crate) stats: StatsResponse,
    pub(crate) buckets: Vec<SeriesBucket>,
    pub(crate) percentiles: PercentilesResponse,
}

/// Why a query failed, as a message for the user.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum QueryError {
    #[error("Cannot reach {server}: {reason}. Start the server or check --server, then ask again.")]
    Unreachable { server: String, reason: String },
    #[error("{detail}")]
    Refused { status: u16, detail: String },
    #[error("Cannot read the response to {path}: {reason}. Check that --server is a health-server.")]
    Unreadable { path: String, reason: String },
    #[error("A recording has no server that could answer. Connect to a server for statistics.")]
    NoServer,
    #[error("The server did not answer within {seconds} s. Ask for a shorter range, or ask again.")]
    TimedOut { seconds: u64 },
}

/// Returns the usual length of a bucket. A day with a clock change is an hour shorter or longer.
pub(crate) fn usual_length(bucket: Bucket) -> TimeDelta {
    match bucket {
        Bucket::Minute => TimeDelta::minutes(1),
        Bucket::FiveMinutes => TimeDelta::minutes(5),
        Bucket::QuarterHour => TimeDelta::minutes(15),
        Bucket::Hour => TimeDelta::hours(1),
        Bucket::Day => TimeDelta::days(1),
        Bucket::Week => TimeDelta::weeks(1),
    }
}

/// Returns the narrowest bucket that divides `length` into at most `buckets_max` buckets, or a week.
pub(crate) fn narrowest_bucket(length: TimeDelta, buckets_max: i32) -> Bucket {
    Bucket::ALL
        .into_iter()
        .find(|bucket| usual_length(*bucket) * buckets_max >= length)
        .unwrap_or(Bucket::Week)
}
