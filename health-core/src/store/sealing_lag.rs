//! Measures how far summaries lag behind the samples. The metrics and `health-server check` show it.

use crate::store::{connection::Session, error::StoreError};

/// Measures how old the end of the sealed time is, and how many slices are dirty. It reads at most 100 000 rows of
/// `health_dirty`, so that it stays fast.
const LAG: &str = "SELECT extract(epoch FROM clock_timestamp() - sealed_before)::bigint, \
     (SELECT count(*) FROM (SELECT DISTINCT user_id, slice \
     FROM (SELECT user_id, slice FROM health_dirty LIMIT 100000) AS counted) \
     AS slices) FROM health_sealing";

/// How old the end of the sealed time is, and how many slices are dirty.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct SealingLag {
    /// Seconds from `sealed_before` to now.
    pub(crate) seconds: u64,
    /// Dirty slices, among at most 100 000 rows of `health_dirty`.
    pub(crate) dirty_slices: u64,
}

/// Measures how old the end of the sealed time is, and how many slices are dirty. Answers stay exact in any case:
/// readers take samples in place of missing summaries.
pub(crate) async fn lag(session: &mut Session) -> Result<SealingLag, StoreError> {
    let statement = session.prepare(LAG).await?;
    let row = session.client().query_one(&statement, &[]).await?;
    let count = |column| u64::try_from(row.get::<_, i64>(column)).unwrap_or(0);
    Ok(SealingLag {
        seconds: count(0),
        dirty_slices: count(1),
    })
}
