//! The backlog of one user, for a user who is pulled ahead.

use std::{collections::HashMap, sync::Arc};

use crate::{
    erasure::Erasure,
    live::{
        cursor::to_cursor,
        replay::{
            link::{Gone, Link},
            pass::Pass,
            portion::Portion,
            source::PORTION_ROWS_MAX,
        },
    },
    sample::{Sample, UserId},
    store::{
        commit_log::{CommitRecord, LogPage, LogPosition, erasures::Erasures},
        feed_rows::first_id,
    },
};

/// What is sent of a user.
enum Event {
    Sample(Sample),
    Erased(Arc<Erasure>),
}

/// The records of a page of the log, what they erased, and the position after them.
struct Page {
    records: Vec<CommitRecord>,
    erasures: Erasures,
    last: LogPosition,
}

/// The most erasures of a user that are read at once, about 100 bytes each.
const ERASURES_AT_ONCE: usize = 1_000;

/// Returns the commit numbers after [`Pass::sent`] up to the mark, by batch number.
pub(super) async fn numbers_of_batches(link: &Link, pass: &Pass) -> Result<HashMap<i64, i64>, Gone> {
    let mut numbers = HashMap::new();
    let mut from = pass.sent;
    while let Some(page) = page_after(link, pass, from).await? {
        numbers.extend(page.records.iter().map(|record| (record.batch_number, record.number)));
        from = page.last;
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
    let (after, until) = (pass.sent.number, pass.mark.position.number);
    let erasures = link.erasures_of_user(user, after, until, ERASURES_AT_ONCE).await?;
    if erasures.len() >= ERASURES_AT_ONCE {
        return Ok(false);
    }
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
        let stored = rows.into_iter().filter_map(|row| {
            let number = *numbers.get(&row.batch_number())?;
            Some(((number, row.id), Event::Sample(row.sample)))
        });
        let erased = erasures.iter();
        let erased = erased.map(|(number, erasure)| ((*number, 0), Event::Erased(Arc::clone(erasure))));
        let mut unsent: Vec<_> = stored.chain(erased).collect();
        unsent.retain(|(order, _)| *order > sent);
        unsent.sort_unstable_by_key(|(order, _)| *order);
        let mut is_end = true;
        for (order, event) in unsent {
            let is_sent = match event {
                Event::Sample(sample) => link.send_row(&mut hold, sample, &cursor).await?,
                Event::Erased(erasure) => link.send_erasure(&mut hold, &erasure, &cursor).await?,
            };
            if !is_sent {
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
    while let Some(page) = page_after(link, pass, from).await? {
        from = page.last;
        let (mut unsent, mut skipped) = (page.records.as_slice(), 0);
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
            let mut rows = rows.into_iter().peekable();
            'portion: for (index, record) in portion.records.iter().enumerate() {
                let erasure = page.erasures.get(&record.number);
                if let Some(erasure) = erasure.filter(|erasure| erasure.user_id() == user)
                    && !link.send_erasure(&mut hold, erasure, &cursor).await?
                {
                    next = (index, 0);
                    break;
                }
                while let Some(row) = rows.next_if(|row| row.batch_number() == record.batch_number) {
                    let place = row.place();
                    if !link.send_row(&mut hold, row.sample, &cursor).await? {
                        next = (index, place);
                        break 'portion;
                    }
                }
            }
            unsent = unsent.get(next.0..).unwrap_or_default();
            skipped = next.1;
        }
    }
    Ok(())
}

/// Sends a user's backlog in the order of ids. None of its commits erased samples of the user.
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

/// The records after a position up to the mark that one page of the log holds. `None` at the mark, and if the history has
/// changed: the pass, or the poller, finds that out as well.
async fn page_after(link: &Link, pass: &Pass, from: LogPosition) -> Result<Option<Page>, Gone> {
    let goal = pass.mark.position.number;
    if from.number >= goal {
        return Ok(None);
    }
    let LogPage::Records {
        mut records, erasures, ..
    } = link.page(from).await?
    else {
        return Ok(None);
    };
    records.retain(|record| record.number <= goal);
    let last = records.last().map(CommitRecord::position);
    Ok(last.map(|last| Page {
        records,
        erasures,
        last,
    }))
}
