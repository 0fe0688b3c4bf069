//! Positions, samples, erasures and filters of the model.

use std::collections::BTreeSet;

use chrono::TimeDelta;

use crate::{
    erasure::Erasure,
    live::{cursor::from_cursor, filter::Filter},
    range::TimeRange,
    sample::{Readings, Sample, Source, Steps, UserId},
    store::commit_log::LogPosition,
    wire::Cursor,
};

pub(super) fn position(number: i64) -> LogPosition {
    LogPosition {
        number,
        fingerprint: u32::try_from(number).unwrap_or_default().wrapping_mul(0x9E37_79B9),
    }
}

pub(super) fn sample(user: i64, second: i64) -> Sample {
    let readings = Readings {
        steps: Some(Steps::new(1).unwrap()),
        ..Readings::default()
    };
    let time = Sample::EARLIEST + TimeDelta::seconds(second);
    // Some sources need memory of their own.
    let source = Source::new("x".repeat(1 + usize::try_from(second % 40).unwrap())).unwrap();
    Sample::new(UserId::new(user).unwrap(), time, source, readings).unwrap()
}

/// The erasure of a user's samples from the first to the last second.
pub(super) fn erasure(user: i64, (first, last): (i64, i64)) -> Erasure {
    let time = |second| Sample::EARLIEST + TimeDelta::seconds(second);
    let range = TimeRange::new(time(first), time(last + 1)).unwrap();
    Erasure::of_range(UserId::new(user).unwrap(), range, None)
}

pub(super) fn number_of(cursor: &Cursor) -> i64 {
    let position = from_cursor(cursor).unwrap();
    assert_eq!(position, self::position(position.number), "a cursor of this ring");
    position.number
}

pub(super) fn filter(users: Option<&BTreeSet<i64>>) -> Filter {
    match users {
        None => Filter::all(),
        Some(users) => Filter::users(users.iter().map(|user| UserId::new(*user).unwrap())),
    }
}
