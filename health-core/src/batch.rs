//! Plans what a transaction must write. It does no I/O, so tests can check every case.
//!
//! A batch contains several requests. Several of them, or one of them several times, may write the same identity.
//! The plan's result is the same as if every sample had been sent in a call of its own, in the order of arrival.

use std::ops::AddAssign;

use crate::sample::{Readings, Sample};

/// How many samples of one call were new, changed or known.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Receipt {
    /// Samples that were new.
    pub inserted: u64,
    /// Samples that changed a stored one.
    pub updated: u64,
    /// Samples that were stored already, with the same values.
    pub unchanged: u64,
}

/// The samples of several requests, sorted by identity. Writes of one identity stay in their order of arrival.
#[derive(Debug)]
pub(crate) struct Batch {
    entries: Vec<Entry>,
    requests: usize,
}

#[derive(Debug)]
struct Entry {
    sample: Sample,
    /// The index of its request.
    request: usize,
}

/// All writes of one identity in a batch, in their order of arrival; never empty.
#[derive(Debug, Clone)]
pub(crate) struct Writes<'a>(&'a [Entry]);

/// The changes that a batch makes to the table, and the receipts of its requests.
#[derive(Debug, Default)]
pub(crate) struct WritePlan {
    /// Rows that the table does not contain, in the order of the primary key.
    pub(crate) inserts: Vec<Sample>,
    /// Rows that the table contains with other values, in the same order.
    pub(crate) updates: Vec<Update>,
    /// One for each request, in their order.
    pub(crate) receipts: Vec<Receipt>,
}

/// A change of one row.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Update {
    /// The index of the identity in [`Batch::by_identity`].
    pub(crate) index: usize,
    /// The readings that were looked up.
    pub(crate) before: Readings,
    /// The sample to store.
    pub(crate) after: Sample,
}

impl Receipt {
    /// Returns the number of samples: all that were accepted are new, changed or unchanged.
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
    /// Makes a batch of requests, which come in their order of arrival.
    pub(crate) fn new<'a>(requests: impl Iterator<Item = &'a [Sample]> + Clone) -> Self {
        let mut entries = Vec::with_capacity(requests.clone().map(<[Sample]>::len).sum());
        let mut count = 0;
        for (request, samples) in requests.enumerate() {
            entries.extend(samples.iter().map(|sample| Entry {
                sample: sample.clone(),
                request,
            }));
            count = request + 1;
        }
        // The sort is stable, because the order of arrival decides between writes of the same identity.
        entries.sort_by(|a, b| a.sample.identity().cmp(b.sample.identity()));
        Self {
            entries,
            requests: count,
        }
    }

    /// Returns the number of samples, counting every write of an identity.
    pub(crate) fn len(&self) -> usize {
        self.entries.len()
    }

    /// Returns the writes of each identity, sorted by identity.
    pub(crate) fn by_identity(&self) -> impl Iterator<Item = Writes<'_>> {
        self.entries
            .chunk_by(|a, b| a.sample.identity() == b.sample.identity())
            .map(Writes)
    }

    /// Plans the writes. `stored` has the stored readings of each identity, in the order of [`Self::by_identity`].
    pub(crate) fn plan(&self, stored: impl Iterator<Item = Option<Readings>>) -> WritePlan {
        let mut plan = WritePlan {
            receipts: vec![Receipt::default(); self.requests],
            inserts: Vec::with_capacity(self.entries.len()),
            updates: Vec::new(),
        };
        for (index, (writes, before)) in self.by_identity().zip(stored).enumerate() {
            writes.add_to(&mut plan, index, before);
        }
        plan
    }
}

impl WritePlan {
    /// Returns the number of rows that the plan writes.
    pub(crate) fn rows(&self) -> usize {
        self.inserts.len() + self.updates.len()
    }

    /// Returns whether there is nothing to write.
    pub(crate) fn is_empty(&self) -> bool {
        self.inserts.is_empty() && self.updates.is_empty()
    }
}

impl<'a> Writes<'a> {
    /// Returns the first sample of this identity.
    pub(crate) fn first(&self) -> &'a Sample {
        &self.0[0].sample
    }

    /// Merges the writes into the stored readings, counts each in its request's receipt, and plans the one change.
    fn add_to(&self, plan: &mut WritePlan, index: usize, before: Option<Readings>) {
        let mut current = before;
        for Entry { sample, request } in self.0 {
            let receipt = &mut plan.receipts[*request];
            let after = current.unwrap_or_default().merged_with(sample.readings());
            match current {
                None => receipt.inserted += 1,
                Some(current) if current == after => receipt.unchanged += 1,
                Some(_) => receipt.updated += 1,
            }
            current = Some(after);
        }
        let Some(after) = current else { return };
        match before {
            None => plan.inserts.push(self.first().clone().merged_with(after)),
            Some(before) if before != after => {
                plan.updates.push(Update {
                    index,
                    before,
                    after: self.first().clone().merged_with(after),
                });
            }
            Some(_) => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use chrono::TimeDelta;
    use proptest::prelude::*;

    use super::*;
    use crate::sample::{Calories, HeartRate, Identity, Source, Steps, UserId};

    /// Few users, times, sources and values, so that many writes have the same identity.
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

    /// Writes one sample as a call of its own would: the rule that a batch must keep.
    fn write_one(table: &mut BTreeMap<Identity, Readings>, sample: &Sample, receipt: &mut Receipt) {
        match table.get(sample.identity()).copied() {
            None => {
                table.insert(sample.identity().clone(), sample.readings());
                receipt.inserted += 1;
            }
            Some(stored) => {
                let after = stored.merged_with(sample.readings());
                if after == stored {
                    receipt.unchanged += 1;
                } else {
                    table.insert(sample.identity().clone(), after);
                    receipt.updated += 1;
                }
            }
        }
    }

    proptest! {
        #[test]
        fn a_batch_has_the_result_and_the_receipts_of_single_samples(
            earlier in proptest::collection::vec(sample(), 0..12),
            requests in proptest::collection::vec(proptest::collection::vec(sample(), 0..8), 0..5),
        ) {
            let mut table = BTreeMap::new();
            for sample in &earlier {
                write_one(&mut table, sample, &mut Receipt::default());
            }
            let batch = Batch::new(requests.iter().map(Vec::as_slice));
            let stored = batch.by_identity().map(|writes| table.get(writes.first().identity()).copied());
            let plan = batch.plan(stored);

            let mut written = table.clone();
            for sample in &plan.inserts {
                prop_assert_eq!(written.insert(sample.identity().clone(), sample.readings()), None);
            }
            let identities: Vec<_> = batch.by_identity().map(|writes| writes.first().identity().clone()).collect();
            for update in &plan.updates {
                prop_assert_eq!(&identities[update.index], update.after.identity());
                let before = written.insert(update.after.identity().clone(), update.after.readings());
                prop_assert_eq!(before, Some(update.before));
                prop_assert_ne!(update.before, update.after.readings());
            }

            let mut receipts = vec![Receipt::default(); requests.len()];
            for (samples, receipt) in requests.iter().zip(&mut receipts) {
                for sample in samples {
                    write_one(&mut table, sample, receipt);
                }
                prop_assert_eq!(receipt.accepted(), u64::try_from(samples.len()).unwrap());
            }
            prop_assert_eq!(plan.receipts, receipts);
            prop_assert_eq!(written, table);
        }
    }
}
