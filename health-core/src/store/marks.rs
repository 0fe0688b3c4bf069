//! What a writer leaves for the roller: marks on slices whose summaries it made untrue.
//!
//! A writer's transaction holds the threshold's lock in common with the others and then, in a statement of its own, reads the
//! threshold; one statement would have taken its snapshot before it waited. Whoever moves the threshold takes the lock
//! alone, so every writer that has not seen the new one has ended by then.

use std::collections::BTreeSet;

use crate::{
    fold::SLICE_MICROS,
    sample::Sample,
    store::{connection::Session, micros::Micros},
};

/// What the one who moves the threshold waits for: nobody is writing then. Writers take the same lock in common, see
/// [`write`](crate::store::write).
pub(crate) const LOCK_THRESHOLD: &str = "SELECT pg_advisory_xact_lock(hashtext('health threshold'))";

/// `DO UPDATE` locks a mark that is there already, so that the roller does not take it away before these samples are
/// committed; `DO NOTHING` would let it, and the samples would be missing from the summary.
const MARK: &str = "INSERT INTO health_dirty (user_id, slice) SELECT * FROM unnest($1::bigint[], $2::timestamptz[]) \
     ON CONFLICT (user_id, slice) DO UPDATE SET slice = excluded.slice";

/// Marks the slices of those samples that are older than the threshold, in the order of the key.
pub(crate) async fn mark<'a>(
    session: &mut Session,
    threshold: i64,
    samples: impl Iterator<Item = &'a Sample>,
) -> Result<(), tokio_postgres::Error> {
    let slices: BTreeSet<_> = samples.filter_map(|sample| late(sample, threshold)).collect();
    if slices.is_empty() {
        return Ok(());
    }
    let (users, slices): (Vec<_>, Vec<_>) = slices.into_iter().map(|(user, slice)| (user, Micros(slice))).unzip();
    let statement = session.prepare(MARK).await?;
    session.client().execute(&statement, &[&users, &slices]).await?;
    Ok(())
}

/// The user and the slice of a sample that is older than the threshold.
fn late(sample: &Sample, threshold: i64) -> Option<(i64, i64)> {
    let at = sample.timestamp().timestamp_micros();
    (at < threshold).then(|| (sample.user_id().get(), at - at.rem_euclid(SLICE_MICROS)))
}
