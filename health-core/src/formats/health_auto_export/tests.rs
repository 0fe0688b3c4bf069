//! Hand-written bodies with each trap of the format.

use proptest::prelude::*;

use super::*;
use crate::formats::{format_error::ENTRY_BYTES_MAX, test_entries::read_in_portions};

fn read_grouped(body: &str, grouping: Grouping) -> Vec<String> {
    let whole = read_in_portions!(HealthAutoExport::new(grouping), body, usize::MAX);
    for portion in [1, 7, 64] {
        let found = read_in_portions!(HealthAutoExport::new(grouping), body, portion);
        assert_eq!(found, whole, "by {portion}");
    }
    whole
}

fn read(body: &str) -> Vec<String> {
    read_grouped(body, Grouping::None)
}

fn metric(rest: &str) -> String {
    format!(r#"{{"data":{{"metrics":[{{{rest}}}]}}}}"#)
}

#[test]
fn each_kind_is_read_and_other_kinds_are_counted_by_name() {
    let body = r#"{"data":{"metrics":[
        {"name":"heart_rate","units":"bpm","data":[
            {"date":"2026-02-06 14:30:00 -0800","Min":65,"Avg":72.4,"Max":85,"source":"Ada’s Apple Watch"},
            {"date":"2026-02-06 2:31:00 PM -0800","Avg":0,"source":"Ada’s Apple Watch"}]},
        {"name":"step_count","units":"count","data":[{"date":"2026-02-06 14:30:00 -0800","qty":7,"source":"a|b"}]},
        {"name":"active_energy","units":"kJ","data":[{"date":"2026-02-06 14:30:00 -0800","qty":8.368}]},
        {"name":"basal_energy_burned","units":"kJ","data":[{"date":"2026-02-06 14:30:00 -0800","qty":8.368},{}]},
        {"name":"sleep_analysis","data":[{"date":"2026-02-06","asleep":7.5}]},
        {"name":"weight","units":"kg","data":[]}],
        "stateOfMind":[{"id":1},[2],3],"ecg":[],"medications":null,
        "workouts":[
            {"id":"w","start":"2026-02-06 15:00:00 -0800","stepCount":[{"qty":5}],"route":[{"lat":1}],"heartRateData":[
                {"date":"2026-02-06 15:00:00 -0800","Min":120,"Avg":121,"Max":122,"units":"bpm","source":"Watch"},
                {"date":"2026-02-06 15:00:01 -0800","Avg":121,"units":"count/min"}]},
            {"name":"Yoga"},{"name":"Rest","heartRateData":[]}]}}"#;
    assert_eq!(
        read(body),
        [
            "heart_rate 0: 2026-02-06T22:30:00Z hr=72.4 Ada’s Apple Watch",
            "not_worn=1",
            "step_count 0: 2026-02-06T22:30:00Z steps=7 a|b",
            "active_energy 0: 2026-02-06T22:30:00Z kcal=2",
            "basal_energy_burned=2",
            "sleep_analysis=1",
            "stateOfMind=3",
            "heartRateData 0: 2026-02-06T23:00:00Z hr=121 Watch",
            "heartRateData 1: 2026-02-06T23:00:01Z hr=121",
            "workouts=1",
            "workouts=1",
        ]
    );
}

#[test]
fn export_version_1_has_qty_in_place_of_avg() {
    let rows = r#""data":[{"date":"2026-02-06 14:30:00 -0800","qty":61}]"#;
    for units in ["\"bpm\"", "\"count/min\"", "null"] {
        let body = metric(&format!(r#""name":"heart_rate","units":{units},{rows}"#));
        assert_eq!(read(&body), ["heart_rate 0: 2026-02-06T22:30:00Z hr=61"]);
    }
}

#[test]
fn the_keys_of_an_object_have_any_order() {
    let rows = r#""data":[{"qty":1.5,"source":"s","date":"2026-02-06 14:30:00 -0800"},{"qty":true,"date":null},5,
        {"date":"2026-02-06 14:31:00 -0800","qty":0.5,"source":"s","extra":{"qty":9,"x":[1,{"qty":7}]}}]"#;
    let expected = [
        "step_count 0: 2026-02-06T22:30:00Z steps=1 s",
        "step_count 1! has no date",
        "step_count 2! is no object",
        "step_count 3: 2026-02-06T22:31:00Z steps=1 s",
    ];
    for order in [
        format!(r#""name":"step_count","units":"count",{rows}"#),
        format!(r#"{rows},"name":"step_count","units":"count""#),
        format!(r#""units":"count",{rows},"name":"step_count""#),
        format!(r#""name":"step_count",{rows},"units":"count""#),
    ] {
        assert_eq!(read(&metric(&order)), expected, "{order}");
    }
    let ignored = metric(&format!(r#"{rows},"name":"vo2_max""#));
    assert_eq!(read(&ignored), ["vo2_max=4"]);
    assert_eq!(read(&metric(rows)), ["metrics=4"]);
}

#[test]
fn the_header_names_the_length_of_steps_and_energy() {
    let body = r#"{"data":{"metrics":[
        {"name":"step_count","units":"count","data":[{"date":"2026-03-03 09:30:00 +0000","qty":7}]},
        {"name":"active_energy","units":"kcal","data":[{"date":"2026-03-03 09:30:00 +0000","qty":7}]},
        {"name":"heart_rate","units":"bpm","data":[{"date":"2026-03-03 09:30:00 +0000","Avg":70}]},
        {"name":"sleep_analysis","data":[{}]}]}}"#;
    for (name, end) in [
        ("minutes", "..2026-03-03T09:31:00Z"),
        ("Minute", "..2026-03-03T09:31:00Z"),
        ("HOURS", "..2026-03-03T10:00:03Z"),
        (" Days ", "..2026-03-03T10:00:03Z"),
        ("none", ""),
        ("", ""),
        ("fortnights", ""),
    ] {
        assert_eq!(
            read_grouped(body, Grouping::from_name(name)),
            [
                format!("step_count 0: 2026-03-03T09:30:00Z{end} steps=7"),
                format!("active_energy 0: 2026-03-03T09:30:00Z{end} kcal=7"),
                "heart_rate 0: 2026-03-03T09:30:00Z hr=70".to_owned(),
                "sleep_analysis=1".to_owned(),
            ],
            "{name}"
        );
    }
    for name in ["weeks", "Month", "years"] {
        let found = read_grouped(body, Grouping::from_name(name));
        assert_eq!(found.len(), 4);
        for refused in &found[..3] {
            assert!(refused.ends_with("choose hours or finer"), "{refused}");
        }
    }
}

#[test]
fn a_value_that_is_wrong_is_refused_and_its_neighbours_are_kept() {
    let rows: Vec<_> = [
        r#"{"date":"2026-02-06","Avg":70}"#,
        r#"{"date":"2026-02-06 14:30:00","Avg":70}"#,
        r#"{"date":1738881000,"Avg":70}"#,
        r#"{"date":"1999-02-06 14:30:00 -0800","Avg":70}"#,
        r#"{"date":"2026-03-03 10:05:04 +0000","Avg":70}"#,
        r#"{"date":"2026-02-06 14:30:00 -0800","Avg":301}"#,
        r#"{"date":"2026-02-06 14:30:00 -0800","Avg":"70"}"#,
        r#"{"date":"2026-02-06 14:30:00 -0800","Avg":1e400}"#,
        r#"{"date":"2026-02-06 14:30:00 -0800"}"#,
        r#"{"date":"2026-02-06 14:30:00 -0800","Avg":70,"source":5}"#,
        r#"{"date":"2026-02-06 14:30:00 -0800","Avg":null,"qty":70,"source":null}"#,
    ]
    .to_vec();
    let body = metric(&format!(
        r#""name":"heart_rate","units":"bpm","data":[{}]"#,
        rows.join(",")
    ));
    let found = read(&body);
    assert_eq!(found.len(), rows.len());
    for (index, reason) in [
        "date \"2026-02-06\" is a date without a time of day",
        "date \"2026-02-06 14:30:00\" has no offset",
        "date is a number; a text is required",
        "date 1999-02-06T22:30:00Z is before 2000",
        "date 2026-03-03T10:05:04Z is more than 300 s ahead",
        "Avg 301 is not between 20 and 250",
        "Avg is a text; a number is required",
        "Avg is out of range",
        "has neither Avg nor qty",
        "source is a number; a text is required",
    ]
    .into_iter()
    .enumerate()
    {
        assert!(
            found[index].starts_with(&format!("heart_rate {index}! {reason}")),
            "{}",
            found[index]
        );
    }
    assert_eq!(found[10], "heart_rate 10: 2026-02-06T22:30:00Z hr=70");

    for (name, units, reason) in [
        ("heart_rate", "Hz", "the unit \"Hz\" is unknown"),
        ("step_count", "km", "the unit \"km\" is unknown"),
        ("active_energy", "J", "the unit \"J\" is unknown"),
        ("active_energy", "", "the unit of energy is missing"),
    ] {
        let rows = r#""data":[{"date":"2026-02-06 14:30:00 -0800","qty":70,"Avg":70}]"#;
        let found = read(&metric(&format!(r#""name":"{name}","units":"{units}",{rows}"#)));
        assert!(found[0].starts_with(&format!("{name} 0! {reason}")), "{found:?}");
    }
}

#[test]
fn fractions_of_steps_add_up_for_each_source_and_refused_rows_do_not_count() {
    let row = |qty: &str, date: &str| format!(r#"{{"date":"{date}","qty":{qty},"source":"w"}}"#);
    let rows = [
        row("1.566", "2026-02-06 14:30:00 -0800"),
        row("1.566", "2026-02-06"),
        row("-1", "2026-02-06 14:31:00 -0800"),
        row("1.566", "2026-02-06 14:32:00 -0800"),
        row("0.868", "2026-02-06 14:33:00 -0800"),
    ];
    let body = metric(&format!(
        r#""name":"step_count","units":"count","data":[{}]"#,
        rows.join(",")
    ));
    let found = read(&body);
    let steps: Vec<_> = found
        .iter()
        .filter_map(|entry| Some(entry.split_once("steps=")?.1))
        .collect();
    assert_eq!(steps, ["1 w", "2 w", "1 w"]);
}

#[test]
fn empty_exports_are_valid_and_other_forms_are_not() {
    for body in [
        r#"{"data":{}}"#,
        "\u{feff} {\"data\" : { \"metrics\" : [ ] , \"workouts\" : [ ] } } \n",
        r#"{"x":[{"data":5}],"data":{"metrics":null}}"#,
    ] {
        assert_eq!(read(body), [""; 0], "{body}");
    }
    for body in [
        "",
        "[]",
        "5",
        "null",
        "{}",
        r#"{"data":[]}"#,
        r#"{"data":null}"#,
        r#"{"metrics":[]}"#,
        r#"{"data":{"metrics":{}}}"#,
        r#"{"data":{"workouts":5}}"#,
        r#"{"data":{}"#,
        r#"{"data":{}}}"#,
        r#"{"data":{}} {}"#,
        r#"{"data":{"metrics":[{"name":"x","data":[tru]}]}}"#,
        r#"{"data":{"metrics":[],}}"#,
    ] {
        let found = read(body);
        assert!(
            found.len() == 1 && found[0].starts_with("error: it "),
            "{body}: {found:?}"
        );
    }
    let mut not_utf8 = metric(r#""name":"?","data":[]"#).into_bytes();
    let at = not_utf8.iter().position(|byte| *byte == b'?').unwrap();
    not_utf8[at] = 0xff;
    let found = read_in_portions!(HealthAutoExport::new(Grouping::None), &not_utf8, 10);
    assert!(found[0].contains("not UTF-8"), "{found:?}");
}

#[test]
fn entries_before_the_place_where_a_body_breaks_off_are_passed_on() {
    let body =
        metric(r#""name":"step_count","units":"count","data":[{"date":"2026-02-06 14:30:00 -0800","qty":7},{"da"#);
    let found = read(body.strip_suffix("}]}}").unwrap());
    assert_eq!(found[0], "step_count 0: 2026-02-06T22:30:00Z steps=7");
    assert!(
        found[1].starts_with("error: it is not valid JSON: it ends too early"),
        "{found:?}"
    );
}

#[test]
fn a_row_of_more_than_64_kib_is_too_long_and_other_values_may_have_any_length() {
    let long = "x".repeat(ENTRY_BYTES_MAX);
    for row in [
        format!(r#"{{"a":"{long}"}}"#),
        format!(r#"{{"a":[{}1]}}"#, "1,".repeat(ENTRY_BYTES_MAX / 2)),
    ] {
        let body = metric(&format!(r#""name":"heart_rate","units":"bpm","data":[{row}]"#));
        let found = read_in_portions!(HealthAutoExport::new(Grouping::None), &body, 1 << 14);
        assert_eq!(found, ["error: the entry 0 of heart_rate is longer than 64 KiB"]);
    }
    let points = "{\"lat\":1},".repeat(20_000);
    let body = format!(r#"{{"data":{{"workouts":[{{"route":[{points}{{}}]}}],"ecg":[{{"v":[{points}1]}}]}}}}"#);
    let found = read_in_portions!(HealthAutoExport::new(Grouping::None), &body, 1 << 14);
    assert_eq!(found, ["workouts=1", "ecg=1"]);
}

#[test]
fn entries_are_kept_aside_up_to_the_limit() {
    const MAX: usize = 1 << 20;
    let row = r#"{"date":"2026-02-06 14:30:00 -0800","qty":7,"note":"0123456789012345678901234567890123456789"},"#;
    let read = |rows: usize, name: &str| {
        let mut reader = HealthAutoExport::new(Grouping::None);
        assert_eq!(reader.aside_max, 32 << 20);
        reader.aside_max = MAX;
        let (mut entries, mut ignored) = (0, 0);
        let mut take = |reader: &mut HealthAutoExport| loop {
            match reader.next(&crate::formats::test_entries::clock()) {
                Ok(Some(Entry::Ignored { entries, .. })) => ignored += entries,
                Ok(Some(_)) => entries += 1,
                Ok(None) => return Ok(()),
                Err(error) => return Err(error),
            }
        };
        reader.push(br#"{"data":{"metrics":[{"data":["#);
        let portion = row.repeat(100);
        let mut end = Ok(());
        for _ in 0..rows / 100 {
            reader.push(portion.as_bytes());
            end = end.and(take(&mut reader));
        }
        reader.push(format!(r#"{{}}],"units":"count","name":"{name}"}}]}}}}"#).as_bytes());
        end = end.and_then(|()| take(&mut reader));
        reader.finish();
        end = end.and_then(|()| take(&mut reader));
        (entries, ignored, end, reader.bytes_aside())
    };
    let fits = MAX / row.len() / 100 * 100;
    assert_eq!(read(fits, "step_count"), (fits + 1, 0, Ok(()), 0));
    assert_eq!(read(fits, "other"), (0, u64::try_from(fits).unwrap() + 1, Ok(()), 0));
    let too_much = read(fits + 1_000, "step_count");
    assert_eq!((too_much.0, too_much.2), (0, Err(FormatError::TooMuchAside)));
}

proptest! {
    #[test]
    fn any_bytes_in_any_portions_give_the_same_entries(
        body in prop::collection::vec(prop::sample::select(vec![
            "{", "}", "[", "]", ",", ":", "\"data\"", "\"metrics\"", "\"workouts\"", "\"name\"", "\"units\"", "\"heart_rate\"",
            "\"step_count\"", "\"heartRateData\"", "\"date\"", "\"2026-02-06 14:30:00 -0800\"", "\"qty\"", "\"Avg\"", "1.5", "null",
            "\"\\ud800\"", "\"", "{\"data\":{\"metrics\":[", "{\"name\":\"step_count\",\"data\":[", "{\"qty\":1},", "x",
        ]), 0..40),
        portion in 1_usize..30,
    ) {
        let body = body.concat();
        let whole = read_in_portions!(HealthAutoExport::new(Grouping::None), &body, usize::MAX);
        prop_assert_eq!(read_in_portions!(HealthAutoExport::new(Grouping::None), &body, portion), whole);
    }
}
