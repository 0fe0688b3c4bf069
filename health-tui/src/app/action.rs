//! What comes into the dashboard and what goes out of it.

use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use chrono_tz::Tz;
use crossterm::event::MouseEvent;
use health_core::{Calories, PercentilesResponse, READING_WEIGHT_SECONDS_MAX, Sample, SeriesBucket, StatsResponse};

use crate::{keys::Key, store::Entry};

/// Whether a message is good news.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Tone {
    Good,
    Bad,
}

/// Everything that can happen.
#[derive(Debug)]
pub(crate) enum Input {
    Key(Key),
    Paste(String),
    Mouse(MouseEvent),
    /// Columns and rows.
    Resize(u16, u16),
    /// Asked to stop from outside.
    Suspend,
    /// Back from a suspend, in a terminal of this size.
    Resumed(u16, u16),
    Net(Net),
    /// What became of an effect.
    Note(Tone, String),
    /// The time that [`crate::app::App::next_change`] named has come.
    Tick,
}

/// What the network's tasks report.
#[derive(Debug)]
pub(crate) enum Net {
    Feed(FeedNews),
    Samples(Batch),
    Answer {
        id: u64,
        result: Result<Answer, QueryError>,
    },
}

/// A change of the feed's connection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum FeedNews {
    /// The try with this number has begun; 1 is the first.
    Connecting { attempt: u32 },
    /// The server has accepted the subscription.
    Connected {
        resumed: Option<bool>,
        reason: Option<String>,
    },
    /// The connection is gone or did not come about; the next try is after `delay`.
    Waiting { attempt: u32, why: String, delay: Duration },
    /// Nothing has come for this long, not even a heartbeat.
    Quiet { since: Duration },
    /// Something has come again.
    Heard,
    /// The server skipped this many samples, which will be asked for again.
    Lagged { missed: u64 },
    /// The server refused a command.
    Refused { reason: String },
    /// No server: a recording is shown.
    Replaying { what: String },
}

/// Samples in the order of the feed.
#[derive(Debug, Default)]
pub(crate) struct Batch {
    pub(crate) samples: Vec<Sample>,
    /// Samples that a newer one of the same user replaced before the dashboard could take them.
    pub(crate) coalesced: u64,
}

/// A question to the server over HTTP.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Query {
    /// Everyone's latest sample.
    Users,
    /// What users sent up to their newest sample, as much as a sparkline shows.
    Past { users: Vec<(i64, DateTime<Utc>)> },
    /// One user's readings over a window: buckets, or without a width the samples themselves.
    Window {
        user: i64,
        start: DateTime<Utc>,
        end: DateTime<Utc>,
        bucket: Option<BucketWidth>,
        /// The part that is seen, which the statistics are of.
        seen: (DateTime<Utc>, DateTime<Utc>),
    },
    /// The range-stats form.
    Range {
        users: Vec<i64>,
        start: DateTime<Utc>,
        end: DateTime<Utc>,
        bucket: BucketWidth,
        tz: Tz,
    },
}

/// The widths `GET /metrics/series` knows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum BucketWidth {
    Minute,
    FiveMinutes,
    Quarter,
    Hour,
    Day,
    Week,
}

impl BucketWidth {
    pub(crate) const ALL: [Self; 6] = [
        Self::Minute,
        Self::FiveMinutes,
        Self::Quarter,
        Self::Hour,
        Self::Day,
        Self::Week,
    ];

    /// As the query parameter has it.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Minute => "1m",
            Self::FiveMinutes => "5m",
            Self::Quarter => "15m",
            Self::Hour => "1h",
            Self::Day => "1d",
            Self::Week => "1w",
        }
    }

    pub(crate) fn length(self) -> TimeDelta {
        match self {
            Self::Minute => TimeDelta::minutes(1),
            Self::FiveMinutes => TimeDelta::minutes(5),
            Self::Quarter => TimeDelta::minutes(15),
            Self::Hour => TimeDelta::hours(1),
            Self::Day => TimeDelta::days(1),
            Self::Week => TimeDelta::weeks(1),
        }
    }

    /// The narrowest that cuts `span` into at most `most` buckets.
    pub(crate) fn for_span(span: TimeDelta, most: i32) -> Self {
        Self::ALL
            .into_iter()
            .find(|b| b.length() * most >= span)
            .unwrap_or(Self::Week)
    }
}

/// What the server said.
#[derive(Debug)]
pub(crate) enum Answer {
    /// Samples the server had already, of everyone or of the past; more follow unless `last`.
    Known {
        samples: Vec<Sample>,
        last: bool,
    },
    Window {
        points: Vec<Point>,
        stats: Option<Box<StatsResponse>>,
    },
    Range(Vec<UserRange>),
}

/// One user's part of the form's answer.
#[derive(Clone, Debug)]
pub(crate) struct UserRange {
    pub(crate) stats: StatsResponse,
    pub(crate) buckets: Vec<SeriesBucket>,
    pub(crate) percentiles: PercentilesResponse,
}

/// One place on a chart: a sample, or a bucket of them.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Point {
    /// Where the heart rate stands: the sample's time, the bucket's middle.
    pub(crate) at: DateTime<Utc>,
    /// The time that steps and calories were gathered in, half-open.
    pub(crate) from: DateTime<Utc>,
    pub(crate) to: DateTime<Utc>,
    /// Lowest, mean and highest, in beats per minute.
    pub(crate) heart_rate: Option<(f64, f64, f64)>,
    pub(crate) steps: Option<f64>,
    pub(crate) calories: Option<f64>,
}

impl Point {
    /// `previous` is the same source's sample before this one: what was counted, was counted since then.
    pub(crate) fn of_sample(sample: &Sample, previous: Option<DateTime<Utc>>) -> Self {
        let at = sample.timestamp();
        let since = previous.filter(|p| *p < at && at - *p <= TimeDelta::seconds(READING_WEIGHT_SECONDS_MAX));
        Self {
            at,
            from: since.unwrap_or(at - TimeDelta::seconds(1)),
            to: at,
            heart_rate: sample.heart_rate().map(|v| (v.get(), v.get(), v.get())),
            steps: sample.steps().map(|v| f64::from(v.get())),
            calories: sample.calories().map(Calories::get),
        }
    }

    /// What the table remembers of a sample.
    pub(crate) fn of_entry(entry: Entry, previous: Option<DateTime<Utc>>) -> Self {
        let at = entry.at();
        let since = previous.filter(|p| *p < at && at - *p <= TimeDelta::seconds(READING_WEIGHT_SECONDS_MAX));
        Self {
            at,
            from: since.unwrap_or(at - TimeDelta::seconds(1)),
            to: at,
            heart_rate: entry.heart_rate().map(|v| (v, v, v)),
            steps: entry.steps(),
            calories: entry.calories(),
        }
    }

    pub(crate) fn of_bucket(bucket: &SeriesBucket) -> Self {
        let s = &bucket.stats;
        let some = s.samples > 0;
        Self {
            at: bucket.start + (bucket.end - bucket.start) / 2,
            from: bucket.start,
            to: bucket.end,
            heart_rate: match (s.min_heart_rate, s.average_heart_rate, s.max_heart_rate) {
                (Some(low), Some(mean), Some(high)) => Some((low, mean, high)),
                _ => None,
            },
            steps: some.then(|| approximate(s.total_steps)),
            calories: some.then_some(s.total_calories),
        }
    }
}

/// Why a question has no answer, in a sentence.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum QueryError {
    #[error("cannot reach {server}: {why}; the dashboard goes on trying the feed, ask again when it is back")]
    Unreachable { server: String, why: String },
    #[error("{detail}")]
    Refused { status: u16, detail: String },
    #[error("the answer of {path} cannot be read: {why}")]
    Unreadable { path: String, why: String },
    #[error("a recording has no server that could be asked")]
    NoServer,
    #[error("no answer within {seconds} s; ask for a shorter range, or again")]
    TooSlow { seconds: u64 },
}

/// What the loop must do outside.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Effect {
    Quit {
        keep_frame: bool,
    },
    Suspend,
    ClearScreen,
    RetryNow,
    Ask {
        id: u64,
        query: Query,
    },
    Cancel {
        id: u64,
    },
    /// Text for the terminal's clipboard.
    Copy(String),
    /// A file in the working directory.
    Save {
        name: String,
        content: String,
    },
    Mouse(bool),
}

/// A total as a place on a chart.
#[expect(clippy::cast_precision_loss, reason = "a chart has fewer than 2^53 rows")]
fn approximate(n: i64) -> f64 {
    n as f64
}
