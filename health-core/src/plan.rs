//! Which stored summaries, and which raw samples, make up a range.

use crate::fold::SLICE_MICROS;

/// How much time one stored row speaks of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Grain {
    /// A quarter of an hour.
    Slice,
    /// An hour: the offsets of most zones are whole ones, so most local days can be cut from hours.
    Hour,
    /// A day, in UTC.
    Day,
}

/// A stretch of time and where to read it from; microseconds since 1970.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Span {
    /// Stored rows of this grain; none for raw samples.
    pub(crate) grain: Option<Grain>,
    /// The first instant.
    pub(crate) from: i64,
    /// The first instant behind it.
    pub(crate) to: i64,
}

/// What is sealed: summaries before `before` are stored, and true but for the slices that begin at `dirty`.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Sealed<'a> {
    /// A multiple of a slice.
    pub(crate) before: i64,
    /// Ascending.
    pub(crate) dirty: &'a [i64],
}

impl Grain {
    /// From the finest.
    pub(crate) const ALL: [Self; 3] = [Self::Slice, Self::Hour, Self::Day];

    /// The width in minutes, by which the table knows it.
    pub(crate) const fn minutes(self) -> i16 {
        match self {
            Self::Slice => 15,
            Self::Hour => 60,
            Self::Day => 1_440,
        }
    }

    /// The width in microseconds.
    pub(crate) const fn micros(self) -> i64 {
        self.minutes() as i64 * 60_000_000
    }

    /// The last border of this grain that is not behind an instant.
    pub(crate) const fn floor(self, at: i64) -> i64 {
        at - at.rem_euclid(self.micros())
    }

    /// The first border of this grain that is not before an instant.
    pub(crate) const fn ceil(self, at: i64) -> i64 {
        let floor = self.floor(at);
        if floor < at { floor + self.micros() } else { at }
    }
}

/// Covers the buckets from `start` to each of `ends` with the coarsest rows that lie within one of them, in order and
/// without a gap. Raw samples take the rest: what is not sealed, what is dirty, and slices that a border cuts.
pub(crate) fn plan(start: i64, ends: &[i64], sealed: Sealed<'_>) -> Vec<Span> {
    let mut spans: Vec<Span> = Vec::new();
    let mut dirty = sealed.dirty;
    let mut at = start;
    for &end in ends {
        while at < end {
            dirty = &dirty[dirty.partition_point(|slice| slice + SLICE_MICROS <= at)..];
            let clean_until = dirty.first().copied().unwrap_or(i64::MAX).min(sealed.before).min(end);
            let span = coarsest(at, clean_until).unwrap_or_else(|| {
                let to = if at >= sealed.before {
                    end
                } else {
                    end.min(Grain::Slice.floor(at) + SLICE_MICROS)
                };
                Span {
                    grain: None,
                    from: at,
                    to,
                }
            });
            at = span.to;
            match spans.last_mut() {
                Some(last) if last.grain == span.grain => last.to = span.to,
                _ => spans.push(span),
            }
        }
    }
    spans
}

/// As much as can be read in rows of the coarsest grain that begins at `at` and ends by `until`.
fn coarsest(at: i64, until: i64) -> Option<Span> {
    let mut coarser = None::<Grain>;
    for grain in Grain::ALL.into_iter().rev() {
        if grain.floor(at) == at && at + grain.micros() <= until {
            // Only up to where a coarser row may begin.
            let next_coarser = coarser.map_or(i64::MAX, |coarser| coarser.floor(at) + coarser.micros());
            return Some(Span {
                grain: Some(grain),
                from: at,
                to: grain.floor(until).min(next_coarser),
            });
        }
        coarser = Some(grain);
    }
    None
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const MINUTE: i64 = 60_000_000;

    fn spans(start: i64, ends: &[i64], before: i64, dirty: &[i64]) -> Vec<(i16, i64)> {
        let ends: Vec<_> = ends.iter().map(|end| end * MINUTE).collect();
        let dirty: Vec<_> = dirty.iter().map(|slice| slice * MINUTE).collect();
        let sealed = Sealed {
            before: before * MINUTE,
            dirty: &dirty,
        };
        let spans = plan(start * MINUTE, &ends, sealed);
        spans
            .iter()
            .map(|span| (span.grain.map_or(0, Grain::minutes), (span.to - span.from) / MINUTE))
            .collect()
    }

    #[test]
    fn takes_the_coarsest_rows_and_raw_edges() {
        let day = 1_440;
        assert_eq!(spans(0, &[3 * day], 9 * day, &[]), [(1440, 3 * day)]);
        assert_eq!(
            spans(day - 77, &[3 * day + 100], 9 * day, &[]),
            [(0, 2), (15, 15), (60, 60), (1440, 2 * day), (60, 60), (15, 30), (0, 10)]
        );
        // Nothing is sealed, or not all of it.
        assert_eq!(spans(0, &[day], 0, &[]), [(0, day)]);
        assert_eq!(spans(0, &[day], 150, &[]), [(60, 120), (15, 30), (0, day - 150)]);
        // A dirty slice costs its hour and its day.
        assert_eq!(
            spans(0, &[2 * day], 9 * day, &[day + 75]),
            [(1440, day), (60, 60), (15, 15), (0, 15), (15, 30), (60, 22 * 60)]
        );
        // Buckets of a local day seven hours off, and of ten minutes.
        assert_eq!(
            spans(7 * 60, &[day + 7 * 60, 2 * day + 7 * 60], 9 * day, &[]),
            [(60, 2 * day)]
        );
        assert_eq!(spans(0, &[10, 20, 30, 45], day, &[]), [(0, 30), (15, 15)]);
    }

    proptest! {
        #[test]
        fn covers_exactly_with_rows_that_may_be_used(
            cuts in prop::collection::btree_set(0_i64..20_000, 2..20),
            before in 0_i64..1_400,
            dirty in prop::collection::btree_set(0_i64..1_400, 0..10),
        ) {
            let cuts: Vec<_> = cuts.into_iter().map(|cut| cut * MINUTE).collect();
            let before = before * SLICE_MICROS;
            let dirty: Vec<_> = dirty.into_iter().map(|slice| slice * SLICE_MICROS).collect();
            let spans = plan(cuts[0], &cuts[1..], Sealed { before, dirty: &dirty });
            prop_assert_eq!(spans[0].from, cuts[0]);
            prop_assert_eq!(spans[spans.len() - 1].to, cuts[cuts.len() - 1]);
            for pair in spans.windows(2) {
                prop_assert_eq!(pair[0].to, pair[1].from);
                prop_assert_ne!(pair[0].grain, pair[1].grain);
            }
            for span in spans {
                let Some(grain) = span.grain else { continue };
                prop_assert_eq!((grain.floor(span.from), grain.floor(span.to)), (span.from, span.to));
                prop_assert!(span.to <= before);
                prop_assert!(!dirty.iter().any(|slice| span.from <= *slice && *slice < span.to));
                let mut row = span.from;
                while row < span.to {
                    prop_assert!(!cuts.iter().any(|cut| row < *cut && *cut < row + grain.micros()));
                    row += grain.micros();
                }
            }
        }
    }
}
