//! Files with one record a row (CSV).

use std::io::Read;

use super::{
    Damage, Entry, EntryRecord, Fault, FileOptions, Place,
    csv_line::{CsvLine, UnclosedQuote},
    ndjson::{USER_MISSING, check_line},
    numbers::{kilocalories, number, steps},
    text_input::TextInput,
};
use crate::{
    interval::check_end,
    record::RECORD_FIELDS,
    sample::{HeartRate, InvalidSample, Readings, Source, UserId},
};

/// Returns how many of the columns of a header row are fields of a record, and how many are not.
pub fn csv_columns(header_row: &str) -> (usize, usize) {
    let mut header = CsvLine::new();
    if header_row.is_empty() || header.split(header_row.as_bytes()).is_err() {
        return (0, 0);
    }
    let known = header
        .values()
        .filter(|column| RECORD_FIELDS.contains(&column.trim()))
        .count();
    (known, header.len() - known)
}

/// Reads records of our own form from a table with a header row, in constant memory. An empty value is absent.
///
/// The rules are those of [`read_ndjson`](super::read_ndjson).
///
/// # Errors
/// [`Damage`]. An unknown column ends the file before its first record, because a misspelt field must not be lost in
/// silence.
pub fn read_csv(input: impl Read, options: &FileOptions, found: &mut dyn FnMut(Entry)) -> Result<(), Damage> {
    let mut input = TextInput::marked(input);
    let (mut line, mut values) = (Vec::new(), CsvLine::new());
    let mut columns = None;
    while let Some(is_whole) = input.read_line(&mut line, |bytes| memchr::memchr2(b'\n', b'\r', bytes))? {
        // A line of CR and LF has two ends.
        if line.is_empty() && is_whole {
            continue;
        }
        let split = check_line(is_whole, &line).and_then(|()| split(&mut values, &line));
        let Some(columns) = &columns else {
            split.map_err(|fault| Damage::HeaderRow(fault.reason))?;
            columns = Some(Columns::new(&values)?);
            continue;
        };
        let place = Place::line(input.line_number());
        found(Entry::of(place, split.and_then(|()| columns.read(&values, options))));
    }
    Ok(())
}

fn split(values: &mut CsvLine, line: &[u8]) -> Result<(), Fault> {
    let is_closed = values.split(line);
    is_closed.map_err(|UnclosedQuote| Fault::new("a quotation mark is not closed on the line"))
}

/// The position of each of [`RECORD_FIELDS`] in a row.
struct Columns([Option<usize>; RECORD_FIELDS.len()], usize);

impl Columns {
    fn new(header: &CsvLine) -> Result<Self, Damage> {
        let mut positions = [None; RECORD_FIELDS.len()];
        for (position, name) in header.values().enumerate() {
            let name = name.trim();
            let column = RECORD_FIELDS.iter().position(|column| *column == name);
            let column = column.ok_or_else(|| Damage::UnknownColumn(shortened(name)))?;
            if positions[column].replace(position).is_some() {
                return Err(Damage::RepeatedColumn(name.to_owned()));
            }
        }
        Ok(Self(positions, header.len()))
    }

    fn read(&self, row: &CsvLine, options: &FileOptions) -> Result<EntryRecord, Fault> {
        let Self(positions, length) = self;
        if row.len() > *length {
            return Err(Fault::new("the row has more values than the header row"));
        }
        let values = positions.map(|position| {
            let value = row.get(position?)?.trim();
            Some(value).filter(|value| !value.is_empty())
        });
        let [user, timestamp, end, heart_rate, count, calories, source] = values;
        let timestamp = options.time("timestamp", timestamp.unwrap_or_default())?;
        let end = end.map(|end| options.time("end", end)).transpose()?;
        if let Some(end) = end {
            check_end(timestamp, end).map_err(|fault| Fault::of_value("end", &fault))?;
        }
        let readings = Readings {
            heart_rate: heart_rate.map(read_heart_rate).transpose()?,
            steps: count.map(|text| steps("steps", text)).transpose()?,
            calories: calories.map(|text| kilocalories("calories", text)).transpose()?,
        };
        if readings.is_empty() {
            return Err(Fault::new(InvalidSample::Empty.to_string()));
        }
        let source = Source::new(source.unwrap_or_default()).map_err(|fault| Fault::of_value("source", &fault))?;
        Ok(EntryRecord {
            place: Place::default(),
            user: Some(read_user(user, options)?),
            timestamp,
            end,
            source: options.source_or_default(&source),
            readings,
        })
    }
}

fn read_user(text: Option<&str>, options: &FileOptions) -> Result<UserId, Fault> {
    let Some(text) = text else {
        return options.user.ok_or_else(|| Fault::new(USER_MISSING));
    };
    let id = text.parse().map_err(|_| {
        Fault::with_kind(
            format!("user_id {:?} is not a number", shortened(text)),
            "user_id is not a number",
        )
    })?;
    UserId::new(id).map_err(|fault| Fault::of_value("user_id", &fault))
}

/// Reads a heart rate by the rules of records: 0, -1 and 255 are refused.
fn read_heart_rate(text: &str) -> Result<HeartRate, Fault> {
    HeartRate::new(number("heart_rate", text)?).map_err(|fault| match fault {
        InvalidSample::NotWorn(bpm) => Fault::with_kind(
            format!("heart_rate {bpm} means that the device was not worn: leave the field out"),
            "heart_rate means that the device was not worn",
        ),
        fault => Fault::of_value("heart_rate", &fault),
    })
}

fn shortened(text: &str) -> String {
    text[..text.floor_char_boundary(64)].to_owned()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::formats::{test_lines, text_input::LINE_BYTES_MAX};

    fn read(text: &str, options: &FileOptions) -> (Vec<String>, Result<(), Damage>) {
        test_lines::lines(|found| read_csv(text.as_bytes(), options, found))
    }

    #[test]
    fn rows_are_records_whose_columns_may_stand_in_any_order() {
        let text = "\u{feff}source, timestamp ,user_id,steps,end,heart_rate,calories\r\n\
            \"Ada's watch, left\",2025-03-03T08:00:00Z,5,,,61.5,\r\n\
            ,2025-03-03 08:00:30+0100,,4,,62,\r\n\
            phone,2025-03-03T09:00:00Z,6,1000,2025-03-03T10:00:00Z,,50.5\r\n\
            \r\n\"a \"\"b\"\"\",2025-03-03T09:30:00Z,5,12\r\n";
        let options = FileOptions {
            user: UserId::new(9).ok(),
            source: Source::new("mine").ok(),
            ..test_lines::options()
        };
        let (lines, end) = read(text, &options);
        end.unwrap();
        assert_eq!(
            lines,
            [
                "2 2025-03-03T08:00:00Z hr=61.5 user=5 Ada's watch, left",
                "3 2025-03-03T07:00:30Z hr=62 steps=4 user=9 mine",
                "4 2025-03-03T09:00:00Z..2025-03-03T10:00:00Z steps=1000 kcal=50.5 user=6 phone",
                "6 2025-03-03T09:30:00Z steps=12 user=5 a \"b\"",
            ]
        );
    }

    #[test]
    fn each_faulty_row_is_refused_with_its_kind() {
        for (row, expected) in [
            (
                "5,2025-03-03T08:00:00Z,,0,1,,",
                "refused heart_rate means that the device was not worn",
            ),
            (
                "5,2025-03-03T08:00:00Z,,300,1,,",
                "refused heart_rate is outside 20 to 250",
            ),
            ("5,yesterday,,70,,,", "refused timestamp is not a time with an offset"),
            ("5,,,70,,,", "refused timestamp is missing"),
            (
                ",2025-03-03T08:00:00Z,,70,,,",
                "refused user_id is missing: name the user with --user",
            ),
            (
                "0,2025-03-03T08:00:00Z,,70,,,",
                "refused user_id is outside 1 to 9223372036854775807",
            ),
            ("ada,2025-03-03T08:00:00Z,,70,,,", "refused user_id is not a number"),
            ("5,2025-03-03T08:00:00Z,,,1.5,,", "refused steps is not an integer"),
            ("5,2025-03-03T08:00:00Z,,,1e3,,", "refused steps is not an integer"),
            ("5,2025-03-03T08:00:00Z,,inf,,,", "refused heart_rate is not a number"),
            (
                "5,2025-03-03T08:00:00Z,,,,-1,",
                "refused calories is outside 0 to 10000",
            ),
            (
                "5,2025-03-03T08:00:00Z,,,,,watch",
                "refused at least one of heart_rate, steps and calories is required",
            ),
            (
                "5,2025-03-03T08:00:00Z,2025-03-03T08:00:00Z,,1,,",
                "refused end is before the start",
            ),
            (
                "5,2025-03-03T08:00:00Z,2025-03-05T08:00:00Z,,1,,",
                "refused end is more than 25 hours after the start",
            ),
            (
                "5,2025-03-03T08:00:00Z,,70,,,,",
                "refused the row has more values than the header row",
            ),
            (
                "5,2025-03-03T08:00:00Z,,70,,,a\u{1}b",
                "refused source contains a control character",
            ),
        ] {
            let text = format!("user_id,timestamp,end,heart_rate,steps,calories,source\n{row}\n");
            let (lines, end) = read(&text, &test_lines::options());
            end.unwrap();
            assert_eq!(lines, [expected], "{row}");
        }
    }

    #[test]
    fn an_unknown_or_repeated_column_ends_the_file_and_is_named() {
        for (header, expected) in [
            ("user_id,hart_rate", "has the column \"hart_rate\""),
            ("user_id;timestamp;steps", "has the column \"user_id;timestamp;steps\""),
            ("steps,steps", "has the column \"steps\" more than once"),
        ] {
            let (lines, end) = read(&format!("{header}\n5,1\n"), &test_lines::options());
            assert!(
                lines.is_empty() && end.unwrap_err().to_string().starts_with(expected),
                "{header}"
            );
        }
        let (lines, end) = read("", &test_lines::options());
        assert!(lines.is_empty() && end.is_ok());
        let (_, end) = read("\"steps\n5", &test_lines::options());
        assert!(end.unwrap_err().to_string().contains("a quotation mark is not closed"));
    }

    #[test]
    fn a_damaged_row_costs_no_other_row() {
        const FINE: &str = "5,2025-03-03T08:00:00Z,1,watch";
        for (row, expected) in [
            (
                b"5,2025-03-03T08:00:00Z,1,\"watch".to_vec(),
                "a quotation mark is not closed on the line",
            ),
            (b"5,2025-03-03T08:00:00Z,1,Jos\xe9".to_vec(), "the line is not UTF-8"),
            (vec![b'5'; LINE_BYTES_MAX + 1], "the line is longer than 65536 bytes"),
        ] {
            for line_end in ["\n", "\r\n", "\r"] {
                let [head, tail] = ["user_id,timestamp,steps,source", FINE].map(|line| format!("{line}{line_end}"));
                let text = [head.as_bytes(), &row, line_end.as_bytes(), tail.as_bytes()].concat();
                let (lines, end) = test_lines::lines(|found| read_csv(&text[..], &test_lines::options(), found));
                end.unwrap();
                let refused = format!("refused {expected}");
                assert_eq!(lines, [refused.as_str(), "3 2025-03-03T08:00:00Z steps=1 user=5 watch"]);
            }
        }
    }

    #[test]
    fn a_refused_row_is_named_by_the_line_of_the_file_and_its_value_with_a_remedy() {
        const FINE: &str = "5,2025-03-03T08:00:00Z,1";
        for line_end in ["\n", "\r\n"] {
            let rows = [
                "",
                "",
                "user_id,timestamp,steps",
                FINE,
                "",
                "5,2025-03-03T08:00:00,1",
                "ada,2025-03-03T08:00:00Z,1",
            ];
            let mut refused = Vec::new();
            let found = &mut |entry| {
                if let Entry::Refused(entry) = entry {
                    refused.push(format!("{}: {}", entry.place, entry.fault));
                }
            };
            read_csv(rows.join(line_end).as_bytes(), &test_lines::options(), found).unwrap();
            assert_eq!(
                refused,
                [
                    "line 6: timestamp \"2025-03-03T08:00:00\" has no offset: name its zone with --tz, such as --tz Europe/Berlin",
                    "line 7: user_id \"ada\" is not a number",
                ]
            );
        }
    }

    #[test]
    fn known_columns_are_counted() {
        assert_eq!(csv_columns("\"user_id\", timestamp,foo"), (2, 1));
        assert_eq!(csv_columns(""), (0, 0));
    }

    proptest! {
        #[test]
        fn no_text_panics(text in "(user_id|timestamp|steps|[,\"\n\r])(?s).{0,60}") {
            let _ = read(&text, &test_lines::options());
        }
    }
}
