//! Audit lines: who did, or tried, what to whom, and from where.
//!
//! They are log lines with the target `audit`, at level info. They have names of tokens and ids of users, and never
//! secrets or values of samples. Those about an HTTP request have its id, like every line of a request. `refusals.rs`
//! writes those about clients that were refused. The core writes those about tokens that a server sees appear, change
//! and vanish.

use chrono::{DateTime, Utc};
use health_core::{TimeRange, UserId, format_timestamp, token::NewToken};

use crate::http::auth::Caller;

/// All samples of a user were erased.
pub(crate) fn erased_user(caller: &Caller, user: UserId, samples: u64) {
    let (token, peer) = (caller.access.name(), caller.attempt.peer);
    tracing::info!(target: "audit", action = "erase", token, %peer, %user, samples, "erased a user");
}

/// Samples of a user in a range were erased. The line does not name the source, which is a value of samples.
pub(crate) fn erased_range(caller: &Caller, user: UserId, range: TimeRange, is_one_source: bool, samples: u64) {
    let (token, peer) = (caller.access.name(), caller.attempt.peer);
    let (start, end) = (format_timestamp(range.start()), format_timestamp(range.end()));
    tracing::info!(
        target: "audit", action = "erase", token, %peer, %user, start, end, is_one_source, samples,
        "erased samples of a range"
    );
}

/// An export of samples begins.
pub(crate) fn exported(caller: &Caller, user: UserId, range: TimeRange) {
    let (token, peer) = (caller.access.name(), caller.attempt.peer);
    let (start, end) = (format_timestamp(range.start()), format_timestamp(range.end()));
    tracing::info!(target: "audit", action = "export", token, %peer, %user, start, end, "exports samples");
}

/// The command line created a token.
pub(crate) fn created_token(token: &NewToken, expires_at: Option<DateTime<Utc>>) {
    let (name, scopes, uid) = (&token.name, &token.scopes, uid());
    let users = token.users.as_ref().map(|users| {
        let users: Vec<_> = users.iter().map(ToString::to_string).collect();
        users.join(",")
    });
    let valid_for = token.valid_for.map(|time| time.as_secs());
    let expires_at = expires_at.map(format_timestamp);
    tracing::info!(
        target: "audit", action = "create_token", token = %name, %scopes, users, valid_for_seconds = valid_for, expires_at, uid,
        "the command line created a token"
    );
}

/// The command line revoked a token.
pub(crate) fn revoked_token(name: &str) {
    let uid = uid();
    tracing::info!(target: "audit", action = "revoke_token", token = name, uid, "the command line revoked a token");
}

/// Returns the id of the system's user who runs the program.
fn uid() -> u32 {
    rustix::process::getuid().as_raw()
}
