//! What an operator should know of a database: [`check_database`](crate::check_database) asks.

use std::time::Duration;

use chrono::TimeDelta;

use crate::{cluster::ClusterCheck, setup_error::SetupError, token::Token};

/// What was found out about a database.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct DatabaseCheck {
    /// The name of the database.
    pub name: String,
    /// The role of this program.
    pub role: String,
    /// The version of PostgreSQL.
    pub version: String,
    /// The name of the encoding.
    pub encoding: String,
    /// Whether all names of sources can be stored in this encoding.
    pub is_encoding_supported: bool,
    /// The database is a standby.
    pub is_standby: bool,
    /// The URL leads to a pooler in transaction or statement mode.
    pub is_pooled: bool,
    /// How the schema compares with the migrations of this program.
    pub schema: SchemaState,
    /// The Citus cluster that the database belongs to.
    pub cluster: Option<ClusterCheck>,
    /// Settings of PostgreSQL.
    pub settings: Settings,
    /// How far the clock of the database is ahead of this machine's; negative if it is behind.
    pub clock_ahead: TimeDelta,
    /// How many connections a server opens, and how many it may have.
    pub connections: Option<Connections>,
    /// Tables and sequences with the rights that this role lacks.
    pub missing_rights: Vec<String>,
    /// The transaction of another session that is open longest.
    pub oldest_transaction: Option<OpenTransaction>,
    /// Transactions that were prepared and neither committed nor rolled back.
    pub prepared: PreparedTransactions,
    /// Bytes of WAL that PostgreSQL keeps for replication slots without a client.
    pub wal_kept_bytes: u64,
    /// How far the roller is; `None` if the tables cannot be read.
    pub sealing: Option<Sealing>,
    /// How fast the database grows; `None` if too little was written to tell.
    pub growth: Option<Growth>,
    /// Users, among the first thousand or fewer, who have samples that the retention should have erased long ago: they
    /// are two days older than [`Limits::retain`](crate::Limits::retain). `None` if it is not set.
    pub users_with_old_samples: Option<usize>,
    /// The tokens that are not revoked.
    pub tokens: Vec<Token>,
}

/// How the schema compares with the migrations of this program.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub enum SchemaState {
    /// Every migration was applied.
    Current,
    /// Some or all migrations are missing.
    Behind,
    /// Other programs have changed it.
    Unusable(SetupError),
}

/// Settings of PostgreSQL.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Settings {
    /// Commits wait for the disk. Without it, a crash of the machine may damage all data.
    pub fsync: bool,
    /// The WAL has whole pages. Without it, a crash of the machine may damage pages.
    pub full_page_writes: bool,
    /// Deleted rows are removed in the background.
    pub autovacuum: bool,
    /// The default of new sessions: the sessions of this program make it at least `on`.
    pub synchronous_commit: String,
    /// The version of PostgreSQL as a number, such as 150018.
    pub version_number: i32,
    /// The size of the database.
    pub database_bytes: u64,
}

/// How many connections a server opens, and how many it may have.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct Connections {
    /// What a server opens with its limits.
    pub wanted: i64,
    /// What the role, the database and PostgreSQL allow.
    pub allowed: i64,
    /// What a server needs at least.
    pub needed: i64,
    /// The connections of all programs.
    pub open: i64,
}

/// A transaction of another session.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct OpenTransaction {
    /// The process of PostgreSQL.
    pub pid: i32,
    /// Its role.
    pub role: String,
    /// The name that the program gave.
    pub application: String,
    /// How long it is open.
    pub age: Duration,
}

/// Transactions that were prepared and neither committed nor rolled back.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct PreparedTransactions {
    /// Their number.
    pub count: i64,
    /// The age of the oldest.
    pub oldest: Duration,
    /// The name of one of them.
    pub name: String,
}

/// How far the roller is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct Sealing {
    /// The age of the end of the summarised time.
    pub lag: Duration,
    /// Slices whose summaries may be out of date.
    pub dirty_slices: u64,
}

/// How fast a database grows, by the rows of the last commits and the average size of a stored sample.
#[derive(Debug, Clone, Copy, PartialEq)]
#[non_exhaustive]
pub struct Growth {
    /// Rows written a day.
    pub rows_per_day: f64,
    /// Bytes a day.
    pub bytes_per_day: f64,
}

/// The fewest rows from which the size of one can be told.
const ROWS_MIN: f64 = 1000.0;

/// The shortest time from which a rate for a day can be told.
const TIME_MIN: Duration = Duration::from_mins(1);

impl Growth {
    /// Estimates the growth from `rows` that were written in `elapsed`, and from the size of the tables with their
    /// number of rows. `None` if these are too few.
    pub(crate) fn estimate(rows: i64, elapsed: Duration, table_bytes: f64, table_rows: f64) -> Option<Self> {
        #[expect(clippy::cast_precision_loss, reason = "counts stay far below 2^53")]
        let rows = rows as f64;
        if rows < ROWS_MIN || table_rows < ROWS_MIN || elapsed < TIME_MIN {
            return None;
        }
        let rows_per_day = rows / elapsed.as_secs_f64() * Duration::from_hours(24).as_secs_f64();
        Some(Self {
            rows_per_day,
            bytes_per_day: rows_per_day * table_bytes / table_rows,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_growth_is_the_rate_of_rows_times_their_average_size() {
        let hour = Duration::from_hours(1);
        let growth = Growth::estimate(10_000, hour, 2e6, 20_000.0).unwrap();
        assert!((growth.rows_per_day - 240_000.0).abs() < 1.0);
        assert!((growth.bytes_per_day - 24e6).abs() < 100.0);
        assert_eq!(Growth::estimate(10, hour, 2e6, 20_000.0), None, "too few rows");
        assert_eq!(
            Growth::estimate(10_000, hour, 2e6, -1.0),
            None,
            "a table that was never analysed"
        );
        assert_eq!(Growth::estimate(10_000, Duration::from_secs(2), 2e6, 20_000.0), None);
    }
}
