//! What a writer leaves for the roller: marks on slices whose summaries it made untrue.
//!
//! A writer's transaction holds the threshold's lock in common with the others and then, in a statement of its own, reads the
//! threshold and the epoch; one statement would have taken its snapshot before it waited. Whoever moves one of the two takes
//! the lock alone, so every writer that has not seen the new one has ended by then.
//!
//! The roller takes marks of epochs that are over, and no others. A mark that this connection has committed in the
//! current epoch therefore stays until all that it writes in this epoch is committed: it need not be left again.

use std::collections::HashSet;

use crate::{
    grain::Grain,
    sample::Sample,
    store::{connection::Session, micros::Micros},
};

/// What the one who moves the threshold or ends a epoch waits for: nobody is writing then. Writers take the same lock
/// in common, see [`write`](crate::store::write).
pub(crate) const LOCK_ALONE: &str = "SELECT pg_advisory_xact_lock(hashtext('health threshold'))";

/// The same lock, as writers take it; a statement of its own, before anything else of theirs takes a snapshot.
pub(crate) const LOCK_SHARED: &str = "SELECT pg_advisory_xact_lock_shared(hashtext('health threshold'))";

const MARK: &str = "INSERT INTO health_dirty (user_id, slice, epoch) \
     SELECT user_id, slice, $3 FROM unnest($1::bigint[], $2::timestamptz[]) AS marks (user_id, slice)";

/// Where the line between the two kinds of samples lies for a transaction.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Line {
    /// Samples older than this may be in summaries already; microseconds since 1970.
    pub(crate) threshold: i64,
    /// Of the marks that are left now.
    pub(crate) epoch: i64,
}

/// A user, and the first instant of a slice in microseconds since 1970.
pub(crate) type Slice = (i64, i64);

/// The marks that one connection has committed in the current epoch.
#[derive(Debug, Default)]
pub(crate) struct Marked {
    epoch: i64,
    slices: HashSet<Slice>,
}

impl Marked {
    /// Marks remembered, at most: about 20 bytes each, for each writer. Forgetting them costs no more than leaving them again.
    const MOST: usize = 100_000;

    /// The slices of those samples that need a mark, ascending.
    pub(crate) fn missing<'a>(&self, line: Line, samples: impl Iterator<Item = &'a Sample>) -> Vec<Slice> {
        let mut slices: Vec<Slice> = Vec::new();
        for sample in samples {
            // Samples come by user and time, so most are of the slice before.
            if let Some(slice) = late(sample, line.threshold)
                && slices.last() != Some(&slice)
            {
                slices.push(slice);
            }
        }
        if line.epoch == self.epoch {
            slices.retain(|slice| !self.slices.contains(slice));
        }
        slices.sort_unstable();
        slices.dedup();
        slices
    }

    /// These marks are committed.
    pub(crate) fn committed(&mut self, line: Line, slices: Vec<Slice>) {
        if slices.is_empty() {
            return;
        }
        if line.epoch != self.epoch || self.slices.len() + slices.len() > Self::MOST {
            self.slices.clear();
        }
        self.epoch = line.epoch;
        if slices.len() <= Self::MOST {
            self.slices.extend(slices);
        }
    }
}

/// Leaves marks.
pub(crate) async fn leave(session: &mut Session, line: Line, slices: &[Slice]) -> Result<(), tokio_postgres::Error> {
    if slices.is_empty() {
        return Ok(());
    }
    let (users, slices): (Vec<i64>, Vec<_>) = slices.iter().map(|&(user, slice)| (user, Micros(slice))).unzip();
    let statement = session.prepare(MARK).await?;
    session
        .client()
        .execute(&statement, &[&users, &slices, &line.epoch])
        .await?;
    Ok(())
}

/// The slice of a sample that is older than the threshold.
fn late(sample: &Sample, threshold: i64) -> Option<Slice> {
    let at = sample.timestamp().timestamp_micros();
    (at < threshold).then(|| (sample.user_id().get(), Grain::Slice.floor(at)))
}

#[cfg(test)]
mod tests {
    use chrono::TimeDelta;

    use super::*;
    use crate::sample::{HeartRate, Readings, Source, UserId};

    fn sample(user: i64, minute: i64) -> Sample {
        let readings = Readings {
            heart_rate: HeartRate::new(60.0).ok(),
            ..Readings::default()
        };
        let time = Sample::EARLIEST + TimeDelta::minutes(minute);
        Sample::new(UserId::new(user).unwrap(), time, Source::default(), readings).unwrap()
    }

    #[test]
    fn a_slice_is_marked_once_a_epoch_and_only_before_the_threshold() {
        let slice = |minute: i64| (Sample::EARLIEST + TimeDelta::minutes(minute)).timestamp_micros();
        let line = |epoch| Line {
            threshold: slice(31),
            epoch,
        };
        let samples = [sample(1, 0), sample(1, 14), sample(1, 30), sample(1, 31), sample(2, 45)];
        let mut marked = Marked::default();

        let missing = marked.missing(line(1), samples.iter());
        assert_eq!(missing, [(1, slice(0)), (1, slice(30))]);
        marked.committed(line(1), missing);
        assert_eq!(marked.missing(line(1), samples.iter()), []);
        let more = [sample(1, 20), sample(1, 1)];
        assert_eq!(marked.missing(line(1), more.iter()), [(1, slice(15))]);
        assert_eq!(marked.missing(line(2), samples.iter()), [(1, slice(0)), (1, slice(30))]);
    }
}
