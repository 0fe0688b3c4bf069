//! How the commits of a replay are divided into portions: the rows that it reads from the table at once.

use std::ops::Range;

use crate::store::commit_log::{BATCH_ROWS_MAX, CommitRecord};

/// Some whole commits that follow each other, or a part of one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Portion<'a> {
    pub(super) records: &'a [CommitRecord],
    /// Which rows of the batch, counted from 0, if it is a part of one commit.
    pub(super) part: Option<Range<i64>>,
    /// How many rows it has at most.
    pub(super) rows: usize,
}

impl<'a> Portion<'a> {
    /// The next portion of at most `rows_max` rows; `skipped` rows of the first commit are not needed any more.
    pub(super) fn first(records: &'a [CommitRecord], skipped: i64, rows_max: usize) -> Self {
        let rows_max = i64::try_from(rows_max).unwrap_or(i64::MAX);
        let mut rows = 0;
        let fit = records.iter().take_while(|record| {
            rows += i64::from(record.rows);
            rows <= rows_max
        });
        let len = fit.count();
        if skipped == 0 && len > 0 {
            let records = &records[..len];
            let rows = records.iter().map(|record| i64::from(record.rows)).sum();
            return Self::new(records, None, rows);
        }
        let rest = records.first().map_or(0, |record| i64::from(record.rows) - skipped);
        let end = if rest <= rows_max {
            BATCH_ROWS_MAX
        } else {
            skipped + rows_max
        };
        let records = records.get(..1).unwrap_or_default();
        Self::new(records, Some(skipped..end), rest.min(rows_max))
    }

    fn new(records: &'a [CommitRecord], part: Option<Range<i64>>, rows: i64) -> Self {
        Self {
            records,
            part,
            rows: usize::try_from(rows).unwrap_or_default(),
        }
    }

    /// Where the next portion begins in the same commit, if this one does not contain its end.
    pub(super) fn continues_at(&self) -> Option<i64> {
        let end = self.part.as_ref()?.end;
        (end < BATCH_ROWS_MAX).then_some(end)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn records(rows: &[i32]) -> Vec<CommitRecord> {
        let numbered = (1..).zip(rows);
        let record = |(number, rows): (i64, &i32)| CommitRecord {
            number,
            batch_number: number,
            writer_id: 1,
            rows: *rows,
            is_erasure: false,
        };
        numbered.map(record).collect()
    }

    /// Divides commits, and returns the rows of each portion by commit.
    fn divide(rows: &[i32], rows_max: usize) -> Vec<Vec<(i64, Range<i64>)>> {
        let records = records(rows);
        let (mut rest, mut skipped, mut portions) = (records.as_slice(), 0, Vec::new());
        while !rest.is_empty() {
            let portion = Portion::first(rest, skipped, rows_max);
            assert!(portion.rows <= rows_max);
            let all = 0..BATCH_ROWS_MAX;
            let part = portion.part.clone().unwrap_or(all);
            portions.push(
                portion
                    .records
                    .iter()
                    .map(|record| (record.number, part.clone()))
                    .collect(),
            );
            if let Some(next) = portion.continues_at() {
                skipped = next;
            } else {
                (rest, skipped) = (&rest[portion.records.len()..], 0);
            }
        }
        portions
    }

    #[test]
    fn portions_cover_every_commit_once_and_have_no_more_rows_than_allowed() {
        let whole = || 0..BATCH_ROWS_MAX;
        assert_eq!(
            divide(&[3, 0, 4, 8, 1], 7),
            [
                vec![(1, whole()), (2, whole()), (3, whole())],
                vec![(4, 0..7)],
                vec![(4, 7..BATCH_ROWS_MAX)],
                vec![(5, whole())]
            ]
        );
        assert_eq!(
            divide(&[20], 8),
            [vec![(1, 0..8)], vec![(1, 8..16)], vec![(1, 16..BATCH_ROWS_MAX)]]
        );
    }
}
