//! Readings of wearables: validation, storage in PostgreSQL, statistics and a live feed of committed samples.
//!
//! SQL statements select and order the rows; Rust code folds them into statistics.
//!
//! ```no_run
//! # #[cfg(feature = "store")]
//! # async fn example() -> Result<(), Box<dyn std::error::Error>> {
//! use health_core::{Config, Health, HeartRate, Readings, Sample, Source, TimeRange, UserId};
//!
//! let health = Health::open(Config::from_url("postgres://localhost/health_db")?).await?; // connects and migrates
//! let readings = Readings { heart_rate: Some(HeartRate::new(72.0)?), ..Readings::default() };
//! let sample = Sample::new(UserId::new(101)?, chrono::Utc::now(), Source::new("watch")?, readings)?;
//! let receipt = health.ingest([sample]).await?; // returns after COMMIT
//! let stats = health.stats(UserId::new(101)?, TimeRange::last(chrono::TimeDelta::hours(24))).await?.overall;
//! println!("{} stored, {:?} beats per minute", receipt.accepted(), stats.average_heart_rate);
//! health.close().await?; // stores all accepted samples, then stops
//! # Ok(())
//! # }
//! ```
//!
//! In reading order:
//!
//! - [`Sample`] and its values ([`UserId`], [`HeartRate`], [`Steps`], [`Calories`], [`Source`]) are valid by
//!   construction.
//! - [`read_record`] parses a sample from JSON, or an [`Interval`], which covers a span of time.
//! - `Health` is the handle: it stores samples, computes [`Stats`] and opens a `Subscription` to committed samples.
//! - `Error` tells the caller what to do when something fails.
//!
//! Features:
//!
//! - `store` (default): the handle `Health` and everything that needs PostgreSQL. Without it, the crate has only the
//!   types and their JSON.
//! - `embedded`: a PostgreSQL server that this crate starts and supervises.
//! - `clap`: the limits as command-line options (with `store`), and errors that name the variable with a wrong value.
//! - `client`: a client of the live feed that reconnects and resumes. It needs no database.
//! - `formats`: the readers of what phones and devices send. They need no database and no runtime.

#[cfg(feature = "store")]
pub mod access;
#[cfg(feature = "embedded")]
pub mod backup;
#[cfg(feature = "store")]
pub mod check;
#[cfg(feature = "client")]
pub mod client;
#[cfg(feature = "store")]
pub mod cluster;
#[cfg(feature = "embedded")]
pub mod embedded;
#[cfg(feature = "clap")]
pub mod flags;
#[cfg(feature = "store")]
pub mod token;

#[cfg(feature = "formats")]
pub mod formats;

mod alert;
mod bucket;
mod erasure;
mod interval;
mod range;
mod record;
mod sample;
mod stats;
mod text;
mod time;
#[cfg(any(feature = "client", feature = "store"))]
mod tls_reason;
mod wire;

#[cfg(feature = "store")]
mod batch;
#[cfg(feature = "store")]
mod cause;
#[cfg(feature = "store")]
mod config;
#[cfg(feature = "store")]
mod counters;
#[cfg(feature = "store")]
mod distribution;
#[cfg(feature = "store")]
mod error;
#[cfg(feature = "store")]
mod fold;
#[cfg(feature = "store")]
mod grain;
#[cfg(feature = "store")]
mod health;
#[cfg(feature = "store")]
mod histogram;
#[cfg(feature = "store")]
mod identifier;
#[cfg(feature = "store")]
mod ingest;
#[cfg(feature = "store")]
mod limit;
#[cfg(feature = "store")]
mod live;
#[cfg(feature = "store")]
mod migration_plan;
#[cfg(feature = "store")]
mod outage;
#[cfg(feature = "store")]
mod panics;
#[cfg(feature = "store")]
mod plan;
#[cfg(feature = "store")]
mod retention;
#[cfg(feature = "store")]
mod roller;
#[cfg(feature = "store")]
mod sessions;
#[cfg(feature = "store")]
mod setup_error;
#[cfg(feature = "store")]
mod shard;
#[cfg(feature = "store")]
mod store;
#[cfg(feature = "store")]
mod summary;

pub use crate::{
    alert::{Alert, AlertThresholds},
    bucket::{Bucket, ParseBucketError, TooManyBuckets},
    erasure::Erasure,
    interval::{Interval, Parts},
    range::{EmptyRange, TimeRange},
    record::{RECORD_FIELDS, ReceiveClock, Record, RecordFault, read_record, read_record_of},
    sample::{Calories, HeartRate, Identity, InvalidSample, Readings, Sample, Source, Steps, UserId},
    stats::{Percentiles, READING_WEIGHT_SECONDS_MAX, RangeStats, SLICE_SECONDS, SourceTotals, Stats, winning_source},
    text::counted,
    time::{TimestampError, format_timestamp, parse_timestamp},
    wire::{
        Cursor, ErasedResponse, FEED_PROTOCOL, FeedEvent, IngestCounts, PercentilesResponse, Problem, RecordedEvent,
        Rejection, SeriesBucket, SeriesResponse, StatsResponse, UserEntry, UsersResponse,
    },
};

#[cfg(feature = "store")]
pub use crate::{
    batch::Receipt,
    cause::Cause,
    config::{Config, Limits},
    counters::{Counts, RetentionCounts},
    distribution::{Distributed, Distribution},
    error::{Error, NotWritableReason, Refused, TemporaryReason},
    health::Health,
    ingest::queue::Ack,
    limit::LimitOutOfRange,
    live::{
        event::{LiveEvent, Published},
        filter::Filter,
        subscription::Subscription,
    },
    migration_plan::{LockMode, MigrationPlan, PendingMigration, RelationLock, Trial, TriedMigration},
    outage::{DatabaseStatus, Outage, OutageReason},
    setup_error::SetupError,
    store::{
        check::check_database,
        distribute::{distribute, distribution_steps},
        dry_run::plan_migration,
        export::Samples,
        grants::grants,
        migrate::migrate,
    },
};
