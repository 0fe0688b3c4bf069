//! Tests of the reader of FIT files, with files that are written here.

use chrono_tz::Tz;
use proptest::prelude::*;
use test_support::{
    FitFile,
    FitValue::{Byte, U8, U16, U32},
};

use super::{super::test_lines, *};
use crate::sample::Source;

/// 2024-01-01T06:00:00Z in FIT time.
const T: u32 = 1_073_023_200;

const WALKING: u8 = 6;
const RUNNING: u8 = 1;
const CYCLING: u8 = 2;

fn read(bytes: &[u8]) -> (Vec<String>, Result<(), Damage>) {
    read_with(bytes, &test_lines::options())
}

fn read_with(bytes: &[u8], options: &FileOptions) -> (Vec<String>, Result<(), Damage>) {
    let mut parts = 0;
    let (mut lines, end) = test_lines::lines(|found| {
        read_fit(bytes, options, &mut |entry| match entry {
            FitEntry::Entry(entry) => found(entry),
            FitEntry::PartOfAnother => parts += 1,
        })
    });
    if parts > 0 {
        lines.push(format!("parts {parts}"));
    }
    (lines, end)
}

/// Returns the lines of a file that is whole.
fn whole(file: FitFile) -> Vec<String> {
    let (lines, end) = read(&file.finish());
    end.unwrap();
    lines
}

/// A file of a Garmin Fenix 5.
fn fenix() -> FitFile {
    FitFile::default().message(FILE_ID, &[(0, U8(4)), (1, U16(1)), (2, U16(2697))])
}

fn heart_rate_at(file: FitFile, time: u32, bpm: u8) -> FitFile {
    file.message(RECORD, &[(253, U32(time)), (RECORD_HEART_RATE, U8(bpm))])
}

#[test]
fn records_are_heart_rates_and_a_session_is_an_interval_of_its_totals() {
    let file = heart_rate_at(heart_rate_at(heart_rate_at(fenix(), T, 72), T + 1, 255), T + 2, 0);
    let file = file.message(RECORD, &[(253, U32(T + 3)), (4, U8(80))]).message(
        SESSION,
        &[
            (253, U32(T + 90)),
            (START_TIME, U32(T)),
            (SPORT, U8(11)),
            (TOTAL_ELAPSED_TIME, U32(61_500)),
            (TOTAL_CYCLES, U32(41)),
            (TOTAL_CALORIES, U16(5)),
        ],
    );
    assert_eq!(
        whole(file),
        [
            "0 2024-01-01T06:00:00Z hr=72 garmin fenix5",
            "ignored record without heart rate",
            "ignored not_worn",
            "ignored record without heart rate",
            "0 2024-01-01T06:00:00Z..2024-01-01T06:01:01.500Z steps=82 kcal=5 garmin fenix5",
        ]
    );
}

#[test]
fn cycles_are_steps_only_if_the_sport_has_strides() {
    let (cycles, calories) = ((TOTAL_CYCLES, U32(100)), (TOTAL_CALORIES, U16(7)));
    for (fields, expected) in [
        (
            &[(SPORT, U8(1)), cycles][..],
            "0 2024-01-01T06:00:00Z..2024-01-01T06:10:00Z steps=200 fit",
        ),
        (
            &[(SPORT, U8(17)), cycles],
            "0 2024-01-01T06:00:00Z..2024-01-01T06:10:00Z steps=200 fit",
        ),
        (
            &[(SPORT, U8(2)), cycles, calories],
            "0 2024-01-01T06:00:00Z..2024-01-01T06:10:00Z kcal=7 fit",
        ),
        (&[(SPORT, U8(2)), cycles], "ignored session without totals"),
        (&[cycles], "ignored session without totals"),
        (
            &[(SPORT, U8(1)), (TOTAL_CYCLES, U32(u32::MAX))],
            "ignored session without totals",
        ),
        (
            &[(SPORT, U8(1)), (TOTAL_CYCLES, U32(60_000))],
            "refused total_cycles is outside 0 to 100000",
        ),
        (
            &[calories, (TOTAL_ELAPSED_TIME, U32(90_000_001))],
            "refused the end is more than 25 hours after the start",
        ),
    ] {
        let fields = [fields, &[(START_TIME, U32(T)), (253, U32(T + 600))]].concat();
        assert_eq!(
            whole(FitFile::default().message(SESSION, &fields)),
            [expected],
            "{fields:?}"
        );
    }
}

#[test]
fn times_of_a_clock_that_was_not_set_and_missing_times_are_refused() {
    let without_time = fenix().message(RECORD, &[(RECORD_HEART_RATE, U8(70))]);
    for (file, expected) in [
        (
            heart_rate_at(fenix(), 0x0FFF_FFFF, 70),
            "refused timestamp is of a device whose clock was not set",
        ),
        (
            heart_rate_at(fenix(), 0x1000_0000, 70),
            "refused timestamp is before 2000-01-01",
        ),
        (
            heart_rate_at(fenix(), u32::MAX - 1, 70),
            "refused timestamp is too far in the future",
        ),
        (heart_rate_at(fenix(), T, 10), "refused heart_rate is outside 20 to 250"),
        (without_time, "refused timestamp is missing"),
        (fenix().message(HR, &[(253, U32(T))]), "ignored hr"),
        (
            fenix().message(SESSION, &[(TOTAL_CALORIES, U16(1))]),
            "refused start_time is missing",
        ),
        (
            fenix().message(MONITORING, &[(TIMESTAMP_16, U16(1))]),
            "refused timestamp is missing",
        ),
        (
            fenix().message(MONITORING, &[(253, U32(5))]),
            "refused timestamp is of a device whose clock was not set",
        ),
    ] {
        assert_eq!(whole(file), [expected]);
    }
}

/// The field of a monitoring message with the low bits of its time.
const TIMESTAMP_16: u8 = 26;

#[test]
fn devices_are_named_by_the_profile_or_by_number_unless_an_option_names_them() {
    let product = |manufacturer, product| {
        let file = FitFile::default().message(FILE_ID, &[(1, U16(manufacturer)), (2, U16(product))]);
        heart_rate_at(file, T, 70).finish()
    };
    let source = |bytes: &[u8], options: &FileOptions| {
        let (lines, end) = read_with(bytes, options);
        end.unwrap();
        lines[0].split_once("hr=70 ").unwrap().1.to_owned()
    };
    let options = test_lines::options();
    for (manufacturer, number, expected) in [
        (1, 2697, "garmin fenix5"),
        (1, 65_000, "garmin 65000"),
        (260, 0, "zwift 0"),
        (60_000, 3, "60000 3"),
        (260, u16::MAX, "zwift"),
    ] {
        assert_eq!(source(&product(manufacturer, number), &options), expected);
    }
    let named = FileOptions {
        source: Some(Source::new("my watch").unwrap()),
        ..options
    };
    assert_eq!(source(&product(1, 2697), &named), "my watch");
}

#[test]
fn several_files_in_one_and_big_endian_and_developer_fields_and_compressed_times_are_read() {
    // A definition with local number 1, big endian, and a developer field of 3 bytes.
    let definition = [0x61, 0, 1, 0, 20, 2, 253, 4, 0x86, 3, 1, 0x02, 1, 0, 3, 0];
    let time = T.to_be_bytes();
    let message = [&[1], &time[..], &[80, 9, 9, 9]].concat();
    // A definition with local number 2 without a time, and two messages whose headers have the low 5 bits of theirs.
    let short = [0x42, 0, 0, 20, 0, 1, 3, 1, 0x02];
    let offset = |seconds: u32| 0x80 | 2 << 5 | u8::try_from((T + seconds) & 0x1F).unwrap();
    let file = fenix().raw(&definition).raw(&message).raw(&short);
    let file = file.raw(&[offset(31), 81]).raw(&[offset(34), 82]);
    let second = heart_rate_at(FitFile::default(), T + 5, 83);
    let (lines, end) = read(&[file.finish(), second.finish()].concat());
    end.unwrap();
    assert_eq!(
        lines,
        [
            "0 2024-01-01T06:00:00Z hr=80 garmin fenix5",
            "1 2024-01-01T06:00:31Z hr=81 garmin fenix5",
            "2 2024-01-01T06:00:34Z hr=82 garmin fenix5",
            "0 2024-01-01T06:00:05Z hr=83 fit",
        ]
    );
}

#[test]
fn what_precedes_damage_is_read_and_the_damage_is_named() {
    let mut bytes = heart_rate_at(heart_rate_at(fenix(), T, 70), T + 1, 71).finish();
    let expected = read(&bytes).0;
    assert_eq!(expected.len(), 2);
    for length in 1..bytes.len() {
        let (lines, end) = read(&bytes[..length]);
        assert!(matches!(end, Err(Damage::BreaksOff)), "{length}: {end:?}");
        assert_eq!(lines, expected[..lines.len()], "{length}");
    }
    let with_rest = [&bytes[..], b"some more bytes"].concat();
    let (lines, end) = read(&with_rest);
    assert_eq!((lines, matches!(end, Err(Damage::AfterFit))), (expected.clone(), true));
    // The last byte of the checksum.
    *bytes.last_mut().unwrap() ^= 1;
    let (lines, end) = read(&bytes);
    assert_eq!((lines, matches!(end, Err(Damage::Checksum))), (expected, true));
    let undefined = FitFile::default().raw(&[5]).finish();
    assert!(read(&undefined).1.unwrap_err().to_string().contains("definition"));
}

/// A monitoring file that begins at a local time, which is 6 h behind UTC.
fn monitoring(begin: u32) -> FitFile {
    fenix().message(MONITORING_INFO, &[(253, U32(begin)), (0, U32(begin - 6 * 3600))])
}

fn counter(file: FitFile, time: u32, activity: u8, cycles: u32) -> FitFile {
    file.message(MONITORING, &[(253, U32(time)), (5, U8(activity)), (3, U32(cycles))])
}

#[test]
fn counters_of_steps_become_increments_since_the_last_message_that_names_a_type() {
    let file = counter(monitoring(T), T + 60, WALKING, 100);
    let file = counter(file, T + 120, CYCLING, 5000);
    let file = counter(file, T + 180, WALKING, 130);
    let file = counter(counter(file, T + 240, RUNNING, 50), T + 240, WALKING, 150);
    // The counter starts again.
    let file = counter(counter(file, T + 300, WALKING, 20), T + 360, WALKING, 20);
    assert_eq!(
        whole(file),
        [
            "0 2024-01-01T06:00:00Z..2024-01-01T06:01:00Z steps=100 garmin fenix5 monitoring",
            "ignored monitoring without change",
            "2 2024-01-01T06:02:00Z..2024-01-01T06:03:00Z steps=30 garmin fenix5 monitoring",
            "3 2024-01-01T06:03:00Z..2024-01-01T06:04:00Z steps=70 garmin fenix5 monitoring",
            "5 2024-01-01T06:04:00Z..2024-01-01T06:05:00Z steps=20 garmin fenix5 monitoring",
            "ignored monitoring without change",
            "parts 1",
        ]
    );
}

#[test]
fn local_midnight_resets_the_counters_and_its_own_message_belongs_to_the_day_before() {
    const DAY: u32 = 86_400;
    let file = counter(monitoring(T), T + DAY - 60, WALKING, 100);
    let file = counter(file, T + DAY, WALKING, 130);
    let file = counter(file, T + DAY + 60, WALKING, 140);
    assert_eq!(
        whole(file),
        [
            "0 2024-01-01T06:00:00Z..2024-01-02T05:59:00Z steps=100 garmin fenix5 monitoring",
            "1 2024-01-02T05:59:00Z..2024-01-02T06:00:00Z steps=30 garmin fenix5 monitoring",
            "2 2024-01-02T06:00:00Z..2024-01-02T06:01:00Z steps=140 garmin fenix5 monitoring",
        ]
    );
}

#[test]
fn without_a_known_start_the_first_report_is_only_a_base() {
    let reports = |file| counter(counter(file, T + 660, WALKING, 500), T + 720, WALKING, 510);
    let expected = [
        "ignored monitoring without change",
        "1 2024-01-01T06:11:00Z..2024-01-01T06:12:00Z steps=10 garmin fenix5 monitoring",
    ];
    assert_eq!(whole(reports(monitoring(T + 600))), expected);
    assert_eq!(whole(reports(fenix())), expected);

    // The zone tells that the file begins at midnight, if it has no local time.
    let file = reports(fenix().message(MONITORING_INFO, &[(253, U32(T))])).finish();
    assert_eq!(read(&file).0, expected);
    let options = FileOptions {
        zone: Some(Tz::America__Chicago),
        ..test_lines::options()
    };
    let first = "0 2024-01-01T06:00:00Z..2024-01-01T06:11:00Z steps=500 garmin fenix5 monitoring";
    assert_eq!(read_with(&file, &options).0, [first, expected[1]]);
}

#[test]
fn compact_messages_have_the_low_bits_of_time_and_type() {
    let compact = |file: FitFile, time: u32, cycles| {
        let low = u16::try_from(time & 0xFFFF).unwrap();
        file.message(
            MONITORING,
            &[(TIMESTAMP_16, U16(low)), (24, Byte(0x60 | WALKING)), (3, U32(cycles))],
        )
    };
    // Another message is two days ahead.
    let file = monitoring(T).message(23, &[(253, U32(T + 172_800))]);
    let file = compact(compact(file, T + 60, 10), T + 50_060, 30);
    assert_eq!(
        whole(file),
        [
            "0 2024-01-01T06:00:00Z..2024-01-01T06:01:00Z steps=10 garmin fenix5 monitoring",
            "1 2024-01-01T06:01:00Z..2024-01-01T19:54:20Z steps=20 garmin fenix5 monitoring",
        ]
    );
}

#[test]
fn active_energy_and_heart_rates_of_monitoring_are_kept_and_total_energy_is_not() {
    let file = monitoring(T)
        .message(MONITORING, &[(253, U32(T + 60)), (27, U8(61)), (1, U16(900))])
        .message(MONITORING, &[(253, U32(T + 120)), (27, U8(0))])
        .message(
            MONITORING,
            &[
                (253, U32(T + 600)),
                (19, U16(3)),
                (5, U8(WALKING)),
                (3, U32(40)),
                (27, U8(0)),
            ],
        )
        .message(MONITORING, &[(253, U32(T + 660)), (27, U8(255))])
        .message(
            MONITORING,
            &[(253, U32(T + 900)), (19, U16(5)), (5, U8(WALKING)), (3, U32(40))],
        )
        .message(MONITORING, &[(253, U32(T + 960)), (27, U8(251))]);
    assert_eq!(
        whole(file),
        [
            "0 2024-01-01T06:01:00Z hr=61 garmin fenix5 monitoring",
            "ignored not_worn",
            "2 2024-01-01T06:00:00Z..2024-01-01T06:10:00Z steps=40 kcal=3 garmin fenix5 monitoring",
            "ignored monitoring without change",
            "4 2024-01-01T06:10:00Z..2024-01-01T06:15:00Z kcal=2 garmin fenix5 monitoring",
            "refused heart_rate is outside 20 to 250",
        ]
    );
}

proptest! {
    #[test]
    fn no_bytes_panic_and_changed_bytes_are_damage_or_other_entries(
        position in 0..1_000_usize,
        byte: u8,
        rest: Vec<u8>,
    ) {
        let file = counter(monitoring(T), T + 60, WALKING, 100);
        let mut bytes = heart_rate_at(file, T, 70).finish();
        let position = position % bytes.len();
        bytes[position] = byte;
        let _ = read(&bytes);
        let _ = read(&[&bytes[..position], &rest[..]].concat());
        let _ = read(&FitFile::default().raw(&rest).finish());
    }

    #[test]
    fn the_increments_of_a_day_sum_to_its_last_count(
        reports in prop::collection::vec((1..3_600_u32, 0..2_u8, 0..2_000_u32), 1..40),
    ) {
        let (mut time, mut counts) = (T, [0, 0]);
        let mut file = monitoring(T);
        for (pause, kind, steps) in reports {
            time = (time + pause).min(T + 86_400);
            counts[usize::from(kind)] += steps;
            file = counter(file, time, [WALKING, RUNNING][usize::from(kind)], counts[usize::from(kind)]);
        }
        let mut stored = std::collections::BTreeMap::new();
        let read = read_fit(&file.finish()[..], &test_lines::options(), &mut |entry| {
            if let FitEntry::Entry(Entry::Record(record)) = entry {
                let steps = record.readings.steps.unwrap().get();
                assert_eq!(stored.insert(record.timestamp, steps), None, "each start has one record");
            }
        });
        read.unwrap();
        let sum: i32 = stored.values().sum();
        prop_assert_eq!(u32::try_from(sum).unwrap(), counts.iter().sum::<u32>());
    }
}
