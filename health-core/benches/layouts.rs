//! What the indexes of `health_metrics` cost those who write and give those who read: `cargo bench -p health-core --bench layouts`.
//!
//! The same rows of a thousand users go into the same table under one set of indexes after the other, as a writer sends them: by
//! binary COPY, 20 000 a transaction, sorted by key within each, in the order of time from one to the next. So a user's rows lie
//! scattered over the heap, 20 together. Then one user's hour, day and month are read, as are the latest 5000 rows by `id`, as the
//! feed does; and the pages are counted that a month is read from, which is what it costs where they are not in memory.
//!
//! The throw-away PostgreSQL syncs nothing and writes no full pages to its log: what is compared is the work, not the disk.
//! `HEALTH_BENCH_EVERY` is how many seconds lie between two samples of a user over 30 days (900: 2.88 million rows; 300
//! makes three times as many), `HEALTH_BENCH_BATCH` how many rows are written a transaction (with 1000 each row of a user lies in a
//! page of its own, as what many send live does), `HEALTH_BENCH_ROUNDS` how often every layout is written (1; the figures are medians).

#![expect(clippy::print_stdout, reason = "it prints a table")]

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

/// Spread over all of them.
const READ_USERS: [i64; 5] = [7, 250, 500, 750, 993];

const LATEST_ROWS: i64 = 5_000;

const MONTH: TimeDelta = TimeDelta::days(30);

/// `health_metrics` of the first migration, without its key.
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

/// As `RAW` of `store/read.rs`.
const RANGE: &str = "SELECT m.timestamp, m.source, m.heart_rate, m.steps, m.calories \
    FROM unnest($2::timestamptz[], $3::timestamptz[]) AS spans (a, b) \
    CROSS JOIN LATERAL (SELECT timestamp, source, heart_rate, steps, calories FROM samples \
    WHERE user_id = $1 AND timestamp >= spans.a AND timestamp < spans.b ORDER BY timestamp, source) AS m";

/// As `ROWS` of `store/feed.rs`.
const LATEST: &str = "SELECT id, xmin, user_id, timestamp, heart_rate, steps, calories, source FROM samples \
    WHERE id > $1 AND id <= $2 AND ($3::bigint[] IS NULL OR user_id + 0 = ANY($3)) ORDER BY id";

struct Layout {
    name: &'static str,
    indexes: &'static str,
}

const LAYOUTS: [Layout; 5] = [
    Layout {
        name: "key with readings, BRIN on id (in use)",
        indexes: "ALTER TABLE samples ADD PRIMARY KEY (user_id, timestamp, source) INCLUDE (heart_rate, steps, calories); \
            CREATE INDEX ON samples USING brin (id) WITH (autosummarize = on)",
    },
    Layout {
        name: "bare key, BRIN on id",
        indexes: "ALTER TABLE samples ADD PRIMARY KEY (user_id, timestamp, source); \
            CREATE INDEX ON samples USING brin (id) WITH (autosummarize = on)",
    },
    Layout {
        name: "key with readings, B-tree on id",
        indexes: "ALTER TABLE samples ADD PRIMARY KEY (user_id, timestamp, source) INCLUDE (heart_rate, steps, calories); \
            CREATE INDEX ON samples (id)",
    },
    Layout {
        name: "key with readings, nothing on id",
        indexes: "ALTER TABLE samples ADD PRIMARY KEY (user_id, timestamp, source) INCLUDE (heart_rate, steps, calories)",
    },
    Layout {
        name: "user, source, time; BRIN on id",
        indexes: "ALTER TABLE samples ADD PRIMARY KEY (user_id, source, timestamp) INCLUDE (heart_rate, steps, calories); \
            CREATE INDEX ON samples USING brin (id) WITH (autosummarize = on)",
    },
];

/// The rows, each user's so far apart.
#[derive(Clone, Copy)]
struct Rows {
    end: DateTime<Utc>,
    every: TimeDelta,
    a_batch: i64,
}

/// What is measured of a layout; each is a column, less is better in all but the first.
#[derive(Default, Clone)]
struct Figures {
    rows_per_second: f64,
    wal_bytes_a_row: f64,
    index_bytes_a_row: f64,
    hour_ms: f64,
    day_ms: f64,
    month_ms: f64,
    month_pages: f64,
    latest_ms: f64,
}

#[tokio::main]
async fn main() -> Outcome<()> {
    let rows = Rows {
        end: Utc::now() - TimeDelta::hours(1),
        every: TimeDelta::seconds(variable("HEALTH_BENCH_EVERY", 900)),
        a_batch: variable("HEALTH_BENCH_BATCH", 20_000),
    };
    let rounds = variable("HEALTH_BENCH_ROUNDS", 1).max(1);
    let mut measured = vec![Vec::new(); LAYOUTS.len()];
    println!("{} rows of {USERS} users, {} a transaction", rows.count(), rows.a_batch);
    for round in 1..=rounds {
        for (layout, figures) in LAYOUTS.iter().zip(&mut measured) {
            println!("round {round} of {rounds}: {}", layout.name);
            figures.push(measure(layout, rows).await?);
        }
    }
    let medians: Vec<_> = measured.iter().map(|figures| Figures::medians(figures)).collect();
    print(&medians);
    Ok(())
}

async fn measure(layout: &Layout, rows: Rows) -> Outcome<Figures> {
    let database = TestDatabase::empty().await;
    let (client, connection) = tokio_postgres::connect(database.url(), NoTls).await?;
    tokio::spawn(connection);
    client
        .batch_execute(&format!("{TABLE}; {}; CHECKPOINT", layout.indexes))
        .await?;

    let (log_before, began) = (log_position(&client).await?, Instant::now());
    let copied = rows.copy(&client).await?;
    let seconds = began.elapsed().as_secs_f64();
    let log_bytes = log_position(&client).await? - log_before;
    client.batch_execute("VACUUM ANALYZE samples").await?;
    let index_bytes: i64 = client.query_one("SELECT pg_indexes_size('samples')", &[]).await?.get(0);

    let range = client.prepare(RANGE).await?;
    let latest = client.prepare(LATEST).await?;
    let mut figures = Figures {
        rows_per_second: float(copied) / seconds,
        wal_bytes_a_row: float(log_bytes) / float(copied),
        index_bytes_a_row: float(index_bytes) / float(copied),
        ..Figures::default()
    };
    // Not at the end: the middle of a month is where most ranges are.
    let middle = rows.end - MONTH / 2;
    for (figure, from, length, reads) in [
        (&mut figures.hour_ms, middle, TimeDelta::hours(1), 200),
        (&mut figures.day_ms, middle, TimeDelta::days(1), 200),
        (&mut figures.month_ms, rows.end - MONTH, MONTH, 50),
    ] {
        let mut times = Vec::new();
        for read in 0..reads {
            let user = READ_USERS[read % READ_USERS.len()];
            times.push(milliseconds(&client, &range, &[&user, &vec![from], &vec![from + length]]).await?);
        }
        *figure = median(&mut times);
    }
    figures.month_pages = pages(&client, rows).await?;
    // As in the feed's own session: no plan that reads everything, where there is another.
    client.batch_execute("SET enable_seqscan = off").await?;
    let last_id: i64 = client.query_one("SELECT max(id) FROM samples", &[]).await?.get(0);
    let mut times = Vec::new();
    for _ in 0..20 {
        let anyone = None::<Vec<i64>>;
        times.push(milliseconds(&client, &latest, &[&(last_id - LATEST_ROWS), &last_id, &anyone]).await?);
    }
    figures.latest_ms = median(&mut times);
    Ok(figures)
}

impl Rows {
    fn count(self) -> i64 {
        USERS * self.moments()
    }

    fn moments(self) -> i64 {
        MONTH.num_seconds() / self.every.num_seconds().max(1)
    }

    /// As many moments a transaction as make a whole batch.
    async fn copy(self, client: &Client) -> Outcome<i64> {
        let (start, together) = (self.end - MONTH, (self.a_batch / USERS).max(1));
        for first in (0..self.moments()).step_by(usize::try_from(together)?) {
            let mut sink = pin!(BinaryCopyInWriter::new(client.copy_in(COPY).await?, &COLUMNS));
            for user in 1..=USERS {
                for moment in first..self.moments().min(first + together) {
                    let at = start + self.every * i32::try_from(moment)?;
                    let (rate, steps) = (float(60 + (user + moment * 7) % 60), i32::try_from(moment % 20)?);
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

impl Figures {
    fn medians(of: &[Self]) -> Self {
        let median_of = |figure: fn(&Self) -> f64| median(&mut of.iter().map(figure).collect::<Vec<_>>());
        Self {
            rows_per_second: median_of(|figures| figures.rows_per_second),
            wal_bytes_a_row: median_of(|figures| figures.wal_bytes_a_row),
            index_bytes_a_row: median_of(|figures| figures.index_bytes_a_row),
            hour_ms: median_of(|figures| figures.hour_ms),
            day_ms: median_of(|figures| figures.day_ms),
            month_ms: median_of(|figures| figures.month_ms),
            month_pages: median_of(|figures| figures.month_pages),
            latest_ms: median_of(|figures| figures.latest_ms),
        }
    }
}

async fn log_position(client: &Client) -> Outcome<i64> {
    let position = "SELECT pg_wal_lsn_diff(pg_current_wal_lsn(), '0/0')::bigint";
    Ok(client.query_one(position, &[]).await?.get(0))
}

/// Of index and table together, that one user's month is read from.
async fn pages(client: &Client, rows: Rows) -> Outcome<f64> {
    let explain = format!("EXPLAIN (ANALYZE, BUFFERS, TIMING off) {RANGE}");
    let (from, to) = (vec![rows.end - MONTH], vec![rows.end]);
    let plan = client.query(&explain, &[&READ_USERS[0], &from, &to]).await?;
    // The first such line is that of the whole: `Buffers: shared hit=12 read=3`.
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

async fn milliseconds(client: &Client, statement: &Statement, params: &[&(dyn ToSql + Sync)]) -> Outcome<f64> {
    let began = Instant::now();
    client.query(statement, params).await?;
    Ok(began.elapsed().as_secs_f64() * 1e3)
}

fn median(values: &mut [f64]) -> f64 {
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(f64::NAN)
}

#[expect(clippy::cast_precision_loss, reason = "counts of rows stay far below 2^52")]
fn float(count: i64) -> f64 {
    count as f64
}

fn variable(name: &str, default: i64) -> i64 {
    std::env::var(name)
        .ok()
        .and_then(|text| text.parse().ok())
        .unwrap_or(default)
}

/// What is above it, which figure it shows, and with how many digits after the point.
type Column = (&'static str, fn(&Figures) -> f64, usize);

/// Each figure with its ratio against the first line's.
fn print(lines: &[Figures]) {
    let columns: [Column; 8] = [
        ("k rows/s", |figures| figures.rows_per_second / 1e3, 0),
        ("WAL B/row", |figures| figures.wal_bytes_a_row, 0),
        ("index B/row", |figures| figures.index_bytes_a_row, 0),
        ("hour, ms", |figures| figures.hour_ms, 3),
        ("day, ms", |figures| figures.day_ms, 3),
        ("30 days, ms", |figures| figures.month_ms, 3),
        ("30 days, pages", |figures| figures.month_pages, 0),
        ("5000 by id, ms", |figures| figures.latest_ms, 1),
    ];
    let Some(first) = lines.first() else { return };
    print!("\n{:<39}", "layout");
    for (name, ..) in columns {
        print!("{name:>16}");
    }
    println!();
    for (layout, figures) in LAYOUTS.iter().zip(lines) {
        print!("{:<39}", layout.name);
        for (_, figure, digits) in columns {
            let (value, ratio) = (figure(figures), figure(figures) / figure(first));
            print!("{value:>9.digits$} {:>6}", format!("x{ratio:.2}"));
        }
        println!();
    }
}
