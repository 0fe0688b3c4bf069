//! What all replays of a handle share.

use std::time::Duration;

use tokio::sync::Semaphore;

use crate::{live::replay::budget::RowBudget, store::readers::Readers};

/// The database, and limits that all replays share.
#[derive(Debug)]
pub(crate) struct ReplaySource {
    pub(super) readers: Readers,
    pub(super) window: Duration,
    /// Permits to ask the database, so that a thousand subscribers that resume at once leave connections to the
    /// queries.
    pub(super) queries: Semaphore,
    /// The rows of all replays that send every sample.
    pub(super) rows: RowBudget,
    /// The rows of replays that send the newest sample of each user. A budget of their own, because each gathers for
    /// long before it sends.
    pub(super) newest: RowBudget,
}

/// Replays that ask the database at the same time.
const QUERIES_MAX: usize = 2;

/// Rows that all replays together hold, 150 to 350 bytes each.
const ROWS_MAX: usize = 50_000;

/// Rows that one replay reads at once at most.
pub(super) const PORTION_ROWS_MAX: usize = 5_000;

/// Users of whom one replay gathers the newest sample before it sends them.
pub(super) const NEWEST_USERS: usize = 40_000;

/// The permits of one replay that gathers the newest samples. All such replays together have as many.
pub(super) const NEWEST_ROWS: usize = NEWEST_USERS + PORTION_ROWS_MAX;

/// A subscriber that is slow for this long has stopped for now. The time is above the pauses that a server with up to
/// 5000 subscribers makes between two writes; with more of them, some rows are read twice.
const PATIENCE: Duration = Duration::from_millis(100);

/// The same for the newest samples, which take long to gather again.
const NEWEST_PATIENCE: Duration = Duration::from_secs(10);

impl ReplaySource {
    pub(crate) fn new(readers: Readers, window: Duration) -> Self {
        Self {
            readers,
            window,
            queries: Semaphore::new(QUERIES_MAX),
            rows: RowBudget::new(ROWS_MAX, PATIENCE),
            newest: RowBudget::new(NEWEST_ROWS, NEWEST_PATIENCE),
        }
    }
}
