//! Histograms of heart rates, for percentiles.

/// The number of heart-rate readings for each whole number of beats per minute.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Histogram {
    /// The rate that the first count belongs to.
    first_rate: u8,
    counts: Vec<u64>,
}

impl Histogram {
    /// Counts a reading in beats per minute, rounded to a whole number.
    pub(crate) fn add(&mut self, bpm: f64) {
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "a heart rate is between 20 and 250"
        )]
        let rate = bpm.round() as u8;
        self.add_many(rate, 1);
    }

    /// Adds the counts of another histogram.
    pub(crate) fn append(&mut self, other: &Self) {
        for (rate, count) in other.rates().filter(|(_, count)| *count > 0) {
            self.add_many(rate, count);
        }
    }

    /// Returns the number of readings.
    pub(crate) fn readings(&self) -> u64 {
        self.counts.iter().sum()
    }

    /// Returns the nearest-rank percentile in beats per minute; `None` if there are no readings.
    ///
    /// The rank is `percent` of the number of readings, rounded up, and at least 1 (Hyndman and Fan, "Sample Quantiles
    /// in Statistical Packages", 1996, definition 1). The result differs from the reading of that rank by at most 0.5.
    pub(crate) fn percentile(&self, percent: f64) -> Option<u8> {
        let rank = nearest_rank(percent, self.readings());
        let mut seen = 0;
        self.rates().find_map(|(rate, count)| {
            seen += count;
            (count > 0 && seen >= rank).then_some(rate)
        })
    }

    /// Encodes the histogram: the first rate as one byte, then the count of each rate from there on as LEB128.
    ///
    /// Without readings there are no bytes.
    pub(crate) fn encode(&self) -> Vec<u8> {
        if self.counts.is_empty() {
            return Vec::new();
        }
        let mut bytes = Vec::with_capacity(1 + self.counts.len());
        bytes.push(self.first_rate);
        for &count in &self.counts {
            push_varint(&mut bytes, count);
        }
        bytes
    }

    /// Adds the counts of an encoded histogram. Returns `None` if [`Histogram::encode`] cannot have made the bytes.
    pub(crate) fn append_encoded(&mut self, bytes: &[u8]) -> Option<()> {
        let Some((&first_rate, mut rest)) = bytes.split_first() else {
            return Some(());
        };
        let mut rate = first_rate;
        while !rest.is_empty() {
            let count = take_varint(&mut rest)?;
            if count > 0 {
                self.add_many(rate, count);
            }
            rate = if rest.is_empty() { rate } else { rate.checked_add(1)? };
        }
        Some(())
    }

    fn rates(&self) -> impl Iterator<Item = (u8, u64)> {
        (self.first_rate..=u8::MAX).zip(self.counts.iter().copied())
    }

    fn add_many(&mut self, rate: u8, count: u64) {
        if self.counts.is_empty() {
            self.first_rate = rate;
        } else if rate < self.first_rate {
            let missing = usize::from(self.first_rate - rate);
            self.counts.splice(..0, std::iter::repeat_n(0, missing));
            self.first_rate = rate;
        }
        let index = usize::from(rate - self.first_rate);
        if index >= self.counts.len() {
            self.counts.resize(index + 1, 0);
        }
        self.counts[index] += count;
    }
}

#[expect(
    clippy::cast_precision_loss,
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "a percentage of a count is between 0 and that count; counts stay far below 2^53"
)]
fn nearest_rank(percent: f64, readings: u64) -> u64 {
    // Multiply first: 0.95 has no exact binary form, and 95 % of 100 must be 95, not slightly more.
    let rank = (percent * readings as f64 / 100.0).ceil() as u64;
    rank.clamp(1, readings.max(1))
}

fn push_varint(bytes: &mut Vec<u8>, mut value: u64) {
    loop {
        let [low, ..] = value.to_le_bytes();
        value >>= 7;
        if value == 0 {
            bytes.push(low & 0x7f);
            return;
        }
        bytes.push(low | 0x80);
    }
}

fn take_varint(bytes: &mut &[u8]) -> Option<u64> {
    let mut value = 0;
    for shift in (0..64).step_by(7) {
        let (&byte, rest) = bytes.split_first()?;
        *bytes = rest;
        value |= u64::from(byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            return Some(value);
        }
    }
    None
}

#[cfg(test)]
#[expect(
    clippy::cast_precision_loss,
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "small counts"
)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn count(rates: &[f64]) -> Histogram {
        let mut all = Histogram::default();
        for bpm in rates {
            all.add(*bpm);
        }
        all
    }

    proptest! {
        #[test]
        fn any_grouping_and_order_gives_the_same_histogram(
            mut rates in prop::collection::vec(20.0_f64..=250.0, 0..60), cut in 0_usize..60,
        ) {
            let all = count(&rates);
            let (one, other) = rates.split_at(cut.min(rates.len()));
            let mut merged = count(other);
            merged.append(&count(one));
            prop_assert_eq!(&merged, &all);
            let mut decoded = count(one);
            prop_assert_eq!(decoded.append_encoded(&count(other).encode()), Some(()));
            prop_assert_eq!(&decoded, &all);
            rates.reverse();
            prop_assert_eq!(count(&rates), all);
        }

        #[test]
        fn a_percentile_differs_from_the_nearest_rank_reading_by_at_most_half_a_beat(
            mut rates in prop::collection::vec(20.0_f64..=250.0, 1..60), percent in 0.0_f64..=100.0,
        ) {
            let percentile = f64::from(count(&rates).percentile(percent).unwrap());
            rates.sort_by(f64::total_cmp);
            let rank = (percent / 100.0 * rates.len() as f64).ceil().max(1.0);
            prop_assert!((percentile - rates[rank as usize - 1]).abs() <= 0.5);
        }
    }

    #[test]
    fn percentiles_of_100_readings_are_exact() {
        let hundred = count(&(100..200).map(f64::from).collect::<Vec<_>>());
        for (percent, bpm) in [
            (0.0, 100),
            (0.1, 100),
            (1.0, 100),
            (1.1, 101),
            (50.0, 149),
            (95.0, 194),
            (99.0, 198),
            (100.0, 199),
        ] {
            assert_eq!(hundred.percentile(percent), Some(bpm), "{percent}");
        }
        assert_eq!(Histogram::default().percentile(50.0), None);
    }

    #[test]
    fn bytes_of_another_form_are_not_decoded() {
        for bytes in [[60, 0x80].as_slice(), &[255, 1, 1], &[&[60][..], &[0xff; 10]].concat()] {
            assert_eq!(Histogram::default().append_encoded(bytes), None, "{bytes:?}");
        }
    }
}
