//! The takeout of Fitbit: `heart_rate-DATE.json`, `steps-DATE.json` and others.

use std::io::Read;

use chrono::{DateTime, NaiveDateTime, TimeDelta, Utc};
use serde::Deserialize;
use serde_json::Value;

use super::{
    Damage, Entry, EntryRecord, Fault, FileOptions, Place,
    json_list::JsonList,
    no_record::{NoRecord, worn_heart_rate},
    numbers::{number, steps},
    options::{to_utc, unreadable_time},
    rules::NOT_WORN,
    source_name,
};
use crate::sample::{Readings, Source};

/// The kind whose entries are steps of one minute. Only the name of the file tells it from calories and distances.
const STEPS: &str = "steps";

/// The kind whose entries are heart rates. Its entries also have a form of their own.
const HEART_RATE: &str = "heart_rate";

/// The name of the source.
const SOURCE: &str = "fitbit";

/// How the takeout writes times: month, day, year.
const TIME_FORMAT: &str = "%m/%d/%y %H:%M:%S";

/// An entry of any of these files.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Row {
    date_time: Option<String>,
    value: Option<Value>,
}

/// Returns the kind that the name of a Fitbit file tells: `steps` of `steps-2024-01-01.json`.
///
/// ```
/// use health_core::formats::fitbit_kind;
///
/// assert_eq!(fitbit_kind("resting_heart_rate-2024-01-01.json"), "resting_heart_rate");
/// assert_eq!(fitbit_kind("steps.json"), "steps");
/// ```
pub fn fitbit_kind(file_name: &str) -> &str {
    let stem = file_name.split('.').next().unwrap_or(file_name);
    let is_date = |text: &str| {
        let form = text.bytes().map(|byte| if byte.is_ascii_digit() { b'0' } else { byte });
        form.eq(*b"-0000-00-00")
    };
    let before = stem.len().saturating_sub("-2024-01-01".len());
    match stem.split_at_checked(before) {
        Some((kind, date)) if is_date(date) => kind,
        _ => stem,
    }
}

/// Reads a file of a Fitbit takeout in constant memory. `kind` is [`fitbit_kind`] of its name.
///
/// A public test on a real file shows that times are UTC, although files begin at local midnight. Other programs take
/// them for local times. [`FileOptions::zone`] reads them so.
///
/// # Errors
/// [`Damage`]
pub fn read_fitbit(
    input: impl Read,
    kind: &str,
    options: &FileOptions,
    found: &mut dyn FnMut(Entry),
) -> Result<(), Damage> {
    let source = options.source.clone().unwrap_or_else(|| source_name(SOURCE));
    let mut list = JsonList::new(input);
    let mut index = 0;
    while let Some(element) = list.next()? {
        let place = Place::new(kind.to_owned(), index);
        index += 1;
        found(Entry::of(place, read_row(element, kind, options, &source)));
    }
    Ok(())
}

fn read_row(element: &[u8], kind: &str, options: &FileOptions, source: &Source) -> Result<EntryRecord, NoRecord> {
    let row = serde_json::from_slice::<Row>(element);
    let bpm = row.as_ref().ok().and_then(|row| row.value.as_ref()?.get("bpm"));
    let is_heart_rate = kind == HEART_RATE || bpm.is_some();
    if kind != STEPS && !is_heart_rate {
        return Err(NoRecord::ignored(kind.to_owned()));
    }
    let row = row
        .map_err(|error| Fault::with_kind(format!("the entry cannot be read: {error}"), "the entry cannot be read"))?;
    let start = row.date_time.as_deref().unwrap_or_default();
    let start = time(start, options)?;
    let value = row.value.unwrap_or_default();
    let (end, readings) = if is_heart_rate {
        if value.get("confidence").and_then(Value::as_f64) == Some(0.0) {
            return Err(NoRecord::ignored(NOT_WORN));
        }
        let bpm = number("bpm", &text(value.get("bpm")))?;
        let heart_rate = Some(worn_heart_rate("bpm", bpm)?);
        (
            None,
            Readings {
                heart_rate,
                ..Readings::default()
            },
        )
    } else {
        let steps = Some(steps("value", &text(Some(&value)))?);
        (
            Some(start + TimeDelta::minutes(1)),
            Readings {
                steps,
                ..Readings::default()
            },
        )
    };
    Ok(EntryRecord {
        place: Place::default(),
        user: None,
        timestamp: start,
        end,
        source: source.clone(),
        readings,
    })
}

fn time(text: &str, options: &FileOptions) -> Result<DateTime<Utc>, Fault> {
    const NAME: &str = "dateTime";
    if text.is_empty() {
        return Err(Fault::new("dateTime is missing"));
    }
    let local = NaiveDateTime::parse_from_str(text, TIME_FORMAT).map_err(|_| unreadable_time(NAME, text))?;
    let time = match options.zone {
        Some(zone) => to_utc(NAME, local, zone)?,
        None => local.and_utc(),
    };
    options.check_time(NAME, time)
}

/// Returns a number as text. The takeout writes some in quotes.
fn text(value: Option<&Value>) -> String {
    match value {
        Some(Value::String(text)) => text.clone(),
        Some(Value::Null) | None => String::new(),
        Some(other) => other.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use chrono_tz::Tz;
    use proptest::prelude::*;

    use super::*;
    use crate::formats::test_lines;

    fn read(json: &str, kind: &str, options: &FileOptions) -> (Vec<String>, Result<(), Damage>) {
        test_lines::lines(|found| read_fitbit(json.as_bytes(), kind, options, found))
    }

    #[test]
    fn heart_rates_are_recognised_by_their_form_and_confidence_0_means_not_worn() {
        let row = |value: &str| format!("{{\"dateTime\":\"01/02/24 05:00:10\",\"value\":{value}}}");
        for (value, expected) in [
            ("{\"bpm\":60,\"confidence\":2}", "0 2024-01-02T05:00:10Z hr=60 fitbit"),
            ("{\"bpm\":60}", "0 2024-01-02T05:00:10Z hr=60 fitbit"),
            ("{\"bpm\":70,\"confidence\":0}", "ignored not_worn"),
            ("{\"bpm\":0,\"confidence\":1}", "ignored not_worn"),
            ("{\"bpm\":300,\"confidence\":1}", "refused bpm is outside 20 to 250"),
            ("{\"bpm\":\"x\"}", "refused bpm is not a number"),
        ] {
            let json = format!("[{}]", row(value));
            let (lines, end) = read(&json, "any", &test_lines::options());
            end.unwrap();
            assert_eq!(lines, [expected], "{value}");
        }
        let (lines, _) = read(&format!("[{},1]", row("{}")), "heart_rate", &test_lines::options());
        assert_eq!(lines, ["refused bpm is missing", "refused the entry cannot be read"]);
    }

    #[test]
    fn steps_are_minutes_and_only_the_name_tells_them_from_other_kinds() {
        let json = "\u{feff}[{\n\"dateTime\" : \"01/02/24 05:00:00\", \"value\" : \"12\" },\
            {\"dateTime\":\"01/02/24 05:01:00\",\"value\":7},{\"dateTime\":\"13/02/24 05:01:00\",\"value\":\"7\"},\
            {\"value\":\"7\"},{\"dateTime\":\"01/02/24 05:02:00\",\"value\":\"1.5\"}]";
        let (lines, end) = read(json, fitbit_kind("steps-2024-01-01.json"), &test_lines::options());
        end.unwrap();
        assert_eq!(
            lines,
            [
                "0 2024-01-02T05:00:00Z..2024-01-02T05:01:00Z steps=12 fitbit",
                "1 2024-01-02T05:01:00Z..2024-01-02T05:02:00Z steps=7 fitbit",
                "refused dateTime is not a time",
                "refused dateTime is missing",
                "refused value is not an integer",
            ]
        );
        let (lines, _) = read(json, fitbit_kind("calories-2024-01-01.json"), &test_lines::options());
        assert_eq!(lines, ["ignored calories"; 5]);
    }

    #[test]
    fn times_are_utc_unless_a_zone_is_given() {
        let options = FileOptions {
            zone: Some(Tz::America__New_York),
            source: Some(Source::new("charge").unwrap()),
            ..test_lines::options()
        };
        let at = |time: &str| format!("{{\"dateTime\":\"{time}\",\"value\":1}}");
        let json = format!(
            "[{},{},{}]",
            at("01/02/24 05:00:00"),
            at("11/03/24 01:30:00"),
            at("03/10/24 02:30:00")
        );
        let (lines, _) = read(&json, "steps", &options);
        assert_eq!(
            lines,
            [
                "0 2024-01-02T10:00:00Z..2024-01-02T10:01:00Z steps=1 charge",
                "1 2024-11-03T05:30:00Z..2024-11-03T05:31:00Z steps=1 charge",
                "refused dateTime does not exist in the zone",
            ]
        );
    }

    #[test]
    fn the_kind_is_the_name_before_the_date() {
        for (name, kind) in [
            ("steps-2024-01-01.json", "steps"),
            ("heart_rate-2024-01-01.json.gz", "heart_rate"),
            ("time-in-zone-2024-01-01.json", "time-in-zone"),
            ("steps.json", "steps"),
            ("-2024-01-01", ""),
            ("é2024-01-01", "é2024-01-01"),
            ("", ""),
        ] {
            assert_eq!(fitbit_kind(name), kind, "{name}");
        }
    }

    proptest! {
        #[test]
        fn no_text_panics(text in "(?s)\\[?(\\{\"dateTime\":\"0|/24 05:00|\"value\":|[\\[\\]{},:\"\\\\0-9 ]|.){0,60}", name: String) {
            let _ = read(&text, fitbit_kind(&name), &test_lines::options());
            let _ = read(&text, STEPS, &test_lines::options());
        }
    }
}
