//! Wearable readings: validated, stored in PostgreSQL in batches, aggregated by SQL, published after commit.

mod range;
mod record;
mod sample;
mod stats;
mod time;
mod wire;

pub use crate::{
    range::{EmptyRange, TimeRange},
    record::{Reception, RecordFault, read_record},
    sample::{Calories, HeartRate, Identity, InvalidSample, Readings, Sample, Source, Steps, UserId},
    stats::{HOLD_SECONDS, SourceTotals, Stats},
    time::{TimestampError, format_timestamp, parse_timestamp},
    wire::{
        BucketAnswer, BucketStats, Cursor, FEED_PROTOCOL, FeedEvent, IngestCounts, PercentilesAnswer, Problem,
        Rejection, SeriesAnswer, StatsAnswer, UserAnswer, UsersAnswer,
    },
};
