//! What a transaction has to write, worked out before and apart from the writing of it.
//!
//! Several requests share a batch, and one identity may be written by several of them, or several times by one. The outcome
//! is as if every sample had been sent by itself, in the order of arrival.

use std::ops::{AddAssign, Range};

use crate::sample::{Readings, Sample};

/// What became of the samples of one call.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Receipt {
    /// New.
    pub inserted: u64,
    /// Known, and changed by this write.
    pub updated: u64,
    /// Known, and the same already.
    pub unchanged: u64,
}

/// The samples of several requests, sorted by identity; writes of the same identity stay in the order they arrived in.
#[derive(Debug)]
pub(crate) struct Batch {
    entries: Vec<Entry>,
    requests: usize,
}

#[derive(Debug)]
struct Entry {
    sample: Sample,
    request: usize,
}

/// All writes of one identity.
#[derive(Debug, Clone)]
pub(crate) struct Writes<'a>(&'a [Entry]);

/// What has to be done to the table, and what each request will be told.
#[derive(Debug, Default)]
pub(crate) struct Plan {
    /// Rows that are not there yet, in the order of the key.
    pub(crate) inserts: Vec<Sample>,
    /// Rows that are there with other values, in the order of the key.
    pub(crate) updates: Vec<Update>,
    /// By request.
    pub(crate) receipts: Vec<Receipt>,
}

/// A row that changes.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Update {
    /// Which identity of the batch it is, in the order of [`Batch::by_identity`].
    pub(crate) place: usize,
    /// What it held when it was looked up.
    pub(crate) before: Readings,
    /// What it has to hold.
    pub(crate) after: Sample,
}

impl Receipt {
    /// Stored: all three together.
    pub fn accepted(&self) -> u64 {
        self.inserted + self.updated + self.unchanged
    }
}

impl AddAssign for Receipt {
    fn add_assign(&mut self, other: Self) {
        self.inserted += other.inserted;
        self.updated += other.updated;
        self.unchanged += other.unchanged;
    }
}

impl Batch {
    /// Gathers requests, in the order they arrived in.
    pub(crate) fn new<'a>(requests: impl Iterator<Item = &'a [Sample]>) -> Self {
        let mut entries = Vec::new();
        let mut count = 0;
        for (request, samples) in requests.enumerate() {
            entries.extend(samples.iter().map(|sample| Entry {
                sample: sample.clone(),
                request,
            }));
            count = request + 1;
        }
        // Stable: the order of arrival decides between writes of the same identity.
        entries.sort_by(|a, b| a.sample.identity().cmp(b.sample.identity()));
        Self {
            entries,
            requests: count,
        }
    }

    /// Samples, as they were sent.
    pub(crate) fn len(&self) -> usize {
        self.entries.len()
    }

    /// Each identity with its writes, in the order of the key.
    pub(crate) fn by_identity(&self) -> impl Iterator<Item = Writes<'_>> {
        self.entries
            .chunk_by(|a, b| a.sample.identity() == b.sample.identity())
            .map(Writes)
    }

    /// Works out what to do, given what each identity's row holds today, in the order of [`Self::by_identity`].
    pub(crate) fn plan(&self, stored: impl Iterator<Item = Option<Readings>>) -> Plan {
        let mut plan = Plan {
            receipts: vec![Receipt::default(); self.requests],
            ..Plan::default()
        };
        for (place, (writes, before)) in self.by_identity().zip(stored).enumerate() {
            writes.apply(place, before, &mut plan);
        }
        plan
    }
}

impl Plan {
    /// Whether there is nothing to write.
    pub(crate) fn is_empty(&self) -> bool {
        self.inserts.is_empty() && self.updates.is_empty()
    }
}

impl<'a> Writes<'a> {
    /// A sample of this identity.
    pub(crate) fn first(&self) -> &'a Sample {
        &self.0[0].sample
    }

    fn apply(&self, place: usize, before: Option<Readings>, plan: &mut Plan) {
        let mut now = before;
        for Entry { sample, request } in self.0 {
            let receipt = &mut plan.receipts[*request];
            let after = now.unwrap_or_default().merged_with(sample.readings());
            match now {
                None => receipt.inserted += 1,
                Some(held) if held == after => receipt.unchanged += 1,
                Some(_) => receipt.updated += 1,
            }
            now = Some(after);
        }
        let Some(after) = now else { return };
        match before {
            None => plan.inserts.push(self.first().clone().merged_with(after)),
            Some(before) if before != after => {
                plan.updates.push(Update {
                    place,
                    before,
                    after: self.first().clone().merged_with(after),
                });
            }
            Some(_) => {}
        }
    }
}

/// The stretches of `0..total` of at most `most` each.
pub(crate) fn pieces(total: usize, most: usize) -> impl Iterator<Item = Range<usize>> {
    (0..total)
        .step_by(most)
        .map(move |start| start..total.min(start + most))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use chrono::TimeDelta;
    use proptest::prelude::*;

    use super::*;
    use crate::sample::{Calories, HeartRate, Identity, Source, Steps, UserId};

    /// Few users, times, sources and values, so that writes meet.
    fn sample() -> impl Strategy<Value = Sample> {
        let values = (0..3_i64, 0..3_i64, 0..3_i64).prop_filter("something is measured", |v| *v != (0, 0, 0));
        (1..3_i64, 0..3_i64, 0..2_usize, values).prop_map(|(user, second, source, (rate, steps, calories))| {
            let readings = Readings {
                heart_rate: [None, HeartRate::new(60.0).ok(), HeartRate::new(61.0).ok()]
                    [usize::try_from(rate).unwrap()],
                steps: (steps > 0).then(|| Steps::new(steps).unwrap()),
                calories: [None, Calories::new(0.0).ok(), Calories::new(0.5).ok()][usize::try_from(calories).unwrap()],
            };
            let time = Sample::EARLIEST + TimeDelta::seconds(second);
            Sample::new(
                UserId::new(user).unwrap(),
                time,
                Source::new(["", "phone"][source]).unwrap(),
                readings,
            )
            .unwrap()
        })
    }

    /// The rule as the contract words it: one record at a time.
    fn one_by_one(table: &mut BTreeMap<Identity, Readings>, sample: &Sample, receipt: &mut Receipt) {
        match table.get(sample.identity()).copied() {
            None => {
                table.insert(sample.identity().clone(), sample.readings());
                receipt.inserted += 1;
            }
            Some(held) => {
                let after = held.merged_with(sample.readings());
                if after == held {
                    receipt.unchanged += 1;
                } else {
                    table.insert(sample.identity().clone(), after);
                    receipt.updated += 1;
                }
            }
        }
    }

    proptest! {
        /// Any batch over any table ends as sending the samples one by one does, receipts included.
        #[test]
        fn a_batch_is_its_samples_one_by_one(
            earlier in proptest::collection::vec(sample(), 0..12),
            requests in proptest::collection::vec(proptest::collection::vec(sample(), 0..8), 0..5),
        ) {
            let mut table = BTreeMap::new();
            for sample in &earlier {
                one_by_one(&mut table, sample, &mut Receipt::default());
            }
            let batch = Batch::new(requests.iter().map(Vec::as_slice));
            let stored: Vec<_> = batch.by_identity().map(|writes| table.get(writes.first().identity()).copied()).collect();
            let plan = batch.plan(stored.into_iter());

            let mut written = table.clone();
            for sample in &plan.inserts {
                prop_assert_eq!(written.insert(sample.identity().clone(), sample.readings()), None);
            }
            let identities: Vec<_> = batch.by_identity().map(|writes| writes.first().identity().clone()).collect();
            for update in &plan.updates {
                prop_assert_eq!(&identities[update.place], update.after.identity());
                let before = written.insert(update.after.identity().clone(), update.after.readings());
                prop_assert_eq!(before, Some(update.before));
                prop_assert_ne!(update.before, update.after.readings());
            }

            let mut receipts = vec![Receipt::default(); requests.len()];
            for (samples, receipt) in requests.iter().zip(&mut receipts) {
                for sample in samples {
                    one_by_one(&mut table, sample, receipt);
                }
                prop_assert_eq!(receipt.accepted(), u64::try_from(samples.len()).unwrap());
            }
            prop_assert_eq!(plan.receipts, receipts);
            prop_assert_eq!(written, table);
        }
    }
}
