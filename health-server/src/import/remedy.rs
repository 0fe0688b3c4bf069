//! What a person can do about a file that import does not read.

use std::borrow::Cow;

use health_core::{RECORD_FIELDS, formats::csv_columns, parse_timestamp};

use super::recognise::root_element;

/// Returns what to do about a file with this beginning, as the rest of a sentence that begins with its name. `None`:
/// the beginning does not show what it is.
pub(super) fn remedy(start: &[u8]) -> Option<Cow<'static, str>> {
    if start.starts_with(&[0xFF, 0xFE]) || start.starts_with(&[0xFE, 0xFF]) {
        return Some("is UTF-16 text. Save it as UTF-8".into());
    }
    let text = String::from_utf8_lossy(start);
    let text = text.trim_start_matches('\u{feff}').trim_start();
    match text.chars().next()? {
        '<' => of_xml(text),
        '[' => of_list(text),
        '{' => of_object(text),
        _ => of_lines(text),
    }
}

fn of_xml(text: &str) -> Option<Cow<'static, str>> {
    match root_element(text)? {
        "gpx" => Some("is a GPX file. Export the activity as FIT or TCX".into()),
        "ClinicalDocument" => {
            Some("is the clinical part of an Apple Health export. Import export.xml, which lies beside it".into())
        }
        _ => None,
    }
}

fn of_list(text: &str) -> Option<Cow<'static, str>> {
    let mut keys = text.split('"').skip(1).step_by(2).take(RECORD_FIELDS.len());
    keys.any(is_field).then_some(
        "is a list of records. Write one record a line, without the brackets around them and the commas between them"
            .into(),
    )
}

/// The body that an app posts has a list for each type of data, and those lists have times.
fn of_object(text: &str) -> Option<Cow<'static, str>> {
    let has_times = text.contains("\"start_time\"") || text.contains("\"end_time\"");
    (has_times || text.contains("\"app_version\"")).then_some(
        "looks like what an app posts from Health Connect. Post it to /ingest/health-connect of the server, as \
         docs/phones.md describes"
            .into(),
    )
}

fn of_lines(text: &str) -> Option<Cow<'static, str>> {
    let header = text.lines().next()?;
    if header.starts_with("Date") && header.contains(',') && header.contains('(') {
        return Some("looks like a CSV file of Health Auto Export. Export it as JSON".into());
    }
    if [';', '\t']
        .iter()
        .any(|separator| header.split(*separator).any(is_field))
    {
        return Some("has columns that are separated by semicolons or tabs. Save it with commas".into());
    }
    if is_line_protocol(text) {
        return Some(
            "looks like InfluxDB line protocol. Post it to /api/v2/write of the server, as docs/phones.md describes"
                .into(),
        );
    }
    let mut values = header.split(',').map(|value| value.trim().trim_matches('"'));
    if !header.contains(',') {
        return None;
    }
    if csv_columns(header).0 > 0 {
        let unknown = values.find(|column| !is_field(column)).unwrap_or_default();
        let cut = unknown.floor_char_boundary(64);
        return Some(
            format!(
                "has the column {:?}, which is no field of a record. Remove it or rename it: the columns are {}",
                &unknown[..cut],
                RECORD_FIELDS.join(", ")
            )
            .into(),
        );
    }
    values.any(|value| parse_timestamp(value).is_ok()).then(|| {
        format!(
            "has no header row. Write the names of the columns in its first line, of {}",
            RECORD_FIELDS.join(", ")
        )
        .into()
    })
}

fn is_field(name: &str) -> bool {
    RECORD_FIELDS.contains(&name.trim().trim_matches('"'))
}

/// Returns whether the first line that is no comment has a measurement, fields, and perhaps a time.
fn is_line_protocol(text: &str) -> bool {
    let mut lines = text.lines().map(str::trim);
    let Some(line) = lines.find(|line| !line.is_empty() && !line.starts_with('#')) else {
        return false;
    };
    let words: Vec<_> = line.split(' ').take(4).collect();
    match words[..] {
        [_, fields] => fields.contains('='),
        [_, fields, time] => fields.contains('=') && time.parse::<i64>().is_ok(),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::{super::recognise::Format, *};

    #[test]
    fn a_file_that_is_not_read_has_a_remedy_if_its_beginning_shows_what_it_is() {
        for (start, expected) in [
            (&b"\xff\xfeu\0s\0e\0r"[..], Some("Save it as UTF-8")),
            (b"\xfe\xff\0u\0s\0e\0r", Some("Save it as UTF-8")),
            (b"user_id;timestamp;steps\r\n", Some("Save it with commas")),
            (b"\"timestamp\"\t\"steps\"\n", Some("Save it with commas")),
            (b"[ {\"user_id\":5}]", Some("Write one record a line")),
            (b"[{\"logId\":1}]", None),
            (b"<?xml version=\"1.0\"?>\n<gpx version=\"1.1\">", Some("FIT or TCX")),
            (b"<ClinicalDocument>", Some("Import export.xml")),
            (b"<html>", None),
            (
                b"{\n \"timestamp\": \"2026-03-03T10:00:03Z\",\n \"app_version\": \"1.9.0\",",
                Some("/ingest/health-connect"),
            ),
            (b"{\"type\":\"FeatureCollection\"}", None),
            (
                b"# a comment\n\nhealth,user_id=101 heart_rate=70,steps=0i 1740938400000000000\n",
                Some("/api/v2/write"),
            ),
            (b"health heart_rate=70\n", Some("/api/v2/write")),
            (b"Date,Heart Rate [Min] (count/min)\n", Some("Export it as JSON")),
            (b"user_id,time,hr\n", Some("has the column \"time\"")),
            (b"101,2025-03-02T18:00:00Z,72\n", Some("has no header row")),
            (b"a,b,c\n", None),
            (b"hello; world\n", None),
            (b"", None),
        ] {
            let found = remedy(start);
            assert_eq!(found.is_some(), expected.is_some(), "{start:?}");
            assert!(
                found
                    .as_deref()
                    .is_none_or(|found| found.contains(expected.unwrap_or_default())),
                "{found:?}"
            );
            assert_eq!(Format::of(start, false), None, "{start:?}");
        }
    }
}
