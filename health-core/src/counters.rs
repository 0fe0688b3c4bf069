//! What the core has done so far, for whoever exports it.

use std::{
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::{Duration, Instant},
};

use crate::{batch::Receipt, error::Error, store::rollup::Lag};

/// What a [`Health`](crate::Health) has done since it was opened.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Counts {
    /// Samples that were new.
    pub inserted: u64,
    /// Samples that changed a stored one.
    pub updated: u64,
    /// Samples that were stored already.
    pub unchanged: u64,
    /// Transactions committed.
    pub batches: u64,
    /// Batches planned again because another server had written the same samples.
    pub raced: u64,
    /// Tries to write that failed.
    pub failed_writes: u64,
    /// Rows that wait or are being written now.
    pub queued_rows: u64,
    /// Seconds since the end of the last quarter of an hour that is summarised; 5 to 20 minutes is as it should be.
    pub summary_lag_seconds: u64,
    /// Quarters of an hour whose summaries wait to be made again, counted up to 100 000.
    pub dirty_slices: u64,
}

/// For how long a failed write speaks against being ready. Where something waits to be written the next try comes sooner,
/// and where nothing waits nobody would ever take it back.
const TROUBLE_LASTS: Duration = Duration::from_secs(2);

#[derive(Debug, Default)]
pub(crate) struct Counters {
    inserted: AtomicU64,
    updated: AtomicU64,
    unchanged: AtomicU64,
    batches: AtomicU64,
    raced: AtomicU64,
    failed_writes: AtomicU64,
    trouble: Mutex<Option<(Instant, Error)>>,
    summary_lag_seconds: AtomicU64,
    dirty_slices: AtomicU64,
}

impl Counters {
    pub(crate) fn committed(&self, receipts: &[Receipt]) {
        let mut sum = Receipt::default();
        for receipt in receipts {
            sum += *receipt;
        }
        self.inserted.fetch_add(sum.inserted, Relaxed);
        self.updated.fetch_add(sum.updated, Relaxed);
        self.unchanged.fetch_add(sum.unchanged, Relaxed);
        self.batches.fetch_add(1, Relaxed);
    }

    /// Transactions committed so far.
    pub(crate) fn batches(&self) -> u64 {
        self.batches.load(Relaxed)
    }

    pub(crate) fn raced(&self) {
        self.raced.fetch_add(1, Relaxed);
    }

    pub(crate) fn summaries_are_behind(&self, lag: Lag) {
        self.summary_lag_seconds.store(lag.seconds, Relaxed);
        self.dirty_slices.store(lag.dirty_slices, Relaxed);
    }

    pub(crate) fn writing_fails(&self, error: &Error) {
        self.failed_writes.fetch_add(1, Relaxed);
        *self.trouble.lock().unwrap_or_else(PoisonError::into_inner) = Some((Instant::now(), error.clone()));
    }

    pub(crate) fn writing_works(&self) {
        *self.trouble.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }

    /// Why the last try to write failed, if it did and was just now.
    pub(crate) fn trouble(&self) -> Option<Error> {
        let trouble = self.trouble.lock().unwrap_or_else(PoisonError::into_inner);
        trouble
            .as_ref()
            .filter(|(since, _)| since.elapsed() < TROUBLE_LASTS)
            .map(|(_, error)| error.clone())
    }

    pub(crate) fn counts(&self, queued_rows: usize) -> Counts {
        Counts {
            inserted: self.inserted.load(Relaxed),
            updated: self.updated.load(Relaxed),
            unchanged: self.unchanged.load(Relaxed),
            batches: self.batches.load(Relaxed),
            raced: self.raced.load(Relaxed),
            failed_writes: self.failed_writes.load(Relaxed),
            queued_rows: u64::try_from(queued_rows).unwrap_or(u64::MAX),
            summary_lag_seconds: self.summary_lag_seconds.load(Relaxed),
            dirty_slices: self.dirty_slices.load(Relaxed),
        }
    }
}
