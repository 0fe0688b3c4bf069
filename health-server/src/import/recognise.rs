//! Recognises the format of a file by its beginning.

use health_core::{RECORD_FIELDS, formats::csv_columns};

use super::archive::is_archive;

/// How much of the beginning is looked at. The export of Apple has a declaration of 10 KiB before its first element.
pub(super) const START_BYTES: u64 = 64 << 10;

/// A format that an import reads.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Format {
    Fit,
    Apple,
    Tcx,
    HealthAutoExport,
    Fitbit,
    Ndjson,
    Csv,
}

impl Format {
    /// Returns the format of a file with this beginning, or `None` if it is none of them.
    ///
    /// Tables in an archive of another service have columns such as `timestamp`, too. So in an archive all of the
    /// columns must be ours; elsewhere a misspelt column is reported by the reader.
    pub(super) fn of(start: &[u8], is_in_archive: bool) -> Option<Self> {
        // An archive may hold its first table as it is.
        if is_archive(start) {
            return None;
        }
        if start.get(8..12) == Some(b".FIT") {
            return Some(Self::Fit);
        }
        let text = String::from_utf8_lossy(start);
        let text = text.trim_start_matches('\u{feff}').trim_start();
        match text.chars().next()? {
            '<' => match root_element(text)? {
                "HealthData" => Some(Self::Apple),
                "TrainingCenterDatabase" => Some(Self::Tcx),
                _ => None,
            },
            '[' => {
                let first = text[1..].trim_start();
                (first.starts_with(']') || first.starts_with('{') && text.contains("\"dateTime\""))
                    .then_some(Self::Fitbit)
            }
            '{' if first_key(text) == Some("data") => Some(Self::HealthAutoExport),
            _ if text.lines().any(is_record) => Some(Self::Ndjson),
            _ => {
                let (known, unknown) = csv_columns(text.lines().next()?);
                let is_ours = unknown == 0 || known > 1 && !is_in_archive;
                (known > 0 && is_ours).then_some(Self::Csv)
            }
        }
    }

    /// Returns whether the records of a file with this beginning can name their users.
    pub(super) fn names_users(self, start: &[u8]) -> bool {
        match self {
            Self::Ndjson => true,
            Self::Csv => {
                let text = String::from_utf8_lossy(start);
                let text = text.trim_start_matches('\u{feff}').trim_start();
                let header = text.split(['\n', '\r']).next();
                let mut columns = header.unwrap_or_default().split(',');
                columns.any(|column| column.trim().trim_matches('"') == "user_id")
            }
            _ => false,
        }
    }
}

/// Returns the name of the first element, without its prefix.
pub(super) fn root_element(xml: &str) -> Option<&str> {
    let mut rest = xml;
    loop {
        rest = &rest[rest.find('<')? + 1..];
        if let Some(comment) = rest.strip_prefix("!--") {
            rest = &comment[comment.find("-->")?..];
            continue;
        }
        if rest.starts_with('?') {
            continue;
        }
        // A declaration of the type names the first element.
        let name = rest.strip_prefix("!DOCTYPE").map_or(rest, str::trim_start);
        let end = name.find(|character: char| character.is_whitespace() || "/>[".contains(character));
        let name = &name[..end.unwrap_or(name.len())];
        return Some(name.rsplit_once(':').map_or(name, |(_, local)| local));
    }
}

/// Returns whether a line begins like a record: an object whose first key is one of ours, or a whole object with one.
fn is_record(line: &str) -> bool {
    let line = line.trim();
    first_key(line).is_some_and(|key| RECORD_FIELDS.contains(&key))
        || line.starts_with('{')
            && serde_json::from_str::<serde_json::Map<_, _>>(line)
                .is_ok_and(|members| RECORD_FIELDS.iter().any(|field| members.contains_key(*field)))
}

/// Returns the first key of a JSON object, if it has no escapes.
fn first_key(json: &str) -> Option<&str> {
    let key = json.trim_start().strip_prefix('{')?.trim_start().strip_prefix('"')?;
    key.split_once('"').map(|(key, _)| key)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_format_is_recognised_by_its_beginning() {
        for (start, expected) in [
            ("\u{e}\u{10}\0\0\0\0\0\0.FIT", Some(Format::Fit)),
            (
                "<?xml version=\"1.0\"?>\n<!DOCTYPE HealthData [\n<!ELEMENT",
                Some(Format::Apple),
            ),
            (
                "\u{feff}<?xml version=\"1.0\"?><!-- <a> --><HealthData locale=\"de\">",
                Some(Format::Apple),
            ),
            (
                "          <?xml?>\n<TrainingCenterDatabase xmlns=\"x\">",
                Some(Format::Tcx),
            ),
            ("<ns:TrainingCenterDatabase>", Some(Format::Tcx)),
            ("<ClinicalDocument>", None),
            ("<gpx>", None),
            ("<", None),
            ("{\n \"data\" : {", Some(Format::HealthAutoExport)),
            ("[{\"dateTime\":\"01/01/24 05:00:00\"", Some(Format::Fitbit)),
            ("[ ]", Some(Format::Fitbit)),
            ("[{\"logId\":1}]", None),
            ("{\"steps\":1,\"user_id\":5", Some(Format::Ndjson)),
            ("{\"hart_rate\":1,\"user_id\":5}\n", Some(Format::Ndjson)),
            ("not json\n{\"user_id\":5", Some(Format::Ndjson)),
            ("{\"type\":\"FeatureCollection\"}", None),
            ("user_id,timestamp,steps\r\n", Some(Format::Csv)),
            ("\u{feff}\"timestamp\",\"hart_rate\",steps", Some(Format::Csv)),
            ("steps", Some(Format::Csv)),
            ("name,steps", None),
            ("hello", None),
            ("", None),
            ("%PDF-1.4 \u{fffd}", None),
            ("PK\u{3}\u{4}\u{14}own.csvuser_id,timestamp,steps\n5,2025", None),
            ("PK\u{3}\u{4}\u{14}own.ndjson\n{\"user_id\":5}\n", None),
        ] {
            assert_eq!(Format::of(start.as_bytes(), false), expected, "{start:?}");
        }
    }

    #[test]
    fn a_table_in_an_archive_must_have_our_columns_only() {
        let table = b"timestamp,steps,data source\n";
        assert_eq!(Format::of(table, true), None);
        assert_eq!(Format::of(table, false), Some(Format::Csv));
        assert_eq!(Format::of(b"timestamp,steps\n", true), Some(Format::Csv));
    }
}
