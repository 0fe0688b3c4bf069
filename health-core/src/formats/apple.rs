//! The export of Apple Health, `export.xml`.

use std::{borrow::Cow, io::Read};

use quick_xml::events::{BytesStart, Event};

use super::{
    Damage, Entry, EntryRecord, Fault, FileOptions, Place, StepFractions,
    no_record::{NoRecord, worn_heart_rate},
    numbers::number,
    rules::{end_of_interval, energy},
    source_name,
    xml::{Xml, unescaped},
};
use crate::sample::{Readings, Source};

/// The types of `Record` that are kept.
const HEART_RATE: &str = "HKQuantityTypeIdentifierHeartRate";
const STEP_COUNT: &str = "HKQuantityTypeIdentifierStepCount";
const ACTIVE_ENERGY: &str = "HKQuantityTypeIdentifierActiveEnergyBurned";

/// The elements of `HealthData` that are no entries.
const NO_ENTRIES: [&str; 2] = ["ExportDate", "Me"];

/// Reads an export of Apple Health in constant memory.
///
/// Heart rates, steps and active energy become records. Other records are ignored under their type, other elements
/// under their name. A `Record` inside a `Correlation` stands in the export a second time, so it is no entry.
///
/// # Errors
/// [`Damage`]
pub fn read_apple(input: impl Read, options: &FileOptions, found: &mut dyn FnMut(Entry)) -> Result<(), Damage> {
    let mut xml = Xml::new(input);
    let mut reader = Reader {
        options,
        fractions: StepFractions::default(),
        last_source: (String::new(), Source::default()),
        records: 0,
    };
    loop {
        let depth = xml.depth();
        match xml.next()? {
            Event::Start(element) | Event::Empty(element) if depth == 1 => {
                if let Some(entry) = reader.read(&element) {
                    found(entry);
                }
            }
            Event::Eof => return Ok(()),
            _ => {}
        }
    }
}

struct Reader<'a> {
    options: &'a FileOptions,
    fractions: StepFractions,
    /// The last name of a source as it stands in the file, and the source. Most records have the name of the one
    /// before.
    last_source: (String, Source),
    records: u64,
}

/// The attributes of a `Record` that matter, as they stand in the file.
#[derive(Default)]
struct Attributes<'a> {
    kind: Cow<'a, str>,
    unit: Cow<'a, str>,
    value: Cow<'a, str>,
    start: Cow<'a, str>,
    end: Cow<'a, str>,
    source: Cow<'a, str>,
    device: Cow<'a, str>,
}

impl Reader<'_> {
    /// Reads an element of `HealthData`. Returns `None` if it is no entry.
    fn read(&mut self, element: &BytesStart<'_>) -> Option<Entry> {
        let name = element.name();
        let name = name.as_ref();
        if name != "Record" {
            return (!NO_ENTRIES.contains(&name)).then(|| Entry::ignored(name.to_owned(), 1));
        }
        let index = self.records;
        self.records += 1;
        let attributes = match attributes(element) {
            Ok(attributes) => attributes,
            Err(fault) => return Some(Entry::refused(Place::new("Record", index), fault)),
        };
        let kind = match attributes.kind.as_ref() {
            HEART_RATE => HEART_RATE,
            STEP_COUNT => STEP_COUNT,
            ACTIVE_ENERGY => ACTIVE_ENERGY,
            "" => "Record",
            kind => return Some(Entry::ignored(unescaped(kind).into_owned(), 1)),
        };
        let place = Place::new("Record", index);
        Some(Entry::of(place, self.record(&attributes, kind)))
    }

    /// Returns the record of a kind that is kept.
    fn record(&mut self, attributes: &Attributes<'_>, kind: &str) -> Result<EntryRecord, NoRecord> {
        let start = self.options.time("startDate", &attributes.start)?;
        let value = number("value", &attributes.value)?;
        let source = self.source(attributes);
        let mut readings = Readings::default();
        let mut end = None;
        if kind == HEART_RATE {
            expect_unit(&attributes.unit, "count/min")?;
            readings.heart_rate = Some(worn_heart_rate("value", value)?);
        } else {
            let given = self.options.time("endDate", &attributes.end)?;
            end = end_of_interval(start, given, None).map_err(|fault| Fault::of_value("endDate", &fault))?;
            if kind == STEP_COUNT {
                expect_unit(&attributes.unit, "count")?;
                readings.steps = Some(self.fractions.add("value", &source, value)?);
            } else if kind == ACTIVE_ENERGY {
                readings.calories = Some(energy("value", value, &attributes.unit)?);
            } else {
                return Err(Fault::new("type is missing").into());
            }
        }
        Ok(EntryRecord {
            place: Place::default(),
            user: None,
            timestamp: start,
            end,
            source,
            readings,
        })
    }

    fn source(&mut self, attributes: &Attributes<'_>) -> Source {
        if attributes.source != self.last_source.0 || attributes.source.is_empty() {
            let mut source = source_name(&unescaped(&attributes.source));
            if source == Source::default() {
                // Its address changes with every record, so it is not what `last_source` compares.
                source = source_name(&unescaped(&attributes.device));
            }
            if source == Source::default() {
                source = self.options.source.clone().unwrap_or_default();
            }
            attributes.source.as_ref().clone_into(&mut self.last_source.0);
            self.last_source.1 = source;
        }
        self.last_source.1.clone()
    }
}

/// Returns the attributes of an element. One faulty attribute makes the element unreadable.
fn attributes<'a>(element: &'a BytesStart<'_>) -> Result<Attributes<'a>, Fault> {
    let mut found = Attributes::default();
    for attribute in element.attributes() {
        let attribute = attribute.map_err(|error| {
            Fault::with_kind(
                format!("an attribute cannot be read: {error}"),
                "an attribute cannot be read",
            )
        })?;
        let field = match attribute.key.as_ref() {
            "type" => &mut found.kind,
            "unit" => &mut found.unit,
            "value" => &mut found.value,
            "startDate" => &mut found.start,
            "endDate" => &mut found.end,
            "sourceName" => &mut found.source,
            "device" => &mut found.device,
            _ => continue,
        };
        *field = attribute.value;
    }
    Ok(found)
}

fn expect_unit(unit: &str, expected: &str) -> Result<(), Fault> {
    if unit == expected {
        return Ok(());
    }
    let cut = unit.floor_char_boundary(32);
    Err(Fault::with_kind(
        format!("the unit {:?} is not {expected}", &unit[..cut]),
        format!("the unit is not {expected}"),
    ))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::formats::test_lines;

    fn read(xml: &str) -> (Vec<String>, Result<(), Damage>) {
        read_with(xml, &test_lines::options())
    }

    fn read_with(xml: &str, options: &FileOptions) -> (Vec<String>, Result<(), Damage>) {
        test_lines::lines(|found| read_apple(xml.as_bytes(), options, found))
    }

    fn export(elements: &str) -> String {
        format!(
            "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<HealthData locale=\"de_DE\">\n{elements}\n</HealthData>\n"
        )
    }

    /// Returns a `Record` of a kind with the rest of its attributes.
    fn record(kind: &str, rest: &str) -> String {
        format!(
            "<Record type=\"HKQuantityTypeIdentifier{kind}\" startDate=\"2024-05-06 08:02:10 +0100\" \
             endDate=\"2024-05-06 08:12:10 +0100\" {rest}/>"
        )
    }

    /// Returns the only line of an export with one element.
    fn line(element: &str) -> String {
        let (lines, end) = read(&export(element));
        end.unwrap();
        assert_eq!(lines.len(), 1, "{element}: {lines:?}");
        lines.concat()
    }

    #[test]
    fn heart_rates_steps_and_active_energy_become_records() {
        for (kind, rest, expected) in [
            (
                "HeartRate",
                "unit=\"count/min\" value=\"74.5\"",
                "0 2024-05-06T07:02:10Z hr=74.5",
            ),
            (
                "StepCount",
                "unit=\"count\" value=\"12\"",
                "0 2024-05-06T07:02:10Z..2024-05-06T07:12:10Z steps=12",
            ),
            (
                "ActiveEnergyBurned",
                "unit=\"kcal\" value=\"0.5\"",
                "0 2024-05-06T07:02:10Z..2024-05-06T07:12:10Z kcal=0.5",
            ),
            (
                "ActiveEnergyBurned",
                "unit=\"Cal\" value=\"2\"",
                "0 2024-05-06T07:02:10Z..2024-05-06T07:12:10Z kcal=2",
            ),
            (
                "ActiveEnergyBurned",
                "unit=\"kJ\" value=\"4.184\"",
                "0 2024-05-06T07:02:10Z..2024-05-06T07:12:10Z kcal=1",
            ),
            ("HeartRate", "unit=\"count/min\" value=\"0\"", "ignored not_worn"),
            (
                "HeartRate",
                "unit=\"Hz\" value=\"1\"",
                "refused the unit is not count/min",
            ),
            (
                "HeartRate",
                "unit=\"count/min\" value=\"300\"",
                "refused value is outside 20 to 250",
            ),
            (
                "HeartRate",
                "unit=\"count/min\" value=\"fast\"",
                "refused value is not a number",
            ),
            ("HeartRate", "unit=\"count/min\"", "refused value is missing"),
            (
                "StepCount",
                "unit=\"count\" value=\"-1\"",
                "refused value is outside 0 to 100000",
            ),
            (
                "StepCount",
                "unit=\"count\" value=\"NaN\"",
                "refused value is not a number",
            ),
            (
                "ActiveEnergyBurned",
                "unit=\"J\" value=\"1\"",
                "refused the unit of energy is unknown",
            ),
            (
                "ActiveEnergyBurned",
                "value=\"1\"",
                "refused the unit of energy is missing: kcal, Cal and kJ are known",
            ),
            (
                "BasalEnergyBurned",
                "unit=\"kcal\" value=\"1\"",
                "ignored HKQuantityTypeIdentifierBasalEnergyBurned",
            ),
        ] {
            assert_eq!(line(&record(kind, rest)), expected, "{kind} {rest}");
        }
    }

    #[test]
    fn times_have_their_own_offsets_and_bad_ones_are_refused() {
        let steps = |start: &str, end: &str| {
            line(&format!(
                "<Record type=\"{STEP_COUNT}\" unit=\"count\" value=\"5\" startDate=\"{start}\" endDate=\"{end}\"/>"
            ))
        };
        for (start, end, expected) in [
            (
                "2024-10-27 02:30:00 +0200",
                "2024-10-27 02:30:00 +0100",
                "0 2024-10-27T00:30:00Z..2024-10-27T01:30:00Z steps=5",
            ),
            (
                "2024-05-06 08:00:00 +0530",
                "2024-05-06 08:00:00 +0530",
                "0 2024-05-06T02:30:00Z steps=5",
            ),
            (
                "2024-05-06 08:00:00 +0000",
                "2024-05-06 07:59:59 +0000",
                "refused endDate is before the start",
            ),
            (
                "2024-05-06 08:00:00 +0000",
                "2024-05-07 09:00:01 +0000",
                "refused endDate is more than 25 hours after the start",
            ),
            (
                "2024-05-06",
                "2024-05-07 09:00:00 +0000",
                "refused startDate is not a time with an offset",
            ),
            ("", "2024-05-07 09:00:00 +0000", "refused startDate is missing"),
            (
                "1999-05-06 08:00:00 +0000",
                "1999-05-06 08:01:00 +0000",
                "refused startDate is before 2000-01-01",
            ),
            (
                "2030-05-06 08:00:00 +0000",
                "2030-05-06 08:01:00 +0000",
                "refused startDate is too far in the future",
            ),
        ] {
            assert_eq!(steps(start, end), expected, "{start} {end}");
        }
    }

    #[test]
    fn a_source_is_the_name_or_the_name_in_the_device_or_the_option() {
        let device = "device=\"&lt;&lt;HKDevice: 0x3&gt;, name:Band, manufacturer:A&gt;\"";
        let rate = |rest: &str| record("HeartRate", &format!("unit=\"count/min\" value=\"70\" {rest}"));
        let xml = export(
            &[
                "sourceName=\"Ada&#8217;s\u{a0}&amp; Bob\u{b}\"",
                "sourceName=\"Ada&#8217;s\u{a0}&amp; Bob\u{b}\" device=\"x\"",
                &format!("sourceName=\"\" {device}"),
                &format!("sourceName=\" \" {device}"),
                "sourceName=\"a&nbsp;b &amp\"",
                "",
            ]
            .map(rate)
            .concat(),
        );
        let options = FileOptions {
            source: Some(Source::new("option").unwrap()),
            ..test_lines::options()
        };
        let (lines, end) = read_with(&xml, &options);
        end.unwrap();
        let sources: Vec<_> = lines.iter().map(|line| line.split_once("hr=70 ").unwrap().1).collect();
        assert_eq!(
            sources,
            ["Ada’s & Bob", "Ada’s & Bob", "Band", "Band", "a&nbsp;b &amp", "option"]
        );
    }

    #[test]
    fn fractions_of_steps_sum_to_whole_steps_for_each_source() {
        let minutes = [
            ("a", "1.566"),
            ("a", "1.566"),
            ("b", "0.5"),
            ("a", "0.195"),
            ("b", "0.5"),
            ("a", "-1"),
        ];
        let xml = minutes.map(|(source, count)| {
            record(
                "StepCount",
                &format!("unit=\"count\" value=\"{count}\" sourceName=\"{source}\""),
            )
        });
        let (lines, end) = read(&export(&xml.concat()));
        end.unwrap();
        let steps: Vec<_> = lines
            .iter()
            .filter_map(|line| line.split_once("steps="))
            .map(|(_, steps)| steps)
            .collect();
        assert_eq!(steps, ["1 a", "2 a", "0 b", "0 a", "1 b"]);
    }

    #[test]
    fn only_children_of_the_export_are_entries_and_a_faulty_attribute_costs_one_of_them() {
        let rate = record("HeartRate", "unit=\"count/min\" value=\"70\"");
        let xml = export(&format!(
            "<ExportDate value=\"2024-06-01\"/><Me a=\"b\"/>\
             <Correlation type=\"x\">{rate}<MetadataEntry key=\"a\"/></Correlation>\
             <Record type=\"{HEART_RATE}\" a b=\"c\" value=\"70\"/>\
             <Workout a b=\"c\"><WorkoutEvent/></Workout>\
             <Record type=\"{HEART_RATE}\" startDate=\"2024-05-06 08:02:10 +0100\" unit=\"count/min\" value=\"71\">\
             <MetadataEntry key=\"x\"/></Record><ActivitySummary/><Record/>{rate}"
        ));
        let (lines, end) = read(&xml);
        end.unwrap();
        assert_eq!(
            lines,
            [
                "ignored Correlation",
                "refused an attribute cannot be read",
                "ignored Workout",
                "1 2024-05-06T07:02:10Z hr=71",
                "ignored ActivitySummary",
                "refused startDate is missing",
                "3 2024-05-06T07:02:10Z hr=70",
            ]
        );
    }

    #[test]
    fn a_broken_declaration_is_skipped_and_a_broken_end_is_damage() {
        let rate = record("HeartRate", "unit=\"count/min\" value=\"70\"");
        // iOS 16 writes a declaration in which a `>` is missing.
        let declaration = "<!DOCTYPE HealthData [\n<!ELEMENT A ((B|C)*)>\n<!ATTLIST A\n  brand CDATA #IMPLIED\n<!ELEMENT B EMPTY>\n]>";
        let xml = format!("<?xml version=\"1.0\"?>\n{declaration}<HealthData>{rate}</HealthData>");
        let (lines, end) = read(&xml);
        assert_eq!((lines.len(), end.is_ok()), (1, true), "{lines:?} {end:?}");
        let xml = export(&rate.repeat(3));
        let (all, _) = read(&xml);
        for length in "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<H".len()..xml.trim_end().len() {
            let (lines, end) = read(&xml[..length]);
            assert!(matches!(end, Err(Damage::BreaksOff)), "{length}: {end:?}");
            assert_eq!(lines, all[..lines.len()]);
        }
        let deep = format!("<HealthData>{}", "<a>".repeat(10_000));
        assert!(matches!(read(&deep).1, Err(Damage::Malformed(_))));
        let long = format!("<HealthData><a b=\"{}\"/></HealthData>", "x".repeat(1 << 21));
        assert!(matches!(read(&long).1, Err(Damage::ElementTooLong(_))));
    }

    proptest! {
        #[test]
        fn no_text_panics(text in "(?s)(<HealthData>)?(<Record type=\"HKQuantityTypeIdentifier(StepCount|HeartRate)\"|.|[<>/=&;\" !\\[-]){0,60}") {
            let _ = read(&text);
        }
    }
}
