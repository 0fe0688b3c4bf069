//! Training Center XML (TCX), which Garmin, Strava and others export.

mod walker;

use std::{io::Read, time::Duration};

use chrono::TimeDelta;

use self::walker::{Node, Walker};
use super::{
    Damage, Entry, EntryRecord, Fault, FileOptions, Place,
    no_record::{NoRecord, worn_heart_rate},
    numbers::{kilocalories, number, steps},
    rules::end_of_interval,
    source_name,
};
use crate::sample::{Readings, Source};

/// The name of the source if an activity names no device.
const NO_DEVICE: &str = "tcx";

/// The activities of a file whose devices are kept. A file has one, a collection some hundreds.
const ACTIVITIES_MAX: usize = 100_000;

/// The elements that matter. Laps and track points of courses are plans, so only those inside an activity count.
const ACTIVITY: &str = "Activity";
const LAP: &str = "Lap";
const TRACKPOINT: &str = "Trackpoint";

/// The devices of the activities of a TCX file, in their order.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct TcxDevices(Vec<Option<Source>>);

/// Reads which devices recorded the activities of a TCX file, up to its end or the first damaged place.
///
/// The device follows the laps of its activity. So a file is read twice in constant memory: first for the devices, then
/// for the entries.
pub fn read_tcx_devices(input: impl Read) -> TcxDevices {
    let mut devices = TcxDevices::default();
    let mut walker = Walker::new(input);
    while let Ok(Some(node)) = walker.next() {
        match node {
            Node::Open if walker.is_at(&[ACTIVITY]) && devices.0.len() < ACTIVITIES_MAX => devices.0.push(None),
            Node::Close if walker.is_at(&[ACTIVITY, "Creator", "Name"]) => {
                if let Some(device) = devices.0.last_mut() {
                    *device = Some(source_name(walker.text())).filter(|source| *source != Source::default());
                }
            }
            _ => {}
        }
    }
    devices
}

/// Reads a TCX file in constant memory. Track points become heart rates, laps intervals of steps and energy.
///
/// # Errors
/// [`Damage`]
pub fn read_tcx(
    input: impl Read,
    devices: &TcxDevices,
    options: &FileOptions,
    found: &mut dyn FnMut(Entry),
) -> Result<(), Damage> {
    let mut walker = Walker::new(input);
    let mut reader = Reader {
        options,
        source: Source::default(),
        lap: Lap::default(),
        trackpoint: Trackpoint::default(),
    };
    let (mut activities, mut laps, mut trackpoints) = (0, 0, 0);
    while let Some(node) = walker.next()? {
        if !walker.is_inside(ACTIVITY) {
            continue;
        }
        match (node, walker.name()) {
            (Node::Open, ACTIVITY) => {
                let device = devices.0.get(activities).cloned().flatten();
                let source = options.source.clone().or(device);
                reader.source = source.unwrap_or_else(|| source_name(NO_DEVICE));
                activities += 1;
            }
            (Node::Open, LAP) => reader.lap = Lap::starting_at(walker.attribute("StartTime")),
            (Node::Open, TRACKPOINT) => reader.trackpoint = Trackpoint::default(),
            (Node::Open, _) => {}
            (Node::Close, LAP) => {
                found(Entry::of(Place::new(LAP, laps), reader.lap_record()));
                laps += 1;
            }
            (Node::Close, TRACKPOINT) => {
                found(Entry::of(
                    Place::new(TRACKPOINT, trackpoints),
                    reader.trackpoint_record(),
                ));
                trackpoints += 1;
            }
            (Node::Close, _) => reader.read_value(&walker),
        }
    }
    Ok(())
}

/// The state between two elements.
struct Reader<'a> {
    options: &'a FileOptions,
    source: Source,
    lap: Lap,
    trackpoint: Trackpoint,
}

/// The values of a lap, as they stand in the file.
#[derive(Default)]
struct Lap {
    start_time: String,
    seconds: String,
    calories: Option<String>,
    steps: Option<String>,
}

/// The values of a track point, as they stand in the file.
#[derive(Default)]
struct Trackpoint {
    time: String,
    heart_rate: Option<String>,
}

impl Lap {
    fn starting_at(start_time: Option<String>) -> Self {
        Self {
            start_time: start_time.unwrap_or_default(),
            ..Self::default()
        }
    }
}

impl Reader<'_> {
    /// Keeps the text of an element that ends.
    fn read_value<R: Read>(&mut self, walker: &Walker<R>) {
        let text = || walker.text().trim().to_owned();
        if walker.is_at(&[TRACKPOINT, "Time"]) {
            self.trackpoint.time = text();
        } else if walker.is_at(&[TRACKPOINT, "HeartRateBpm", "Value"]) {
            self.trackpoint.heart_rate = Some(text());
        } else if walker.is_at(&[LAP, "TotalTimeSeconds"]) {
            self.lap.seconds = text();
        } else if walker.is_at(&[LAP, "Calories"]) {
            self.lap.calories = Some(text());
        } else if walker.is_at(&[LAP, "Extensions", "LX", "Steps"]) {
            self.lap.steps = Some(text());
        }
    }

    fn trackpoint_record(&self) -> Result<EntryRecord, NoRecord> {
        let bpm = self.trackpoint.heart_rate.as_deref();
        let bpm = bpm.ok_or_else(|| NoRecord::ignored("Trackpoint without heart rate"))?;
        let heart_rate = Some(worn_heart_rate("Value", number("Value", bpm)?)?);
        Ok(EntryRecord {
            place: Place::default(),
            user: None,
            timestamp: self.options.time("Time", &self.trackpoint.time)?,
            end: None,
            source: self.source.clone(),
            readings: Readings {
                heart_rate,
                ..Readings::default()
            },
        })
    }

    fn lap_record(&self) -> Result<EntryRecord, NoRecord> {
        let lap = &self.lap;
        let calories = lap.calories.as_deref().filter(|text| !text.is_empty());
        let count = lap.steps.as_deref().filter(|text| !text.is_empty());
        if calories.is_none() && count.is_none() {
            return Err(NoRecord::ignored("Lap without totals"));
        }
        let readings = Readings {
            heart_rate: None,
            steps: count.map(|text| steps("Steps", text)).transpose()?,
            calories: calories.map(|text| kilocalories("Calories", text)).transpose()?,
        };
        let start = self.options.time("StartTime", &lap.start_time)?;
        let end = start + length("TotalTimeSeconds", &lap.seconds)?;
        let end = end_of_interval(start, end, None).map_err(|fault| Fault::of_value("TotalTimeSeconds", &fault))?;
        if let Some(end) = end {
            self.options.check_time("TotalTimeSeconds", end)?;
        }
        Ok(EntryRecord {
            place: Place::default(),
            user: None,
            timestamp: start,
            end,
            source: self.source.clone(),
            readings,
        })
    }
}

/// Reads a number of seconds of at most a year.
fn length(name: &str, text: &str) -> Result<TimeDelta, Fault> {
    const SECONDS_MAX: f64 = 366.0 * 86_400.0;
    let seconds = number(name, text)?;
    let length = Duration::try_from_secs_f64(seconds)
        .ok()
        .filter(|_| seconds <= SECONDS_MAX);
    let length = length.and_then(|length| TimeDelta::from_std(length).ok());
    length.ok_or_else(|| {
        Fault::with_kind(
            format!("{name} {seconds} is out of range"),
            format!("{name} is out of range"),
        )
    })
}

#[cfg(test)]
mod tests {
    use chrono_tz::Tz;
    use proptest::prelude::*;

    use super::*;
    use crate::formats::test_lines;

    fn read(xml: &str) -> (Vec<String>, Result<(), Damage>) {
        read_with(xml, &test_lines::options())
    }

    fn read_with(xml: &str, options: &FileOptions) -> (Vec<String>, Result<(), Damage>) {
        let devices = read_tcx_devices(xml.as_bytes());
        test_lines::lines(|found| read_tcx(xml.as_bytes(), &devices, options, found))
    }

    fn file(activities: &str) -> String {
        format!(
            "          <?xml version=\"1.0\"?><TrainingCenterDatabase><Activities>{activities}</Activities></TrainingCenterDatabase>"
        )
    }

    fn trackpoint(time: &str, rate: &str) -> String {
        format!(
            "<Trackpoint><Time>{time}</Time><Position/><HeartRateBpm><Value>{rate}</Value></HeartRateBpm></Trackpoint>"
        )
    }

    fn lap(start: &str, values: &str, trackpoints: &str) -> String {
        format!("<Lap StartTime=\"{start}\">{values}<Track>{trackpoints}</Track></Lap>")
    }

    #[test]
    fn track_points_are_heart_rates_and_laps_are_intervals_of_the_device_that_follows_them() {
        let trackpoints = [
            trackpoint("2022-07-16T16:08:06.000Z", "76"),
            trackpoint("2022-07-16T16:08:07Z", "0"),
            "<Trackpoint><Time>2022-07-16T16:08:08Z</Time></Trackpoint>".to_owned(),
            trackpoint("2022-07-16T16:08:09Z", "300"),
            trackpoint("16:08:10", "76"),
        ];
        let values = "<TotalTimeSeconds>61.5</TotalTimeSeconds><Calories>5.25</Calories>\
            <Extensions><ns3:LX><ns3:Steps>83</ns3:Steps></ns3:LX></Extensions>";
        let first = lap("2022-07-16T16:08:06.000Z", values, &trackpoints.concat());
        let second = lap("2022-07-16T16:10:00Z", "<TotalTimeSeconds>60</TotalTimeSeconds>", "");
        let third = lap("2022-07-16T16:12:00Z", "<Calories>1</Calories>", "");
        let xml = file(&format!(
            "<Activity Sport=\"Running\">{first}<Creator><Name>vívoactive&#174; &amp; HR</Name><UnitId>0</UnitId></Creator></Activity>\
             <Activity>{second}{third}</Activity>"
        ));
        let (lines, end) = read(&xml);
        end.unwrap();
        assert_eq!(
            lines,
            [
                "0 2022-07-16T16:08:06Z hr=76 vívoactive® & HR",
                "ignored not_worn",
                "ignored Trackpoint without heart rate",
                "refused Value is outside 20 to 250",
                "refused Time is not a time with an offset",
                "0 2022-07-16T16:08:06Z..2022-07-16T16:09:07.500Z steps=83 kcal=5.25 vívoactive® & HR",
                "ignored Lap without totals",
                "refused TotalTimeSeconds is missing",
            ]
        );
    }

    #[test]
    fn an_activity_without_a_device_has_a_name_and_an_option_names_all() {
        let laps = |seconds: &str| {
            lap(
                "2022-07-16T16:00:00Z",
                &format!("<TotalTimeSeconds>{seconds}</TotalTimeSeconds><Calories>3</Calories>"),
                "",
            )
        };
        let xml = file(&format!("<Activity>{}{}</Activity>", laps("0"), laps("-1")));
        let (lines, _) = read(&xml);
        assert_eq!(
            lines,
            [
                "0 2022-07-16T16:00:00Z kcal=3 tcx",
                "refused TotalTimeSeconds is out of range"
            ]
        );
        let options = FileOptions {
            source: Some(Source::new("bike computer").unwrap()),
            ..test_lines::options()
        };
        assert_eq!(
            read_with(&xml, &options).0[0],
            "0 2022-07-16T16:00:00Z kcal=3 bike computer"
        );
    }

    #[test]
    fn times_without_an_offset_need_a_zone() {
        let xml = file(&format!(
            "<Activity>{}</Activity>",
            lap("", "", &trackpoint("2022-07-16T16:08:06.5", "76"))
        ));
        assert_eq!(read(&xml).0[0], "refused Time has no offset: name its zone with --tz");
        let options = FileOptions {
            zone: Some(Tz::Europe__Berlin),
            ..test_lines::options()
        };
        assert_eq!(read_with(&xml, &options).0[0], "0 2022-07-16T14:08:06.500Z hr=76 tcx");
    }

    #[test]
    fn courses_are_no_activities() {
        let point = trackpoint("2022-07-16T16:08:06Z", "76");
        let xml = format!(
            "<TrainingCenterDatabase><Courses><Course><Lap/><Track>{point}</Track></Course></Courses></TrainingCenterDatabase>"
        );
        let (lines, end) = read(&xml);
        assert_eq!((lines.len(), end.is_ok()), (0, true));
    }

    #[test]
    fn what_precedes_a_broken_end_is_read() {
        let point = trackpoint("2022-07-16T16:08:06Z", "76");
        let xml = file(&format!(
            "<Activity>{}<Creator><Name>w</Name></Creator></Activity>",
            lap("2022-07-16T16:00:00Z", "<Calories>3</Calories>", &point)
        ));
        for length in xml.find("<?xml").unwrap() + 4..xml.len() {
            let (lines, end) = read(&xml[..length]);
            assert!(matches!(end, Err(Damage::BreaksOff)), "{length}: {end:?}");
            assert!(lines.is_empty() || lines[0].contains("hr=76"), "{lines:?}");
        }
        let (lines, end) = read(&xml.replace("</Track>", "</Trock>"));
        assert_eq!(
            (lines.len(), matches!(end, Err(Damage::Malformed(_)))),
            (1, true),
            "{end:?}"
        );
    }

    proptest! {
        #[test]
        fn no_text_panics(text in "(<Activity>|<Lap StartTime=\"|<Trackpoint>|<Time>|<HeartRateBpm>|<Value>|<Creator>|<Name>|</Lap>|</Trackpoint>|</Time>|[<>/=&;\" a-z0-9\\[!-]){0,60}") {
            let _ = read(&text);
        }
    }
}
