//! What was erased, as the feed reports it.

use chrono::{DateTime, Utc};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error as _};

use crate::{
    range::TimeRange,
    sample::{Sample, Source, UserId},
    time::rfc3339,
};

/// Samples of one user that were erased: all of them, or those of a range.
///
/// ```
/// use health_core::{Erasure, Source, TimeRange, UserId, parse_timestamp};
///
/// let night = TimeRange::new(parse_timestamp("2025-03-02T00:00:00Z")?, parse_timestamp("2025-03-02T06:00:00Z")?)?;
/// let erasure = Erasure::of_range(UserId::new(101)?, night, Some(Source::new("watch")?));
/// assert!(!erasure.is_whole_user());
/// assert_eq!(
///     serde_json::to_string(&erasure)?,
///     r#"{"user_id":101,"start":"2025-03-02T00:00:00Z","end":"2025-03-02T06:00:00Z","source":"watch"}"#
/// );
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Erasure {
    user_id: UserId,
    range: Option<TimeRange>,
    /// Never set without a range.
    source: Option<Source>,
}

impl Erasure {
    /// The erasure of everything that is stored of a user.
    pub fn of_user(user_id: UserId) -> Self {
        Self {
            user_id,
            range: None,
            source: None,
        }
    }

    /// The erasure of a user's samples in a range: those of one source if it is named, otherwise of all sources.
    pub fn of_range(user_id: UserId, range: TimeRange, source: Option<Source>) -> Self {
        Self {
            user_id,
            range: Some(range),
            source,
        }
    }

    /// Returns the user.
    pub fn user_id(&self) -> UserId {
        self.user_id
    }

    /// Returns the range, or `None` if all samples of the user were erased.
    pub fn range(&self) -> Option<TimeRange> {
        self.range
    }

    /// Returns the only source whose samples were erased. `None`: the samples of all sources.
    pub fn source(&self) -> Option<&Source> {
        self.source.as_ref()
    }

    /// Returns whether everything that was stored of the user was erased.
    pub fn is_whole_user(&self) -> bool {
        self.range.is_none()
    }

    /// Returns whether a sample that was stored before the erasure is erased.
    pub fn covers(&self, sample: &Sample) -> bool {
        self.user_id == sample.user_id() && self.covers_reading(sample.timestamp(), sample.source())
    }

    /// Returns whether this erasure covers everything that `other` covers.
    pub fn includes(&self, other: &Self) -> bool {
        let includes_range = match (self.range, other.range) {
            (None, _) => true,
            (Some(_), None) => false,
            (Some(range), Some(other)) => range.start() <= other.start() && other.end() <= range.end(),
        };
        let includes_source = self.source.is_none() || self.source == other.source;
        self.user_id == other.user_id && includes_range && includes_source
    }

    /// Returns whether a sample of the user with this time and source, stored before the erasure, is erased.
    pub fn covers_reading(&self, timestamp: DateTime<Utc>, source: &Source) -> bool {
        self.range.is_none_or(|range| range.contains(timestamp))
            && self.source.as_ref().is_none_or(|erased| erased == source)
    }
}

/// The JSON form. A range has both ends, and a source only stands beside a range.
#[derive(Serialize, Deserialize)]
struct ErasureJson {
    user_id: UserId,
    #[serde(flatten, default, skip_serializing_if = "Option::is_none")]
    range: Option<RangeJson>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    source: Option<Source>,
}

#[derive(Serialize, Deserialize)]
struct RangeJson {
    #[serde(with = "rfc3339")]
    start: DateTime<Utc>,
    #[serde(with = "rfc3339")]
    end: DateTime<Utc>,
}

impl Serialize for Erasure {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        let range = self.range.map(|range| RangeJson {
            start: range.start(),
            end: range.end(),
        });
        ErasureJson {
            user_id: self.user_id,
            range,
            source: self.source.clone(),
        }
        .serialize(to)
    }
}

impl<'de> Deserialize<'de> for Erasure {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        let ErasureJson { user_id, range, source } = ErasureJson::deserialize(from)?;
        let range = range.map(|range| TimeRange::new(range.start, range.end));
        match range.transpose().map_err(D::Error::custom)? {
            Some(range) => Ok(Self::of_range(user_id, range, source)),
            None if source.is_some() => Err(D::Error::custom("an erasure of a source needs a range")),
            None => Ok(Self::of_user(user_id)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        sample::{Readings, Steps},
        time::parse_timestamp,
    };

    fn user(id: i64) -> UserId {
        UserId::new(id).unwrap()
    }

    fn time(text: &str) -> DateTime<Utc> {
        parse_timestamp(text).unwrap()
    }

    fn hour() -> TimeRange {
        TimeRange::new(time("2025-03-02T18:00:00Z"), time("2025-03-02T19:00:00Z")).unwrap()
    }

    #[test]
    fn the_json_has_the_range_and_the_source_only_if_they_were_named() {
        let range = r#""start":"2025-03-02T18:00:00Z","end":"2025-03-02T19:00:00Z""#;
        for (erasure, json) in [
            (Erasure::of_user(user(101)), r#"{"user_id":101}"#.to_owned()),
            (
                Erasure::of_range(user(101), hour(), None),
                format!(r#"{{"user_id":101,{range}}}"#),
            ),
            (
                Erasure::of_range(user(101), hour(), Some(Source::default())),
                format!(r#"{{"user_id":101,{range},"source":""}}"#),
            ),
        ] {
            assert_eq!(serde_json::to_string(&erasure).unwrap(), json);
            assert_eq!(serde_json::from_str::<Erasure>(&json).unwrap(), erasure);
        }
    }

    #[test]
    fn an_erasure_that_is_not_whole_is_not_deserialised() {
        for json in [
            r#"{"user_id":0}"#,
            r#"{"user_id":1,"source":"watch"}"#,
            r#"{"user_id":1,"start":"2025-03-02T19:00:00Z","end":"2025-03-02T18:00:00Z"}"#,
        ] {
            assert!(serde_json::from_str::<Erasure>(json).is_err(), "{json}");
        }
    }

    #[test]
    fn a_range_covers_its_start_and_not_its_end_and_an_empty_source_is_the_unnamed_one() {
        let sample = |id, at, source: &str| {
            let readings = Readings {
                steps: Steps::new(1).ok(),
                ..Readings::default()
            };
            Sample::new(user(id), time(at), Source::new(source).unwrap(), readings).unwrap()
        };
        let (first, end) = ("2025-03-02T18:00:00Z", "2025-03-02T19:00:00Z");
        let all = Erasure::of_range(user(1), hour(), None);
        assert!(all.covers(&sample(1, first, "")) && all.covers(&sample(1, first, "watch")));
        assert!(!all.covers(&sample(1, end, "")) && !all.covers(&sample(2, first, "")));
        let unnamed = Erasure::of_range(user(1), hour(), Some(Source::default()));
        assert!(unnamed.covers(&sample(1, first, "")) && !unnamed.covers(&sample(1, first, "watch")));
        let whole = Erasure::of_user(user(1));
        assert!(whole.covers(&sample(1, end, "watch")) && !whole.covers(&sample(2, end, "watch")));
    }
}
