//! Sends the newest sample of each user among the commits of a pass, for subscriptions that want no more than that.
//!
//! Erasures are sent as well, each before the newest sample of its user. The sample was stored after them, or they do
//! not cover it: the row of an erased sample is no longer there.

use std::{collections::HashMap, sync::Arc, time::Duration};

use tokio::time::sleep;

use crate::{
    erasure::Erasure,
    live::{
        cursor::to_cursor,
        replay::{
            budget::Hold,
            further::further,
            link::{Gone, Link},
            pass::Pass,
            portion::Portion,
            source::{NEWEST_ROWS, NEWEST_USERS, PORTION_ROWS_MAX},
        },
    },
    sample::{Sample, UserId},
    store::commit_log::{CommitRecord, LogPosition, erasures::Erasures},
    wire::Cursor,
};

/// What a turn sends of one user.
#[derive(Debug, Default)]
struct NewestOfUser {
    erasures: Vec<Arc<Erasure>>,
    sample: Option<Sample>,
}

/// The users of one turn, and how far they were sent.
#[derive(Debug, Clone, Copy)]
struct Turn {
    /// The end of the commits that the turn covers: at most the mark, less if they have too many users.
    end: LogPosition,
    /// The turn was cut short: users up to this one got their samples.
    sent_until: Option<UserId>,
}

/// Sends the newest sample of each user among the commits after [`Pass::sent`] up to the mark; `records` are the first
/// of them. If there are more than [`NEWEST_USERS`], this takes several turns, one in each interval.
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
        let first = (std::mem::take(&mut records), std::mem::take(&mut pass.erasures));
        let newest = gather(link, pass, &mut turn, first).await?;
        hold.begin(newest.values().map(NewestOfUser::events).sum());
        let mut users: Vec<_> = newest.into_iter().collect();
        users.sort_unstable_by_key(|(user, _)| *user);
        let (cursor, last) = (to_cursor(pass.sent), to_cursor(turn.end));
        let mut users = users.into_iter().peekable();
        let mut is_over = false;
        while let Some((user, newest)) = users.next() {
            let last = if users.peek().is_some() { &cursor } else { &last };
            if !newest.send(link, &mut hold, &cursor, last).await? {
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

impl NewestOfUser {
    fn events(&self) -> usize {
        self.erasures.len() + usize::from(self.sample.is_some())
    }

    /// Sends the erasures, then the sample; the last event has the cursor `last`. Returns false if the replay must give
    /// up this user and those after it. The user's events are sent again from the first one then, so that they stay in
    /// their order.
    async fn send(self, link: &Link, hold: &mut Hold<'_>, cursor: &Cursor, last: &Cursor) -> Result<bool, Gone> {
        let mut left = self.events();
        let mut next = || {
            left -= 1;
            if left == 0 { last } else { cursor }
        };
        for erasure in &self.erasures {
            if !link.send_erasure(hold, erasure, next()).await? {
                return Ok(false);
            }
        }
        match self.sample {
            Some(sample) => link.send_row(hold, sample, next()).await,
            None => Ok(true),
        }
    }
}

/// Reads the commits of a turn, and returns what was not sent of each user. Ends the turn earlier if there is too much.
/// `first` are the first records of the turn, and their erasures.
async fn gather(
    link: &Link,
    pass: &Pass,
    turn: &mut Turn,
    first: (Vec<CommitRecord>, Erasures),
) -> Result<HashMap<UserId, NewestOfUser>, Gone> {
    let (mut records, mut erasures) = first;
    let mut newest: HashMap<UserId, NewestOfUser> = HashMap::new();
    let mut events = 0;
    let mut from_here = Pass::new(pass.mark, pass.sent);
    while from_here.sent.number < turn.end.number {
        if records.is_empty() {
            records = further(link, &mut from_here).await?;
            erasures = std::mem::take(&mut from_here.erasures);
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
            let Some(rows) = link.rows(&portion, None).await? else {
                from_here.note_unreadable();
                break;
            };
            let is_unsent = |user: UserId| Some(user) > turn.sent_until;
            for row in rows {
                let user = row.sample.user_id();
                if is_unsent(user) {
                    let before = newest.entry(user).or_default().sample.replace(row.sample);
                    events += usize::from(before.is_none());
                }
            }
            let erased = portion.records.iter().filter_map(|record| erasures.get(&record.number));
            for erasure in erased {
                let user = erasure.user_id();
                if is_unsent(user) && link.is_wanted(user) {
                    newest.entry(user).or_default().erasures.push(Arc::clone(erasure));
                    events += 1;
                }
            }
            if let Some(next) = portion.continues_at() {
                skipped = next;
                continue;
            }
            from_here.sent = portion.records.last().unwrap_or(record).position();
            (unread, skipped) = (unread.get(portion.records.len()..).unwrap_or_default(), 0);
            if events >= NEWEST_USERS {
                turn.end = from_here.sent;
                return Ok(newest);
            }
        }
        records = Vec::new();
    }
    Ok(newest)
}
