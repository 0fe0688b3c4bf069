//! Property tests: both parsers agree, on valid records, damaged records and arbitrary bytes.

use proptest::{prelude::*, sample::Index};

use super::*;

/// Fragments that are inserted into records to damage them.
const FRAGMENTS: [&str; 45] = [
    "{",
    "}",
    "[",
    "]",
    "\"",
    ",",
    ":",
    " ",
    "\n",
    "\\",
    "\\u0000",
    "\\ud800",
    "\\u00e9",
    "\u{0}",
    "é",
    "\u{feff}",
    "0",
    "1",
    "-",
    "+",
    ".",
    "e5",
    "E-3",
    "99999999999999999999",
    "null",
    "true",
    "NaN",
    "user_id",
    "timestamp",
    "heart_rate",
    "steps",
    "calories",
    "source",
    "\"x\":1,",
    "\"steps\":1,",
    "end",
    "\"end\":\"2025-03-02T17:59:00Z\",",
    "2025-03-02T18:00:00Z",
    "+01:00",
    "T23:59:60Z",
    "-00:00",
    ".1234567",
    " +0100",
    "+01",
    " Z",
];

fn clock() -> ReceiveClock {
    ReceiveClock {
        received_at: parse_timestamp("2025-03-02T18:00:00Z").unwrap(),
        max_future: TimeDelta::minutes(5),
    }
}

fn number() -> impl Strategy<Value = String> {
    prop_oneof![
        any::<i64>().prop_map(|number| number.to_string()),
        (-10..300_i64).prop_map(|number| number.to_string()),
        any::<f64>().prop_map(|number| format!("{number:e}")),
        (0.0..300.0_f64).prop_map(|number| number.to_string()),
        "-?(0|[1-9][0-9]{0,20})(\\.[0-9]{1,25})?([eE][+-]?[0-9]{1,4})?",
        Just("null".to_owned()),
    ]
}

fn text() -> impl Strategy<Value = String> {
    prop_oneof![
        any::<String>().prop_map(|text| serde_json::to_string(&text).unwrap()),
        "\"(watch|ring|é|\\\\u[0-9a-f]{4}|\\\\[\"\\\\/bfnrt]){0,9}\"",
        "\"20[0-9]{2}-[01][0-9]-[0-3][0-9][Tt ][0-2][0-9]:[0-5][0-9]:[0-6][0-9](\\.[0-9]{1,12})?( ?([Zz]|[+-][0-2][0-9](:?[0-5][0-9])?))?\"",
        Just("null".to_owned()),
    ]
}

/// Records with fields in any order, missing or repeated. Most fields are valid.
fn record() -> impl Strategy<Value = String> {
    let field = prop_oneof![
        (1..4_i64).prop_map(|user| format!("\"user_id\":{user}")),
        number().prop_map(|number| format!("\"user_id\":{number}")),
        text().prop_map(|time| format!("\"timestamp\":{time}")),
        text().prop_map(|time| format!("\"end\":{time}")),
        (0..40_i64).prop_map(|hour| format!("\"timestamp\":\"2025-03-0{}T{:02}:00:00Z\"", 1 + hour / 24, hour % 24)),
        (0..44_i64).prop_map(|hour| format!("\"end\":\"2025-03-0{}T{:02}:00:00Z\"", 1 + hour / 24, hour % 24)),
        number().prop_map(|rate| format!("\"heart_rate\":{rate}")),
        (20..=250_i64).prop_map(|rate| format!("\"heart_rate\": {rate}")),
        number().prop_map(|steps| format!("\"steps\" :{steps}")),
        number().prop_map(|calories| format!("\"calories\":{calories}")),
        text().prop_map(|source| format!("\"source\":{source}")),
    ];
    prop::collection::vec(field, 0..7).prop_map(|fields| format!("{{{}}}", fields.join(",")))
}

/// Records in which a few ranges of bytes were replaced by fragments or arbitrary bytes.
fn damaged() -> impl Strategy<Value = Vec<u8>> {
    let fragment = prop_oneof![
        prop::sample::select(&FRAGMENTS[..]).prop_map(|fragment| fragment.as_bytes().to_vec()),
        prop::collection::vec(any::<u8>(), 0..3),
    ];
    let damage = (any::<Index>(), 0..12_usize, fragment);
    (record(), prop::collection::vec(damage, 0..4)).prop_map(|(record, damages)| {
        let mut bytes = record.into_bytes();
        for (start, length, fragment) in damages {
            let start = start.index(bytes.len() + 1);
            let end = bytes.len().min(start + length);
            bytes.splice(start..end, fragment);
        }
        bytes
    })
}

/// Checks that both parsers give the same result for an input, and that an accepted input is a JSON object.
fn check(json: &[u8]) -> Result<(), TestCaseError> {
    let clock = clock();
    let thorough = read_field_by_field(json, &clock, None);
    if let Ok(fields) = serde_json::from_slice::<RecordFields<'_>>(json)
        && let Ok(record) = fields.into_record(&clock)
    {
        prop_assert_eq!(thorough.as_ref(), Ok(&record));
    }
    match (&thorough, read_record(json, &clock)) {
        (Ok(thorough), Ok(record)) => {
            prop_assert_eq!(thorough, &record);
            let samples = record.into_samples();
            prop_assert!(!samples.is_empty());
            for sample in samples {
                prop_assert!(sample.check_not_in_future(clock.received_at, clock.max_future).is_ok());
            }
            prop_assert!(serde_json::from_slice::<serde_json::Value>(json).is_ok_and(|value| value.is_object()));
        }
        (Err(thorough), Err(faults)) => {
            prop_assert!(!faults.is_empty());
            prop_assert_eq!(thorough, &faults);
        }
        (thorough, other) => prop_assert!(false, "only one parser accepts the record: {thorough:?}, {other:?}"),
    }
    Ok(())
}

proptest! {
    #[test]
    fn both_parsers_agree_on_records(json in record()) {
        check(json.as_bytes())?;
    }

    #[test]
    fn both_parsers_agree_on_damaged_records(json in damaged()) {
        check(&json)?;
    }

    #[test]
    fn arbitrary_bytes_are_refused_with_a_reason(json in prop::collection::vec(any::<u8>(), 0..64)) {
        check(&json)?;
    }
}
