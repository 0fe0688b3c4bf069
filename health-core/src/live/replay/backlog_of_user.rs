//! The backlog of one user, for a user who is pulled ahead.

use std::collections::HashMap;

use crate::{
    live::{
        cursor::to_cursor,
        replay::{
            link::{Gone, Link},
            pass::Pass,
            portion::Portion,
            source::PORTION_ROWS_MAX,
        },
    },
    sample::UserId,
    store::{
        commit_log::{CommitRecord, LogPage, LogPosition},
        feed_rows::{FeedRow, first_id},
    },
};

/// Returns the commit numbers after [`Pass::sent`] up to the mark, by batch number.
pub(super) async fn numbers_of_batches(link: &Link, pass: &Pass) -> Result<HashMap<i64, i64>, Gone> {
    let mut numbers = HashMap::new();
    let mut from = pass.sent;
    while let Some((records, last)) = records_after(link, pass, from).await? {
        numbers.extend(records.iter().map(|record| (record.batch_number, record.number)));
        from = last;
    }
    Ok(numbers)
}

/// Sends a user's backlog in the order of commits, if its rows can be read at once. Returns false if they cannot.
pub(super) async fn send_few(
    link: &Link,
    pass: &Pass,
    numbers: &HashMap<i64, i64>,
    user: UserId,
) -> Result<bool, Gone> {
    let (Some(lowest), Some(highest)) = (numbers.keys().min(), numbers.keys().max()) else {
        return Ok(true);
    };
    let ids = first_id(*lowest)..first_id(highest + 1);
    let cursor = to_cursor(pass.sent);
    let mut sent = (0, 0);
    loop {
        link.all_taken().await?;
        let mut hold = link.source.rows.acquire(PORTION_ROWS_MAX).await;
        let rows = link.rows_of_user(user, &ids, PORTION_ROWS_MAX).await?;
        hold.begin(rows.len());
        if rows.len() >= PORTION_ROWS_MAX {
            return Ok(false);
        }
        // Rows without a number were sent before, or follow live.
        let in_order = |row: FeedRow| Some(((*numbers.get(&row.batch_number())?, row.id), row.sample));
        let mut unsent: Vec<_> = rows.into_iter().filter_map(in_order).collect();
        unsent.retain(|(order, _)| *order > sent);
        unsent.sort_unstable_by_key(|(order, _)| *order);
        let mut is_end = true;
        for (order, sample) in unsent {
            if !link.send_row(&mut hold, sample, &cursor).await? {
                is_end = false; // The rows are read again.
                break;
            }
            sent = order;
        }
        if is_end {
            return Ok(true);
        }
    }
}

/// Sends a user's backlog in the order of commits.
pub(super) async fn send_in_order(link: &Link, pass: &Pass, user: UserId) -> Result<(), Gone> {
    let cursor = to_cursor(pass.sent);
    let mut from = pass.sent;
    while let Some((records, last)) = records_after(link, pass, from).await? {
        from = last;
        let (mut unsent, mut skipped) = (records.as_slice(), 0);
        while !unsent.is_empty() {
            link.all_taken().await?;
            let portion = Portion::first(unsent, skipped, PORTION_ROWS_MAX);
            let mut hold = link.source.rows.acquire(portion.rows).await;
            let rows = link.rows(&portion, Some(user)).await?;
            hold.begin(rows.len());
            // Where the next portion begins.
            let mut next = match portion.continues_at() {
                Some(skipped) => (0, skipped),
                None => (portion.records.len(), 0),
            };
            for row in rows {
                let (batch_number, place) = (row.batch_number(), row.place());
                if !link.send_row(&mut hold, row.sample, &cursor).await? {
                    let is_its_commit = |record: &CommitRecord| record.batch_number == batch_number;
                    next = (unsent.iter().position(is_its_commit).unwrap_or_default(), place);
                    break;
                }
            }
            unsent = unsent.get(next.0..).unwrap_or_default();
            skipped = next.1;
        }
    }
    Ok(())
}

/// Sends a user's backlog in the order of ids.
pub(super) async fn send_by_id(link: &Link, pass: &Pass, user: UserId) -> Result<(), Gone> {
    let Some((lowest, highest)) = link.batch_range(pass.sent.number, pass.mark.position.number).await? else {
        return Ok(());
    };
    let mut ids = first_id(lowest)..first_id(highest + 1);
    let cursor = to_cursor(pass.sent);
    while !ids.is_empty() {
        link.all_taken().await?;
        let mut hold = link.source.rows.acquire(PORTION_ROWS_MAX).await;
        let rows = link.rows_of_user(user, &ids, PORTION_ROWS_MAX).await?;
        hold.begin(rows.len());
        let is_end = rows.len() < PORTION_ROWS_MAX;
        ids.start = rows.last().filter(|_| !is_end).map_or(ids.end, |row| row.id + 1);
        let unsent = rows
            .into_iter()
            .filter(|row| !pass.sent_batches.contains(&row.batch_number()));
        for row in unsent {
            let id = row.id;
            if !link.send_row(&mut hold, row.sample, &cursor).await? {
                ids.start = id;
                break;
            }
        }
    }
    Ok(())
}

/// The records after a position up to the mark that one page of the log holds, and the position after them. `None` at the
/// mark, and if the history has changed: the pass, or the poller, finds that out as well.
async fn records_after(
    link: &Link,
    pass: &Pass,
    from: LogPosition,
) -> Result<Option<(Vec<CommitRecord>, LogPosition)>, Gone> {
    let goal = pass.mark.position.number;
    if from.number >= goal {
        return Ok(None);
    }
    let LogPage::Records { mut records, .. } = link.page(from).await? else {
        return Ok(None);
    };
    records.retain(|record| record.number <= goal);
    let last = records.last().map(CommitRecord::position);
    Ok(last.map(|last| (records, last)))
}
