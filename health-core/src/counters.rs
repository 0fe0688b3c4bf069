//! The counters of a handle, for metrics and for the readiness check.

use std::{
    collections::BTreeSet,
    sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed},
    time::{Duration, Instant},
};

use chrono::{DateTime, Utc};
use parking_lot::Mutex;

use crate::{
    batch::Receipt,
    distribution::{Distributed, Distribution},
    error::{Error, NotWritableReason},
    store::sealing_lag::SealingLag,
};

/// What a [`Health`](crate::Health) has done since it was opened.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Counts {
    /// Samples that were new.
    pub inserted: u64,
    /// Samples that changed a stored one.
    pub updated: u64,
    /// Samples that were stored already, with the same values.
    pub unchanged: u64,
    /// Batches whose transaction was committed.
    pub batches: u64,
    /// How often a batch was planned again, because another server had written the same samples.
    pub conflicts: u64,
    /// Failed attempts to write a batch.
    pub failed_writes: u64,
    /// Samples that wait for a writer or are being written.
    pub queued_rows: u64,
    /// Transactions that erased samples: one for an erasure, or several for many samples.
    pub erasures: u64,
    /// Samples that were erased.
    pub erased_samples: u64,
    /// Samples that live subscribers missed because they read too slowly.
    pub missed: u64,
    /// Seconds from `sealed_before` to now: older samples have summaries or are in dirty slices. With the default
    /// [`Limits::settle`](crate::Limits::settle), between 5 and 20 minutes is normal.
    pub summary_lag_seconds: u64,
    /// Slices whose summaries may be out of date. Counting stops at 100 000 rows of `health_dirty`.
    pub dirty_slices: u64,
    /// Samples that the queue holds at most.
    pub queue_rows_max: u64,
    /// Writers, and how many of them have a connection.
    pub writers: u64,
    /// Writers with a connection to the database.
    pub writers_connected: u64,
    /// Writers that wait for a lock of another session.
    pub writers_blocked: u64,
    /// Connections that readers may open at most.
    pub readers_max: u64,
    /// Connections of readers that are open.
    pub readers_open: u64,
    /// Open connections of readers that no query uses.
    pub readers_idle: u64,
    /// The database is a standby, or set to read-only.
    pub is_read_only: bool,
    /// How long transactions with samples took, in microseconds, from the look-up to the answer to `COMMIT`.
    pub commit_micros: Distributed,
    /// Samples in a transaction.
    pub batch_rows: Distributed,
    /// Failed writes, and failed attempts of writers to connect, by the class of the failure.
    pub failures: [(&'static str, u64); FAILURE_CLASSES.len()],
    /// What the retention has erased. `None` if [`Limits::retain`](crate::Limits::retain) is not set.
    pub retention: Option<RetentionCounts>,
}

/// What the retention has erased.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RetentionCounts {
    /// Samples that it has erased. They are in [`Counts::erased_samples`], too.
    pub erased_samples: u64,
    /// When its last complete run ended; before the first, when the handle was opened.
    pub last_run: DateTime<Utc>,
}

/// The classes of failures.
const FAILURE_CLASSES: [&str; 6] = [
    "unavailable",
    "temporary",
    "not_writable",
    "unknown_outcome",
    "timeout",
    "refused",
];

/// From a commit that an SSD confirms to the ingest deadline.
const COMMIT_MICROS: [u64; 12] = [
    1_000, 2_500, 5_000, 10_000, 25_000, 50_000, 100_000, 250_000, 500_000, 1_000_000, 2_500_000, 10_000_000,
];

/// From a single sample to a batch with a large last request.
const BATCH_ROWS: [u64; 10] = [1, 10, 50, 100, 500, 1_000, 5_000, 10_000, 20_000, 100_000];

/// How long after a failed write the server is not ready.
///
/// If samples wait, the writer tries again sooner ([`LONGEST_PAUSE`](crate::ingest::backoff)). If none wait, no later
/// success would clear the failure, so it has to expire. Clients that got a 503 send again after 2 s, so that a failure
/// that lasts is seen again in time.
const WRITE_FAILURE_EXPIRES_AFTER: Duration = Duration::from_secs(5);

/// The counters behind [`Counts`]. All tasks share them.
#[derive(Debug)]
pub(crate) struct Counters {
    inserted: AtomicU64,
    updated: AtomicU64,
    unchanged: AtomicU64,
    batches: AtomicU64,
    conflicts: AtomicU64,
    failed_writes: AtomicU64,
    erasures: AtomicU64,
    erased_samples: AtomicU64,
    /// The last failed write, until a write succeeds.
    last_write_failure: Mutex<Option<(Instant, Error)>>,
    /// The database is read-only, as far as any task knows.
    is_read_only: AtomicBool,
    /// The writers that wait for a lock of another session, by the process of PostgreSQL.
    blocked: Mutex<BTreeSet<i32>>,
    /// When the roller measured the lag, and what it was then. A roller that is stopped measures nothing, and the lag
    /// grows.
    summary_lag: Mutex<(Instant, u64)>,
    dirty_slices: AtomicU64,
    commit_micros: Distribution,
    batch_rows: Distribution,
    failures: [AtomicU64; FAILURE_CLASSES.len()],
    retention: Mutex<Option<RetentionCounts>>,
}

impl Default for Counters {
    fn default() -> Self {
        Self {
            inserted: AtomicU64::default(),
            updated: AtomicU64::default(),
            unchanged: AtomicU64::default(),
            batches: AtomicU64::default(),
            conflicts: AtomicU64::default(),
            failed_writes: AtomicU64::default(),
            erasures: AtomicU64::default(),
            erased_samples: AtomicU64::default(),
            last_write_failure: Mutex::default(),
            is_read_only: AtomicBool::default(),
            blocked: Mutex::default(),
            summary_lag: Mutex::new((Instant::now(), 0)),
            dirty_slices: AtomicU64::default(),
            commit_micros: Distribution::new(&COMMIT_MICROS),
            batch_rows: Distribution::new(&BATCH_ROWS),
            failures: Default::default(),
            retention: Mutex::default(),
        }
    }
}

/// Returns the index of an error's class in [`FAILURE_CLASSES`].
fn failure_class(error: &Error) -> usize {
    match error {
        Error::Unavailable(_) | Error::Stopped(_) | Error::Closed => 0,
        Error::Temporary { .. } => 1,
        Error::NotWritable(_) => 2,
        Error::CommitUnknown(_) => 3,
        Error::TimedOut(_) | Error::NotStoredInTime(_) => 4,
        _ => 5,
    }
}

impl Counters {
    /// Counts a committed batch of so many samples, and clears the last write failure.
    pub(crate) fn count_commit(&self, receipts: &[Receipt], rows: usize, took: Duration) {
        self.commit_micros
            .count(u64::try_from(took.as_micros()).unwrap_or(u64::MAX));
        self.batch_rows.count(u64::try_from(rows).unwrap_or(u64::MAX));
        let mut sum = Receipt::default();
        for receipt in receipts {
            sum += *receipt;
        }
        self.inserted.fetch_add(sum.inserted, Relaxed);
        self.updated.fetch_add(sum.updated, Relaxed);
        self.unchanged.fetch_add(sum.unchanged, Relaxed);
        self.batches.fetch_add(1, Relaxed);
        if self.is_read_only() {
            self.note_writable(true);
        }
        *self.last_write_failure.lock() = None;
    }

    /// Counts a committed transaction that erased samples.
    pub(crate) fn count_erasure(&self, samples: u64) {
        self.erasures.fetch_add(1, Relaxed);
        self.erased_samples.fetch_add(samples, Relaxed);
    }

    /// Notes that the retention has started, or has ended a complete run.
    pub(crate) fn note_retention_run(&self, at: DateTime<Utc>) {
        let mut retention = self.retention.lock();
        let erased_samples = retention.map_or(0, |before| before.erased_samples);
        *retention = Some(RetentionCounts {
            erased_samples,
            last_run: at,
        });
    }

    /// Counts samples that the retention has erased.
    pub(crate) fn count_retention(&self, samples: u64) {
        if let Some(retention) = &mut *self.retention.lock() {
            retention.erased_samples += samples;
        }
    }

    /// Returns the number of committed batches.
    pub(crate) fn batches(&self) -> u64 {
        self.batches.load(Relaxed)
    }

    pub(crate) fn count_conflict(&self) {
        self.conflicts.fetch_add(1, Relaxed);
    }

    pub(crate) fn count_failed_write(&self, error: &Error) {
        self.failed_writes.fetch_add(1, Relaxed);
        self.count_failure(error);
        *self.last_write_failure.lock() = Some((Instant::now(), error.clone()));
    }

    /// Counts a failure by its class: of a write, or of a writer that cannot connect.
    pub(crate) fn count_failure(&self, error: &Error) {
        if let Some(count) = self.failures.get(failure_class(error)) {
            count.fetch_add(1, Relaxed);
        }
    }

    pub(crate) fn set_sealing_lag(&self, lag: SealingLag) {
        *self.summary_lag.lock() = (Instant::now(), lag.seconds);
        self.dirty_slices.store(lag.dirty_slices, Relaxed);
    }

    /// Notes whether the database can be written. The log says it when this changes.
    pub(crate) fn note_writable(&self, is_writable: bool) {
        let was_read_only = self.is_read_only.swap(!is_writable, Relaxed);
        if !is_writable && !was_read_only {
            tracing::warn!(
                "the database is read-only (a standby, or set so): queries and the feed work, but nothing can be stored until \
                 it is promoted or set to read-write"
            );
        } else if is_writable && was_read_only {
            tracing::info!("the database can be written again");
        }
    }

    /// Returns whether the database is read-only, as far as any task knows.
    pub(crate) fn is_read_only(&self) -> bool {
        self.is_read_only.load(Relaxed)
    }

    /// Notes that a writer waits for a lock of another session, or no longer does.
    pub(crate) fn note_blocked(&self, pid: i32, is_blocked: bool) {
        let mut blocked = self.blocked.lock();
        if is_blocked {
            blocked.insert(pid);
        } else {
            blocked.remove(&pid);
        }
    }

    /// Returns why samples are not being stored, if the database has said so.
    pub(crate) fn reason_not_stored(&self) -> Option<Error> {
        let is_blocked = !self.blocked.lock().is_empty();
        let blocked = is_blocked.then_some(Error::NotWritable(NotWritableReason::WriterLocked));
        self.recent_write_failure().or(blocked)
    }

    /// Returns why the last write failed, unless a later one succeeded or the failure has expired.
    pub(crate) fn recent_write_failure(&self) -> Option<Error> {
        let failure = self.last_write_failure.lock();
        failure
            .as_ref()
            .filter(|(at, _)| at.elapsed() < WRITE_FAILURE_EXPIRES_AFTER)
            .map(|(_, error)| error.clone())
    }

    fn summary_lag_seconds(&self) -> u64 {
        let (measured_at, seconds) = *self.summary_lag.lock();
        seconds.saturating_add(measured_at.elapsed().as_secs())
    }

    pub(crate) fn counts(&self, queued_rows: usize, missed: u64) -> Counts {
        Counts {
            inserted: self.inserted.load(Relaxed),
            updated: self.updated.load(Relaxed),
            unchanged: self.unchanged.load(Relaxed),
            batches: self.batches.load(Relaxed),
            conflicts: self.conflicts.load(Relaxed),
            failed_writes: self.failed_writes.load(Relaxed),
            erasures: self.erasures.load(Relaxed),
            erased_samples: self.erased_samples.load(Relaxed),
            queued_rows: u64::try_from(queued_rows).unwrap_or(u64::MAX),
            missed,
            summary_lag_seconds: self.summary_lag_seconds(),
            dirty_slices: self.dirty_slices.load(Relaxed),
            writers_blocked: u64::try_from(self.blocked.lock().len()).unwrap_or(u64::MAX),
            is_read_only: self.is_read_only(),
            commit_micros: self.commit_micros.read(),
            batch_rows: self.batch_rows.read(),
            failures: std::array::from_fn(|index| (FAILURE_CLASSES[index], self.failures[index].load(Relaxed))),
            retention: *self.retention.lock(),
            ..Counts::default()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_lag_of_a_roller_that_measures_nothing_grows() {
        let counters = Counters::default();
        counters.set_sealing_lag(SealingLag {
            seconds: 600,
            dirty_slices: 0,
        });
        assert!((600..660).contains(&counters.counts(0, 0).summary_lag_seconds));
        counters.summary_lag.lock().0 -= Duration::from_hours(2);
        assert!(counters.counts(0, 0).summary_lag_seconds >= 7_800);
    }
}
