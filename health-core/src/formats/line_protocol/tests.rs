//! Hand-written bodies with each trap of the format.

use proptest::prelude::*;

use super::*;
use crate::formats::test_entries::{clock, read_in_portions};

fn read_with(precision: Precision, body: &str) -> Vec<String> {
    let whole = read_in_portions!(LineProtocol::new(precision), body, usize::MAX);
    for portion in [1, 7, 64] {
        let found = read_in_portions!(LineProtocol::new(precision), body, portion);
        assert_eq!(found, whole, "by {portion}");
    }
    whole
}

fn read(body: &str) -> Vec<String> {
    read_with(Precision::Nanoseconds, body)
}

#[test]
fn points_are_read_and_comments_and_empty_lines_are_not() {
    let body = "# a comment\n\n  \r\nhealth,user_id=101,source=my\\ watch,host=h heart_rate=70,steps=3i,calories=0.5 1740938400000000999\r\n\
        cpu,host=esp32 usage_idle=98.5 1740939000000000000\n\
        log,host=h message=\"two\nlines, steps=1 2\",level=3i 1740939000000000000\n\
        health,host=esp32 steps=3u 1740939000000000000\n\
        health heart_rate=0 1740939000000000000\n\
        health,user_id=7 heart_rate=255,steps=2i 1740939000000000000\n\
        health steps=5i";
    assert_eq!(
        read(body),
        [
            "lines 3: 2025-03-02T18:00:00Z hr=70 steps=3 kcal=0.5 user=101 my watch",
            "points without our fields=1",
            "points without our fields=1",
            "lines 7: 2025-03-02T18:10:00Z steps=3 esp32",
            "not_worn=1",
            "lines 9: 2025-03-02T18:10:00Z steps=2 user=7",
            "lines 10: 2026-03-03T10:00:03Z steps=5",
        ]
    );
    assert_eq!(read(""), [""; 0]);
}

#[test]
fn each_precision_is_the_unit_of_timestamps() {
    for (name, timestamp) in [
        ("ns", "1740938400123456789"),
        ("n", "1740938400123456789"),
        ("us", "1740938400123456"),
        ("u", "1740938400123456"),
        ("ms", "1740938400123"),
        ("s", "1740938400"),
        ("m", "29015640"),
        ("h", "483594"),
    ] {
        let precision = Precision::from_name(name).unwrap();
        let found = read_with(precision, &format!("m steps=1i {timestamp}"));
        assert!(
            found[0].starts_with("lines 0: 2025-03-02T18:00:00"),
            "{name}: {found:?}"
        );
        let refused = read_with(precision, "m steps=1i 9223372036854775807");
        assert!(refused[0].contains("! timestamp"), "{name}: {refused:?}");
    }
    assert_eq!(Precision::from_name("seconds"), None);
}

#[test]
fn a_point_that_is_wrong_is_refused_and_its_neighbours_are_kept() {
    let ok = "m steps=1i 1740938400000000000\n";
    for (line, reason) in [
        (
            "m heart_rate=400 1740938400000000000",
            "heart_rate 400 is not between 20 and 250 beats per minute",
        ),
        ("m heart_rate=\"70\"", "heart_rate is a text; a number is required"),
        ("m steps=true", "steps is a boolean; a number is required"),
        ("m steps=-1i", "steps -1 is not between 0 and 100000 steps"),
        ("m calories=10001", "calories 10001 is not between 0 and 10000 kcal"),
        (
            "m,user_id=x steps=1i",
            "user_id \"x\" is not an integer between 1 and 9223372036854775807",
        ),
        (
            "m,user_id=0 steps=1i",
            "user_id \"0\" is not an integer between 1 and 9223372036854775807",
        ),
        (
            "m steps=1i 1740938400",
            "timestamp 1970-01-01T00:00:01.740938Z is before 2000-01-01T00:00:00Z",
        ),
        ("not a point", "has no field"),
        ("m steps=1i 5 5", "has the timestamp \"5 5\""),
    ] {
        let found = read(&format!("{ok}{line}\n{ok}"));
        assert_eq!((found.len(), &found[2][..8]), (3, "lines 2:"), "{line}: {found:?}");
        assert!(found[1].starts_with(&format!("lines 1! {reason}")), "{line}: {found:?}");
    }
    let mut not_utf8 = b"m,source=? steps=1i 1740938400000000000\n".to_vec();
    not_utf8[9] = 0xff;
    assert_eq!(
        read_in_portions!(LineProtocol::new(Precision::Nanoseconds), &not_utf8, 5),
        ["lines 0! is not UTF-8"]
    );
}

#[test]
fn fractions_of_steps_add_up_and_refused_points_do_not_count() {
    let body = "m steps=1.5\nm steps=0.9,heart_rate=400\nm,user_id=x steps=0.9\nm steps=0.5\nm steps=1i\n";
    let steps: Vec<_> = read(body)
        .iter()
        .filter_map(|entry| Some(entry.split_once("steps=")?.1.to_owned()))
        .collect();
    assert_eq!(steps, ["1", "1", "1"]);
}

#[test]
fn names_that_look_like_ours_are_counted_also_at_the_wrong_place() {
    let body = "health hr=71,Steps=3i\n\
        health,User_id=5,heart_rate=70 steps=3i,timestamp=1740938400i\n\
        health user_id=5i,calories=1\n\
        cpu,User_id=5,host=a timestamp=1740938400i,usage_user=1\n\
        health,user_id=5,source=a,host=b heart_rate=70,steps=3i,calories=0.5,battery=1\n\
        health hr=400\n";
    let mut reader = LineProtocol::new(Precision::Nanoseconds);
    reader.push(body.as_bytes());
    reader.finish();
    while reader.next(&clock()).unwrap().is_some() {}
    let found: Vec<_> = reader.misspelt().iter().collect();
    assert_eq!(
        found,
        [
            ("heart_rate", "heart_rate", 1),
            ("heart_rate", "hr", 2),
            ("steps", "Steps", 1),
            ("timestamp", "timestamp", 1),
            ("user_id", "User_id", 1),
            ("user_id", "user_id", 1),
        ]
    );
}

#[test]
fn a_text_that_does_not_end_costs_only_its_line() {
    let ok = "m steps=1i 1740938400000000000\n";
    let found = read(&format!("{ok}m a=\"x 1\n{ok}{ok}"));
    assert_eq!(found.len(), 4, "{found:?}");
    assert!(
        found[1].starts_with("lines 1! has a text in double quotes that does not end"),
        "{found:?}"
    );
    assert!(found[3].starts_with("lines 3: "), "{found:?}");
    let many = ok.repeat(5_000);
    let found = read_in_portions!(
        LineProtocol::new(Precision::Nanoseconds),
        format!("m a=\"x 1\n{many}"),
        10_000
    );
    assert_eq!(found.iter().filter(|entry| entry.ends_with("steps=1")).count(), 5_000);
}

#[test]
fn a_line_of_more_than_64_kib_is_too_long() {
    let ok = "m steps=1i 1740938400000000000\n";
    let longest = format!("m steps=1i,x={}\n", "1".repeat(ENTRY_BYTES_MAX - 13));
    let found = read_in_portions!(
        LineProtocol::new(Precision::Nanoseconds),
        format!("{ok}{longest}{ok}"),
        10_000
    );
    assert_eq!(found.len(), 3, "{found:?}");
    let too_long = format!("m steps=1i,x={}", "1".repeat(ENTRY_BYTES_MAX));
    for end in ["", "\n", "\nm steps=1i"] {
        let body = format!("{ok}{too_long}{end}");
        let found = read_in_portions!(LineProtocol::new(Precision::Nanoseconds), &body, 10_000);
        assert_eq!(found.len(), 2, "{found:?}");
        assert_eq!(found[1], "error: the entry 1 of lines is longer than 64 KiB");
    }
}

proptest! {
    #[test]
    fn any_bytes_in_any_portions_give_the_same_entries(
        body in prop::collection::vec(prop::sample::select(vec![
            "m", ",", "=", " ", "\n", "\r\n", "\\", "\"", "#", "user_id=1", "source=a\\ b", " heart_rate=70", " steps=1.5", "calories=2i",
            " 1740938400000000000\n", "x=\"a\nb\"", "m steps=1i 1740938400000000000\n", "é", "1", "t",
        ]), 0..40),
        portion in 1_usize..30,
    ) {
        let body = body.concat();
        let whole = read_in_portions!(LineProtocol::new(Precision::Nanoseconds), &body, usize::MAX);
        prop_assert_eq!(read_in_portions!(LineProtocol::new(Precision::Nanoseconds), &body, portion), whole);
    }
}
