//! Audit lines: who did, or tried, what to whom, and from where.
//!
//! They are log lines with the target `audit`, at level info. They have names of tokens and ids of users, and never secrets
//! or values of samples.

use std::net::IpAddr;

use health_core::{
    TimeRange, UserId,
    access::{AccessDenied, NotAuthenticated},
    format_timestamp,
};

use crate::http::auth::Caller;

/// All samples of a user were erased.
pub(crate) fn erased_user(caller: &Caller, user: UserId, samples: u64) {
    let (token, peer) = (caller.access.name(), caller.peer);
    tracing::info!(target: "audit", action = "erase", token, %peer, %user, samples, "erased a user");
}

/// An export of samples begins.
pub(crate) fn exported(caller: &Caller, user: UserId, range: TimeRange) {
    let (token, peer) = (caller.access.name(), caller.peer);
    let (start, end) = (format_timestamp(range.start()), format_timestamp(range.end()));
    tracing::info!(target: "audit", action = "export", token, %peer, %user, start, end, "exports samples");
}

/// A client had no valid token.
pub(crate) fn not_authenticated(reason: NotAuthenticated, peer: IpAddr) {
    tracing::info!(target: "audit", action = "refuse", %reason, %peer, "refused a client without a valid token");
}

/// A valid token did not permit something.
pub(crate) fn denied(denied: &AccessDenied, peer: IpAddr) {
    tracing::info!(target: "audit", action = "refuse", reason = %denied, %peer, "refused something that the token does not permit");
}
