use std::os::unix::fs::symlink;

use chrono::TimeZone;
use test_support::test_directory;

use super::*;

fn now() -> DateTime<Utc> {
    Utc.with_ymd_and_hms(2026, 3, 2, 12, 0, 0).unwrap()
}

fn zone(value: &str) -> LocalZone {
    LocalZone::detect(Some(value), now())
}

#[test]
fn names_paths_and_rules_are_the_zones_that_other_programs_use() {
    for (value, name) in [
        ("", "UTC"),
        (":", "UTC"),
        ("UTC", "UTC"),
        ("UTC0", "UTC"),
        ("Europe/Berlin", "Europe/Berlin"),
        (":Europe/Berlin", "Europe/Berlin"),
        ("posix/Europe/Berlin", "Europe/Berlin"),
        ("EST5EDT", "EST5EDT"),
        // In a rule, a negative offset is east.
        ("UTC-2", "Etc/GMT-2"),
        ("UTC+3", "Etc/GMT+3"),
        ("<+02>-2", "Etc/GMT-2"),
        ("JST-9", "Etc/GMT-9"),
        // The old name of Asia/Kolkata.
        ("IST-5:30", "Asia/Calcutta"),
        ("<+0545>-5:45", "Asia/Kathmandu"),
        ("CET-1CEST,M3.5.0,M10.5.0/3", "CET"),
        ("EST5EDT,M3.2.0,M11.1.0", "EST5EDT"),
        ("AEST-10AEDT,M10.1.0,M4.1.0/3", "Australia/ACT"),
        ("NZST-12NZDT,M9.5.0,M4.1.0/3", "Pacific/Auckland"),
        // glibc takes the dates of the United States, which are right here.
        ("AST4ADT", "America/Glace_Bay"),
    ] {
        let zone = zone(value);
        assert_eq!((zone.tz.name(), &zone.note), (name, &None), "{value}");
    }
}

#[test]
fn what_is_not_understood_is_said_with_what_is_used_instead() {
    for (value, name, note) in [
        (
            "Europe/Berln",
            "UTC",
            "Times are in UTC: TZ=Europe/Berln is not a time zone.",
        ),
        (
            "/no/such/file",
            "UTC",
            "Times are in UTC: TZ=/no/such/file is not a time zone.",
        ),
        (
            "../../etc/passwd",
            "UTC",
            "Times are in UTC: TZ=../../etc/passwd is not a time zone.",
        ),
        ("UTC+99", "UTC", "Times are in UTC: TZ=UTC+99 is not a time zone."),
        ("UTC-2x", "UTC", "Times are in UTC: TZ=UTC-2x is not a time zone."),
        (
            "XYZ-1:23",
            "UTC",
            "Times are in UTC: no known zone has the rule TZ=XYZ-1:23.",
        ),
        (
            "CET-1CEST,M1.1.0,M2.1.0",
            "UTC",
            "Times are in UTC: no known zone has the rule TZ=CET-1CEST,M1.1.0,M2.1.0.",
        ),
        (
            "CET-1CEST",
            "CET",
            "TZ=CET-1CEST has no dates of summer time: those of CET are used.",
        ),
    ] {
        let zone = zone(value);
        assert_eq!(zone.tz.name(), name, "{value}");
        assert!(
            zone.note.as_ref().is_some_and(|text| text.starts_with(note)),
            "{zone:?}"
        );
    }
}

/// The files are made here: a minimal machine has no zone files.
#[test]
fn a_file_is_the_zone_of_its_path_of_its_link_or_of_the_rule_in_it() {
    let directory = test_directory();
    let zones = directory.path().join("zoneinfo/Asia");
    fs::create_dir_all(&zones).unwrap();
    let file = |path: &Path, footer: &str| fs::write(path, format!("TZif2\0data\n{footer}\n")).unwrap();
    let tokyo = zones.join("Tokyo");
    file(&tokyo, "JST-9");
    let link = directory.path().join("localtime");
    symlink(&tokyo, &link).unwrap();
    let copy = directory.path().join("copy");
    file(&copy, "CET-1CEST,M3.5.0,M10.5.0/3");
    for (path, name) in [(&tokyo, "Asia/Tokyo"), (&link, "Asia/Tokyo"), (&copy, "CET")] {
        let zone = zone(path.to_str().unwrap());
        assert_eq!((zone.tz.name(), zone.note), (name, None));
    }
    let other = directory.path().join("other");
    fs::write(&other, "no zone").unwrap();
    assert!(zone(other.to_str().unwrap()).note.is_some());
    assert_eq!(of_file(&directory.path().join("none"), now()), None);
}
