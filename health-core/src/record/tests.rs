//! What is a record, and which faults are named.

use super::{field_by_field::FAULTS_MAX, *};
use crate::time::format_timestamp;

fn read(json: &str) -> Result<Record, Vec<RecordFault>> {
    let received_at = parse_timestamp("2025-03-02T18:00:00Z").unwrap();
    read_record(
        json.as_bytes(),
        &ReceiveClock {
            received_at,
            max_future: TimeDelta::minutes(5),
        },
    )
}

#[test]
fn accepts_every_valid_record() {
    for json in [
        r#"{"user_id":1,"heart_rate":20}"#,
        r#"{"user_id":9223372036854775807,"heart_rate":250.0}"#,
        r#" {"heart_rate":7.2e1,"user_id":1} "#,
        r#"{"user_id":1,"steps":-0}"#,
        r#"{"user_id":1,"steps":100000,"heart_rate":null,"source":null,"timestamp":null}"#,
        r#"{"user_id":1,"calories":-0.0}"#,
        r#"{"user_id":1,"calories":1e-400}"#,
        r#"{"user_id":1,"steps":0,"source":"p\u00f6lar \ud83d\ude00"}"#,
        r#"{"user_id":1,"steps":0,"timestamp":"2025-03-02T18:05:00Z"}"#,
        r#"{"user_id":1,"steps":0,"timestamp":"2000-01-01T00:00:00+00:00"}"#,
        r#"{"us\u0065r_id":1,"steps":0}"#,
        r#"{"user_id":1,"steps":0,"timestamp":"2025-03-02 19:00:00 +0100"}"#,
        r#"{"user_id":1,"steps":0,"timestamp":"2025-03-02\u002019:00:00+01"}"#,
    ] {
        assert!(read(json).is_ok(), "{json}: {:?}", read(json));
    }
    let Ok(Record::Sample(sample)) = read(r#"{"user_id":1,"steps":0}"#) else {
        panic!("a record without end is one sample");
    };
    assert_eq!(format_timestamp(sample.timestamp()), "2025-03-02T18:00:00Z");
    assert_eq!(sample.source().as_str(), "");
}

#[test]
fn a_record_with_an_end_is_an_interval_within_the_limits_of_both_times() {
    let record = |times: &str| read(&format!(r#"{{"user_id":1,"steps":100,{times}}}"#));
    for (times, parts) in [
        (r#""timestamp":"2025-03-02T17:00:00Z","end":null"#, 1),
        (r#""timestamp":"2025-03-02T17:00:00Z","end":"2025-03-02T17:10:00Z""#, 1),
        (
            r#""end":"2025-03-02 18:40:00 +0100","timestamp":"2025-03-02T17:00:00Z""#,
            3,
        ),
        (
            r#""timestamp":"2025-03-01T17:00:00Z","end":"2025-03-02T18:00:00Z""#,
            100,
        ),
        (r#""timestamp":"2025-03-02T18:00:00Z","end":"2025-03-02T18:05:00Z""#, 1),
    ] {
        assert_eq!(record(times).unwrap().into_samples().len(), parts, "{times}");
    }
    for (times, reason) in [
        (
            r#""end":"2025-03-02T17:10:00Z""#,
            "needs the field timestamp, where the interval begins",
        ),
        (
            r#""timestamp":null,"end":"2025-03-02T17:10:00Z""#,
            "needs the field timestamp, where the interval begins",
        ),
        (
            r#""timestamp":"2025-03-02T17:00:00Z","end":"2025-03-02T17:00:00.0000001Z""#,
            "2025-03-02T17:00:00Z is not later than the timestamp 2025-03-02T17:00:00Z",
        ),
        (
            r#""timestamp":"2025-03-01T16:59:59Z","end":"2025-03-02T18:00:00Z""#,
            "2025-03-02T18:00:00Z is more than 25 hours after the timestamp 2025-03-01T16:59:59Z: divide the interval",
        ),
        (
            r#""timestamp":"2025-03-02T17:00:00Z","end":"2025-03-02T18:05:01Z""#,
            "2025-03-02T18:05:01Z is more than 300 s ahead of the server's clock: check the device's clock",
        ),
        (
            r#""timestamp":"2025-03-02T17:00:00Z","end":1740938400"#,
            "1740938400 is a number: Unix time is not accepted; write 2025-03-02T18:00:00Z",
        ),
    ] {
        let faults = record(times).unwrap_err();
        let found: Vec<_> = faults
            .iter()
            .map(|fault| (fault.field.as_deref(), fault.reason.as_str()))
            .collect();
        assert_eq!(found, [(Some("end"), reason)], "{times}");
    }
    let faults = record(r#""timestamp":"x","end":"y""#).unwrap_err();
    let fields: Vec<_> = faults.iter().filter_map(|fault| fault.field.as_deref()).collect();
    assert_eq!(fields, ["timestamp", "end"]);
}

#[test]
fn a_given_user_is_that_of_records_without_one_and_replaces_none() {
    let clock = ReceiveClock {
        received_at: Utc::now(),
        max_future: TimeDelta::minutes(5),
    };
    let read = |json: &str, user| {
        let user = UserId::new(user).ok();
        read_record_of(json.as_bytes(), &clock, user).map(|record| record.user_id().get())
    };
    assert_eq!(read(r#"{"steps":1}"#, 7), Ok(7));
    assert_eq!(read(r#"{"user_id":8,"steps":1}"#, 7), Ok(8));
    assert!(read(r#"{"user_id":0,"steps":1}"#, 7).is_err());
    assert!(read(r#"{"steps":1}"#, 0).is_err());
}

#[test]
fn at_most_a_hundred_faults_of_a_record_are_reported() {
    let members: Vec<_> = (0..1_000_000).map(|number| format!("\"a{number}\":1")).collect();
    let faults = read(&format!("{{{}}}", members.join(","))).unwrap_err();
    assert_eq!(faults.len(), FAULTS_MAX);
}

#[test]
fn reports_every_fault_by_field() {
    for (json, expected) in [
        ("", "-"),
        ("{", "-"),
        ("5", "-"),
        ("null", "-"),
        ("[]", "-"),
        ("NaN", "-"),
        (r#"{"user_id":1,"steps":1} {}"#, "-"),
        (r#"{"user_id":1,"steps":NaN}"#, "-"),
        (r#"{"\ud800":1}"#, "-"),
        ("{}", "user_id heart_rate"),
        (r#"{"user_id":1}"#, "heart_rate"),
        (r#"{"user_id":0,"steps":1}"#, "user_id"),
        (r#"{"user_id":9223372036854775808,"steps":1}"#, "user_id"),
        (r#"{"user_id":1.0,"steps":1}"#, "user_id"),
        (r#"{"user_id":"1","steps":1}"#, "user_id"),
        (r#"{"user_id":1,"steps":1e3}"#, "steps"),
        (r#"{"user_id":1,"steps":100001}"#, "steps"),
        (r#"{"user_id":1,"steps":-1}"#, "steps"),
        (r#"{"user_id":1,"heart_rate":0}"#, "heart_rate"),
        (r#"{"user_id":1,"heart_rate":19.999}"#, "heart_rate"),
        (r#"{"user_id":1,"heart_rate":250.001}"#, "heart_rate"),
        (r#"{"user_id":1,"heart_rate":1e400,"steps":1}"#, "heart_rate"),
        (r#"{"user_id":1,"heart_rate":true}"#, "heart_rate"),
        (r#"{"user_id":1,"calories":10000.1}"#, "calories"),
        (r#"{"user_id":1,"steps":1,"source":"\u0007"}"#, "source"),
        (r#"{"user_id":1,"steps":1,"source":"\u0085"}"#, "source"),
        (r#"{"user_id":1,"steps":1,"source":"\ud800"}"#, "source"),
        (r#"{"user_id":1,"steps":1,"source":5}"#, "source"),
        (r#"{"user_id":1,"steps":1,"steps":1}"#, "steps"),
        (r#"{"user_id":1,"steps":1,"st\u0065ps":null}"#, "steps"),
        (r#"{"user_id":1,"steps":1,"hart_rate":1}"#, "hart_rate"),
        (r#"{"user_id":1,"steps":1,"a":1,"a":1}"#, "a a"),
        (
            r#"{"user_id":1,"steps":1,"timestamp":"2025-03-02T18:05:00.000001Z"}"#,
            "timestamp",
        ),
        (
            r#"{"user_id":1,"steps":1,"timestamp":"1999-12-31T23:59:59.999999Z"}"#,
            "timestamp",
        ),
        (
            r#"{"user_id":1,"steps":1,"timestamp":"2025-03-02T18:00:00"}"#,
            "timestamp",
        ),
        (r#"{"user_id":1,"steps":1,"timestamp":1740938400}"#, "timestamp"),
        (r#"{"user_id":1,"steps":1,"timestamp":{}}"#, "timestamp"),
        (
            r#"{"user_id":-1,"steps":-1,"calories":-1,"heart_rate":-1,"x":1,"timestamp":""}"#,
            "user_id steps calories heart_rate x timestamp",
        ),
    ] {
        let faults = read(json).expect_err(json);
        let fields: Vec<_> = faults
            .iter()
            .map(|fault| fault.field.as_deref().unwrap_or("-"))
            .collect();
        assert_eq!(fields.join(" "), expected, "{json}: {faults:?}");
    }
    let longest = "é".repeat(32);
    assert!(read(&format!(r#"{{"user_id":1,"steps":1,"source":"{longest}"}}"#)).is_ok());
    assert!(read(&format!(r#"{{"user_id":1,"steps":1,"source":"{longest}x"}}"#)).is_err());
}

#[test]
fn a_refused_timestamp_is_named_with_the_way_to_write_it() {
    for (timestamp, reason) in [
        (
            "1740938400",
            "1740938400 is a number: Unix time is not accepted; write 2025-03-02T18:00:00Z",
        ),
        (
            "\"1740938400.5\"",
            "1740938400.5 is a number: Unix time is not accepted; write 2025-03-02T18:00:00Z",
        ),
        (
            "-1e3",
            "-1e3 is a number: Unix time is not accepted; write 2025-03-02T18:00:00Z",
        ),
        (
            "true",
            "is a boolean; a string is required: write \"2025-03-02T18:00:00Z\"",
        ),
        (
            "[]",
            "is an array; a string is required: write \"2025-03-02T18:00:00Z\"",
        ),
        ("\"\"", "is empty: write a time such as 2025-03-02T18:00:00Z"),
        (
            "\"1999-12-31T23:59:59Z\"",
            "1999-12-31T23:59:59Z is before 2000-01-01T00:00:00Z: check the device's clock",
        ),
        (
            "\"2025-03-02 19:06:00+01\"",
            "2025-03-02T18:06:00Z is more than 300 s ahead of the server's clock: check the device's clock",
        ),
        (
            "\"2016-12-31T23:59:60Z\"",
            "\"2016-12-31T23:59:60Z\" is a leap second, which cannot be stored: send second 59 instead",
        ),
    ] {
        let faults = read(&format!(r#"{{"user_id":1,"steps":1,"timestamp":{timestamp}}}"#)).unwrap_err();
        let found: Vec<_> = faults
            .iter()
            .map(|fault| (fault.field.as_deref(), fault.reason.as_str()))
            .collect();
        assert_eq!(found, [(Some("timestamp"), reason)]);
    }
}

#[test]
fn tells_the_sender_to_leave_out_the_heart_rate_of_a_device_that_is_not_worn() {
    for value in ["0", "-1", "255", "0.0", "-0"] {
        let faults = read(&format!(r#"{{"user_id":1,"heart_rate":{value}}}"#)).unwrap_err();
        assert!(faults[0].reason.ends_with("leave the field out"), "{value}: {faults:?}");
    }
}
