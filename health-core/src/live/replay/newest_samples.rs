//! Sends the newest sample of each user among the commits of a pass, for subscriptions that want no more than that.

use std::{collections::HashMap, time::Duration};

use tokio::time::sleep;

use crate::{
    live::{
        cursor::to_cursor,
        replay::{
            further::further,
            link::{Gone, Link},
            pass::Pass,
            portion::Portion,
            source::{NEWEST_ROWS, NEWEST_USERS, PORTION_ROWS_MAX},
        },
    },
    sample::{Sample, UserId},
    store::commit_log::{CommitRecord, LogPosition},
};

/// The users of one turn, and how far they were sent.
#[derive(Debug, Clone, Copy)]
struct Turn {
    /// The end of the commits that the turn covers: at most the mark, less if they have too many users.
    end: LogPosition,
    /// The turn was cut short: users up to this one got their samples.
    sent_until: Option<UserId>,
}

/// Sends the newest sample of each user among the commits after [`Pass::sent`] up to the mark; `records` are the first of them.
/// If there are more than [`NEWEST_USERS`], this takes several turns, one in each interval.
pub(super) async fn send_all(
    link: &Link,
    pass: &mut Pass,
    mut records: Vec<CommitRecord>,
    every: Duration,
) -> Result<(), Gone> {
    let mut sent_until = None;
    let mut end = None;
    while pass.sent.number < pass.mark.position.number {
        link.all_taken().await?;
        let mut hold = link.source.newest.acquire(NEWEST_ROWS).await;
        let mut turn = Turn {
            end: end.unwrap_or(pass.mark.position),
            sent_until,
        };
        let newest = gather(link, pass, &mut turn, std::mem::take(&mut records)).await?;
        hold.begin(newest.len());
        let mut samples: Vec<Sample> = newest.into_values().collect();
        samples.sort_unstable_by_key(Sample::user_id);
        let (cursor, last) = (to_cursor(pass.sent), to_cursor(turn.end));
        let mut samples = samples.into_iter().peekable();
        let mut is_over = false;
        while let Some(sample) = samples.next() {
            let user = sample.user_id();
            let cursor = if samples.peek().is_some() { &cursor } else { &last };
            if !link.send_row(&mut hold, sample, cursor).await? {
                is_over = true;
                break;
            }
            sent_until = Some(user);
        }
        drop(hold);
        if is_over {
            end = Some(turn.end);
            continue;
        }
        (sent_until, end) = (None, None);
        pass.sent = turn.end;
        if turn.end.number < pass.mark.position.number {
            sleep(every).await;
        }
    }
    Ok(())
}

/// Reads the commits of a turn, and returns the newest sample of each user that was not sent. Ends the turn earlier if there are
/// too many users.
async fn gather(
    link: &Link,
    pass: &Pass,
    turn: &mut Turn,
    mut records: Vec<CommitRecord>,
) -> Result<HashMap<UserId, Sample>, Gone> {
    let mut newest = HashMap::new();
    let mut reached = pass.sent;
    while reached.number < turn.end.number {
        if records.is_empty() {
            let mut from_here = Pass::new(pass.mark, reached);
            records = further(link, &mut from_here).await?;
        }
        records.retain(|record| record.number <= turn.end.number);
        if records.is_empty() {
            // The history has changed, and the subscriber was told.
            turn.end = pass.mark.position;
            break;
        }
        let (mut unread, mut skipped) = (records.as_slice(), 0);
        while let Some(record) = unread.first() {
            let portion = Portion::first(unread, skipped, PORTION_ROWS_MAX);
            let rows = link.rows(&portion, None).await?;
            let unsent = rows.into_iter().map(|row| (row.sample.user_id(), row.sample));
            newest.extend(unsent.filter(|(user, _)| Some(*user) > turn.sent_until));
            if let Some(next) = portion.continues_at() {
                skipped = next;
                continue;
            }
            reached = portion.records.last().unwrap_or(record).position();
            (unread, skipped) = (unread.get(portion.records.len()..).unwrap_or_default(), 0);
            if newest.len() >= NEWEST_USERS {
                turn.end = reached;
                return Ok(newest);
            }
        }
        records = Vec::new();
    }
    Ok(newest)
}
