//! Wearable readings: validated, stored in PostgreSQL in batches, aggregated by SQL, published after commit.

#[cfg(feature = "embedded")]
pub mod embedded;

mod bucket;
mod range;
mod record;
mod sample;
mod stats;
mod time;
mod wire;

#[cfg(feature = "store")]
mod batch;
#[cfg(feature = "store")]
mod config;
#[cfg(feature = "store")]
mod counters;
#[cfg(feature = "store")]
mod error;
#[cfg(feature = "store")]
mod fold;
#[cfg(feature = "store")]
mod health;
#[cfg(feature = "store")]
mod histogram;
#[cfg(feature = "store")]
mod ingest;
#[cfg(feature = "store")]
mod live;
#[cfg(feature = "store")]
mod plan;
#[cfg(feature = "store")]
mod roller;
#[cfg(feature = "store")]
mod store;
#[cfg(feature = "store")]
mod summary;

pub use crate::{
    bucket::{Bucket, TooManyBuckets, UnknownBucket},
    range::{EmptyRange, TimeRange},
    record::{Reception, RecordFault, read_record},
    sample::{Calories, HeartRate, Identity, InvalidSample, Readings, Sample, Source, Steps, UserId},
    stats::{HOLD_SECONDS, Percentiles, SourceTotals, Stats},
    time::{TimestampError, format_timestamp, parse_timestamp},
    wire::{
        BucketAnswer, BucketStats, Cursor, FEED_PROTOCOL, FeedEvent, IngestCounts, PercentilesAnswer, Problem,
        Rejection, SeriesAnswer, StatsAnswer, UserAnswer, UsersAnswer,
    },
};

#[cfg(feature = "store")]
pub use crate::{
    batch::Receipt,
    config::{Config, Limits},
    counters::Counts,
    error::{Cause, Error},
    health::Health,
    ingest::queue::Ack,
    live::{
        hub::{Filter, Subscription},
        mailbox::{LiveEvent, Published},
    },
    store::{export::Samples, migrate::migrate},
};
