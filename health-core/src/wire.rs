//! The JSON that server, dashboard, examples and tests share: one type a form of `contract` HTTP and feed speak.

use std::{borrow::Cow, collections::BTreeMap, fmt};

use chrono::{DateTime, Utc};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error as _};
use smol_str::SmolStr;

use crate::{
    record::RecordFault,
    sample::{Calories, HeartRate, Readings, Sample, Source, Steps, UserId},
    stats::{SourceTotals, Stats},
    time::rfc3339,
};

/// The name and version of the line protocol, as `hello` carries it.
pub const FEED_PROTOCOL: &str = "health-feed/1";

/// What became of the samples of a request.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct IngestCounts {
    /// Stored: the sum of the other three.
    pub accepted: u64,
    /// New.
    pub inserted: u64,
    /// Known, and changed by this write.
    pub updated: u64,
    /// Known, and the same already.
    pub unchanged: u64,
}

/// One refused record of a request.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rejection {
    /// The record's place in the request, from 0.
    pub index: u64,
    /// The field at fault; none where the record is no object that can be read.
    pub field: Option<String>,
    /// Why.
    pub reason: String,
}

/// RFC 9457 `application/problem+json`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Problem {
    /// A URI that names the kind of problem; `about:blank` where the status says it all.
    #[serde(rename = "type")]
    pub kind: String,
    /// The kind in words.
    pub title: String,
    /// The HTTP status.
    pub status: u16,
    /// This occurrence in words.
    pub detail: String,
    /// What was stored all the same, where the request was an ingest.
    #[serde(flatten, skip_serializing_if = "Option::is_none")]
    pub counts: Option<IngestCounts>,
    /// How many records were refused.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rejected: Option<u64>,
    /// The first refusals, one by one.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub errors: Vec<Rejection>,
}

/// The answer of `GET /metrics`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct StatsResponse {
    /// Whose.
    pub user_id: UserId,
    /// The first instant of the range.
    #[serde(with = "rfc3339")]
    pub start: DateTime<Utc>,
    /// The first instant behind it.
    #[serde(with = "rfc3339")]
    pub end: DateTime<Utc>,
    /// The statistics.
    #[serde(flatten)]
    pub stats: Stats,
    /// The totals of each source, by name.
    pub sources: Vec<SourceTotals>,
    /// Says so where there is nothing in the range.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub message: Option<Cow<'static, str>>,
}

/// The answer of `GET /metrics/series`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct SeriesResponse {
    /// Whose.
    pub user_id: UserId,
    /// The width as asked, such as `1h`.
    pub bucket: String,
    /// The IANA zone whose clock cuts the buckets.
    pub tz: String,
    /// Every bucket that touches the range, empty ones included.
    pub buckets: Vec<SeriesBucket>,
}

/// One bucket of a [`SeriesResponse`].
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct SeriesBucket {
    /// The first instant.
    #[serde(with = "rfc3339")]
    pub start: DateTime<Utc>,
    /// The first instant behind it.
    #[serde(with = "rfc3339")]
    pub end: DateTime<Utc>,
    /// The statistics of the bucket.
    #[serde(flatten)]
    pub stats: Stats,
}

/// The answer of `GET /metrics/percentiles`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct PercentilesResponse {
    /// Heart rate in beats per minute by percentile, keyed as asked; none where there is no reading.
    pub percentiles: BTreeMap<String, Option<f64>>,
    /// Heart-rate readings in the range.
    pub samples: i64,
}

/// The answer of `GET /users`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct UsersResponse {
    /// A page of users, by id.
    pub users: Vec<UserEntry>,
    /// What to ask `after` for the next page; none on the last.
    pub next: Option<UserId>,
}

/// One user of a [`UsersResponse`].
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct UserEntry {
    /// Who.
    pub user_id: UserId,
    /// Stored samples.
    pub samples: i64,
    /// The time of the earliest.
    #[serde(with = "rfc3339")]
    pub first: DateTime<Utc>,
    /// The latest by its own time.
    pub last: Sample,
}

/// A place in the stream of changes, opaque to clients and without spaces.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Cursor(SmolStr);

/// One line of the feed.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "event", rename_all = "lowercase")]
#[non_exhaustive]
pub enum FeedEvent {
    /// The first line of every connection.
    Hello {
        /// [`FEED_PROTOCOL`].
        protocol: Cow<'static, str>,
        /// Whether `AUTH TOKEN` has to come first.
        auth: bool,
        /// Where the stream stands.
        cursor: Cursor,
    },
    /// The answer to `SUBSCRIBE`.
    Subscribed {
        /// True where nothing was missed.
        resumed: bool,
        /// Why something may have been.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        reason: Option<String>,
    },
    /// A sample as stored.
    Sample {
        /// Where to resume behind it.
        cursor: Cursor,
        /// The whole sample, after a merge.
        #[serde(flatten)]
        sample: Sample,
    },
    /// This reader was too slow.
    Lagged {
        /// How many samples were skipped.
        missed: u64,
        /// Where to resume to get them.
        cursor: Cursor,
    },
    /// Every few seconds once subscribed.
    Heartbeat {
        /// Where the stream stands.
        cursor: Cursor,
        /// The server's clock.
        #[serde(with = "rfc3339")]
        time: DateTime<Utc>,
    },
    /// The answer to `PING`.
    Pong,
    /// A command that could not be carried out.
    Error {
        /// Why, and what to send.
        reason: String,
    },
    /// The last line.
    Bye {
        /// Why the server closes.
        reason: String,
    },
}

impl IngestCounts {
    /// Adds another part of the same request.
    pub fn add(&mut self, other: Self) {
        self.accepted += other.accepted;
        self.inserted += other.inserted;
        self.updated += other.updated;
        self.unchanged += other.unchanged;
    }
}

impl Rejection {
    /// A fault of the record at `index`.
    pub fn new(index: u64, fault: RecordFault) -> Self {
        Self {
            index,
            field: fault.field,
            reason: fault.reason,
        }
    }
}

impl Cursor {
    /// A cursor as a client sent it; whether it is any good is the server's to say.
    pub fn new(text: impl Into<SmolStr>) -> Self {
        Self(text.into())
    }

    /// The text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Cursor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A stored sample on the wire. Absent readings are left out, the source is always there.
#[derive(Serialize, Deserialize)]
struct SampleJson<'a> {
    user_id: UserId,
    #[serde(with = "rfc3339")]
    timestamp: DateTime<Utc>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    heart_rate: Option<HeartRate>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    steps: Option<Steps>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    calories: Option<Calories>,
    #[serde(default)]
    source: Cow<'a, Source>,
}

impl Serialize for Sample {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        let Readings {
            heart_rate,
            steps,
            calories,
        } = self.readings();
        let (user_id, timestamp, source) = (self.user_id(), self.timestamp(), Cow::Borrowed(self.source()));
        SampleJson {
            user_id,
            timestamp,
            heart_rate,
            steps,
            calories,
            source,
        }
        .serialize(to)
    }
}

impl<'de> Deserialize<'de> for Sample {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        let SampleJson {
            user_id,
            timestamp,
            heart_rate,
            steps,
            calories,
            source,
        } = SampleJson::deserialize(from)?;
        let readings = Readings {
            heart_rate,
            steps,
            calories,
        };
        Self::new(user_id, timestamp, source.into_owned(), readings).map_err(D::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::time::parse_timestamp;

    fn sample() -> Sample {
        let readings = Readings {
            heart_rate: HeartRate::new(72.5).ok(),
            ..Readings::default()
        };
        let timestamp = parse_timestamp("2025-03-02T18:00:00.5Z").unwrap();
        Sample::new(
            UserId::new(101).unwrap(),
            timestamp,
            Source::new("watch").unwrap(),
            readings,
        )
        .unwrap()
    }

    #[test]
    fn a_feed_sample_leaves_out_what_was_not_measured_and_comes_back() {
        let event = FeedEvent::Sample {
            cursor: Cursor::new("c1"),
            sample: sample(),
        };
        let line = serde_json::to_string(&event).unwrap();
        assert_eq!(
            line,
            r#"{"event":"sample","cursor":"c1","user_id":101,"timestamp":"2025-03-02T18:00:00.500Z","heart_rate":72.5,"source":"watch"}"#
        );
        assert_eq!(serde_json::from_str::<FeedEvent>(&line).unwrap(), event);
    }

    #[test]
    fn a_stored_sample_can_be_posted_again() {
        let json = serde_json::to_vec(&sample()).unwrap();
        let clock = crate::record::ReceiveClock {
            received_at: Utc::now(),
            max_future: chrono::TimeDelta::minutes(5),
        };
        assert_eq!(crate::record::read_record(&json, &clock).unwrap(), sample());
    }

    #[test]
    fn samples_off_the_wire_are_legal_too() {
        for json in [
            r#"{"user_id":0,"timestamp":"2025-03-02T18:00:00Z","steps":1}"#,
            r#"{"user_id":1,"timestamp":"2025-03-02T18:00:00Z"}"#,
            r#"{"user_id":1,"timestamp":"2025-03-02T18:00:00Z","heart_rate":255}"#,
        ] {
            assert!(serde_json::from_str::<Sample>(json).is_err(), "{json}");
        }
    }
}
