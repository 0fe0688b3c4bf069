//! Live samples during a replay: which of them the replay sends before the rest of the backlog.

use std::{collections::BTreeSet, time::Duration};

use tokio::time::Instant;

use crate::{
    live::{
        cursor::{from_cursor, to_cursor},
        replay::{
            backlog_of_users,
            link::{Gone, Link},
            pass::Pass,
        },
    },
    sample::UserId,
};

/// The most users that are pulled ahead together. To find their backlog, the replay reads the row keys of all commits
/// that are left in the pass, which takes the same time for one user and for many.
const PULLED_AT_ONCE: usize = 1_000;

/// Chunks in which the replay looks for users to pull ahead.
const CHUNKS_AT_ONCE: usize = 1_000;

/// The most users that one pass pulls ahead, 16 bytes each.
const AHEAD_MAX: usize = 16_384;

/// Sends live samples until `until`. Pulls the users of these samples ahead.
pub(super) async fn send_live(link: &Link, pass: &mut Pass, until: Instant) -> Result<(), Gone> {
    let users = link.users.as_deref();
    while let Some(index) = pass.live {
        link.all_taken().await?;
        let Some(chunks) = link.ring.chunks_from(index, 1) else {
            // Another pass has to read them from the table.
            pass.live = None;
            break;
        };
        let Some(chunk) = chunks.into_iter().next() else { break };
        let from = usize::try_from(index.saturating_sub(chunk.first_index)).unwrap_or_default();
        let mut next = chunk.next_match(users, from);
        let cursor = to_cursor(pass.sent);
        let mut is_behind = false;
        while let Some(at) = next {
            pass.live = Some(chunk.first_index + at as u64);
            is_behind = !pass.ahead.contains(&chunk.user(at));
            // The chunk must not stay in memory until the subscriber goes on.
            if is_behind || !link.try_send(&chunk, at, &cursor)? {
                break;
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
        if is_behind && !pull_ahead(link, pass, until).await? {
            break;
        }
    }
    Ok(())
}

/// Pulls the users of the next live samples ahead: sends the rest of their backlog. Returns false if they have to wait.
async fn pull_ahead(link: &Link, pass: &mut Pass, until: Instant) -> Result<bool, Gone> {
    let began = Instant::now();
    if pass.owed > Duration::ZERO || began > until {
        return Ok(false);
    }
    let users = users_behind(link, pass);
    if users.is_empty() {
        return Ok(false);
    }
    backlog_of_users::send(link, pass, &users).await?;
    pass.ahead.extend(users);
    pass.owed = began.elapsed();
    Ok(true)
}

/// Returns the users of the next live samples who were not pulled ahead, sorted. Ends before a user who was pulled
/// ahead in the pass before: that user waits for the end of this pass.
fn users_behind(link: &Link, pass: &Pass) -> Vec<UserId> {
    let room = PULLED_AT_ONCE.min(AHEAD_MAX - pass.ahead.len());
    let mut behind = BTreeSet::new();
    let index = pass.live.unwrap_or_default();
    for chunk in link.ring.chunks_from(index, CHUNKS_AT_ONCE).unwrap_or_default() {
        let mut from = usize::try_from(index.saturating_sub(chunk.first_index)).unwrap_or_default();
        while let Some(at) = chunk.next_match(link.users.as_deref(), from) {
            let user = chunk.user(at);
            if pass.earlier.contains(&user) || behind.len() == room {
                return behind.into_iter().collect();
            }
            if !pass.ahead.contains(&user) {
                behind.insert(user);
            }
            from = at + 1;
        }
    }
    behind.into_iter().collect()
}
