//! Sends the backlog of users who are pulled ahead: what the pass has yet to send of them.

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
    store::commit_log::{CommitRecord, LogPage, erasures::Erasures},
};

/// Sends the backlog of some users, in the order of commits. `users` are sorted.
pub(super) async fn send(link: &Link, pass: &Pass, users: &[UserId]) -> Result<(), Gone> {
    let goal = pass.mark.position.number;
    let mut from = pass.sent;
    while from.number < goal {
        // If there is no page, the history has changed or the log was pruned. The pass or the poller notices it too,
        // and tells the subscriber.
        let LogPage::Records {
            mut records, erasures, ..
        } = link.page(from).await?
        else {
            break;
        };
        records.retain(|record| record.number <= goal);
        let Some(last) = records.last().map(CommitRecord::position) else {
            break;
        };
        from = last;
        if !send_records(link, pass, users, &records, &erasures).await? {
            break;
        }
    }
    Ok(())
}

/// Sends the samples and erasures of some users in some commits. Returns false if the log does not hold these commits
/// any more.
async fn send_records(
    link: &Link,
    pass: &Pass,
    users: &[UserId],
    records: &[CommitRecord],
    erasures: &Erasures,
) -> Result<bool, Gone> {
    let cursor = to_cursor(pass.sent);
    let (mut unsent, mut skipped) = (records, 0);
    while !unsent.is_empty() {
        link.all_taken().await?;
        let portion = Portion::first(unsent, skipped, PORTION_ROWS_MAX);
        let mut hold = link.source.rows.acquire(portion.rows).await;
        let Some(rows) = link.rows(&portion, Some(users)).await? else {
            return Ok(false);
        };
        hold.begin(rows.len());
        // Where the next portion begins.
        let mut next = match portion.continues_at() {
            Some(skipped) => (0, skipped),
            None => (portion.records.len(), 0),
        };
        let mut rows = rows.into_iter().peekable();
        'portion: for (index, record) in portion.records.iter().enumerate() {
            if let Some(erasure) = erasures.get(&record.number)
                && users.binary_search(&erasure.user_id()).is_ok()
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
    Ok(true)
}
