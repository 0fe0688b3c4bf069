//! Compares the cost of writing and the speed of reading for several sets of indexes on `health_metrics`.
//!
//! Run it with `cargo bench -p health-core --bench layouts`. For each set of indexes it does the following:
//!
//! 1. It writes the same rows of a thousand users, as a writer does: by binary COPY, 20 000 rows per transaction,
//!    sorted by key within a transaction and by time between transactions. So a user's rows are scattered over the heap
//!    in groups of 20.
//! 2. It reads an hour, a day and a month of one user, and the latest 5000 rows by their keys, as the feed does.
//! 3. It counts the pages that hold a month of one user. Each is a disk read if it is not in memory.
//!
//! The throw-away PostgreSQL does not wait for the disk and writes no full pages to its log. So the benchmark compares
//! the work, not the disk.
//!
//! | variable | meaning | default |
//! |---|---|---|
//! | `HEALTH_BENCH_EVERY` | seconds between two samples of a user, over 30 days | 900 (2.88 million rows) |
//! | `HEALTH_BENCH_BATCH` | rows per transaction; with 1000, rows of a user are on different pages, as in live use | 20000 |
//! | `HEALTH_BENCH_ROUNDS` | how often each set of indexes is measured; the table shows medians | 1 |

#![expect(clippy::print_stdout, reason = "a benchmark prints its results")]

use std::{pin::pin, time::Instant};

use chrono::{DateTime, TimeDelta, Utc};
use test_support::TestDatabase;
use tokio_postgres::{
    Client, NoTls, Statement,
    binary_copy::BinaryCopyInWriter,
    types::{ToSql, Type},
};

type Outcome<T> = Result<T, Box<dyn std::error::Error>>;

const USERS: i64 = 1_000;

/// The users whose rows are read, spread over all users.
const READ_USERS: [i64; 5] = [7, 250, 500, 750, 993];

/// The number of rows of the feed's query: `PORTION_ROWS_MAX` of `live/replay/source.rs`.
const LATEST_ROWS: i64 = 5_000;

const MONTH: TimeDelta = TimeDelta::days(30);

/// The table `health_metrics` of the first migration, without its key.
const TABLE: &str = "CREATE TABLE samples (id bigint GENERATED ALWAYS AS IDENTITY, user_id bigint NOT NULL, \
    timestamp timestamptz NOT NULL, heart_rate double precision, steps integer, calories double precision, \
    source text COLLATE \"C\" NOT NULL DEFAULT '') WITH (autovacuum_enabled = off)";

const COPY: &str = "COPY samples (user_id, timestamp, heart_rate, steps, calories, source) FROM STDIN BINARY";

const COLUMNS: [Type; 6] = [
    Type::INT8,
    Type::TIMESTAMPTZ,
    Type::FLOAT8,
    Type::INT4,
    Type::FLOAT8,
    Type::TEXT,
];

/// The query of a range, as in `store/read.rs`.
const RANGE: &str = "SELECT m.timestamp, m.source, m.heart_rate, m.steps, m.calories \
    FROM unnest($2::timestamptz[], $3::timestamptz[]) AS spans (a, b) \
    CROSS JOIN LATERAL (SELECT timestamp, source, heart_rate, steps, calories FROM samples \
    WHERE user_id = $1 AND timestamp >= spans.a AND timestamp < spans.b ORDER BY timestamp, source) AS m";

/// The query of the feed, as `ROWS_LOCAL` in `store/feed_rows.rs`.
const LATEST: &str = "SELECT m.id, m.user_id, m.timestamp, m.source, m.heart_rate, m.steps, m.calories \
    FROM unnest($1::bigint[], $2::timestamptz[]) AS keys (user_id, timestamp) \
    JOIN samples m ON m.user_id = keys.user_id AND m.timestamp = keys.timestamp";

/// The keys of the latest rows.
const LATEST_KEYS: &str = "SELECT user_id, timestamp FROM samples WHERE id > $1 ORDER BY user_id, timestamp";

/// A set of indexes.
struct Layout {
    name: &'static str,
    indexes: &'static str,
}

const LAYOUTS: [Layout; 5] = [
    Layout {
        name: "key with readings (in use)",
        indexes: "ALTER TABLE samples ADD PRIMARY KEY (user_id, timestamp, source) \
            INCLUDE (heart_rate, steps, calories)",
    },
    Layout {
        name: "bare key",
        indexes: "ALTER TABLE samples ADD PRIMARY KEY (user_id, timestamp, source)",
    },
    Layout {
        name: "key with readings, B-tree on id",
        indexes: "ALTER TABLE samples ADD PRIMARY KEY (user_id, timestamp, source) \
            INCLUDE (heart_rate, steps, calories); \
            CREATE INDEX ON samples (id)",
    },
    Layout {
        name: "key with readings, BRIN on id",
        indexes: "ALTER TABLE samples ADD PRIMARY KEY (user_id, timestamp, source) \
            INCLUDE (heart_rate, steps, calories); \
            CREATE INDEX ON samples USING brin (id) WITH (autosummarize = on)",
    },
    Layout {
        name: "user, source, time",
        indexes: "ALTER TABLE samples ADD PRIMARY KEY (user_id, source, timestamp) \
            INCLUDE (heart_rate, steps, calories)",
    },
];

/// The rows to write: for each user one every `interval`, over the month before `end`.
#[derive(Clone, Copy)]
struct RowPlan {
    end: DateTime<Utc>,
    interval: TimeDelta,
    rows_per_batch: i64,
}

/// The measurements of a layout. Each is a column of the table. Less is better, except for the first.
#[derive(Default, Clone)]
struct Measurements {
    rows_per_second: f64,
    wal_bytes_per_row: f64,
    index_bytes_per_row: f64,
    hour_ms: f64,
    day_ms: f64,
    month_ms: f64,
    month_pages: f64,
    latest_ms: f64,
}

#[tokio::main]
async fn main() -> Outcome<()> {
    let rows = RowPlan {
        end: Utc::now() - TimeDelta::hours(1),
        interval: TimeDelta::seconds(variable("HEALTH_BENCH_EVERY", 900)),
        rows_per_batch: variable("HEALTH_BENCH_BATCH", 20_000),
    };
    let rounds = variable("HEALTH_BENCH_ROUNDS", 1).max(1);
    let mut measured = vec![Vec::new(); LAYOUTS.len()];
    println!(
        "{} rows of {USERS} users, {} per transaction",
        rows.count(),
        rows.rows_per_batch
    );
    for round in 1..=rounds {
        for (layout, measurements) in LAYOUTS.iter().zip(&mut measured) {
            println!("round {round} of {rounds}: {}", layout.name);
            measurements.push(measure(layout, rows).await?);
        }
    }
    let medians: Vec<_> = measured
        .iter()
        .map(|measurements| Measurements::medians(measurements))
        .collect();
    print_table(&medians);
    Ok(())
}

async fn measure(layout: &Layout, rows: RowPlan) -> Outcome<Measurements> {
    let database = TestDatabase::empty().await;
    let (client, connection) = tokio_postgres::connect(database.url(), NoTls).await?;
    tokio::spawn(connection);
    client
        .batch_execute(&format!("{TABLE}; {}; CHECKPOINT", layout.indexes))
        .await?;

    let (wal_before, start) = (wal_position(&client).await?, Instant::now());
    let row_count = rows.write(&client).await?;
    let seconds = start.elapsed().as_secs_f64();
    let wal_bytes = wal_position(&client).await? - wal_before;
    client.batch_execute("VACUUM ANALYZE samples").await?;
    let index_bytes: i64 = client.query_one("SELECT pg_indexes_size('samples')", &[]).await?.get(0);

    let range = client.prepare(RANGE).await?;
    let latest = client.prepare(LATEST).await?;
    let mut measurements = Measurements {
        rows_per_second: float(row_count) / seconds,
        wal_bytes_per_row: float(wal_bytes) / float(row_count),
        index_bytes_per_row: float(index_bytes) / float(row_count),
        ..Measurements::default()
    };
    // Most ranges lie in the middle of the data, not at its end.
    let middle = rows.end - MONTH / 2;
    for (measurement, from, length, reads) in [
        (&mut measurements.hour_ms, middle, TimeDelta::hours(1), 200),
        (&mut measurements.day_ms, middle, TimeDelta::days(1), 200),
        (&mut measurements.month_ms, rows.end - MONTH, MONTH, 50),
    ] {
        let mut times = Vec::new();
        for read in 0..reads {
            let user = READ_USERS[read % READ_USERS.len()];
            times.push(milliseconds(&client, &range, &[&user, &vec![from], &vec![from + length]]).await?);
        }
        *measurement = median(&mut times);
    }
    measurements.month_pages = pages_of_month(&client, rows).await?;
    // The feed's session also avoids sequential scans.
    client.batch_execute("SET enable_seqscan = off").await?;
    let last_id: i64 = client.query_one("SELECT max(id) FROM samples", &[]).await?.get(0);
    let mut times = Vec::new();
    let keys = client.query(LATEST_KEYS, &[&(last_id - LATEST_ROWS)]).await?;
    let users: Vec<i64> = keys.iter().map(|row| row.get(0)).collect();
    let keys: Vec<DateTime<Utc>> = keys.iter().map(|row| row.get(1)).collect();
    for _ in 0..20 {
        times.push(milliseconds(&client, &latest, &[&users, &keys]).await?);
    }
    measurements.latest_ms = median(&mut times);
    Ok(measurements)
}

impl RowPlan {
    fn count(self) -> i64 {
        USERS * self.times_per_user()
    }

    fn times_per_user(self) -> i64 {
        MONTH.num_seconds() / self.interval.num_seconds().max(1)
    }

    /// Writes the rows, and returns their number. Each transaction holds the same times of all users.
    async fn write(self, client: &Client) -> Outcome<i64> {
        let (start, times_per_batch) = (self.end - MONTH, (self.rows_per_batch / USERS).max(1));
        for first in (0..self.times_per_user()).step_by(usize::try_from(times_per_batch)?) {
            let mut sink = pin!(BinaryCopyInWriter::new(client.copy_in(COPY).await?, &COLUMNS));
            for user in 1..=USERS {
                for index in first..self.times_per_user().min(first + times_per_batch) {
                    let at = start + self.interval * i32::try_from(index)?;
                    let (rate, steps) = (float(60 + (user + index * 7) % 60), i32::try_from(index % 20)?);
                    sink.as_mut()
                        .write(&[&user, &at, &rate, &steps, &0.25, &"watch"])
                        .await?;
                }
            }
            sink.finish().await?;
        }
        Ok(self.count())
    }
}

impl Measurements {
    fn medians(rounds: &[Self]) -> Self {
        let median_of = |measurement: fn(&Self) -> f64| median(&mut rounds.iter().map(measurement).collect::<Vec<_>>());
        Self {
            rows_per_second: median_of(|measurements| measurements.rows_per_second),
            wal_bytes_per_row: median_of(|measurements| measurements.wal_bytes_per_row),
            index_bytes_per_row: median_of(|measurements| measurements.index_bytes_per_row),
            hour_ms: median_of(|measurements| measurements.hour_ms),
            day_ms: median_of(|measurements| measurements.day_ms),
            month_ms: median_of(|measurements| measurements.month_ms),
            month_pages: median_of(|measurements| measurements.month_pages),
            latest_ms: median_of(|measurements| measurements.latest_ms),
        }
    }
}

/// Returns the number of bytes written to the write-ahead log so far.
async fn wal_position(client: &Client) -> Outcome<i64> {
    let position = "SELECT pg_wal_lsn_diff(pg_current_wal_lsn(), '0/0')::bigint";
    Ok(client.query_one(position, &[]).await?.get(0))
}

/// Counts the pages of the index and the table that hold one user's month.
async fn pages_of_month(client: &Client, rows: RowPlan) -> Outcome<f64> {
    let explain = format!("EXPLAIN (ANALYZE, BUFFERS, TIMING off) {RANGE}");
    let (from, to) = (vec![rows.end - MONTH], vec![rows.end]);
    let plan = client.query(&explain, &[&READ_USERS[0], &from, &to]).await?;
    // The first of these lines counts the whole plan: `Buffers: shared hit=12 read=3`.
    let lines = plan.iter().map(|row| row.get::<_, &str>(0));
    let whole = lines
        .into_iter()
        .find_map(|line| line.trim().strip_prefix("Buffers: shared "));
    let numbers = whole.unwrap_or_default().split(' ').filter_map(|part| {
        let (name, number) = part.split_once('=')?;
        (name == "hit" || name == "read").then(|| number.parse::<f64>().ok())?
    });
    Ok(numbers.sum())
}

/// Runs a statement and returns its duration in milliseconds.
async fn milliseconds(client: &Client, statement: &Statement, params: &[&(dyn ToSql + Sync)]) -> Outcome<f64> {
    let start = Instant::now();
    client.query(statement, params).await?;
    Ok(start.elapsed().as_secs_f64() * 1e3)
}

fn median(values: &mut [f64]) -> f64 {
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(f64::NAN)
}

#[expect(clippy::cast_precision_loss, reason = "counts of rows stay far below 2^52")]
fn float(count: i64) -> f64 {
    count as f64
}

/// Returns the number in an environment variable.
fn variable(name: &str, default: i64) -> i64 {
    std::env::var(name)
        .ok()
        .and_then(|text| text.parse().ok())
        .unwrap_or(default)
}

/// The heading of a column, the measurement it shows, and its number of decimal places.
type Column = (&'static str, fn(&Measurements) -> f64, usize);

/// Prints the table. Each measurement is followed by its ratio to that of the first layout.
fn print_table(rows: &[Measurements]) {
    let columns: [Column; 8] = [
        ("k rows/s", |measurements| measurements.rows_per_second / 1e3, 0),
        ("WAL B/row", |measurements| measurements.wal_bytes_per_row, 0),
        ("index B/row", |measurements| measurements.index_bytes_per_row, 0),
        ("hour, ms", |measurements| measurements.hour_ms, 3),
        ("day, ms", |measurements| measurements.day_ms, 3),
        ("30 days, ms", |measurements| measurements.month_ms, 3),
        ("30 days, pages", |measurements| measurements.month_pages, 0),
        ("5000 by id, ms", |measurements| measurements.latest_ms, 1),
    ];
    let Some(first) = rows.first() else { return };
    print!("\n{:<39}", "layout");
    for (name, ..) in columns {
        print!("{name:>16}");
    }
    println!();
    for (layout, measurements) in LAYOUTS.iter().zip(rows) {
        print!("{:<39}", layout.name);
        for (_, measurement, digits) in columns {
            let (value, ratio) = (
                measurement(measurements),
                measurement(measurements) / measurement(first),
            );
            print!("{value:>9.digits$} {:>6}", format!("x{ratio:.2}"));
        }
        println!();
    }
}
