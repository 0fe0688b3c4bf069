//! Hand-written bodies with each trap of the format.

use proptest::prelude::*;

use super::*;
use crate::formats::{format_error::ENTRY_BYTES_MAX, test_entries::read_in_portions};

fn read(body: &str) -> Vec<String> {
    let whole = read_in_portions!(HealthConnect::new(), body, usize::MAX);
    for portion in [1, 7, 64] {
        let found = read_in_portions!(HealthConnect::new(), body, portion);
        assert_eq!(found, whole, "by {portion}");
    }
    whole
}

#[test]
fn each_list_is_read_and_other_lists_are_counted_by_name() {
    let body = r#"{"timestamp":"2026-03-03T10:00:03.120Z","app_version":"1.9.0","device":{"model":"x","steps":[1]},
        "steps":[
            {"count":8421,"start_time":"2026-03-01T23:00:00Z","end_time":"2026-03-02T23:00:00Z"},
            {"end_time":"2026-03-03T09:15:00Z","start_time":"2026-03-03T09:00:00Z","count":340,
             "metadata":{"data_origin":"com.google.android.apps.fitness","recording_method":"unknown","device":{"type":"watch"}}}],
        "heart_rate":[
            {"bpm":60,"time":"2026-03-03T09:00:00.5Z","metadata":{"data_origin":"com.sec.android.app.shealth",
             "device":{"manufacturer":"Samsung","model":"SM-R960"}}},
            {"avg":61.5,"min":50,"max":70,"time":"2026-03-03T09:01:00Z"},
            {"bpm":0,"time":"2026-03-03T09:02:00Z"}],
        "active_calories":[{"calories":12.5,"start_time":"2026-03-03T09:00:00Z","end_time":"2026-03-03T09:00:00Z"}],
        "total_calories":[{"calories":90.5,"start_time":"2026-03-03T09:00:00Z","end_time":"2026-03-03T10:00:00Z"}],
        "sleep":[{},{}],"weight":[],"vo2_max":null}"#;
    assert_eq!(
        read(body),
        [
            "steps 0: 2026-03-01T23:00:00Z..2026-03-02T23:00:00Z steps=8421",
            "steps 1: 2026-03-03T09:00:00Z..2026-03-03T09:15:00Z steps=340 com.google.android.apps.fitness",
            "heart_rate 0: 2026-03-03T09:00:00.500Z hr=60 SM-R960",
            "heart_rate 1: 2026-03-03T09:01:00Z hr=61.5",
            "not_worn=1",
            "active_calories 0: 2026-03-03T09:00:00Z kcal=12.5",
            "total_calories=1",
            "sleep=2",
        ]
    );
}

#[test]
fn an_open_bucket_and_a_projected_day_are_cut_to_the_clock() {
    let steps = |start: &str, end: &str| {
        let body = format!(r#"{{"steps":[{{"count":100,"start_time":"{start}","end_time":"{end}"}}]}}"#);
        read(&body).remove(0)
    };
    for (start, end, expected) in [
        (
            "2026-03-03T09:45:00Z",
            "2026-03-03T10:00:00Z",
            "2026-03-03T09:45:00Z..2026-03-03T10:00:00Z steps=100",
        ),
        (
            "2026-03-03T09:45:00Z",
            "2026-03-03T10:15:00Z",
            "2026-03-03T09:45:00Z..2026-03-03T10:00:03Z steps=100",
        ),
        (
            "2026-03-03T00:00:00Z",
            "2026-03-04T00:00:00Z",
            "2026-03-03T00:00:00Z..2026-03-03T10:00:03Z steps=100",
        ),
        (
            "2026-03-03T10:01:00Z",
            "2026-03-03T10:02:00Z",
            "2026-03-03T10:01:00Z steps=100",
        ),
    ] {
        assert_eq!(steps(start, end), format!("steps 0: {expected}"));
    }
    for (start, end, reason) in [
        (
            "2026-03-03T10:05:04Z",
            "2026-03-03T10:06:00Z",
            "start_time 2026-03-03T10:05:04Z is more than 300 s ahead",
        ),
        (
            "2026-03-03T09:05:00Z",
            "2026-03-03T09:00:00Z",
            "end_time 2026-03-03T09:00:00Z is not later",
        ),
        (
            "2026-03-01T09:00:00Z",
            "2026-03-02T10:00:01Z",
            "end_time 2026-03-02T10:00:01Z is more than 25 hours",
        ),
        (
            "2026-03-03T09:00:00",
            "2026-03-03T09:00:00Z",
            "start_time \"2026-03-03T09:00:00\" has no offset",
        ),
    ] {
        let found = steps(start, end);
        assert!(found.starts_with(&format!("steps 0! {reason}")), "{found}");
    }
}

#[test]
fn a_value_that_is_wrong_is_refused_and_its_neighbours_are_kept() {
    let body = r#"{"heart_rate":[5,{"time":"2026-03-03T09:00:00Z"},{"bpm":60},{"bpm":"60","time":"2026-03-03T09:00:00Z"},
        {"bpm":301,"time":"2026-03-03T09:00:00Z"},{"bpm":60,"time":"2026-03-03T09:00:00Z"}],
        "steps":[{"count":100001,"start_time":"2026-03-03T09:00:00Z","end_time":"2026-03-03T09:10:00Z"}],
        "active_calories":[{"start_time":"2026-03-03T09:00:00Z","end_time":"2026-03-03T09:10:00Z"}]}"#;
    assert_eq!(
        read(body),
        [
            "heart_rate 0! is no object",
            "heart_rate 1! has neither bpm nor avg",
            "heart_rate 2! has no time",
            "heart_rate 3! bpm is a text; a number is required",
            "heart_rate 4! bpm 301 is not between 20 and 250 beats per minute",
            "heart_rate 5: 2026-03-03T09:00:00Z hr=60",
            "steps 0! count 100001 is not between 0 and 100000 steps",
            "active_calories 0! has no calories",
        ]
    );
}

#[test]
fn a_body_of_another_form_is_an_error_that_names_the_other_door() {
    for body in [
        "{\"timestamp\":\"x\"}",
        "{\"steps\":[]}",
        "{\"app_version\":1,\"x\":[]}",
        "{\"total_calories\":null}",
    ] {
        assert_eq!(read(body), [""; 0], "{body}");
    }
    for body in [
        "",
        "[]",
        "{}",
        "{\"sleep\":[]}",
        "{\"steps\":5}",
        "{\"steps\":{}}",
        "{\"steps\":[]",
        "{\"steps\":[1,]}",
    ] {
        let found = read(body);
        assert!(
            found.last().is_some_and(|last| last.starts_with("error: it ")),
            "{body}: {found:?}"
        );
    }
    let found = read(r#"{"data":{"metrics":[]}}"#);
    assert!(found[0].contains("Health Auto Export"), "{found:?}");
}

#[test]
fn a_row_of_more_than_64_kib_is_too_long() {
    let body = format!(r#"{{"steps":[{{}},{{"a":"{}"}}]}}"#, "x".repeat(ENTRY_BYTES_MAX));
    let found = read_in_portions!(HealthConnect::new(), &body, 1 << 14);
    assert_eq!(
        found,
        [
            "steps 0! has no start_time",
            "error: the entry 1 of steps is longer than 64 KiB"
        ]
    );
}

proptest! {
    #[test]
    fn any_bytes_in_any_portions_give_the_same_entries(
        body in prop::collection::vec(prop::sample::select(vec![
            "{", "}", "[", "]", ",", ":", "\"steps\"", "\"heart_rate\"", "\"sleep\"", "\"count\"", "\"bpm\"", "\"time\"", "1.5", "null",
            "\"metadata\":{\"device\":{\"model\":\"m\"}}", "\"start_time\":\"2026-03-03T09:00:00Z\"", "\"", "x", "{\"steps\":[",
            "\"end_time\":\"2026-03-03T09:00:00Z\"", "{\"count\":1},",
        ]), 0..40),
        portion in 1_usize..30,
    ) {
        let body = body.concat();
        let whole = read_in_portions!(HealthConnect::new(), &body, usize::MAX);
        prop_assert_eq!(read_in_portions!(HealthConnect::new(), &body, portion), whole);
    }
}
