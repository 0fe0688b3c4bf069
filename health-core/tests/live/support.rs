//! Handles, samples and received events, as the tests of all files use them.

use std::time::Duration;

use chrono::TimeDelta;
use health_core::{
    Config, Cursor, Health, Limits, LiveEvent, Readings, Sample, Source, Steps, Subscription, UserId, parse_timestamp,
};
use test_support::{TestDatabase, patient_limits};
use tokio::time::timeout;
use tokio_postgres::{Client, NoTls};

/// Much longer than anything takes that a test waits for. The machine may be busy with other tests.
pub(crate) const TIMEOUT: Duration = Duration::from_secs(90);

/// Opens a handle with one writer, so that the order between users is fixed as well.
pub(crate) async fn open(database: &TestDatabase) -> Health {
    open_with(database, one_writer()).await
}

pub(crate) fn one_writer() -> Limits {
    Limits {
        writers: 1,
        ..patient_limits()
    }
}

pub(crate) async fn open_with(database: &TestDatabase, limits: Limits) -> Health {
    let config = Config::from_url(database.url()).unwrap().limits(limits);
    Health::open(config).await.unwrap()
}

pub(crate) async fn sql(database: &TestDatabase) -> Client {
    let (client, connection) = tokio_postgres::connect(database.url(), NoTls).await.unwrap();
    tokio::spawn(connection);
    client
}

/// The last two statements of every transaction of a writer: the lock, then the record. `$1` is the batch number, `$2`
/// the writer id, `$3` the row keys.
pub(crate) const COMMIT_LOCK: &str = "SELECT pg_advisory_xact_lock(hashtext('health commit order'))";
pub(crate) const APPEND: &str = "INSERT INTO health_commits (number, batch, writer, previous_writer, rows, keys) \
    SELECT number + 1, $1, $2, writer, 1, $3 FROM health_commits ORDER BY number DESC LIMIT 1";

/// Returns the row keys of a commit of one row: the unit of time as a power of ten microseconds, here seconds, then
/// user and time. Each is doubled and has seven bits a byte, the low ones first.
pub(crate) fn keys_of_one_row(user: u64, time: &str) -> Vec<u8> {
    let seconds = parse_timestamp(time).unwrap().timestamp().cast_unsigned();
    let mut bytes = vec![6];
    for mut value in [user * 2, seconds * 2] {
        while value > 0x7f {
            bytes.push(u8::try_from(value & 0x7f).unwrap() | 0x80);
            value >>= 7;
        }
        bytes.push(u8::try_from(value).unwrap());
    }
    bytes
}

pub(crate) fn user(id: i64) -> UserId {
    UserId::new(id).unwrap()
}

pub(crate) fn sample(id: i64, second: i64, steps: i64) -> Sample {
    let time = parse_timestamp("2025-03-02T12:00:00Z").unwrap() + TimeDelta::seconds(second);
    let readings = Readings {
        steps: Some(Steps::new(steps).unwrap()),
        ..Readings::default()
    };
    Sample::new(user(id), time, Source::default(), readings).unwrap()
}

pub(crate) async fn next(live: &mut Subscription) -> LiveEvent {
    timeout(TIMEOUT, live.next())
        .await
        .expect("an event in time")
        .expect("an event")
}

/// Receives the next sample as `user:steps`, and its cursor.
pub(crate) async fn next_sample(live: &mut Subscription) -> (String, Cursor) {
    match next(live).await {
        LiveEvent::Sample { cursor, published } => {
            let sample = published.sample();
            let steps = sample.steps().map_or(-1, Steps::get);
            (format!("{}:{steps}", sample.user_id()), cursor)
        }
        other => panic!("not a sample: {other:?}"),
    }
}

pub(crate) async fn receive(live: &mut Subscription, count: usize) -> Vec<String> {
    let mut all = Vec::new();
    for _ in 0..count {
        all.push(next_sample(live).await.0);
    }
    all
}

pub(crate) async fn expect_resumed(live: &mut Subscription) -> Result<(), String> {
    match next(live).await {
        LiveEvent::Subscribed { resumed: true, .. } => Ok(()),
        LiveEvent::Subscribed { reason, .. } => Err(reason.unwrap_or_default()),
        other => panic!("not subscribed: {other:?}"),
    }
}
