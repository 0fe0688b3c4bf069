//! What each release of the schema has left in a database, written by plain SQL.

use std::{collections::BTreeMap, fmt::Write as _};

use chrono::{DateTime, TimeDelta, Utc};
use tokio_postgres::types::ToSql;

use crate::{
    config::Config,
    grain::Grain,
    sample::{Calories, HeartRate, Readings, Sample, Source, Steps, UserId},
    store::{
        commit_log::{
            CommitRecord, LogPosition, codec, newest,
            row_keys::{self, RowKey},
        },
        connection::Session,
        migrate::migrate_to,
        summarise::{self, UserTimeSpan},
    },
};

/// The migrations, each with what the release that it made current wrote of its own. A migration without an entry fails
/// the test: its author says here what that release leaves in a database, so that later migrations are tried on it.
pub(super) const RELEASES: [(i32, &str); 15] = [
    (1, "samples"),
    (2, "a record of each transaction, by its transaction id"),
    (3, "the table of summaries, empty"),
    (4, "dirty slices"),
    (5, "the watermark: summaries of slices, hours and days before it"),
    (6, "dirty slices by generation"),
    (7, "summaries of the minutes of dense slices"),
    (8, "the same as 7, in renamed columns"),
    (
        9,
        "ids of rows by batch; records of commits by number, and packs of them",
    ),
    (10, "tokens"),
    (11, "erasures"),
    (12, "views"),
    (13, "what a program must know to write"),
    (14, "the keys of the rows of each commit"),
    (15, "the same as 14"),
];

pub(super) const USERS: i64 = 3;

/// The secret of the token that a release with tokens leaves.
pub(super) const SECRET: &str = "health_0000000000000000000000000000000000000000000000000000000000000000";

/// Samples in a slice from which a release stored its minutes.
const DENSE_SAMPLES: u64 = 30;

/// The release that emptied the commit log.
pub(super) const LOG_BEGAN: i32 = 14;

/// A writer id of an earlier release.
const WRITER: i64 = 4_711;

type Identity = (i64, DateTime<Utc>, String);

/// What a database must hold.
#[derive(Default)]
pub(super) struct Model {
    pub(super) samples: BTreeMap<Identity, Sample>,
    /// What the commit log tells after [`Self::start`].
    pub(super) logged: BTreeMap<Identity, Sample>,
    /// The first position of the log from which a client resumes.
    pub(super) start: Option<LogPosition>,
}

/// Makes a database that lived through all releases up to a version, with data of each. Returns what it holds.
pub(super) async fn live_through(config: &Config, version: i32) -> Model {
    let mut model = Model::default();
    for (release, _) in RELEASES.into_iter().take_while(|(release, _)| *release <= version) {
        // A new session each time: statements that were prepared before a migration are out of date.
        let mut session = Session::plain(config).await.unwrap();
        migrate_to(&mut session, release).await;
        if [9, LOG_BEGAN].contains(&release) {
            model.start = Some(newest(&mut session).await.unwrap());
        }
        let mut release = Release {
            session,
            version: release,
            model: &mut model,
        };
        release.write().await;
    }
    model
}

struct Release<'a> {
    session: Session,
    version: i32,
    model: &'a mut Model,
}

impl Release<'_> {
    async fn write(&mut self) {
        let day = self.day(0);
        let samples: Vec<_> = (1..=USERS).flat_map(|user| samples(user, day)).collect();
        self.insert(&samples).await;
        self.merge(&samples[3]).await;
        if self.version >= 5 {
            self.seal().await;
        }
        if self.version >= 4 {
            // Its slice has a summary without it.
            self.insert_late().await;
        }
        if self.version == 10 {
            let token = format!(
                "INSERT INTO health_tokens (name, secret_hash, scopes, users) \
                 VALUES ('phone', sha256('{SECRET}'), '{{ingest,read}}', ARRAY[1, 2])"
            );
            self.execute(&token).await;
        }
        if self.version >= 11 {
            self.erase(&samples).await;
        }
        if self.version >= 10 {
            self.pack().await;
        }
    }

    /// The start of the day of this release, or of one so many days later.
    fn day(&self, later: i64) -> DateTime<Utc> {
        Sample::EARLIEST + TimeDelta::days(9_000 + i64::from(self.version) + later)
    }

    async fn execute(&self, sql: &str) {
        if let Err(error) = self.session.client().batch_execute(sql).await {
            panic!("release {}: {error:?}: {sql}", self.version);
        }
    }

    /// Inserts new samples in one transaction, as this release did.
    async fn insert(&mut self, samples: &[Sample]) {
        let mut statements = String::from("BEGIN;");
        let (id, next_id) = self.ids();
        for (index, sample) in samples.iter().enumerate() {
            let readings = sample.readings();
            let _ = write!(
                statements,
                "INSERT INTO health_metrics ({id}user_id, timestamp, heart_rate, steps, calories, source) \
                 VALUES ({}{}, '{}', {}, {}, {}, '{}');",
                next_id.replace("{index}", &index.to_string()),
                sample.user_id(),
                sample.timestamp().to_rfc3339(),
                or_null(readings.heart_rate.map(HeartRate::get)),
                or_null(readings.steps.map(Steps::get)),
                or_null(readings.calories.map(Calories::get)),
                sample.source()
            );
        }
        statements += &self.record(samples);
        self.execute(&(statements + "COMMIT")).await;
        for sample in samples {
            self.note(sample.clone());
        }
    }

    fn note(&mut self, sample: Sample) {
        let identity = (sample.user_id().get(), sample.timestamp(), sample.source().to_string());
        if self.version >= LOG_BEGAN {
            self.model.logged.insert(identity.clone(), sample.clone());
        }
        self.model.samples.insert(identity, sample);
    }

    /// The column of the id and its value, if the program gave it. Before, the identity column did.
    fn ids(&self) -> (&'static str, &'static str) {
        if self.version >= 9 {
            ("id, ", "(nextval('health_batch_numbers') - {index} << 20) + {index}, ")
        } else {
            ("", "")
        }
    }

    /// The statement that ends a transaction which has written rows: its record in the log of that time.
    fn record(&self, samples: &[Sample]) -> String {
        let rows = samples.len();
        let keys = samples.iter().map(|sample| RowKey {
            user_id: sample.user_id().get(),
            timestamp: sample.timestamp().timestamp_micros(),
        });
        let (keys_column, keys) = match self.version {
            ..LOG_BEGAN => ("", String::new()),
            _ => (", keys", format!(", '\\x{}'", hex(&row_keys::encode(keys)))),
        };
        let writer = if self.version >= 8 { "writer" } else { "server" };
        match self.version {
            ..2 => String::new(),
            2..9 => format!(
                "INSERT INTO health_commits (first_id, last_id, {writer}) SELECT max(id) - {rows} + 1, max(id), {WRITER} \
                 FROM health_metrics;"
            ),
            // The batch of the last row: its id is the batch shifted by 20 bits, plus the index.
            _ => format!(
                "INSERT INTO health_commits (number, batch, writer, previous_writer, rows{keys_column}) SELECT newest.number + 1, \
                 (SELECT max(id) >> 20 FROM health_metrics), {WRITER}, newest.writer, {rows}{keys} \
                 FROM (SELECT number, writer FROM health_commits ORDER BY number DESC LIMIT 1) AS newest;"
            ),
        }
    }

    /// Sends one sample again, with another heart rate.
    async fn merge(&mut self, sample: &Sample) {
        let id = if self.version >= 9 {
            "nextval('health_batch_numbers') << 20"
        } else {
            "DEFAULT"
        };
        let update = format!(
            "BEGIN; UPDATE health_metrics SET id = {id}, heart_rate = 111 WHERE user_id = {} AND timestamp = '{}' AND source = '{}'; \
             {} COMMIT",
            sample.user_id(),
            sample.timestamp().to_rfc3339(),
            sample.source(),
            self.record(std::slice::from_ref(sample))
        );
        self.execute(&update).await;
        let readings = Readings {
            heart_rate: HeartRate::new(111.0).ok(),
            ..sample.readings()
        };
        let merged = Sample::new(sample.user_id(), sample.timestamp(), sample.source().clone(), readings);
        self.note(merged.unwrap());
    }

    /// Summarises everything before the day of this release. The bytes of summaries are the same in all releases.
    async fn seal(&mut self) {
        let until = self.day(0).timestamp_micros();
        let span = |user| UserTimeSpan {
            user,
            from: Grain::Day.floor(Sample::EARLIEST.timestamp_micros()),
            to: until,
        };
        let spans: Vec<_> = (1..=USERS).map(span).collect();
        let session = &mut self.session;
        let mut summaries = summarise::samples(session, &spans, None, DENSE_SAMPLES).await.unwrap();
        if self.version < 7 {
            summaries.minutes.clear();
        }
        summaries.store(session).await.unwrap();
        summarise::coarser(session, &spans, |span| span.to).await.unwrap();
        let until = self.day(0).to_rfc3339();
        let set = format!(
            "UPDATE health_sealing SET sealed_before = '{until}', threshold = '{until}', next_slice = '{until}'"
        );
        self.execute(&set).await;
        let clean = match self.version {
            ..6 => "DELETE FROM health_dirty",
            6..8 => "DELETE FROM health_dirty; UPDATE health_sealing SET generation = generation + 1",
            _ => "DELETE FROM health_dirty; UPDATE health_sealing SET epoch = epoch + 1",
        };
        self.execute(clean).await;
    }

    /// Inserts a sample that is older than the watermark, and adds its slice to the dirty ones.
    async fn insert_late(&mut self) {
        let at = self.day(-1) + TimeDelta::seconds(43_201);
        let late = Sample::new(
            user(2),
            at,
            Source::new("late").unwrap(),
            readings(Some(77.0), Some(i64::from(self.version)), None),
        );
        let late = late.unwrap();
        self.insert(std::slice::from_ref(&late)).await;
        let slice = DateTime::from_timestamp_micros(Grain::Slice.floor(at.timestamp_micros())).unwrap();
        let slice = slice.to_rfc3339();
        let insert = match self.version {
            ..6 => format!("INSERT INTO health_dirty (user_id, slice) VALUES (2, '{slice}')"),
            6..8 => format!("INSERT INTO health_dirty SELECT 2, '{slice}', generation FROM health_sealing"),
            _ => format!("INSERT INTO health_dirty SELECT 2, '{slice}', epoch FROM health_sealing"),
        };
        self.execute(&insert).await;
    }

    /// Erases what user 3 has in the evening, which has no summary yet.
    async fn erase(&mut self, samples: &[Sample]) {
        let (start, end) = (self.day(0) + TimeDelta::hours(18), self.day(1));
        let erase = format!(
            "BEGIN; DELETE FROM health_metrics WHERE user_id = 3 AND timestamp >= '{start}' AND timestamp < '{end}'; \
             INSERT INTO health_commits (number, batch, writer, previous_writer, rows) SELECT newest.number + 1, \
             nextval('health_batch_numbers'), {WRITER} + 1, newest.writer, NULL \
             FROM (SELECT number, writer FROM health_commits ORDER BY number DESC LIMIT 1) AS newest; \
             INSERT INTO health_erasures (number, erased_user, range_start, range_end) \
             SELECT max(number), 3, '{start}', '{end}' FROM health_commits; COMMIT",
            start = start.to_rfc3339(),
            end = end.to_rfc3339(),
        );
        self.execute(&erase).await;
        let is_erased = |sample: &Sample| sample.user_id() == user(3) && (start..end).contains(&sample.timestamp());
        assert!(samples.iter().any(is_erased));
        self.model.samples.retain(|_, sample| !is_erased(sample));
        self.model.logged.retain(|_, sample| !is_erased(sample));
    }

    /// Moves all records but the newest two to a pack.
    async fn pack(&mut self) {
        let client = self.session.client();
        let take = "DELETE FROM health_commits WHERE number < (SELECT max(number) - 1 FROM health_commits) \
             RETURNING number, batch, writer, rows, to_jsonb(health_commits) ->> 'keys'";
        let mut rows = client.query(take, &[]).await.unwrap();
        rows.sort_by_key(|row| row.get::<_, i64>(0));
        let record = |row: &tokio_postgres::Row| CommitRecord {
            number: row.get(0),
            batch_number: row.get(1),
            writer_id: row.get(2),
            rows: row.get::<_, Option<i32>>(3).unwrap_or_default(),
            is_erasure: row.get::<_, Option<i32>>(3).is_none(),
        };
        let records: Vec<_> = rows.iter().map(record).collect();
        let batches = || records.iter().map(|record| record.batch_number);
        let insert = "INSERT INTO health_commit_packs VALUES ($1, $2, $3, $4, now(), $5)";
        let (first, last) = (records.first().unwrap().number, records.last().unwrap().number);
        let (lowest, highest) = (batches().min(), batches().max());
        let encoded = codec::encode(&records);
        let params: [&(dyn ToSql + Sync); 5] = [&last, &first, &lowest, &highest, &encoded];
        client.execute(insert, &params).await.unwrap();
        if self.version >= LOG_BEGAN {
            let mut packed = Vec::new();
            for row in &rows {
                row_keys::pack(&mut packed, &unhex(row.get(4)));
            }
            let add = "UPDATE health_commit_packs SET keys = $1 WHERE last_number = $2";
            client.execute(add, &[&packed, &last]).await.unwrap();
        }
    }
}

/// Bytes as PostgreSQL writes them, without the `\x` in front.
fn hex(bytes: &[u8]) -> String {
    let mut text = String::new();
    for byte in bytes {
        let _ = write!(text, "{byte:02x}");
    }
    text
}

/// Reads bytes as PostgreSQL writes them.
fn unhex(text: &str) -> Vec<u8> {
    let digits = text.strip_prefix("\\x").unwrap();
    let byte = |at| u8::from_str_radix(&digits[at..at + 2], 16).unwrap();
    (0..digits.len()).step_by(2).map(byte).collect()
}

/// The samples of one user and day: some in each hour, and many in one slice.
fn samples(id: i64, day: DateTime<Utc>) -> Vec<Sample> {
    let sample = |second: i64, source: &str, number: i64| {
        let rate =
            (number % 4 > 0).then(|| 55.0 + id_as_rate(id) + f64::from(u8::try_from(number % 90).unwrap()) + 0.25);
        let steps = (number % 3 > 0).then_some(number % 40);
        let calories = f64::from(u8::try_from(number % 50).unwrap()) / 7.0;
        let readings = readings(rate, steps, Some(calories));
        let time = day + TimeDelta::seconds(second);
        Sample::new(user(id), time, Source::new(source).unwrap(), readings).unwrap()
    };
    let sparse = (0..48).map(|number| sample(number * 1_777 + id, source(number), number));
    let dense = (0..40).map(|number| sample(36_000 + number * 20, "watch", number));
    sparse.chain(dense).collect()
}

fn source(number: i64) -> &'static str {
    match number % 3 {
        0 => "",
        1 => "phone",
        _ => "watch",
    }
}

fn id_as_rate(id: i64) -> f64 {
    f64::from(u8::try_from(id).unwrap())
}

fn user(id: i64) -> UserId {
    UserId::new(id).unwrap()
}

fn readings(heart_rate: Option<f64>, steps: Option<i64>, calories: Option<f64>) -> Readings {
    Readings {
        heart_rate: heart_rate.map(|rate| HeartRate::new(rate).unwrap()),
        steps: steps.map(|steps| Steps::new(steps).unwrap()),
        calories: calories.map(|calories| Calories::new(calories).unwrap()),
    }
}

fn or_null(value: Option<impl ToString>) -> String {
    value.map_or_else(|| "NULL".to_owned(), |value| value.to_string())
}
