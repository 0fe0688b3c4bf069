//! Which stored summaries, and which raw samples, make up a range.

use crate::fold::SLICE_MICROS;

/// How much time one stored row speaks of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Grain {
    /// A minute: stored only where a slice holds so many samples that reading those of a part of it would take long.
    Minute,
    /// A quarter of an hour.
    Slice,
    /// An hour: the offsets of most zones are whole ones, so most local days can be cut from hours.
    Hour,
    /// A day, in UTC.
    Day,
}

/// A stretch of time and where to read it from; microseconds since 1970.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct RollupSpan {
    /// Stored rows of this grain; none for raw samples.
    pub(crate) grain: Option<Grain>,
    /// The first instant.
    pub(crate) from: i64,
    /// The first instant behind it.
    pub(crate) to: i64,
}

/// What is sealed: summaries before `before` are stored, and true but for the slices that begin at `dirty`.
#[derive(Debug, Clone, Copy)]
pub(crate) struct UsableRollups<'a> {
    /// A multiple of a slice.
    pub(crate) before: i64,
    /// Ascending.
    pub(crate) dirty: &'a [i64],
    /// Of the slices that a border cuts, those that are stored in minutes as well; ascending.
    pub(crate) dense: &'a [i64],
}

impl Grain {
    /// Those that are stored for every sample, from the finest.
    pub(crate) const ALL: [Self; 3] = [Self::Slice, Self::Hour, Self::Day];

    /// The width in minutes, by which the table knows it.
    pub(crate) const fn minutes(self) -> i16 {
        match self {
            Self::Minute => 1,
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

/// The slices that the borders of buckets cut, ascending.
pub(crate) fn slices_cut_by(start: i64, ends: &[i64]) -> Vec<i64> {
    let borders = std::iter::once(start).chain(ends.iter().copied());
    let mut cut: Vec<_> = borders
        .filter(|at| Grain::Slice.floor(*at) != *at)
        .map(|at| Grain::Slice.floor(at))
        .collect();
    cut.dedup();
    cut
}

/// Covers the buckets from `start` to each of `ends` with the coarsest rows that lie within one of them, in order and
/// without a gap. Raw samples take the rest: what is not sealed, what is dirty, and slices that a border cuts.
pub(crate) fn plan(start: i64, ends: &[i64], sealed: UsableRollups<'_>) -> Vec<RollupSpan> {
    let mut spans: Vec<RollupSpan> = Vec::new();
    let mut dirty = sealed.dirty;
    let mut at = start;
    for &end in ends {
        while at < end {
            dirty = &dirty[dirty.partition_point(|slice| slice + SLICE_MICROS <= at)..];
            let clean_until = dirty.first().copied().unwrap_or(i64::MAX).min(sealed.before).min(end);
            let dense = sealed.dense.binary_search(&Grain::Slice.floor(at)).is_ok();
            let minutes = || minutes(at, clean_until).filter(|_| dense);
            let span = coarsest(at, clean_until).or_else(minutes).unwrap_or_else(|| {
                let to = if at >= sealed.before {
                    end
                } else if dense && at < clean_until {
                    // Up to where a minute may begin.
                    end.min(Grain::Minute.floor(at) + Grain::Minute.micros())
                } else {
                    end.min(Grain::Slice.floor(at) + SLICE_MICROS)
                };
                RollupSpan {
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
fn coarsest(at: i64, until: i64) -> Option<RollupSpan> {
    let mut coarser = None::<Grain>;
    for grain in Grain::ALL.into_iter().rev() {
        if grain.floor(at) == at && at + grain.micros() <= until {
            // Only up to where a coarser row may begin.
            let next_coarser = coarser.map_or(i64::MAX, |coarser| coarser.floor(at) + coarser.micros());
            return Some(RollupSpan {
                grain: Some(grain),
                from: at,
                to: grain.floor(until).min(next_coarser),
            });
        }
        coarser = Some(grain);
    }
    None
}

/// As much of a slice as can be read in whole minutes that begin at `at` and end by `until`.
fn minutes(at: i64, until: i64) -> Option<RollupSpan> {
    let to = Grain::Minute.floor(until).min(Grain::Slice.floor(at) + SLICE_MICROS);
    (Grain::Minute.floor(at) == at && at < to).then_some(RollupSpan {
        grain: Some(Grain::Minute),
        from: at,
        to,
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const MINUTE: i64 = 60_000_000;

    fn spans(start: i64, ends: &[i64], before: i64, dirty: &[i64]) -> Vec<(i16, i64)> {
        spans_with(start, ends, before, dirty, &[])
    }

    fn spans_with(start: i64, ends: &[i64], before: i64, dirty: &[i64], dense: &[i64]) -> Vec<(i16, i64)> {
        let in_micros = |minutes: &[i64]| minutes.iter().map(|at| at * MINUTE).collect::<Vec<_>>();
        let (ends, dirty, dense) = (in_micros(ends), in_micros(dirty), in_micros(dense));
        let sealed = UsableRollups {
            before: before * MINUTE,
            dirty: &dirty,
            dense: &dense,
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

    #[test]
    fn takes_minutes_of_slices_that_have_them() {
        let day = 1_440;
        // Minutes 7 to 15, whole slices and an hour, minutes 0 to 10 of the last.
        assert_eq!(
            spans_with(7, &[130], day, &[], &[0, 120]),
            [(1, 8), (15, 45), (60, 60), (1, 10)]
        );
        // Only one of the cut slices is dense; a dirty one does not count.
        assert_eq!(spans_with(7, &[40], day, &[], &[30]), [(0, 8), (15, 15), (1, 10)]);
        assert_eq!(spans_with(7, &[40], day, &[30], &[0, 30]), [(1, 8), (15, 15), (0, 10)]);
        // Buckets of a minute, and of seven.
        assert_eq!(spans_with(0, &[1, 2, 3], day, &[], &[0]), [(1, 3)]);
        assert_eq!(spans_with(3, &[10, 17], day, &[], &[0, 15]), [(1, 14)]);
        // Not sealed.
        assert_eq!(spans_with(3, &[10], 0, &[], &[0]), [(0, 7)]);
        // Within a minute, and up to the next one.
        let sealed = UsableRollups {
            before: day * MINUTE,
            dirty: &[],
            dense: &[0],
        };
        let raw = |from, to| RollupSpan { grain: None, from, to };
        assert_eq!(plan(1, &[5], sealed), [raw(1, 5)]);
        let minute = RollupSpan {
            grain: Some(Grain::Minute),
            from: MINUTE,
            to: 3 * MINUTE,
        };
        assert_eq!(
            plan(1, &[3 * MINUTE + 1], sealed),
            [raw(1, MINUTE), minute, raw(3 * MINUTE, 3 * MINUTE + 1)]
        );
    }

    proptest! {
        #[test]
        fn covers_exactly_with_rows_that_may_be_used(
            cuts in prop::collection::btree_set(0_i64..1_200_000, 2..20),
            whole_minutes in prop::bool::ANY,
            before in 0_i64..1_400,
            dirty in prop::collection::btree_set(0_i64..1_400, 0..10),
            dense_every in 1_usize..4,
        ) {
            // In seconds, or in minutes.
            let mut cuts: Vec<_> = cuts.into_iter().map(|cut| cut * MINUTE / 60).collect();
            if whole_minutes {
                cuts = cuts.into_iter().map(|cut| Grain::Minute.floor(cut)).collect();
                cuts.dedup();
            }
            prop_assume!(cuts.len() > 1);
            let before = before * SLICE_MICROS;
            let dirty: Vec<_> = dirty.into_iter().map(|slice| slice * SLICE_MICROS).collect();
            let dense: Vec<_> = slices_cut_by(cuts[0], &cuts[1..]).into_iter().step_by(dense_every).collect();
            let spans = plan(cuts[0], &cuts[1..], UsableRollups { before, dirty: &dirty, dense: &dense });
            prop_assert_eq!(spans[0].from, cuts[0]);
            prop_assert_eq!(spans[spans.len() - 1].to, cuts[cuts.len() - 1]);
            for pair in spans.windows(2) {
                prop_assert_eq!(pair[0].to, pair[1].from);
                prop_assert_ne!(pair[0].grain, pair[1].grain);
            }
            for span in spans {
                let Some(grain) = span.grain else { continue };
                if grain == Grain::Minute {
                    let mut slice = Grain::Slice.floor(span.from);
                    while slice < span.to {
                        prop_assert!(dense.contains(&slice));
                        slice += SLICE_MICROS;
                    }
                }
                prop_assert_eq!((grain.floor(span.from), grain.floor(span.to)), (span.from, span.to));
                prop_assert!(span.to <= before);
                prop_assert!(!dirty.iter().any(|slice| *slice < span.to && span.from < slice + SLICE_MICROS));
                let mut row = span.from;
                while row < span.to {
                    prop_assert!(!cuts.iter().any(|cut| row < *cut && *cut < row + grain.micros()));
                    row += grain.micros();
                }
            }
        }
    }
}
