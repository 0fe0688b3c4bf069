//! Sends the commits of a pass, in their order.

use tokio::time::Instant;

use crate::{
    live::{
        cursor::to_cursor,
        poller::group_len,
        replay::{
            further::further,
            link::{Gone, Link},
            live_samples::send_live,
            pass::Pass,
            portion::Portion,
            source::PORTION_ROWS_MAX,
        },
    },
    store::{commit_log::CommitRecord, feed_rows::FeedRow},
};

/// Sends the commits after [`Pass::sent`] up to the mark; `records` are the first of them.
pub(super) async fn send_all(link: &Link, pass: &mut Pass, mut records: Vec<CommitRecord>) -> Result<(), Gone> {
    loop {
        records.retain(|record| record.number <= pass.mark.position.number);
        if records.is_empty() {
            break;
        }
        let mut rest = records.as_slice();
        while !rest.is_empty() {
            let (group, later) = rest.split_at(group_len(rest));
            let began = Instant::now();
            if !send_group(link, pass, group).await? {
                pass.note_unreadable();
                break;
            }
            let taken = began.elapsed();
            pass.owed = pass.owed.saturating_sub(taken);
            send_live(link, pass, Instant::now() + taken).await?;
            rest = later;
        }
        if pass.sent.number >= pass.mark.position.number {
            break;
        }
        records = further(link, pass).await?;
    }
    Ok(())
}

/// Sends the rows of some commits that follow each other. Returns false if the log does not say which rows these are.
/// If it does not hold the commits any more, the next page says so.
async fn send_group(link: &Link, pass: &mut Pass, group: &[CommitRecord]) -> Result<bool, Gone> {
    let mut unsent = group;
    // The first rows of the first of them that were sent.
    let mut skipped = 0;
    while !unsent.is_empty() {
        link.all_taken().await?;
        let portion = Portion::first(unsent, skipped, link.window.rows());
        let mut hold = link.source.rows.acquire(portion.rows).await;
        let Some(rows) = link.rows(&portion, None).await? else {
            return Ok(false);
        };
        hold.begin(rows.len());
        let (read, mut sent, mut is_over) = (rows.len(), 0, false);
        let mut rows = rows.into_iter().peekable();
        for record in portion.records {
            let rows: Vec<FeedRow> =
                std::iter::from_fn(|| rows.next_if(|row| row.batch_number() == record.batch_number))
                    .filter(|row| !pass.has_sent(record.number, row.sample.user_id()))
                    .collect();
            let cursor = to_cursor(pass.sent);
            // Only the last sample of a commit has the cursor after it.
            let last = portion
                .continues_at()
                .map_or_else(|| to_cursor(record.position()), |_| cursor.clone());
            if let Some(erasure) = pass.erasures.get(&record.number)
                && link.is_wanted(erasure.user_id())
                && !pass.has_sent(record.number, erasure.user_id())
                && !link.send_erasure(&mut hold, erasure, &last).await?
            {
                is_over = true;
                break;
            }
            let mut rows = rows.into_iter().peekable();
            while let Some(row) = rows.next() {
                let place = row.place();
                let cursor = if rows.peek().is_some() { &cursor } else { &last };
                if !link.send_row(&mut hold, row.sample, cursor).await? {
                    skipped = place;
                    is_over = true;
                    break;
                }
                sent += 1;
            }
            if is_over {
                break;
            }
            if let Some(next) = portion.continues_at() {
                skipped = next;
            } else {
                pass.sent = record.position();
                unsent = unsent.get(1..).unwrap_or_default();
                skipped = 0;
            }
        }
        if is_over {
            link.window.shrink(sent, read);
        } else {
            link.window.grow(PORTION_ROWS_MAX);
        }
    }
    Ok(true)
}
