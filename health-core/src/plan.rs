//! The choice of stored summaries and raw samples that together cover a range.
//!
//! All times are in microseconds since 1970.

use crate::grain::Grain;

/// A range of time and the kind of rows to read it from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct RollupSpan {
    /// The grain of the stored summaries; `None` for raw samples.
    pub(crate) grain: Option<Grain>,
    /// Start of the range.
    pub(crate) from: i64,
    /// End of the range, exclusive.
    pub(crate) to: i64,
}

/// The stored summaries that a reader may use.
#[derive(Debug, Clone, Copy)]
pub(crate) struct UsableRollups<'a> {
    /// Older slices have usable summaries, except those in `dirty`. A multiple of a slice.
    pub(crate) sealed_before: i64,
    /// Starts of the slices whose summaries may be out of date, ascending.
    pub(crate) dirty: &'a [i64],
    /// Starts of the slices that have minutes as well, ascending. Only slices that a boundary cuts are listed.
    pub(crate) dense: &'a [i64],
}

/// Returns the starts of the slices that a boundary of a bucket cuts in two, ascending.
pub(crate) fn slices_cut_by(start: i64, ends: &[i64]) -> Vec<i64> {
    let boundaries = std::iter::once(start).chain(ends.iter().copied());
    let mut slices: Vec<_> = boundaries
        .filter(|at| Grain::Slice.floor(*at) != *at)
        .map(|at| Grain::Slice.floor(at))
        .collect();
    slices.dedup();
    slices
}

/// Covers the buckets from `start` to each of `ends` with the coarsest rows that lie within one bucket.
///
/// The spans are in the order of time and leave nothing out. Raw samples cover the rest: time from `sealed_before` on,
/// dirty slices, and slices that a boundary cuts.
pub(crate) fn plan(start: i64, ends: &[i64], rollups: UsableRollups<'_>) -> Vec<RollupSpan> {
    let mut spans: Vec<RollupSpan> = Vec::new();
    let mut dirty = rollups.dirty;
    let mut at = start;
    for &end in ends {
        while at < end {
            dirty = &dirty[dirty.partition_point(|slice| Grain::Slice.end(*slice) <= at)..];
            let next_dirty = dirty.first().copied().unwrap_or(i64::MAX);
            let clean_until = next_dirty.min(rollups.sealed_before).min(end);
            let dense = rollups.dense.binary_search(&Grain::Slice.floor(at)).is_ok();
            let span = coarsest(at, clean_until)
                .or_else(|| if dense { minutes(at, clean_until) } else { None })
                .unwrap_or_else(|| raw(at, end, clean_until, dense, rollups.sealed_before));
            at = span.to;
            match spans.last_mut() {
                Some(last) if last.grain == span.grain => last.to = span.to,
                _ => spans.push(span),
            }
        }
    }
    spans
}

/// Returns the longest span of one grain that begins at `at` and ends by `until`, of the coarsest grain possible.
fn coarsest(at: i64, until: i64) -> Option<RollupSpan> {
    let mut coarser = None::<Grain>;
    for grain in Grain::ALWAYS_STORED.into_iter().rev() {
        if grain.floor(at) == at && grain.end(at) <= until {
            // A coarser row may begin at the end of the coarser interval, so the span stops there.
            let next_coarser = coarser.map_or(i64::MAX, |coarser| coarser.end(at));
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

/// Returns the longest span of whole minutes that begins at `at`, ends by `until` and lies within one slice.
fn minutes(at: i64, until: i64) -> Option<RollupSpan> {
    let to = Grain::Minute.floor(until).min(Grain::Slice.end(at));
    (Grain::Minute.floor(at) == at && at < to).then_some(RollupSpan {
        grain: Some(Grain::Minute),
        from: at,
        to,
    })
}

/// Returns the span of raw samples from `at` to `end`, or to the first instant at which a stored row may begin.
fn raw(at: i64, end: i64, clean_until: i64, dense: bool, sealed_before: i64) -> RollupSpan {
    let next_row = if at >= sealed_before {
        i64::MAX
    } else if dense && at < clean_until {
        Grain::Minute.end(at)
    } else {
        Grain::Slice.end(at)
    };
    RollupSpan {
        grain: None,
        from: at,
        to: end.min(next_row),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const MINUTE: i64 = Grain::Minute.micros();

    fn spans(start: i64, ends: &[i64], sealed_before: i64, dirty: &[i64]) -> Vec<(i16, i64)> {
        spans_with(start, ends, sealed_before, dirty, &[])
    }

    fn spans_with(start: i64, ends: &[i64], sealed_before: i64, dirty: &[i64], dense: &[i64]) -> Vec<(i16, i64)> {
        let in_micros = |minutes: &[i64]| minutes.iter().map(|at| at * MINUTE).collect::<Vec<_>>();
        let (ends, dirty, dense) = (in_micros(ends), in_micros(dirty), in_micros(dense));
        let rollups = UsableRollups {
            sealed_before: sealed_before * MINUTE,
            dirty: &dirty,
            dense: &dense,
        };
        let spans = plan(start * MINUTE, &ends, rollups);
        spans
            .iter()
            .map(|span| (span.grain.map_or(0, Grain::minutes), (span.to - span.from) / MINUTE))
            .collect()
    }

    #[test]
    fn uses_the_coarsest_rows_and_raw_samples_at_the_edges() {
        let day = 1_440;
        assert_eq!(spans(0, &[3 * day], 9 * day, &[]), [(1440, 3 * day)]);
        assert_eq!(
            spans(day - 77, &[3 * day + 100], 9 * day, &[]),
            [(0, 2), (15, 15), (60, 60), (1440, 2 * day), (60, 60), (15, 30), (0, 10)]
        );
        // Nothing is sealed, then only the first 150 minutes.
        assert_eq!(spans(0, &[day], 0, &[]), [(0, day)]);
        assert_eq!(spans(0, &[day], 150, &[]), [(60, 120), (15, 30), (0, day - 150)]);
        // A dirty slice makes the rows of its hour and its day unusable.
        assert_eq!(
            spans(0, &[2 * day], 9 * day, &[day + 75]),
            [(1440, day), (60, 60), (15, 15), (0, 15), (15, 30), (60, 22 * 60)]
        );
        // Local days of a zone seven hours from UTC, then buckets of ten minutes.
        assert_eq!(
            spans(7 * 60, &[day + 7 * 60, 2 * day + 7 * 60], 9 * day, &[]),
            [(60, 2 * day)]
        );
        assert_eq!(spans(0, &[10, 20, 30, 45], day, &[]), [(0, 30), (15, 15)]);
    }

    #[test]
    fn uses_minutes_of_dense_slices() {
        let day = 1_440;
        // Minutes 7 to 15 of the first slice, whole slices, an hour, minutes 0 to 10 of the last slice.
        assert_eq!(
            spans_with(7, &[130], day, &[], &[0, 120]),
            [(1, 8), (15, 45), (60, 60), (1, 10)]
        );
        // Only one of the cut slices is dense; then one of two dense slices is dirty.
        assert_eq!(spans_with(7, &[40], day, &[], &[30]), [(0, 8), (15, 15), (1, 10)]);
        assert_eq!(spans_with(7, &[40], day, &[30], &[0, 30]), [(1, 8), (15, 15), (0, 10)]);
        // Buckets of one minute, then of seven minutes.
        assert_eq!(spans_with(0, &[1, 2, 3], day, &[], &[0]), [(1, 3)]);
        assert_eq!(spans_with(3, &[10, 17], day, &[], &[0, 15]), [(1, 14)]);
        // A dense slice that is not sealed.
        assert_eq!(spans_with(3, &[10], 0, &[], &[0]), [(0, 7)]);
        // A range within one minute, then a range that begins and ends within minutes.
        let rollups = UsableRollups {
            sealed_before: day * MINUTE,
            dirty: &[],
            dense: &[0],
        };
        let raw = |from, to| RollupSpan { grain: None, from, to };
        assert_eq!(plan(1, &[5], rollups), [raw(1, 5)]);
        let minute = RollupSpan {
            grain: Some(Grain::Minute),
            from: MINUTE,
            to: 3 * MINUTE,
        };
        assert_eq!(
            plan(1, &[3 * MINUTE + 1], rollups),
            [raw(1, MINUTE), minute, raw(3 * MINUTE, 3 * MINUTE + 1)]
        );
    }

    proptest! {
        #[test]
        fn covers_the_range_exactly_with_usable_rows(
            cuts in prop::collection::btree_set(0_i64..1_200_000, 2..20),
            whole_minutes in prop::bool::ANY,
            sealed_before in 0_i64..1_400,
            dirty in prop::collection::btree_set(0_i64..1_400, 0..10),
            dense_every in 1_usize..4,
        ) {
            // Boundaries at whole seconds or at whole minutes.
            let mut cuts: Vec<_> = cuts.into_iter().map(|cut| cut * MINUTE / 60).collect();
            if whole_minutes {
                cuts = cuts.into_iter().map(|cut| Grain::Minute.floor(cut)).collect();
                cuts.dedup();
            }
            prop_assume!(cuts.len() > 1);
            let sealed_before = sealed_before * Grain::Slice.micros();
            let dirty: Vec<_> = dirty.into_iter().map(|slice| slice * Grain::Slice.micros()).collect();
            let dense: Vec<_> = slices_cut_by(cuts[0], &cuts[1..]).into_iter().step_by(dense_every).collect();
            let spans = plan(cuts[0], &cuts[1..], UsableRollups { sealed_before, dirty: &dirty, dense: &dense });
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
                        slice += Grain::Slice.micros();
                    }
                }
                prop_assert_eq!((grain.floor(span.from), grain.floor(span.to)), (span.from, span.to));
                prop_assert!(span.to <= sealed_before);
                prop_assert!(!dirty.iter().any(|slice| *slice < span.to && span.from < Grain::Slice.end(*slice)));
                let mut row = span.from;
                while row < span.to {
                    prop_assert!(!cuts.iter().any(|cut| row < *cut && *cut < row + grain.micros()));
                    row += grain.micros();
                }
            }
        }
    }
}
