//! Live samples during a replay: which of them are sent before the rest of the backlog.

use std::collections::HashMap;

use tokio::time::Instant;

use crate::{
    live::{
        cursor::{from_cursor, to_cursor},
        replay::{
            backlog_of_user,
            link::{Gone, Link},
            pass::Pass,
        },
    },
    sample::UserId,
};

/// Users that are pulled ahead between two groups, so that none of them takes long.
const PULLED_AT_ONCE: usize = 16;

/// Users ahead in one pass, 16 bytes each.
const AHEAD_MAX: usize = 16_384;

/// If at most this many commits are left, a user is pulled ahead in the order of commits, which takes 16 bytes for each.
/// If more are left, and none of them erased samples of the user, in the order of ids: it differs only among commits that were
/// made at nearly the same time.
const PULLED_IN_ORDER: i64 = 5_000;

/// Sends live samples until `until`. Pulls the users of these samples ahead.
pub(super) async fn send_live(link: &Link, pass: &mut Pass, until: Instant) -> Result<(), Gone> {
    let users = link.users.as_deref();
    let mut pulled = 0;
    let mut numbers = None;
    while let Some(index) = pass.live {
        link.all_taken().await?;
        let Some(chunks) = link.ring.chunks_from(index, 1) else {
            // Another pass has to read them from the table.
            pass.live = None;
            break;
        };
        let Some(chunk) = chunks.into_iter().next() else { break };
        pass.sent_batches.insert(chunk.batch_number);
        let from = usize::try_from(index.saturating_sub(chunk.first_index)).unwrap_or_default();
        let mut next = chunk.next_match(users, from);
        let cursor = to_cursor(pass.sent);
        let mut behind: Option<UserId> = None;
        while let Some(at) = next {
            let user = chunk.user(at);
            pass.live = Some(chunk.first_index + at as u64);
            if !pass.ahead.contains(&user) {
                behind = Some(user);
                break;
            }
            if !link.try_send(&chunk, at, &cursor)? {
                break; // The chunk must not stay in memory until the subscriber goes on.
            }
            next = chunk.next_match(users, at + 1);
        }
        if next.is_none() {
            pass.live = Some(chunk.end_index());
            if let Some(Ok(end_of_commit)) = chunk.after.as_ref().map(from_cursor) {
                pass.live_until = end_of_commit.number;
            }
        }
        drop(chunk);
        if let Some(user) = behind {
            let is_full = pulled == PULLED_AT_ONCE || pass.ahead.len() == AHEAD_MAX;
            // A user who was ahead in an earlier pass waits for the end of this one.
            if is_full || pass.earlier.contains(&user) || Instant::now() > until {
                break;
            }
            pulled += 1;
            pull_ahead(link, pass, &mut numbers, user).await?;
        }
    }
    Ok(())
}

/// Sends the rest of a user's backlog. `numbers` keeps the numbers of its commits for the next user.
async fn pull_ahead(
    link: &Link,
    pass: &mut Pass,
    numbers: &mut Option<HashMap<i64, i64>>,
    user: UserId,
) -> Result<(), Gone> {
    let (sent, goal) = (pass.sent.number, pass.mark.position.number);
    if goal - sent > PULLED_IN_ORDER {
        // Beside an erasure, the order of commits decides which samples the subscriber ends with.
        if link.erasures_of_user(user, sent, goal, 1).await?.is_empty() {
            backlog_of_user::send_by_id(link, pass, user).await?;
        } else {
            backlog_of_user::send_in_order(link, pass, user).await?;
        }
    } else {
        let numbers = match numbers {
            Some(numbers) => numbers,
            none => none.insert(backlog_of_user::numbers_of_batches(link, pass).await?),
        };
        if !backlog_of_user::send_few(link, pass, numbers, user).await? {
            backlog_of_user::send_in_order(link, pass, user).await?;
        }
    }
    pass.ahead.insert(user);
    Ok(())
}
