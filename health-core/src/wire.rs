//! The JSON of the HTTP interface and the feed, shared by server, dashboard, examples and tests.

use std::{borrow::Cow, collections::BTreeMap, fmt};

use chrono::{DateTime, Utc};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error as _};
use smol_str::SmolStr;

use crate::{
    erasure::Erasure,
    record::RecordFault,
    sample::{Calories, HeartRate, Readings, Sample, Source, Steps, UserId},
    stats::{SourceTotals, Stats},
    time::rfc3339,
};

/// The name and version of the feed protocol, sent in the `hello` event.
pub const FEED_PROTOCOL: &str = "health-feed/1";

/// The numbers of samples of a request by outcome.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct IngestCounts {
    /// Stored samples: the sum of the other three.
    pub accepted: u64,
    /// Samples with a new identity.
    pub inserted: u64,
    /// Samples that changed a stored sample of the same identity.
    pub updated: u64,
    /// Samples that were stored already with the same readings.
    pub unchanged: u64,
}

/// A refused record of a request.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rejection {
    /// Index of the record in the request, from 0.
    pub index: u64,
    /// Name of the faulty field; `None` if the record as a whole cannot be read.
    pub field: Option<String>,
    /// The reason: the rest of a sentence that begins with the name of the field.
    pub reason: String,
}

/// The body of an error response, of media type `application/problem+json` (RFC 9457).
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Problem {
    /// A URI that identifies the kind of problem; `about:blank` if the HTTP status says everything.
    #[serde(rename = "type")]
    pub kind: String,
    /// The kind of problem in words.
    pub title: String,
    /// The HTTP status code.
    pub status: u16,
    /// What happened in this case and what to do about it.
    pub detail: String,
    /// The counts of stored samples, if the request was an ingest.
    #[serde(flatten, skip_serializing_if = "Option::is_none")]
    pub counts: Option<IngestCounts>,
    /// The number of refused records.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rejected: Option<u64>,
    /// The first refused records.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub errors: Vec<Rejection>,
}

/// The response to `GET /metrics`: the statistics of a range.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct StatsResponse {
    /// The user.
    pub user_id: UserId,
    /// Start of the range.
    #[serde(with = "rfc3339")]
    pub start: DateTime<Utc>,
    /// End of the range, exclusive.
    #[serde(with = "rfc3339")]
    pub end: DateTime<Utc>,
    /// The statistics of all sources together.
    #[serde(flatten)]
    pub stats: Stats,
    /// The totals of each source, by name.
    pub sources: Vec<SourceTotals>,
    /// `No data found`, if the range has no samples.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub message: Option<Cow<'static, str>>,
}

/// The response to `GET /metrics/series`: the statistics of each bucket of a range.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct SeriesResponse {
    /// The user.
    pub user_id: UserId,
    /// The width of the buckets as requested, such as `1h`. See [`Bucket`](crate::Bucket).
    pub bucket: String,
    /// Name of the IANA time zone whose clock determines when buckets begin.
    pub tz: String,
    /// All buckets that overlap the range, including empty ones.
    pub buckets: Vec<SeriesBucket>,
}

/// One bucket of a [`SeriesResponse`].
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct SeriesBucket {
    /// Start of the bucket.
    #[serde(with = "rfc3339")]
    pub start: DateTime<Utc>,
    /// End of the bucket, exclusive.
    #[serde(with = "rfc3339")]
    pub end: DateTime<Utc>,
    /// The statistics of the bucket.
    #[serde(flatten)]
    pub stats: Stats,
}

/// The response to `GET /metrics/percentiles`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct PercentilesResponse {
    /// Heart rate in beats per minute by percentile. The keys are as requested; in JSON they have the order of their
    /// numbers.
    ///
    /// Values are `None` if there are no readings.
    #[serde(serialize_with = "by_number")]
    pub percentiles: BTreeMap<String, Option<f64>>,
    /// Number of heart-rate readings in the range.
    pub samples: i64,
}

/// Writes a map in the order of the numbers that its keys are. As texts, `100` would come before `5`.
fn by_number<S: Serializer>(percentiles: &BTreeMap<String, Option<f64>>, serializer: S) -> Result<S::Ok, S::Error> {
    let number = |key: &String| key.parse().unwrap_or(f64::INFINITY);
    let mut entries: Vec<_> = percentiles
        .iter()
        .map(|(key, value)| (number(key), key, value))
        .collect();
    // Keys with the same number, such as `5` and `5.0`, keep the order of their texts.
    entries.sort_by(|(one, ..), (other, ..)| one.total_cmp(other));
    serializer.collect_map(entries.into_iter().map(|(_, key, value)| (key, value)))
}

/// The response to `GET /users`: one page of users.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct UsersResponse {
    /// The users of the page, by id.
    pub users: Vec<UserEntry>,
    /// The value of `after` that requests the next page; `None` on the last page.
    pub next: Option<UserId>,
}

/// One user of a [`UsersResponse`].
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct UserEntry {
    /// The user.
    pub user_id: UserId,
    /// Number of stored samples.
    pub samples: i64,
    /// Time of the earliest sample.
    #[serde(with = "rfc3339")]
    pub first: DateTime<Utc>,
    /// The sample with the latest timestamp.
    pub last: Sample,
}

/// The response to `DELETE /samples`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct ErasedResponse {
    /// How many samples were erased.
    pub erased: u64,
}

/// A resume point in the feed. Opaque to clients; contains no spaces.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Cursor(SmolStr);

/// An event of the feed: one line of JSON.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "event", rename_all = "lowercase")]
#[non_exhaustive]
pub enum FeedEvent {
    /// The first event of every connection.
    Hello {
        /// [`FEED_PROTOCOL`].
        protocol: Cow<'static, str>,
        /// Whether the client must send `AUTH TOKEN` first.
        auth: bool,
        /// The current end of the feed.
        cursor: Cursor,
    },
    /// The response to `SUBSCRIBE`.
    Subscribed {
        /// Whether the stream continues without a gap.
        resumed: bool,
        /// Why samples may be missing, if `resumed` is false after a cursor was given.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        reason: Option<String>,
    },
    /// A new or changed sample.
    Sample {
        /// The cursor that resumes after this sample.
        cursor: Cursor,
        /// The whole sample as stored, after a merge.
        #[serde(flatten)]
        sample: Sample,
    },
    /// Samples were erased: drop what you hold of them. The event stands among the samples of its user in the order of
    /// the commits, so a client that applies events in their order ends with what is stored.
    Erased {
        /// The cursor that resumes after this event.
        cursor: Cursor,
        /// Whose samples, and which.
        #[serde(flatten)]
        erasure: Erasure,
    },
    /// The subscriber was too slow and missed events.
    Lagged {
        /// Number of missed samples. A missed [`FeedEvent::Erased`] counts as one.
        missed: u64,
        /// The cursor that replays them.
        cursor: Cursor,
    },
    /// Sent every few seconds after `SUBSCRIBE`.
    Heartbeat {
        /// The current end of the feed.
        cursor: Cursor,
        /// The server's time.
        #[serde(with = "rfc3339")]
        time: DateTime<Utc>,
    },
    /// The response to `PING`.
    Pong,
    /// The response to a command that failed.
    Error {
        /// Why it failed and what to send instead.
        reason: String,
    },
    /// The last event of a connection.
    Bye {
        /// Why the server closes the connection.
        reason: String,
    },
}

/// A line of a recording that is no sample: an event of the feed without its cursor.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "event", rename_all = "lowercase")]
#[non_exhaustive]
pub enum RecordedEvent {
    /// Samples were erased: those of earlier lines as well.
    Erased(Erasure),
}

impl IngestCounts {
    /// Adds the counts of another part of the same request.
    pub fn add(&mut self, other: Self) {
        self.accepted += other.accepted;
        self.inserted += other.inserted;
        self.updated += other.updated;
        self.unchanged += other.unchanged;
    }
}

impl FeedEvent {
    /// Returns the name of the event: the field `event` of its JSON.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Hello { .. } => "hello",
            Self::Subscribed { .. } => "subscribed",
            Self::Sample { .. } => "sample",
            Self::Erased { .. } => "erased",
            Self::Lagged { .. } => "lagged",
            Self::Heartbeat { .. } => "heartbeat",
            Self::Pong => "pong",
            Self::Error { .. } => "error",
            Self::Bye { .. } => "bye",
        }
    }

    /// Returns the cursor that the event carries, if it has one.
    pub fn cursor(&self) -> Option<&Cursor> {
        match self {
            Self::Hello { cursor, .. }
            | Self::Sample { cursor, .. }
            | Self::Erased { cursor, .. }
            | Self::Lagged { cursor, .. }
            | Self::Heartbeat { cursor, .. } => Some(cursor),
            Self::Subscribed { .. } | Self::Pong | Self::Error { .. } | Self::Bye { .. } => None,
        }
    }
}

impl Rejection {
    /// Returns the rejection of the record at `index` for this fault.
    pub fn new(index: u64, fault: RecordFault) -> Self {
        Self {
            index,
            field: fault.field,
            reason: fault.reason,
        }
    }
}

impl Cursor {
    /// Returns the cursor with this text. The server checks it when a client resumes.
    pub fn new(text: impl Into<SmolStr>) -> Self {
        Self(text.into())
    }

    /// Returns the text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Cursor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// The JSON form of a stored sample. Absent readings are left out; the source is always present.
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
    use crate::{range::TimeRange, time::parse_timestamp};

    #[test]
    fn percentiles_are_in_the_order_of_their_numbers() {
        let keys = ["100", "50", "5.0", "5", "9.5", "0", "99", "095"];
        let response = PercentilesResponse {
            percentiles: keys.map(|key| (key.to_owned(), None)).into(),
            samples: 0,
        };
        let expected = r#"{"percentiles":{"0":null,"5":null,"5.0":null,"9.5":null,"50":null,"095":null,"99":null,"100":null},"samples":0}"#;
        let json = serde_json::to_string(&response).unwrap();
        assert_eq!(json, expected);
        assert_eq!(serde_json::from_str::<PercentilesResponse>(&json).unwrap(), response);
    }

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
    fn a_feed_sample_omits_absent_readings_and_survives_a_round_trip() {
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
    fn an_erasure_on_the_feed_has_its_fields_beside_the_cursor() {
        let (start, end) = ("2025-03-02T18:00:00Z", "2025-03-02T19:00:00Z");
        let range = TimeRange::new(parse_timestamp(start).unwrap(), parse_timestamp(end).unwrap()).unwrap();
        let user = UserId::new(101).unwrap();
        for (erasure, fields) in [
            (Erasure::of_user(user), String::new()),
            (
                Erasure::of_range(user, range, None),
                format!(r#","start":"{start}","end":"{end}""#),
            ),
            (
                Erasure::of_range(user, range, Some(Source::default())),
                format!(r#","start":"{start}","end":"{end}","source":"""#),
            ),
        ] {
            let cursor = Cursor::new("c1");
            let event = FeedEvent::Erased { cursor, erasure };
            let line = serde_json::to_string(&event).unwrap();
            assert_eq!(
                line,
                format!(r#"{{"event":"erased","cursor":"c1","user_id":101{fields}}}"#)
            );
            assert_eq!(serde_json::from_str::<FeedEvent>(&line).unwrap(), event);
            let FeedEvent::Erased { erasure, .. } = event else {
                unreachable!()
            };
            let recorded = RecordedEvent::Erased(erasure);
            let line = serde_json::to_string(&recorded).unwrap();
            assert_eq!(line, format!(r#"{{"event":"erased","user_id":101{fields}}}"#));
            assert_eq!(serde_json::from_str::<RecordedEvent>(&line).unwrap(), recorded);
        }
    }

    #[test]
    fn the_name_and_the_cursor_of_an_event_are_those_of_its_json() {
        let (cursor, reason) = (Cursor::new("c1"), "why".to_owned());
        for event in [
            FeedEvent::Hello {
                protocol: FEED_PROTOCOL.into(),
                auth: false,
                cursor: cursor.clone(),
            },
            FeedEvent::Subscribed {
                resumed: true,
                reason: None,
            },
            FeedEvent::Sample {
                cursor: cursor.clone(),
                sample: sample(),
            },
            FeedEvent::Erased {
                cursor: cursor.clone(),
                erasure: Erasure::of_user(UserId::new(101).unwrap()),
            },
            FeedEvent::Lagged {
                missed: 1,
                cursor: cursor.clone(),
            },
            FeedEvent::Heartbeat {
                cursor: cursor.clone(),
                time: Utc::now(),
            },
            FeedEvent::Pong,
            FeedEvent::Error { reason: reason.clone() },
            FeedEvent::Bye { reason },
        ] {
            let json = serde_json::to_value(&event).unwrap();
            assert_eq!(json["event"], event.name());
            assert_eq!(json["cursor"].as_str(), event.cursor().map(Cursor::as_str));
        }
    }

    #[test]
    fn statistics_have_their_fields_in_the_documented_order() {
        let (start, end) = (
            parse_timestamp("2025-03-02T18:00:00Z").unwrap(),
            parse_timestamp("2025-03-02T19:00:00Z").unwrap(),
        );
        let response = StatsResponse {
            user_id: UserId::new(101).unwrap(),
            start,
            end,
            stats: Stats::default(),
            sources: vec![SourceTotals::default()],
            message: Some("No data found".into()),
        };
        let fields = concat!(
            r#""start":"2025-03-02T18:00:00Z","end":"2025-03-02T19:00:00Z","samples":0,"#,
            r#""average_heart_rate":null,"min_heart_rate":null,"max_heart_rate":null,"#,
            r#""time_weighted_heart_rate":null,"heart_rate_coverage":0.0,"total_steps":0,"total_calories":0.0"#,
        );
        let sources = r#""sources":[{"source":"","samples":0,"steps":0,"calories":0.0}]"#;
        let json = serde_json::to_string(&response).unwrap();
        assert_eq!(
            json,
            format!(r#"{{"user_id":101,{fields},{sources},"message":"No data found"}}"#)
        );
        assert_eq!(serde_json::from_str::<StatsResponse>(&json).unwrap(), response);

        let stats = Stats::default();
        let bucket = SeriesBucket { start, end, stats };
        let json = serde_json::to_string(&bucket).unwrap();
        assert_eq!(json, format!("{{{fields}}}"));
        assert_eq!(serde_json::from_str::<SeriesBucket>(&json).unwrap(), bucket);
    }

    #[test]
    fn a_stored_sample_can_be_posted_again() {
        let json = serde_json::to_vec(&sample()).unwrap();
        let clock = crate::record::ReceiveClock {
            received_at: Utc::now(),
            max_future: chrono::TimeDelta::minutes(5),
        };
        let record = crate::record::read_record(&json, &clock).unwrap();
        assert_eq!(record.into_samples(), [sample()]);
    }

    #[test]
    fn an_invalid_sample_is_not_deserialised() {
        for json in [
            r#"{"user_id":0,"timestamp":"2025-03-02T18:00:00Z","steps":1}"#,
            r#"{"user_id":1,"timestamp":"2025-03-02T18:00:00Z"}"#,
            r#"{"user_id":1,"timestamp":"2025-03-02T18:00:00Z","heart_rate":255}"#,
        ] {
            assert!(serde_json::from_str::<Sample>(json).is_err(), "{json}");
        }
    }
}
